// Package logging makes the program's logger: plain lines for people,
//
//	[INFO] stream opened token=0b1e… path="/a b"
//
// or JSON for machines. The plain form has no colour, and a time only where nothing else adds
// one: on a terminal and in a file.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// New makes a logger that writes each record with one call of w.Write, never two at a time.
// format is "json" or, for anything else, text.
func New(w io.Writer, level slog.Leveler, format string) *slog.Logger { //nolint:misspell // slog's word
	return newLogger(w, level, format, isUnsupervised(w))
}

func newLogger(w io.Writer, level slog.Leveler, format string, timed bool) *slog.Logger { //nolint:misspell // slog's word
	if format == "json" {
		return slog.New(slog.NewJSONHandler(escaper{w}, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(&textHandler{w: w, mu: new(sync.Mutex), level: level, timed: timed})
}

// isUnsupervised reports whether w is a terminal or a file. A supervisor, which adds the time,
// reads a pipe or a socket.
func isUnsupervised(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && (info.Mode().IsRegular() || info.Mode()&os.ModeCharDevice != 0)
}

// textHandler writes the plain form. Nothing that is logged can forge a line or reach
// a terminal as a control sequence: what is not printable leaves in Go's quoted form.
//
// It exists because the handlers at hand do not give that: tint and slog's own write
// DEL as it is, and tint cuts a value at its first byte that is not UTF-8.
type textHandler struct {
	w     io.Writer
	mu    *sync.Mutex  // guards w; shared with the handlers derived from this one
	level slog.Leveler //nolint:misspell // slog's word

	timed bool // lines begin with the time

	attrs []byte // of WithAttrs, formatted; each begins with a space
	group string // of WithGroup: prefix of keys, each name ends in a dot
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// timeForm is RFC 3339 with milliseconds.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// maxKept bounds the buffers kept for reuse; a longer line is rare.
const maxKept = 16 << 10

func (h *textHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	pooled := buffers.Get().(*[]byte)
	b := (*pooled)[:0]
	if h.timed {
		b = append(r.Time.UTC().AppendFormat(b, timeForm), ' ')
	}
	b = append(b, '[')
	b = append(b, r.Level.String()...)
	b = append(b, "] "...)
	if strings.ContainsFunc(r.Message, unprintable) {
		b = strconv.AppendQuote(b, r.Message)
	} else {
		b = append(b, r.Message...)
	}
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.group, a)
		return true
	})
	b = append(b, '\n')

	h.mu.Lock()
	_, err := h.w.Write(b)
	h.mu.Unlock()
	if cap(b) <= maxKept {
		*pooled = b
		buffers.Put(pooled)
	}
	return err
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	derived := *h
	derived.attrs = h.attrs[:len(h.attrs):len(h.attrs)] // so that an append copies
	for _, a := range attrs {
		derived.attrs = appendAttr(derived.attrs, h.group, a)
	}
	return &derived
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	derived := *h
	derived.group += name + "."
	return &derived
}

func appendAttr(b []byte, group string, a slog.Attr) []byte {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range a.Value.Group() {
			b = appendAttr(b, group, member)
		}
		return b
	}
	if a.Equal(slog.Attr{}) {
		return b
	}
	b = append(b, ' ')
	if group == "" {
		b = appendText(b, a.Key)
	} else {
		b = appendText(b, group+a.Key)
	}
	b = append(b, '=')
	switch v := a.Value; v.Kind() {
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindTime:
		return v.Time().AppendFormat(b, time.RFC3339Nano)
	case slog.KindAny:
		return appendText(b, fmt.Sprint(v.Any()))
	default:
		return appendText(b, v.String())
	}
}

// appendText quotes where a reader, human or program, could mistake the end of the text.
func appendText(b []byte, s string) []byte {
	if s == "" || strings.ContainsFunc(s, ambiguous) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

func ambiguous(r rune) bool { return r == ' ' || r == '=' || r == '"' || unprintable(r) }

// unprintable is true of control and format characters, line separators, and of
// utf8.RuneError, as which bytes that are not UTF-8 are seen.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// escaper writes lines of JSON, in which what is not printable leaves as an escape: the
// standard library's handler does that only for what JSON asks for.
type escaper struct{ w io.Writer }

func (e escaper) Write(line []byte) (int, error) {
	if !slices.ContainsFunc(line, func(c byte) bool { return c >= 0x7f }) {
		return e.w.Write(line)
	}
	b := make([]byte, 0, len(line)+64)
	for rest := line; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\n' || !unprintable(r): // the line's end; all others are escaped already
			b = append(b, rest[:size]...)
		case r > 0xffff:
			first, second := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, first, second)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	if _, err := e.w.Write(b); err != nil {
		return 0, err
	}
	return len(line), nil
}
