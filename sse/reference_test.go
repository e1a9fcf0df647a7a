package sse

import (
	"errors"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// result is all that a stream gives. Its end is io.EOF, or Err.
type result struct {
	Events []Event
	LastID ID
	Retry  Retry
	Err    error
}

var exported = cmp.Options{
	cmp.AllowUnexported(Name{}, ID{}, Retry{}),
	cmpopts.EquateErrors(),
}

func drain(d *Decoder) (r result) {
	for {
		e, err := d.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.Err = err
			}
			r.LastID, r.Retry = d.LastEventID(), d.Retry()
			return r
		}
		r.Events = append(r.Events, e)
	}
}

// decodeAll decodes in one piece and byte by byte, which must be the same.
func decodeAll(t *testing.T, wire []byte) result {
	t.Helper()
	whole := drain(NewDecoder(strings.NewReader(string(wire))))
	bytewise := drain(NewDecoder(iotest.OneByteReader(strings.NewReader(string(wire)))))
	if diff := cmp.Diff(whole, bytewise, exported); diff != "" {
		t.Errorf("byte by byte differs (-whole +bytewise):\n%s", diff)
	}
	return whole
}

// normalise returns what a receiver gets of the data.
func normalise(data string) string {
	data = utf8Decode([]byte(data))
	return strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
}

// reference decodes by the letter of "Interpreting an event stream", with no
// thought of speed, memory or of streams that have not ended.
func reference(wire []byte) (r result) {
	var (
		data, name string
		id         ID
		retry      Retry
	)
	stream := strings.TrimPrefix(utf8Decode(wire), "\uFEFF")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			r.LastID = id
			if data != "" {
				r.Events = append(r.Events, Event{Name{name}, id, retry, strings.TrimSuffix(data, "\n")})
			}
			data, name, retry = "", "", Retry{}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = ID{value, true}
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				n, _ := new(big.Int).SetString(value, 10)
				if !n.IsUint64() {
					n.SetUint64(math.MaxUint64)
				}
				retry = RetryMillis(n.Uint64())
				r.Retry = retry
			}
		}
	}
	return r
}

// utf8Decode returns the "UTF-8 decoder" of the Encoding standard, state by state.
func utf8Decode(s []byte) string {
	var (
		out          strings.Builder
		point        rune
		seen, needed int
		lower, upper = byte(0x80), byte(0xBF)
	)
	for i := 0; i < len(s); i++ {
		b := s[i]
		if needed == 0 {
			switch {
			case b <= 0x7F:
				out.WriteByte(b)
			case 0xC2 <= b && b <= 0xDF:
				needed, point = 1, rune(b&0x1F)
			case 0xE0 <= b && b <= 0xEF:
				if b == 0xE0 {
					lower = 0xA0
				}
				if b == 0xED {
					upper = 0x9F
				}
				needed, point = 2, rune(b&0xF)
			case 0xF0 <= b && b <= 0xF4:
				if b == 0xF0 {
					lower = 0x90
				}
				if b == 0xF4 {
					upper = 0x8F
				}
				needed, point = 3, rune(b&0x7)
			default:
				out.WriteRune('\uFFFD')
			}
			continue
		}
		ok := lower <= b && b <= upper
		lower, upper = 0x80, 0xBF
		if !ok {
			seen, needed = 0, 0
			out.WriteRune('\uFFFD')
			i-- // "restore byte to ioQueue"
			continue
		}
		point = point<<6 | rune(b&0x3F)
		if seen++; seen == needed {
			out.WriteRune(point)
			seen, needed = 0, 0
		}
	}
	if needed > 0 {
		out.WriteRune('\uFFFD')
	}
	return out.String()
}
