// Package process has only tests. They run the real program as a process, send it signals, and
// give it logs that nobody reads, that are full, or that are stopped.
package process
