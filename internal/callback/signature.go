package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
	"sync"
	"time"
)

// Callbacks are signed as Standard Webhooks has it
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme):
// v1 is HMAC-SHA256 over webhook-id, webhook-timestamp and the body, with full stops between them. The
// specification's own library makes three copies of the body for that; the tests verify with it.

const (
	signatureVersion = "v1,"
	signatureLen     = 44 // of 32 bytes in base64
)

// signer signs callbacks, once with each of its secrets.
type signer []*secret

// secret is one secret with the states of HMAC that are not in use.
type secret struct{ macs sync.Pool }

type mac struct {
	hash.Hash
	sum [sha256.Size]byte
}

func newSigner(secrets [][]byte) signer {
	var s signer
	for _, key := range secrets {
		s = append(s, &secret{sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}})
	}
	return s
}

// signed are places in a message: where the signature goes, and the webhook-id and the timestamp, which it is over.
type signed struct{ id, timestamp, signature span }

type span struct{ from, to int }

// appendFields adds the fields of a signature that is made when the body is there, for a webhook-id in that place of dst.
func (s signer) appendFields(dst []byte, id span) ([]byte, signed) {
	if len(s) == 0 {
		return dst, signed{}
	}
	at := signed{id: id}
	dst = append(dst, "webhook-timestamp: "...)
	at.timestamp.from = len(dst)
	dst = strconv.AppendInt(dst, time.Now().Unix(), 10)
	at.timestamp.to = len(dst)
	dst = append(dst, "\r\nwebhook-signature:"...)
	at.signature.from = len(dst)
	for range s {
		dst = append(dst, " "+signatureVersion+"                                            "...)
	}
	at.signature.to = len(dst)
	return append(dst, "\r\n"...), at
}

// sign puts the signatures into a message whose body begins at body.
func (s signer) sign(message []byte, at signed, body int) {
	place := at.signature.from
	for _, secret := range s {
		place += len(" " + signatureVersion)
		m, _ := secret.macs.Get().(*mac)
		m.Reset()
		_, _ = m.Write(message[at.id.from:at.id.to]) // a hash.Hash never fails
		_, _ = m.Write(fullStop)
		_, _ = m.Write(message[at.timestamp.from:at.timestamp.to])
		_, _ = m.Write(fullStop)
		_, _ = m.Write(message[body:])
		base64.StdEncoding.Encode(message[place:place+signatureLen], m.Sum(m.sum[:0]))
		secret.macs.Put(m)
		place += signatureLen
	}
}

var fullStop = []byte(".")
