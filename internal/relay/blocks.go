package relay

// blocks finds the ends of blocks in an event stream that comes in pieces (HTML section 9.2.6). A line ends with CR, LF
// or both; an empty line ends a block. The zero value is for the beginning of a stream.
type blocks struct {
	column  int  // bytes of the line so far
	data    int  // how many of them are the beginning of "data"; beyond the first that is not, it stands still
	hasData bool // a line of the block is data
	afterCR bool // a LF would belong to the line end before
	emptied bool // that line was empty
}

const dataField = "data"

// scan takes the next bytes. It returns how many of them are at the end of a block or before, and the number of events
// among the blocks that end there: those with data. A CR ends a line at once; a LF that comes later belongs to the block
// before.
func (b *blocks) scan(p []byte) (end, events int) {
	for i, c := range p {
		if b.afterCR {
			b.afterCR = false
			if c == '\n' {
				if b.emptied {
					end = i + 1
				}
				continue
			}
		}
		if c != '\n' && c != '\r' {
			if b.column == b.data && b.data < len(dataField) && c == dataField[b.data] {
				b.data++
			} else if b.column == len(dataField) && c != ':' {
				b.data = 0
			}
			b.column++
			continue
		}
		b.emptied = b.column == 0
		if b.emptied {
			end = i + 1
			if b.hasData {
				events++
			}
			b.hasData = false
		} else if b.data == len(dataField) {
			b.hasData = true
		}
		b.column, b.data, b.afterCR = 0, 0, c == '\r'
	}
	return end, events
}
