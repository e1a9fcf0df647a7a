package gateway

import "testing"

// FuzzToken: a token has one text, and another spelling of it is none.
func FuzzToken(f *testing.F) {
	f.Add("0b8a2f7e-6d0c-4c53-9a57-2f1e3f0f8f11")
	f.Add("0B8A2F7E-6d0c-4c53-9a57-2f1e3f0f8f11")
	f.Add("{0b8a2f7e-6d0c-4c53-9a57-2f1e3f0f8f}")
	f.Add("0b8a2f7e06d0c04c5309a5702f1e3f0f8f11")
	f.Fuzz(func(t *testing.T, s string) {
		if token, ok := ParseToken(s); ok && token.String() != s {
			t.Errorf("%q is the token %s", s, token)
		}
	})
}
