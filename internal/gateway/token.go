package gateway

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// Token names one connection: a version-4 UUID from a cryptographic source.
type Token [16]byte

// NewToken makes a token. It panics only if the system has no randomness left.
func NewToken() Token { return Token(uuid.New()) }

// newNodeToken makes a token of the node with this number. The number is its first four bytes, so
// 90 random bits are left.
func newNodeToken(number uint32) Token {
	t := NewToken()
	binary.BigEndian.PutUint32(t[:], number)
	return t
}

// Node returns the number of the node that made the token, in a cluster.
func (t Token) Node() uint32 { return binary.BigEndian.Uint32(t[:]) }

// ParseToken parses the canonical form that String returns, and no other: a token is an opaque
// string to its users, so another spelling is another token.
func ParseToken(s string) (Token, bool) {
	if len(s) != 36 {
		return Token{}, false
	}
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'F' {
			return Token{}, false
		}
	}
	u, err := uuid.Parse(s)
	return Token(u), err == nil
}

// String returns the canonical form: 36 characters in lower case.
func (t Token) String() string { return uuid.UUID(t).String() }
