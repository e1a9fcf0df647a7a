package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	words   = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s|;()]+|[|;()]`)
	setting = regexp.MustCompile(`^([A-Z][A-Z0-9_]+)=`)
	long    = regexp.MustCompile(`^--?[a-z][a-z-]*`)
	target  = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// known are settings that are not of the gateway but of Go, OpenTelemetry and the shell.
var known = regexp.MustCompile(`^(OTEL_|BENCH$|COUNT$|FUZZTIME$|TESTFLAGS$|SCENARIOS$|TOKEN$)`)

// settings returns the names of all settings.
var settings = sync.OnceValue(func() string {
	text, err := os.ReadFile(inRepository("docs/configuration.md"))
	if err != nil {
		panic(err)
	}
	return string(text)
})

// commandsExist looks at the commands of this project in a block: that the targets of make, the commands and flags of the
// program, the packages of go run and go test, and the settings are there. It returns how many it has looked at.
func commandsExist(t *testing.T, b block) (n int) {
	t.Helper()
	for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
		line, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "$ "), " # ")
		w := words.FindAllString(line, -1)
		for i, word := range w {
			switch {
			case setting.MatchString(word):
				n++
				name := setting.FindStringSubmatch(word)[1]
				if !known.MatchString(name) && !strings.Contains(settings(), "`"+name+"`") {
					t.Errorf("%s:%d: %s is no setting", b.page, b.line, name)
				}
			case word == "make" && i+1 < len(w) && begins(w[:i]):
				n++
				if !slices.ContainsFunc(target.FindAllStringSubmatch(read(t, "Makefile"), -1), func(m []string) bool { return m[1] == w[i+1] }) {
					t.Errorf("%s:%d: make %s is no target", b.page, b.line, w[i+1])
				}
			case (word == "ssegateway" || word == "bin/ssegateway") && begins(w[:i]):
				n++
				flagsExist(t, b, arguments(w[i+1:]))
			case word == "go" && i+1 < len(w) && (w[i+1] == "run" || w[i+1] == "test" || w[i+1] == "build") && begins(w[:i]):
				n++
				for _, a := range arguments(w[i+2:]) {
					if strings.HasPrefix(a, "./e2e") || strings.HasPrefix(a, "./internal") || strings.HasPrefix(a, "./bench") || strings.HasPrefix(a, "./cmd") {
						if _, err := os.Stat(inRepository(a)); err != nil {
							t.Errorf("%s:%d: %v", b.page, b.line, err)
						}
					}
				}
			case strings.HasPrefix(word, "deploy/"):
				n++
				if found, err := filepath.Glob(inRepository(word)); err != nil || len(found) == 0 {
					t.Errorf("%s:%d: no file %s (%v)", b.page, b.line, word, err)
				}
			}
		}
	}
	return n
}

// begins tells whether a command can stand behind these words: at the beginning, behind settings, a pipe or sudo.
func begins(before []string) bool {
	for i := len(before) - 1; i >= 0; i-- {
		switch w := before[i]; {
		case w == "|" || w == ";" || w == "&&" || w == "(" || w == "exec":
			return true
		case setting.MatchString(w), w == "sudo", w == "-u", w == "ssegateway" && i > 0 && before[i-1] == "-u":
		default:
			return false
		}
	}
	return true
}

// arguments returns the words of a command, up to the next one.
func arguments(w []string) []string {
	if end := slices.IndexFunc(w, func(s string) bool { return s == "|" || s == ";" || s == "&&" || s == ")" || s == "||" || s == ">" }); end >= 0 {
		return w[:end]
	}
	return w
}

func flagsExist(t *testing.T, b block, args []string) {
	t.Helper()
	command := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command = args[0]
	}
	help := helpOf(t, command)
	for _, a := range args {
		if !long.MatchString(a) {
			continue
		}
		name := strings.TrimLeft(long.FindString(a), "-")
		if !regexp.MustCompile(`--?` + regexp.QuoteMeta(name) + `\b`).MatchString(help) {
			t.Errorf("%s:%d: ssegateway %s has no flag %s", b.page, b.line, command, a)
		}
	}
}

var helps sync.Map

// helpOf returns the help of a command of the program.
func helpOf(t *testing.T, command string) string {
	t.Helper()
	if help, ok := helps.Load(command); ok {
		return help.(string)
	}
	args := []string{"--help"}
	if command != "" {
		args = []string{command, "--help"}
	}
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssegateway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	helps.Store(command, string(out))
	return string(out)
}
