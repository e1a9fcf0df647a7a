// Package process holds no code of its own: its tests run the real program as a process
// among others, with signals, and with logs that nobody reads, that are full, or stopped.
package process
