// Package cluster tests a cluster of three gateways. Each process runs on a host of its own:
// a network namespace, joined to the others by bridges, on which packets are really dropped
// and delayed. There is one NATS server, one nginx, and a backend and thousands of clients
// that record everything they receive.
//
// The namespaces belong to the test process, which has a process namespace of its own. When
// it ends, for whatever reason, the kernel removes all of them and every process in them.
//
// `go test` runs a few short faults, `make chaos` fifty of up to 30 s.
package cluster
