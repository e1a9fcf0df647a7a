package probe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Print prints a report for people: one line if nothing was found.
func (r *Report) Print(out io.Writer) {
	if len(r.Findings) == 0 {
		fmt.Fprintf(out, "ok    %s: nothing found%s\n", r.URL, r.short())
		return
	}
	for _, f := range r.Findings {
		fmt.Fprintf(out, "fail  %s: %s\n", f.ID, f.Detail)
		fmt.Fprintf(out, "      %s\n", f.Cause)
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, s := range f.Settings {
			fmt.Fprintf(table, "        %s\t%s\n", s.Proxy, s.Text)
		}
		_ = table.Flush() // as fmt.Fprintf to out
	}
	for _, n := range r.Measured {
		fmt.Fprintf(out, "ok    %s: %s\n", n.What, n.Text)
	}
	for _, n := range r.NotKnown {
		fmt.Fprintf(out, "?     %s: %s\n", n.What, n.Text)
	}
}

// short names what is measured in every run, and what is not known.
func (r *Report) short() string {
	var b strings.Builder
	for _, n := range r.Measured {
		if n.What == "versions" || n.What == "held" {
			fmt.Fprintf(&b, "; %s %s", n.What, n.Text)
		}
	}
	for i, n := range r.NotKnown {
		if i == 0 {
			b.WriteString("; not known: ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(n.What)
	}
	return b.String()
}

// Bar returns a line that shows how much of a time is over.
func Bar(over, total time.Duration) string {
	const width = 30
	done := width
	if total > 0 {
		done = int(min(width, width*over/total))
	}
	return fmt.Sprintf("[%s%s] %v of %v", strings.Repeat("#", done), strings.Repeat(".", width-done), over.Truncate(time.Second), total)
}
