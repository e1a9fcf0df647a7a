// Package programs has only tests. They check programs by others, whose servers answer with event streams by themselves
// and whose clients read them: each with the gateway in between, as RELAY_URL has it, and without.
package programs
