// Package broker tests the gateway's binary with its log on NATS: one of its own, and one
// that comes and goes. Several gateways on one NATS are tested elsewhere.
package broker
