// Package cluster tests three gateways as one, with real processes on hosts of their
// own: network namespaces, joined by bridges, on which packets are really dropped and
// delayed. There is one NATS server, one nginx, and a backend and thousands of clients
// that remember everything they were told.
//
// The namespaces belong to the test process, in a process namespace of its own: when
// it ends, however it ends, the kernel removes all of them and every process in them.
//
// `go test` runs a few short faults, `make chaos` fifty of up to 30 s.
package cluster
