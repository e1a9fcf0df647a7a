// Package nodes tests two gateways on one NATS: what one answers for the other, and what becomes of a node that stops,
// fails, or is of the version before. Package cluster cuts the network of three under load.
package nodes
