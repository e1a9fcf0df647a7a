package harness

import "testing"

// Figure reports what a test measured, in a line that begins with "figure: ". The program
// bench/stress reads it, and writes it into docs/guarantees.md.
func Figure(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}
