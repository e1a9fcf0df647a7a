// Package gatewaytest checks connections against what the gateway promises. Their
// bytes may go through a model in memory or through real sockets.
//
// A test makes a random [Plan] for each connection, carries it out, and keeps a
// [History] of what was done and answered. When all is over, [History.Check] says
// where that and what the client received contradict the promises.
package gatewaytest
