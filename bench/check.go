package bench

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// An event's data is "stream sequence sent padding checksum": the number of the
// stream it is meant for or everybody, its number among that stream's events from 1,
// the publisher's clock in nanoseconds, and the CRC-32C of all that in 8 digits.
const (
	everybody = -1
	minSize   = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendData appends an event's data of that size to b.
func appendData(b []byte, stream int, sequence uint64, sent int64, size int) []byte {
	from := len(b)
	b = strconv.AppendInt(b, int64(stream), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, sequence, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, sent, 10)
	b = append(b, ' ')
	for len(b)-from < size-9 {
		b = append(b, 'x')
	}
	sum := crc32.Checksum(b[from:], castagnoli)
	return fmt.Appendf(b, " %08x", sum)
}

var errTorn = errors.New("torn")

// parseData is the reverse.
func parseData(b []byte) (stream int64, sequence uint64, sent int64, err error) {
	end := len(b) - 9
	if end < 0 || b[end] != ' ' {
		return 0, 0, 0, errTorn
	}
	sum, err := strconv.ParseUint(string(b[end+1:]), 16, 32)
	if err != nil || sum != uint64(crc32.Checksum(b[:end], castagnoli)) {
		return 0, 0, 0, errTorn
	}
	fields := bytes.SplitN(b[:end], []byte{' '}, 4)
	if len(fields) != 4 {
		return 0, 0, 0, errTorn
	}
	stream, err1 := strconv.ParseInt(string(fields[0]), 10, 64)
	sequence, err2 := strconv.ParseUint(string(fields[1]), 10, 64)
	sent, err3 := strconv.ParseInt(string(fields[2]), 10, 64)
	return stream, sequence, sent, errors.Join(err1, err2, err3)
}

// Check counts the events that came, and what was wrong with them.
type Check struct {
	Events       int64 `json:"events"`
	Lost         int64 `json:"lost"`
	Doubled      int64 `json:"doubled"`
	Torn         int64 `json:"torn"`
	Reordered    int64 `json:"reordered"`
	Misdelivered int64 `json:"misdelivered"` // meant for another stream
}

func (c *Check) add(d Check) {
	c.Events += d.Events
	c.Lost += d.Lost
	c.Doubled += d.Doubled
	c.Torn += d.Torn
	c.Reordered += d.Reordered
	c.Misdelivered += d.Misdelivered
}

// err says what was wrong; nil: nothing.
func (c *Check) err() error {
	if c.Lost+c.Doubled+c.Torn+c.Reordered+c.Misdelivered == 0 {
		return nil
	}
	return fmt.Errorf("events: %d lost, %d doubled, %d torn, %d reordered, %d misdelivered",
		c.Lost, c.Doubled, c.Torn, c.Reordered, c.Misdelivered)
}

// maxMissing bounds what a checker remembers of a gap; more than that is torn.
const maxMissing = 1 << 16

// checker checks what one stream receives.
type checker struct {
	decoder
	stream  int
	due     uint64              // the highest number that came
	missing map[uint64]struct{} // below due, and not seen yet
	found   Check
}

// feed takes the next bytes from the socket. arrived is called for each event that
// came whole, with the time it was sent. An error means that the rest cannot be read.
func (c *checker) feed(b []byte, arrived func(sent int64)) error {
	return c.decode(b, func(data []byte) {
		stream, sequence, sent, err := parseData(data)
		switch {
		case err != nil || sequence == 0 || sequence > c.due+maxMissing:
			c.found.Torn++
			return
		case stream != everybody && stream != int64(c.stream):
			c.found.Misdelivered++
			return
		}
		c.found.Events++
		c.arrive(sequence)
		arrived(sent)
	}, func() { c.found.Torn++ })
}

func (c *checker) arrive(sequence uint64) {
	if sequence > c.due {
		for n := c.due + 1; n < sequence; n++ {
			if c.missing == nil {
				c.missing = map[uint64]struct{}{}
			}
			c.missing[n] = struct{}{}
		}
		c.due = sequence
		return
	}
	if _, late := c.missing[sequence]; late {
		delete(c.missing, sequence)
		c.found.Reordered++
		return
	}
	c.found.Doubled++
}

// finish is what was found, given how many events were sent to this stream.
func (c *checker) finish(sent uint64) Check {
	found := c.found
	found.Lost = int64(len(c.missing))
	if sent > c.due {
		found.Lost += int64(sent - c.due)
	}
	if c.inEvent() {
		found.Torn++
	}
	return found
}
