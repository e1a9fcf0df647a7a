package disk

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// Kinds of records: the first three are in the log of events, the others in the table.
const (
	kindBeginning  = 1 // of a segment
	kindEvent      = 2
	kindRemoval    = 3 // of retained events
	kindConnection = 4
	kindRetained   = 5 // an event whose segment is gone, by its offset
	kindKey        = 6 // an idempotency key whose event is in no segment, by its hash
)

// The data of a record is a protocol buffer's message without a schema: fields with numbers. A number is never used for
// something else again. A version that does not know a field does not read the directory, since
// it would lose what the field says.

// Fields of a beginning. Each is of what came before it.
const (
	beginningEpoch  = 1
	beginningLast   = 2 // offset of the last event or removal
	beginningStored = 3 // offset of the last event
)

// Fields of all other records.
const (
	eventOffset = 1
	eventAt     = 2 // nanoseconds since 1970
	eventTopic  = 3 // repeated
	eventName   = 4
	eventRetry  = 5
	eventData   = 6
	eventRetain = 7
	eventKey    = 8 // among the retained events of a topic
	eventRepeat = 9 // idempotency key
	eventDigest = 10
)

// begin is where a segment begins: what came before it.
type begin struct {
	segment      uint64
	last, stored uint64 // offsets
}

func appendBeginning(dst []byte, epoch string, b begin) []byte {
	dst = appendText(dst, beginningEpoch, epoch)
	dst = appendNumber(dst, beginningLast, b.last)
	return appendNumber(dst, beginningStored, b.stored)
}

func parseBeginning(data []byte) (epoch string, b begin, err error) {
	err = fields(data, func(f field) error {
		switch f.number {
		case beginningEpoch:
			epoch = string(f.text)
		case beginningLast:
			b.last = f.value
		case beginningStored:
			b.stored = f.value
		default:
			return f.unknown()
		}
		return nil
	})
	if err == nil && epoch == "" {
		err = errors.New("a beginning has no epoch")
	}
	return epoch, b, err
}

// stored is a publication with its place in the log.
type stored struct {
	broker.Publication
	offset uint64
	at     time.Time
}

func appendEvent(dst []byte, e *stored) []byte {
	dst = appendNumber(dst, eventOffset, e.offset)
	dst = protowire.AppendTag(dst, eventAt, protowire.Fixed64Type)
	dst = protowire.AppendFixed64(dst, uint64(e.at.UnixNano()))
	for _, t := range e.Topics {
		dst = appendText(dst, eventTopic, t)
	}
	if name := e.Event.Name.String(); name != "" {
		dst = appendText(dst, eventName, name)
	}
	if e.Event.Retry.IsSet() {
		dst = appendNumber(dst, eventRetry, e.Event.Retry.Millis())
	}
	if e.Retain {
		dst = appendNumber(dst, eventRetain, 1)
	}
	if e.Key != "" {
		dst = appendText(dst, eventKey, e.Key)
	}
	if e.IdempotencyKey != "" {
		dst = appendText(dst, eventRepeat, e.IdempotencyKey)
		dst = protowire.AppendTag(dst, eventDigest, protowire.BytesType)
		dst = protowire.AppendBytes(dst, e.Digest[:])
	}
	if e.Event.Data != "" {
		dst = appendText(dst, eventData, e.Event.Data)
	}
	return dst
}

// parseEvent parses a record of a kind other than a beginning.
func parseEvent(kind byte, data []byte) (e stored, err error) {
	e.Store, e.Remove = kind == kindEvent || kind == kindRetained, kind == kindRemoval
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
		case eventRetain:
			e.Retain = f.value != 0
		case eventKey:
			e.Key = string(f.text)
		case eventRepeat:
			e.IdempotencyKey = string(f.text)
		case eventDigest:
			if copy(e.Digest[:], f.text); len(f.text) != len(e.Digest) {
				err = errors.New("a digest has another length")
			}
		default:
			err = f.unknown()
		}
		return err
	})
	if err == nil && e.offset == 0 && kind != kindKey {
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
