// Package harness starts a gateway as a process of its own and plays both of its
// neighbours over real sockets: the backend that takes the callbacks, and clients
// that see every byte. It knows nothing of the gateway's packages.
//
// Nothing here sleeps: whoever waits, waits on the thing itself with a deadline.
package harness
