package relay

import "bytes"

// scanner finds the blocks of an event stream that comes in pieces (HTML section 9.2.6). A line ends with CR, LF or both;
// an empty line ends a block. The zero value is for the beginning of a stream.
type scanner struct {
	begun   bool // it is known whether there is a byte order mark
	afterCR bool // a LF would belong to the line end before
	at      int  // bytes of the block that were looked at
	line    int  // where its last line begins
	data    bool // a line of it is data
	ownID   bool // a line of it is an id
}

// block is a part of an event stream.
type block struct {
	end   int  // its length in bytes
	id    int  // where in it a line with an id goes: behind its lines, before the empty one
	data  bool // it is an event
	ownID bool // it has an id
	mark  bool // it is a byte order mark, and no block
}

// byteOrderMark may stand at the beginning of a stream, and means nothing. Further in it would belong to a line.
const byteOrderMark = "\xef\xbb\xbf"

// next returns the first block in p, if it has ended. p begins behind the block that next has returned before, and else
// as in the call before. A CR ends a block at once; a LF that follows is then a block of its own.
func (s *scanner) next(p []byte) (b block, ok bool) {
	if !s.begun {
		if len(p) < len(byteOrderMark) && bytes.HasPrefix([]byte(byteOrderMark), p) {
			return b, false
		}
		s.begun = true
		if bytes.HasPrefix(p, []byte(byteOrderMark)) {
			return block{end: len(byteOrderMark), mark: true}, true
		}
	}
	if s.afterCR && s.at < len(p) {
		s.afterCR = false
		if p[s.at] == '\n' {
			if s.at == 0 {
				return block{end: 1}, true
			}
			s.at++
			s.line = s.at
		}
	}
	for {
		n := bytes.IndexAny(p[s.at:], "\r\n")
		if n < 0 {
			s.at = len(p)
			return b, false
		}
		end := s.at + n
		s.at = end + 1
		if p[end] == '\r' {
			if s.at == len(p) {
				s.afterCR = true
			} else if p[s.at] == '\n' {
				s.at++
			}
		}
		if end == s.line {
			b = block{end: s.at, id: s.line, data: s.data, ownID: s.ownID}
			s.at, s.line, s.data, s.ownID = 0, 0, false, false
			return b, true
		}
		name, _, _ := bytes.Cut(p[s.line:end], []byte(":"))
		s.data = s.data || string(name) == "data"
		s.ownID = s.ownID || string(name) == "id"
		s.line = s.at
	}
}
