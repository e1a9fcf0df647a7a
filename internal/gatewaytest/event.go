package gatewaytest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Event identifies an event. No two events of a test are equal, and each names the
// connection and the sender that it belongs to.
type Event struct {
	Conn, Sender, Seq int
	Size              int // of the filler behind its name, in bytes
}

func (e Event) event() sse.Event {
	data := make([]byte, 0, 40+e.Size+e.Size/40)
	for _, n := range []int{e.Conn, e.Sender, e.Seq, e.Size} {
		data = append(strconv.AppendInt(data, int64(n), 10), '.')
	}
	letter := byte('a' + (e.Conn+e.Sender+e.Seq)%26)
	for i := range e.Size {
		if i%40 == 0 {
			data = append(data, '\n')
		}
		data = append(data, letter)
	}
	name, err := sse.NewName("s" + strconv.Itoa(e.Sender))
	if err != nil {
		panic(err)
	}
	return sse.Event{Name: name, Data: string(data)}
}

// Frame returns the event as it is sent.
func (e Event) Frame() frame.Frame { return frame.Event(e.event()) }

// wire returns the event as it must arrive.
func (e Event) wire() []byte { return e.event().AppendTo(nil) }

// parseEvent parses a whole block, which must be an event of this package.
func parseEvent(block []byte) (e Event, err error) {
	_, rest, _ := bytes.Cut(block, []byte("\ndata: "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	numbers := strings.Split(string(line), ".")
	fields := []*int{&e.Conn, &e.Sender, &e.Seq, &e.Size}
	if len(numbers) != len(fields)+1 {
		return e, fmt.Errorf("not an event: %.80q", block)
	}
	for i, field := range fields {
		if *field, err = strconv.Atoi(numbers[i]); err != nil {
			return e, fmt.Errorf("not an event: %.80q", block)
		}
	}
	if e.Size < 0 || e.Size > len(block) || !bytes.Equal(block, e.wire()) {
		return e, fmt.Errorf("a torn event: %.80q", block)
	}
	return e, nil
}
