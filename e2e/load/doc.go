// Package load measures the gateway under load: memory of idle streams and of a small machine,
// a soak with every event checked, many connections that come and go, slow clients beside
// healthy ones, fan-out and replay storms. It starts the real binary, and reads its memory
// from /proc.
//
// By default the tests are small, and assert what is true on any machine. Flags make them large;
// with -strict they also assert what depends on the machine's speed and on having it alone:
//
//	make stress SCENARIOS=soak
package load
