package bench

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// An event's data is "stream sequence sent padding checksum": the number of the stream
// it is meant for (or everybody), its sequence number in that series, from 1, the
// publisher's clock in nanoseconds, padding, and the CRC-32C of all before it in 8 hex digits.
const (
	everybody = -1
	minSize   = 64
)

const checksumSize = 9 // including the space before it

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendData appends an event's data of that size to b.
func appendData(b []byte, stream int, number uint64, sent int64, size int) []byte {
	from := len(b)
	b = strconv.AppendInt(b, int64(stream), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, number, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, sent, 10)
	b = append(b, ' ')
	for left := size - checksumSize - (len(b) - from); left > 0; left = size - checksumSize - (len(b) - from) {
		b = append(b, padding[:min(left, len(padding))]...)
	}
	sum := crc32.Checksum(b[from:], castagnoli)
	b = append(b, ' ')
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[sum>>shift&15])
	}
	return b
}

var padding = strings.Repeat("x", 256)

var errTorn = errors.New("torn")

// parseData parses what appendData wrote. It allocates nothing.
func parseData(b []byte) (stream int64, number uint64, sent int64, err error) {
	end := len(b) - checksumSize
	if end < 0 || b[end] != ' ' {
		return 0, 0, 0, errTorn
	}
	sum := uint32(0)
	for _, c := range b[end+1:] {
		switch {
		case '0' <= c && c <= '9':
			sum = sum<<4 | uint32(c-'0')
		case 'a' <= c && c <= 'f':
			sum = sum<<4 | uint32(c-'a'+10)
		default:
			return 0, 0, 0, errTorn
		}
	}
	if sum != crc32.Checksum(b[:end], castagnoli) {
		return 0, 0, 0, errTorn
	}
	var ok1, ok2, ok3 bool
	b = b[:end]
	stream, b, ok1 = cutInteger(b)
	n, b, ok2 := cutInteger(b)
	sent, _, ok3 = cutInteger(b)
	if !ok1 || !ok2 || !ok3 || n < 0 {
		return 0, 0, 0, errTorn
	}
	return stream, uint64(n), sent, nil
}

// cutInteger cuts a number and the space after it from the beginning of b.
func cutInteger(b []byte) (n int64, rest []byte, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	for i, c := range b {
		if c == ' ' {
			if negative {
				n = -n
			}
			return n, b[i+1:], i > 0
		}
		if c < '0' || c > '9' || i > 18 {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return 0, nil, false
}

// Check counts the events that were received, and the errors in them.
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

// err returns an error with all counts, or nil if nothing was wrong.
func (c *Check) err() error {
	if c.Lost+c.Doubled+c.Torn+c.Reordered+c.Misdelivered == 0 {
		return nil
	}
	return fmt.Errorf("events: %d lost, %d doubled, %d torn, %d reordered, %d misdelivered",
		c.Lost, c.Doubled, c.Torn, c.Reordered, c.Misdelivered)
}

// maxMissing bounds the missing numbers that a series keeps. An event beyond a larger gap counts as torn.
const maxMissing = 1 << 16

// series checks the sequence numbers of events, which begin with 1.
type series struct {
	anyFirst bool                // the first event may have any number
	highest  uint64              // received
	missing  map[uint64]struct{} // numbers below highest that were not received yet
}

// expects reports whether the number is plausible for this series.
func (s *series) expects(number uint64) bool {
	return number > 0 && (number <= s.highest+maxMissing || s.anyFirst && s.highest == 0)
}

func (s *series) arrive(number uint64, found *Check) {
	if s.highest == 0 && s.anyFirst {
		s.highest = number
		return
	}
	if number > s.highest {
		for n := s.highest + 1; n < number; n++ {
			if s.missing == nil {
				s.missing = map[uint64]struct{}{}
			}
			s.missing[n] = struct{}{}
		}
		s.highest = number
		return
	}
	if _, late := s.missing[number]; late {
		delete(s.missing, number)
		found.Reordered++
		return
	}
	found.Doubled++
}

// lost returns how many of the sent events were never received.
func (s *series) lost(sent uint64) int64 {
	lost := int64(len(s.missing))
	if sent > s.highest && !(s.anyFirst && s.highest == 0) {
		lost += int64(sent - s.highest)
	}
	return lost
}

// checker checks what one stream receives: its own series of events, and the series
// that all streams receive.
type checker struct {
	decoder
	stream      int
	resumes     bool // see setup.Resumes
	own, common series
	found       Check
}

// feed checks the next bytes from the socket. It calls arrived for each intact event.
// After an error the rest of the stream cannot be parsed.
func (c *checker) feed(b []byte, arrived func(common bool, number uint64, sent int64)) error {
	return c.decode(b, func(data []byte) {
		stream, number, sent, err := parseData(data)
		if err == nil && stream != everybody && stream != int64(c.stream) {
			c.found.Misdelivered++
			return
		}
		s := &c.own
		if stream == everybody {
			s = &c.common
		}
		if err != nil || !s.expects(number) {
			c.found.Torn++
			return
		}
		c.found.Events++
		s.arrive(number, &c.found)
		arrived(stream == everybody, number, sent)
	}, func() { c.found.Torn++ })
}

// reopen is called when the client has closed the stream, before it opens it again.
// Events that were still on their way at that time do not count as lost, but for those of a
// series that goes on.
func (c *checker) reopen() {
	c.found.Lost += int64(len(c.own.missing))
	c.own = series{anyFirst: !c.resumes} // a new token has a series of its own
	if !c.resumes || len(c.id) == 0 {
		c.found.Lost += int64(len(c.common.missing))
		c.common = series{anyFirst: true}
	}
	c.decoder = decoder{
		framing: c.framing[:0], line: c.line[:0], data: c.data[:0], nextID: c.nextID[:0],
		id: c.id, comments: c.comments,
	}
}

// finish returns the final counts, given how many events were sent to this stream and to all streams.
func (c *checker) finish(own, common uint64) Check {
	found := c.found
	found.Lost += c.own.lost(own) + c.common.lost(common)
	if c.inEvent() {
		found.Torn++
	}
	return found
}
