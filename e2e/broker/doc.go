// Package broker tests the gateway's binary with its log on a NATS that comes and goes. Package
// cluster tests several gateways on one NATS.
package broker
