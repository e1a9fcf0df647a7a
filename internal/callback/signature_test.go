//go:build unix

package callback

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// Two secrets, as they are configured and as a Client gets them.
var (
	secretTexts = []string{"whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("a"), 24)), "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("b"), 64))}
	secrets     = [][]byte{bytes.Repeat([]byte("a"), 24), bytes.Repeat([]byte("b"), 64)}
)

// received returns a message as a backend gets it.
func received(t testing.TB, message []byte) (http.Header, []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(message)))
	if err != nil {
		t.Fatalf("%v\n%s", err, message)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("%v\n%s", err, message)
	}
	return r.Header, body
}

func verify(secret string, header http.Header, body []byte) error {
	w, err := webhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return w.Verify(body, header)
}

// The library of the specification verifies every message, with each of the secrets, and no message of which
// anything that is signed was changed.
func TestSignatures(t *testing.T) {
	url := "http://backend.example.org/callback"
	token := gateway.NewToken()
	ended := gateway.Notice{Token: token, Request: request, Reason: gateway.Error, Detail: gateway.SlowConsumer}
	for n := 0; n <= len(secrets); n++ {
		c, err := New(Config{URL: url, SigningSecrets: secrets[:n]})
		if err != nil {
			t.Fatal(err)
		}
		for name, message := range map[string][]byte{
			"connect":     c.appendConnect(nil, token, atPosition, request, "traceparent: 00-1\r\n"),
			"disconnect":  c.appendDisconnect(nil, &ended, ""),
			"disconnects": c.appendDisconnects(nil, &notice{Notice: ended, more: &notice{Notice: ended}}, ""),
		} {
			header, body := received(t, message)
			if id := header.Values("Webhook-Id"); len(id) != 1 || id[0] != token.String()+"-"+name && name != ActionDisconnects {
				t.Errorf("%s: webhook-id %q", name, id)
			}
			if n == 0 {
				if header["Webhook-Timestamp"] != nil || header["Webhook-Signature"] != nil {
					t.Errorf("%s without a secret: %v", name, header)
				}
				continue
			}
			if got := strings.Fields(header.Get("Webhook-Signature")); len(got) != n || len(header.Values("Webhook-Signature")) != 1 {
				t.Errorf("%d secrets: %q", n, header["Webhook-Signature"])
			}
			for i, secret := range secretTexts {
				if err := verify(secret, header, body); (err == nil) != (i < n) {
					t.Errorf("%s, %d secrets, secret %d: %v", name, n, i, err)
				}
			}
			for field, value := range map[string]string{
				"webhook-id":        header.Get("webhook-id") + "x",
				"webhook-timestamp": strconv.FormatInt(time.Now().Unix()-10, 10),
			} {
				changed := header.Clone()
				changed.Set(field, value)
				if verify(secretTexts[0], changed, body) == nil {
					t.Errorf("%s: %s is not signed", name, field)
				}
			}
			if verify(secretTexts[0], header, append([]byte(" "), body...)) == nil {
				t.Errorf("%s: the body is not signed", name)
			}
		}
	}
}

// A retry has the same webhook-id, and a timestamp and a signature of its own: verifiers refuse what is older than 5 minutes.
func TestRetriesAreSignedAnew(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, err := New(Config{URL: "http://backend.example.org/", SigningSecrets: secrets})
		if err != nil {
			t.Fatal(err)
		}
		notice := gateway.Notice{Token: gateway.NewToken(), Request: request}
		first, _ := received(t, c.appendDisconnect(nil, &notice, ""))
		time.Sleep(10 * time.Minute) // fake clock
		second, body := received(t, c.appendDisconnect(nil, &notice, ""))
		if first.Get("webhook-id") != second.Get("webhook-id") || first.Get("webhook-timestamp") == second.Get("webhook-timestamp") {
			t.Errorf("%v\n%v", first, second)
		}
		if err := verify(secretTexts[1], second, body); err != nil {
			t.Error(err)
		}
	})
}

// Callbacks are signed by many goroutines at once.
func TestSignaturesAtOnce(t *testing.T) {
	c, err := New(Config{URL: "http://backend.example.org/", SigningSecrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			var dst []byte
			for range 200 {
				dst = c.appendConnect(dst[:0], gateway.NewToken(), atPosition, request, "")
				header, body := received(t, dst)
				if err := verify(secretTexts[1], header, body); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkSigning is what a signature adds to a callback, beside the library of the specification.
func BenchmarkSigning(b *testing.B) {
	token, body := gateway.NewToken(), encoded(browserRequest)
	for n := 0; n <= len(secrets); n++ {
		c, err := New(Config{URL: "http://backend.example.org/callback?secret=1", SigningSecrets: secrets[:n]})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strconv.Itoa(n)+" secrets", func(b *testing.B) {
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst = c.appendConnect(dst[:0], token, atPosition, body, "")
			}
		})
	}
	b.Run("library, 1 secret, signature only", func(b *testing.B) {
		w, err := webhooks.NewWebhook(secretTexts[0])
		if err != nil {
			b.Fatal(err)
		}
		_, signed := received(b, messageOf(b, token, body))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Sign(token.String()+"-connect", time.Now(), signed); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func messageOf(b testing.TB, token gateway.Token, request []byte) []byte {
	c, err := New(Config{URL: "http://backend.example.org/"})
	if err != nil {
		b.Fatal(err)
	}
	return c.appendConnect(nil, token, atPosition, request, "")
}
