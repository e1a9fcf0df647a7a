package disk

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// Kinds of records. Those of events and of beginnings are in the log of events, which is in the
// order of offsets; the others have a key, and are in the table.
const (
	kindBeginning  = 1 // of a segment
	kindEvent      = 2
	kindConnection = 1 // in the table
)

// The data of a record is a protocol buffer's message without a schema: fields with numbers. A number is never used for
// something else again. A version that does not know a field does not read the directory, since
// it would lose what the field says.

// Fields of a beginning.
const (
	beginningEpoch  = 1
	beginningOffset = 2 // of the last stored event before it
)

// Fields of an event.
const (
	eventOffset = 1
	eventAt     = 2 // nanoseconds since 1970
	eventTopic  = 3 // repeated
	eventName   = 4
	eventRetry  = 5
	eventData   = 6
)

func appendBeginning(dst []byte, epoch string, offset uint64) []byte {
	dst = appendText(dst, beginningEpoch, epoch)
	return appendNumber(dst, beginningOffset, offset)
}

func parseBeginning(data []byte) (at broker.Position, err error) {
	err = fields(data, func(f field) error {
		switch f.number {
		case beginningEpoch:
			at.Epoch = string(f.text)
		case beginningOffset:
			at.Offset = f.value
		default:
			return f.unknown()
		}
		return nil
	})
	if err == nil && at.Epoch == "" {
		err = errors.New("a beginning has no epoch")
	}
	return at, err
}

// stored is an event with its place in the log.
type stored struct {
	broker.Publication
	offset uint64
	at     time.Time
}

func appendEvent(dst []byte, e *stored) []byte {
	dst = appendNumber(dst, eventOffset, e.offset)
	dst = protowire.AppendTag(dst, eventAt, protowire.Fixed64Type)
	dst = protowire.AppendFixed64(dst, uint64(e.at.UnixNano())) //nolint:gosec // read back as it was
	for _, t := range e.Topics {
		dst = appendText(dst, eventTopic, t)
	}
	if name := e.Event.Name.String(); name != "" {
		dst = appendText(dst, eventName, name)
	}
	if e.Event.Retry.IsSet() {
		dst = appendNumber(dst, eventRetry, e.Event.Retry.Millis())
	}
	return appendText(dst, eventData, e.Event.Data)
}

func parseEvent(data []byte) (e stored, err error) {
	e.Store = true
	err = fields(data, func(f field) (err error) {
		switch f.number {
		case eventOffset:
			e.offset = f.value
		case eventAt:
			e.at = time.Unix(0, int64(f.value)) //nolint:gosec // as it was
		case eventTopic:
			e.Topics = append(e.Topics, string(f.text))
		case eventName:
			e.Event.Name, err = sse.NewName(string(f.text))
		case eventRetry:
			e.Event.Retry = sse.RetryMillis(f.value)
		case eventData:
			e.Event.Data = string(f.text)
		default:
			err = f.unknown()
		}
		return err
	})
	if err == nil && e.offset == 0 {
		err = errors.New("an event has no offset")
	}
	return e, err
}

func appendNumber(dst []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), n)
}

func appendText(dst []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

// field is a number or a text.
type field struct {
	number protowire.Number
	value  uint64
	text   []byte
}

func (f field) unknown() error {
	return fmt.Errorf("it has the field %d, of a newer version", f.number)
}

// fields calls f with each field of a message.
func fields(data []byte, f func(field) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		next := field{number: number}
		switch kind {
		case protowire.VarintType:
			next.value, n = protowire.ConsumeVarint(data)
		case protowire.Fixed64Type:
			next.value, n = protowire.ConsumeFixed64(data)
		case protowire.BytesType:
			next.text, n = protowire.ConsumeBytes(data)
		default:
			return next.unknown()
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := f(next); err != nil {
			return err
		}
	}
	return nil
}
