package frame_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// expectFrame holds a frame to its inside and the number of its events.
func expectFrame(t interface {
	Helper()
	Errorf(format string, args ...any)
}, f frame.Frame, inside string, events int,
) {
	t.Helper()
	if got := string(f.Wire(false)); got != inside || f.Len() != len(inside) {
		t.Errorf("inside %q of length %d, want %q", got, f.Len(), inside)
	}
	// The end makes one chunk a body.
	body, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(append(bytes.Clone(f.Wire(true)), "0\r\n\r\n"...))))
	if err != nil || string(body) != inside {
		t.Errorf("the chunk %q reads %q, %v", f.Wire(true), body, err)
	}
	if n := fmt.Sprintf("%x\r\n", len(inside)); !strings.HasPrefix(string(f.Wire(true)), n) {
		t.Errorf("a chunk of %d bytes begins %.10q", len(inside), f.Wire(true))
	}
	if f.Events() != events || f.IsZero() || f.Size() < len(f.Wire(true)) {
		t.Errorf("%d events, zero %v, %d bytes of memory for %d", f.Events(), f.IsZero(), f.Size(), len(f.Wire(true)))
	}
}

func TestFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []frame.Frame
		inside, events := "", 0
		for range rapid.IntRange(1, 20).Draw(t, "frames") {
			e := sse.Event{Data: rapid.StringN(-1, -1, 5000).Draw(t, "data")}
			if rapid.Bool().Draw(t, "event") {
				f := frame.Event(e)
				expectFrame(t, f, string(e.AppendTo(nil)), 1)
				all = append(all, f)
				events++
			} else {
				block := sse.AppendRetry(nil, sse.RetryMillis(rapid.Uint64().Draw(t, "retry")))
				f := frame.Block(block)
				expectFrame(t, f, string(block), 0)
				all = append(all, f)
			}
			inside += string(all[len(all)-1].Wire(false))
		}
		expectFrame(t, frame.Join(all), inside, events)
	})
}

// The answer to a connect may have more events than 16 bits count.
func TestManyEvents(t *testing.T) {
	const events = 1<<16 + 1
	all := make([]frame.Frame, events)
	for i := range all {
		all[i] = frame.Event(sse.Event{})
	}
	if n := frame.Join(all).Events(); n != events {
		t.Errorf("%d events, want %d", n, events)
	}
}

// The size of a chunk has as many digits as it needs.
func TestChunkSizes(t *testing.T) {
	for _, n := range []int{8, 15, 16, 255, 256, 4095, 4096, 65535, 65536, 1 << 20} {
		e := sse.Event{Data: strings.Repeat("x", n-len("data: \n\n"))}
		expectFrame(t, frame.Event(e), string(e.AppendTo(nil)), 1)
	}
}

func TestBareFrames(t *testing.T) {
	var none frame.Frame
	if !none.IsZero() || none.Len() != 0 || none.Events() != 0 || len(none.Wire(true)) != 0 || len(none.Wire(false)) != 0 {
		t.Errorf("the zero frame is %+v", none)
	}
	head := frame.Head([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	if head.IsZero() || head.Events() != 0 || !bytes.Equal(head.Wire(true), head.Wire(false)) || head.Len() != 19 {
		t.Errorf("a head is %+v", head)
	}
	if end := frame.End; end.IsZero() || end.Len() != 0 || string(end.Wire(true)) != "0\r\n\r\n" || len(end.Wire(false)) != 0 {
		t.Errorf("the end is %+v", end)
	}
}

// An event is encoded once, into no more memory than it needs.
func TestAllocations(t *testing.T) {
	e := sse.Event{Data: strings.Repeat("x", 1000)}
	if n := testing.AllocsPerRun(100, func() { _ = frame.Event(e) }); n != 1 {
		t.Errorf("%v allocations", n)
	}
	if f := frame.Event(e); f.Size() > 2*len(f.Wire(true)) {
		t.Errorf("%d bytes for %d", f.Size(), len(f.Wire(true)))
	}
}
