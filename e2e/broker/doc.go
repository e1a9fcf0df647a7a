// Package broker tests the gateway's binary with its log on NATS: an embedded one, and an
// external one that comes and goes. Package cluster tests several gateways on one NATS.
package broker
