// Package proxy holds no code of its own: its tests put a real nginx or HAProxy between the
// gateway and its clients.
package proxy
