package corpus

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the frozen answers anew")

// attempt is one case of the corpus: the bytes that a client sends on a new connection.
type attempt struct {
	name, why string
	raw       string
}

// subject is a group of cases with a file of frozen answers in testdata.
type subject struct {
	name     string
	attempts []attempt
}

var subjects = []subject{smuggling, targets, methods, versions, fields, hosts, pipelines, chunks, options}

// count is the number of requests in the corpus that are bytes of HTTP/1.
func count() (n int) {
	for _, s := range subjects {
		n += len(s.attempts)
	}
	return n
}

// outcome has the lines that a case is frozen as, for each listener.
type outcome map[string][]string

// begins counts the lines that begin like this.
func begins(lines []string, prefix string) (n int) {
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func frozenFile(name string) string { return filepath.Join("testdata", name+".txt") }

// thaw reads the frozen outcomes of a subject, by the names of the cases.
func thaw(t *testing.T, name string) map[string]outcome {
	t.Helper()
	text, err := os.ReadFile(frozenFile(name))
	if err != nil {
		if *update {
			return nil
		}
		t.Fatalf("%v: `go test ./e2e/corpus -update` writes it", err)
	}
	all := map[string]outcome{}
	var of outcome
	listener := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "# "):
			of = outcome{}
			all[line[2:]] = of
		case strings.HasPrefix(line, "    "):
			of[listener] = append(of[listener], line[4:])
		case strings.HasPrefix(line, "  "):
			listener = line[2:]
			of[listener] = []string{}
		}
	}
	return all
}

// freeze writes the outcomes of a subject.
func freeze(t *testing.T, name string, names []string, listeners []string, all map[string]outcome) {
	t.Helper()
	var b strings.Builder
	for _, name := range names {
		b.WriteString("# " + name + "\n")
		for _, l := range listeners {
			if lines, ok := all[name][l]; ok {
				b.WriteString("  " + l + "\n")
				for _, line := range lines {
					b.WriteString("    " + line + "\n")
				}
			}
		}
	}
	if err := os.WriteFile(frozenFile(name), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
