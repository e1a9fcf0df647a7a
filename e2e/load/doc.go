// Package load measures the gateway under load: memory of idle streams, and slow clients
// beside healthy ones. It starts the real binary, and reads its memory from /proc.
//
// It takes minutes and most of a machine, so it runs only on request:
//
//	make load
package load
