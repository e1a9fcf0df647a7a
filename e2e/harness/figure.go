package harness

import "testing"

// Figure reports what a test has measured, in one line.
func Figure(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}
