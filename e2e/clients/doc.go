// Package clients has only tests. They check that clients by others receive events, reconnect,
// and catch up.
package clients
