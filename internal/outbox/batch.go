package outbox

// Batch returns what is to be written next, at most as many bytes as buf has room for: bytes of the
// first item, or several items that it copies into buf for one system call. It also returns the
// number of items.
func (o *Outbox) Batch(buf []byte) (b []byte, items int) {
	buf = buf[:0]
	b = o.front()
	if o.first == o.last || len(b) > cap(buf)/2 {
		return b[:min(len(b), cap(buf))], 1
	}
	buf = append(buf, b...)
	items = 1
	for n := o.first.next; n != nil && !n.isSource(); n = n.next {
		b := n.frame.Wire(o.chunked)
		if len(buf)+len(b) > cap(buf) {
			break
		}
		buf = append(buf, b...)
		items++
	}
	return buf, items
}

// Hold marks the first items as on their way, in a write that is done without the lock. No overflow
// policy drops them from then on.
func (o *Outbox) Hold(items int) {
	for n := o.first; items > 0; items, n = items-1, n.next {
		o.retire(n)
	}
}

// Written records that n bytes were written. It removes the first item if that has been written
// with them, and returns how many bytes of n belong to other items.
func (o *Outbox) Written(n int) (i Item, rest int, whole bool) {
	if o.first == nil || o.first.isSource() {
		return i, 0, false
	}
	front := len(o.front())
	if n < front {
		o.wrote(n)
		return i, 0, false
	}
	i, _ = o.Pop()
	return i, n - front, true
}

// wrote records that n bytes of the first item were written, and that more of it remains.
func (o *Outbox) wrote(n int) {
	if n > 0 {
		o.offset += n
		o.retire(o.first) // the client has a part of it
	}
}

// front returns what is to be written next of the first item.
func (o *Outbox) front() []byte { return o.first.frame.Wire(o.chunked)[o.offset:] }
