package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"
	"unicode"
	"unicode/utf8"
)

type token [2]byte

func (token) String() string { return "a token" }

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("hidden") }

func TestText(t *testing.T) {
	tests := []struct {
		want string
		log  func(*slog.Logger)
	}{
		{"[DEBUG] sent\n", func(l *slog.Logger) { l.Debug("sent") }},
		{"[INFO] two words port=3000\n", func(l *slog.Logger) { l.Info("two words", "port", 3000) }},
		{"[WARN] x\n", func(l *slog.Logger) { l.Warn("x") }},
		{"[ERROR] x error=\"it broke\"\n", func(l *slog.Logger) { l.Error("x", "error", errors.New("it broke")) }},
		{"[INFO+1] x\n", func(l *slog.Logger) { l.Log(context.Background(), slog.LevelInfo+1, "x") }},
		{
			"[INFO] x i=-1 u=1 f=0.5 b=true d=1.5s t=2026-01-02T03:04:05Z nil=<nil> stringer=\"a token\" log_value=hidden slice=\"[1 2]\"\n",
			func(l *slog.Logger) {
				l.Info("x", "i", -1, "u", uint(1), "f", 0.5, "b", true, "d", 1500*time.Millisecond,
					"t", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "nil", nil, "stringer", token{}, "log_value", secret{}, "slice", []int{1, 2})
			},
		},
		{"[INFO] x nil_error=<nil>\n", func(l *slog.Logger) { l.Info("x", "nil_error", (*strconv.NumError)(nil)) }},
		{"[INFO] x empty=\"\" quote=\"a\\\"b\" equals=\"a=b\" back=a\\b ü=ü\n", func(l *slog.Logger) {
			l.Info("x", "empty", "", "quote", `a"b`, "equals", "a=b", "back", `a\b`, "ü", "ü")
		}},
		{"[INFO] x path=\"/a\\n[INFO] forged\\r\\x1b[31m\\x7f\\x00\\u0085\\u202e\\u2028\\xff\"\n", func(l *slog.Logger) {
			l.Info("x", "path", "/a\n[INFO] forged\r\x1b[31m\x7f\x00\u0085\u202e\u2028\xff")
		}},
		{"[INFO] \"a\\nb\" \"k\\n\"=v\n", func(l *slog.Logger) { l.Info("a\nb", "k\n", "v") }},
		{"[INFO] x a=1 g.b=2 g.h.c=3 g.h.d=4\n", func(l *slog.Logger) {
			l.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").With("c", 3).Info("x", "d", 4)
		}},
		{"[INFO] x g.a=1 b=2\n", func(l *slog.Logger) {
			l.Info("x", slog.Group("g", "a", 1), slog.Group("", "b", 2), slog.Group("empty"), slog.Attr{})
		}},
	}
	for _, test := range tests {
		var b bytes.Buffer
		test.log(New(&b, slog.LevelDebug, "text"))
		if got := b.String(); got != test.want {
			t.Errorf("got  %swant %s", got, test.want)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		l := New(&b, slog.LevelWarn, format)
		l.Debug("a")
		l.Info("b")
		l.Warn("c")
		l.Error("d")
		if got := strings.Count(b.String(), "\n"); got != 2 {
			t.Errorf("%s: %d lines, want 2:\n%s", format, got, b.String())
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	New(&b, slog.LevelInfo, "json").Info("stream opened", "path", "/a\n\x1b\xff", "port", 3000)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339Nano, line["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(line, "time")
	want := map[string]any{"level": "INFO", "msg": "stream opened", "path": "/a\n\x1b\ufffd", "port": 3000.0}
	if !maps.Equal(line, want) {
		t.Errorf("got %v, want %v", line, want)
	}
	if bytes.ContainsAny(bytes.TrimSuffix(b.Bytes(), []byte("\n")), "\n\x1b") {
		t.Errorf("control characters in %q", b.Bytes())
	}
}

// TestJSONIsPrintable: no value reaches a terminal as a control sequence, nor turns or hides
// what stands beside it; and what is read back is what was logged.
func TestJSONIsPrintable(t *testing.T) {
	var b bytes.Buffer
	text := "a\u202eb\u200bc\u0085d\u2028e\u2029f\x7fg\u00a0h\U000e0001i ü😀"
	New(&b, slog.LevelInfo, "json").With("k", text).Info(text, "path", text)
	line, _ := strings.CutSuffix(b.String(), "\n")
	if strings.ContainsFunc(line, unprintable) {
		t.Errorf("not printable: %q", line)
	}
	if !strings.Contains(line, "ü😀") {
		t.Errorf("escaped without need: %s", line)
	}
	var fields map[string]string
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"msg", "path", "k"} {
		if fields[key] != text {
			t.Errorf("%s: got %q, want %q", key, fields[key], text)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("opened", "a\u202e\xff\u0085\U000e0001")
	f.Fuzz(func(t *testing.T, message, value string) {
		var b bytes.Buffer
		New(&b, slog.LevelInfo, "json").LogAttrs(t.Context(), slog.LevelInfo, message, slog.String("value", value))
		line, ok := strings.CutSuffix(b.String(), "\n")
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); !ok || err != nil || strings.ContainsFunc(line, unprintable) {
			t.Fatalf("line %q: %v", line, err)
		}
		if got := fields["value"]; got != strings.ToValidUTF8(value, "\ufffd") && utf8.ValidString(value) {
			t.Errorf("got %q, want %q", got, value)
		}
	})
}

// TestDerivedLoggersAreIndependent finds siblings that share the memory of their attributes.
func TestDerivedLoggersAreIndependent(t *testing.T) {
	var b bytes.Buffer
	parent := New(&b, slog.LevelInfo, "text").With("parent", strings.Repeat("x", 30)) // leaves room in the buffer
	first := parent.With("n", 1)
	parent.With("n", 2)
	first.Info("x")
	if !strings.HasSuffix(b.String(), " n=1\n") {
		t.Error(b.String())
	}
}

func TestConcurrentLinesStayWhole(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, slog.LevelInfo, "text")
	var wg sync.WaitGroup
	for i := range 8 {
		derived := l.With("n", i)
		wg.Go(func() {
			for range 100 {
				derived.Info("x", "v", "y")
			}
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for line := range strings.Lines(b.String()) {
		counts[line]++
	}
	for i := range 8 {
		if line := "[INFO] x n=" + strconv.Itoa(i) + " v=y\n"; counts[line] != 100 {
			t.Errorf("%d times %q, want 100", counts[line], line)
		}
	}
}

// TestHandler is the standard library's suite for handlers.
func TestHandler(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		b.Reset()
		return New(&b, slog.LevelDebug, "text").Handler()
	}, func(t *testing.T) map[string]any {
		line := parse(t, b.String())
		if !strings.HasSuffix(t.Name(), "/zero-time") {
			line[slog.TimeKey] = "absent by design"
		}
		return line
	})
}

// parse reads a line of the plain form whose message is one word.
func parse(t *testing.T, line string) map[string]any {
	t.Helper()
	fields := strings.Fields(line)
	m := map[string]any{slog.LevelKey: fields[0], slog.MessageKey: fields[1]}
	for _, f := range fields[2:] {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			t.Fatalf("no = in %q", f)
		}
		groups := strings.Split(key, ".")
		in := m
		for _, g := range groups[:len(groups)-1] {
			if in[g] == nil {
				in[g] = map[string]any{}
			}
			in = in[g].(map[string]any)
		}
		in[groups[len(groups)-1]] = value
	}
	return m
}

// FuzzText: whatever is logged, it is one line, printable, and the values can be told apart.
func FuzzText(f *testing.F) {
	f.Add("opened", "path", "/a b\n\x1b\xff\"=")
	f.Add("opened", "path", "\ufffd") // is printable by itself
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	f.Fuzz(func(t *testing.T, message, key, value string) {
		var b bytes.Buffer
		New(&b, slog.LevelInfo, "text").LogAttrs(t.Context(), slog.LevelInfo, message, slog.String(key, value), slog.Int("end", 1))
		line, ok := strings.CutSuffix(b.String(), "\n")
		if !ok || strings.ContainsFunc(line, hidden) || !utf8.ValidString(line) {
			t.Fatalf("line %q", b.String())
		}
		rest, ok := strings.CutSuffix(line, " end=1")
		if key == "" && value == "" { // slog's empty attribute, which is left out
			return
		}
		text := value
		if i := strings.LastIndexByte(rest, '='); !strings.HasSuffix(rest, `"`) {
			text = rest[i+1:]
		} else if quoted := strconv.Quote(value); strings.HasSuffix(rest, "="+quoted) {
			text, _ = strconv.Unquote(quoted)
		}
		if !ok || text != value {
			t.Errorf("value %q is lost in %q", value, line)
		}
	})
}

// BenchmarkText logs what is logged of each connection. The three lines of one
// connection should cost no allocation when logged by LogAttrs.
func BenchmarkText(b *testing.B) {
	l := New(io.Discard, slog.LevelInfo, "text").With("component", "gateway")
	b.ReportAllocs()
	for b.Loop() {
		logClose(l)
	}
}

func logClose(l *slog.Logger) {
	l.LogAttrs(context.Background(), slog.LevelInfo, "stream closed",
		slog.String("token", "5f0c9d7e-4c27-4a2c-9d7f-0f6c1f5d9b11"), slog.String("reason", "client_closed"),
		slog.String("detail", ""), slog.String("path", "/a/room 7"), slog.Int("ms", 42))
}

// Lines have the time where nothing else adds it: in a file, not in a pipe.
func TestTime(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, out := range []*os.File{file, pipe} {
		log, lines := Start(out, slog.LevelInfo, "text")
		log.Info("hello")
		lines.Close()
		_ = out.Close()
	}
	text, err := os.ReadFile(file.Name())
	if err != nil || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[INFO\] hello\n$`).Match(text) {
		t.Errorf("in a file: %q, %v", text, err)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != "[INFO] hello\n" {
		t.Errorf("in a pipe: %q, %v", text, err)
	}
}
