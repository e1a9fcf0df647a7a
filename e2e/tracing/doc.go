// Package tracing has only tests. They run the real program beside a collector of traces, and
// look at the spans that it gets; and they take profiles of the program.
package tracing
