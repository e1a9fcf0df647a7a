package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
)

const (
	magic     = "\x89journl\n"
	version   = 1
	flagSync  = 1 // what is answered is on the disk
	headBytes = 8 + 2 + 2 + 8 + 16 + bootBytes + nameBytes + 4
	bootBytes = 36
	nameBytes = 16

	frameBytes  = 12 // of a frame's head
	recordBytes = 5  // of a record's head
	maxFrame    = 1 << 31
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head is the beginning of a segment.
type head struct {
	number uint64
	log    [16]byte // the same in all segments of a log
	boot   string
	sync   bool
	name   string
}

func (h head) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint16(dst, version)
	flags := uint16(0)
	if h.sync {
		flags |= flagSync
	}
	dst = binary.LittleEndian.AppendUint16(dst, flags)
	dst = binary.LittleEndian.AppendUint64(dst, h.number)
	dst = append(dst, h.log[:]...)
	dst = appendPadded(dst, h.boot, bootBytes)
	dst = appendPadded(dst, h.name, nameBytes)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// misplaced is what is wrong with a segment that is not where it was written.
const misplaced = "belongs to another directory"

func appendPadded(dst []byte, s string, n int) []byte {
	s = s[:min(len(s), n)]
	return append(append(dst, s...), make([]byte, n-len(s))...)
}

// parseHead returns the head of the segment of a log with that number, or what is wrong with it.
func parseHead(b []byte, log string, number uint64) (h head, wrong string) {
	if len(b) < headBytes {
		return h, "is shorter than its head"
	}
	if string(b[:8]) != magic {
		return h, "is a foreign file"
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > version { // before the CRC, which may be elsewhere in a newer one
		return h, fmt.Sprintf("was written by a newer version (format %d, and this one knows %d)", v, version)
	}
	if crc32.Checksum(b[:headBytes-4], castagnoli) != binary.LittleEndian.Uint32(b[headBytes-4:]) {
		return h, "is damaged in its head"
	}
	h.sync = binary.LittleEndian.Uint16(b[10:])&flagSync != 0
	h.number = binary.LittleEndian.Uint64(b[12:])
	copy(h.log[:], b[20:])
	h.boot = string(bytes.TrimRight(b[36:36+bootBytes], "\x00"))
	h.name = string(bytes.TrimRight(b[36+bootBytes:36+bootBytes+nameBytes], "\x00"))
	if h.number != number || h.name != log {
		return h, misplaced
	}
	return h, ""
}

// seal fills in the head of a frame that begins with space for it.
func seal(frame []byte, number uint64, position int64) {
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-frameBytes)) //nolint:gosec // below maxFrame
	binary.LittleEndian.PutUint32(frame[4:], crc32.Checksum(frame[frameBytes:], castagnoli))
	binary.LittleEndian.PutUint32(frame[8:], headSum(frame, number, position))
}

func headSum(frame []byte, number uint64, position int64) uint32 {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], number)
	binary.LittleEndian.PutUint64(b[8:], uint64(position)) //nolint:gosec // not negative
	copy(b[16:], frame[:8])
	return crc32.Checksum(b[:], castagnoli)
}

// fault is what is wrong at a place of a segment.
type fault int

const (
	sound   fault = iota
	torn          // it goes beyond the end, as after a write that was cut off
	damaged       // it is not as it was written
)

// parseFrame returns the payload of the frame at a position. At the end of b it is nil and sound.
func parseFrame(b []byte, number uint64, position int64) (payload []byte, f fault) {
	rest := b[position:]
	switch {
	case len(rest) == 0:
		return nil, sound
	case len(rest) < frameBytes:
		return nil, torn
	case headSum(rest, number, position) != binary.LittleEndian.Uint32(rest[8:]):
		return nil, damaged
	}
	length := int64(binary.LittleEndian.Uint32(rest))
	if length > int64(len(rest)-frameBytes) {
		return nil, torn
	}
	payload = rest[frameBytes : frameBytes+length]
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
		return nil, damaged
	}
	return payload, sound
}

// soundAfter reports whether a sound frame begins anywhere behind a position.
func soundAfter(b []byte, number uint64, position int64) bool {
	for position++; position <= int64(len(b)-frameBytes); position++ {
		if _, f := parseFrame(b, number, position); f == sound {
			return true
		}
	}
	return false
}

// Place is where a record is.
type Place struct {
	Segment uint64
	Offset  int64 // in the segment's file
}

// Record is a record as it is read.
type Record struct {
	Kind byte
	Data []byte // part of what was read of the file
	At   Place
}

// records calls f with the records of a payload. It returns false if it is none.
func records(payload []byte, at Place, f func(Record) error) (bool, error) {
	for len(payload) > 0 {
		if len(payload) < recordBytes {
			return false, nil
		}
		length := int64(binary.LittleEndian.Uint32(payload))
		if length > int64(len(payload)-recordBytes) {
			return false, nil
		}
		if err := f(Record{payload[4], payload[recordBytes : recordBytes+length], at}); err != nil {
			return true, err
		}
		payload = payload[recordBytes+length:]
		at.Offset += recordBytes + length
	}
	return true, nil
}

// readAt reads the record at a place of a file.
func readAt(f *os.File, offset int64) (kind byte, data []byte, err error) {
	var space [512]byte // most records fit
	n, err := f.ReadAt(space[:], offset)
	if n < recordBytes {
		return 0, nil, fmt.Errorf("%s has no record at byte %d: %w", f.Name(), offset, err)
	}
	length := int(binary.LittleEndian.Uint32(space[:]))
	if length > maxFrame {
		return 0, nil, fmt.Errorf("%s has no record at byte %d", f.Name(), offset)
	}
	data = make([]byte, length)
	have := copy(data, space[recordBytes:n])
	if have < length {
		if _, err := f.ReadAt(data[have:], offset+recordBytes+int64(have)); err != nil {
			return 0, nil, err
		}
	}
	return space[4], data, nil
}
