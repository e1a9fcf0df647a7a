// Package proxy has only tests. They put a real nginx or HAProxy between the gateway and its
// clients.
package proxy
