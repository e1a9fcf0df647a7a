// Package load measures the gateway under load: memory of idle streams, slow clients beside
// healthy ones, a drain, and a backend outage with 10,000 streams. It starts the real
// binary, and reads its memory from /proc.
//
// It takes minutes and most of a machine, so it runs only on request:
//
//	make load
package load
