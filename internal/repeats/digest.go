package repeats

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"ssegateway/sse"
)

// Digester makes the digest of what is asked for. Every value is preceded by its length or its
// presence, so two sequences of values with the same digest are the same. All digests of one kind
// have to be made of the same sequence of types.
type Digester struct {
	hash  hash.Hash
	space [9]byte
}

// NewDigester begins a digest of a kind of request.
func NewDigester(kind string) *Digester {
	d := &Digester{hash: sha256.New()}
	d.String(kind)
	return d
}

// String adds a string.
func (d *Digester) String(s string) {
	d.Number(uint64(len(s)))
	_, _ = d.hash.Write([]byte(s)) // it never fails
}

// Strings adds a list of strings.
func (d *Digester) Strings(list []string) {
	d.Number(uint64(len(list)))
	for _, s := range list {
		d.String(s)
	}
}

// Number adds a number.
func (d *Digester) Number(n uint64) {
	binary.BigEndian.PutUint64(d.space[:8], n)
	_, _ = d.hash.Write(d.space[:8])
}

// Flag adds a flag.
func (d *Digester) Flag(on bool) {
	d.space[0] = 0
	if on {
		d.space[0] = 1
	}
	_, _ = d.hash.Write(d.space[:1])
}

// Event adds an event.
func (d *Digester) Event(e sse.Event) {
	d.String(e.Name.String())
	d.String(e.Data)
	d.Flag(e.ID.IsSet())
	d.String(e.ID.String())
	d.Flag(e.Retry.IsSet())
	if e.Retry.IsSet() {
		d.Number(e.Retry.Millis())
	}
}

// Sum returns the digest.
func (d *Digester) Sum() (digest Digest) {
	d.hash.Sum(digest[:0])
	return digest
}
