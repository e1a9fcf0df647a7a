// Package harness starts a gateway as a process of its own, and plays both of its peers over
// real sockets: the backend that receives the callbacks, and clients that see every byte. It
// does not use the gateway's packages.
//
// Nothing here sleeps: all waiting is for an event, with a deadline.
package harness
