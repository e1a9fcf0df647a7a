package fastsend

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

const plain = "POST /internal/send HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nUser-Agent: x/1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nAuthorization: Bearer a\r\n\r\n{}"

func TestParse(t *testing.T) {
	with := func(old, next string) string {
		if !strings.Contains(plain, old) {
			t.Fatalf("%q is not in the request", old)
		}
		return strings.Replace(plain, old, next, 1)
	}
	for _, test := range []struct {
		name, bytes string
		want        verdict
	}{
		{"plain", plain, complete},
		{"with the next behind it", plain + plain[:10], complete},
		{"IPv6", with("127.0.0.1:3000", "[::1]:3000"), complete},
		{"names in any case", with("Content-Length", "content-LENGTH"), complete},
		{"spaces around a value", with("Length: 2", "Length:\t 2 \t"), complete},
		{"UTF-8 in a value", with("x/1", "größe"), complete},
		{"a charset", with("application/json", "application/json; charset=UTF-8"), complete},
		{"keep-alive", with("User-Agent: x/1", "Connection: Keep-Alive"), complete},
		{"an empty body", with("Length: 2\r\n", "Length: 0\r\n"), complete},

		{"another method", with("POST", "PUT"), foreign},
		{"another path", with("/send", "/publish"), foreign},
		{"a query", with("/send", "/send?a"), foreign},
		{"a longer path", with("/send", "/sends"), foreign},
		{"absolute form", with("/internal", "http://x/internal"), foreign},
		{"HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), foreign},
		{"two spaces", with("POST ", "POST  "), foreign},
		{"LF alone behind the request line", with("HTTP/1.1\r\n", "HTTP/1.1\n"), foreign},
		{"LF alone behind a field", with("x/1\r\n", "x/1\n"), foreign},
		{"a folded line", with("x/1\r\n", "x/1\r\n y\r\n"), foreign},
		{"a space before the colon", with("User-Agent:", "User-Agent :"), foreign},
		{"a name that is none", with("User-Agent", "User(Agent"), foreign},
		{"no name", with("User-Agent", ""), foreign},
		{"no colon", with("User-Agent:", "User-Agent"), foreign},
		{"a control character", with("x/1", "x\x01"), foreign},
		{"CR in a value", with("x/1", "x\r1"), foreign},
		{"NUL", with("x/1", "x\x00"), foreign},
		{"no host", with("Host: 127.0.0.1:3000\r\n", ""), foreign},
		{"two hosts", with("User-Agent: x/1", "Host: b"), foreign},
		{"a host that is none", with("127.0.0.1:3000", "a/b"), foreign},
		{"an empty host", with("127.0.0.1:3000", ""), foreign},
		{"no length", with("Content-Length: 2\r\n", ""), foreign},
		{"two lengths", with("User-Agent: x/1", "Content-Length: 2"), foreign},
		{"a signed length", with("Length: 2", "Length: +2"), foreign},
		{"a list of lengths", with("Length: 2", "Length: 2, 2"), foreign},
		{"hexadecimal", with("Length: 2", "Length: 0x2"), foreign},
		{"an empty length", with("Length: 2", "Length: "), foreign},
		{"too long", with("Length: 2", "Length: 65536"), foreign},
		{"far too long", with("Length: 2", "Length: 99999999999999999999"), foreign},
		{"chunked", with("User-Agent: x/1", "Transfer-Encoding: chunked"), foreign},
		{"chunked, in capitals", with("User-Agent: x/1", "TRANSFER-ENCODING: identity"), foreign},
		{"expect", with("User-Agent: x/1", "Expect: 100-continue"), foreign},
		{"upgrade", with("User-Agent: x/1", "Upgrade: h2c"), foreign},
		{"close", with("User-Agent: x/1", "Connection: close"), foreign},
		{"several connection options", with("User-Agent: x/1", "Connection: keep-alive, x"), foreign},
		{"another type", with("application/json", "text/plain"), foreign},
		{"no type", with("Content-Type: application/json\r\n", ""), foreign},
		{"two types", with("User-Agent: x/1", "Content-Type: application/json"), foreign},
		{"two authorizations", with("User-Agent: x/1", "authorization: Bearer b"), foreign},
		{"trace context", with("User-Agent: x/1", "Traceparent: 00-a-b-01\r\ntracestate: a=1"), complete},
		{"two trace contexts", with("User-Agent: x/1", "traceparent: a\r\nTraceparent: b"), foreign},
		{"two trace states", with("User-Agent: x/1", "tracestate: a=1\r\nTracestate: b=2"), foreign},
		{"an empty authorization", with("Bearer a", ""), foreign},
		{"from a proxy", with("User-Agent: x/1", "x-forwarded-for: 1.2.3.4"), foreign},
		{"from another proxy", with("User-Agent: x/1", "X-Forwarded-Anything: 1"), foreign},
		{"via", with("User-Agent: x/1", "Via: 1.1 x"), foreign},
		{"forwarded", with("User-Agent: x/1", "Forwarded: for=1"), foreign},
		{"real ip", with("User-Agent: x/1", "X-Real-IP: 1"), foreign},
		{"from a browser", with("User-Agent: x/1", "Origin: null"), foreign},
		{"from a browser's page", with("User-Agent: x/1", "sec-fetch-site: none"), foreign},
		{"from a content delivery network", with("User-Agent: x/1", "CF-Connecting-IP: 1"), foreign},
		{"from another", with("User-Agent: x/1", "CDN-Loop: x"), foreign},
		{"a head without an end", plain[:len(plain)-4] + strings.Repeat("x: y\r\n", 4000), foreign},
		{"a long head", with("x/1", strings.Repeat("x", 20000)), foreign},
		{"many fields", with("x/1", "x"+strings.Repeat("\r\nx: y", maxFields)), foreign},
		{"an empty line first", "\r\n" + plain, foreign},
	} {
		if _, got := parse([]byte(test.bytes)); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	for n := range len(plain) {
		if _, got := parse([]byte(plain[:n])); got != unfinished {
			t.Errorf("the first %d bytes: %d", n, got)
		}
	}
	r, _ := parse([]byte(plain + "next"))
	if string(r.body) != "{}" || string(r.host) != "127.0.0.1:3000" || string(r.authorization) != "Bearer a" || r.length != len(plain) {
		t.Errorf("%+v", r)
	}
}

// FuzzParse holds parse against net/http: what is complete here is to be the same
// request there, and nothing that net/http would treat in another way. However the bytes come,
// the verdict is the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(plain))
	f.Add([]byte(strings.Replace(plain, "User-Agent: x/1", "X-Forwarded-For: 1\r\nTransfer-Encoding: chunked", 1)))
	f.Add([]byte(strings.Replace(plain, "User-Agent: x/1", "Traceparent: 00-a-b-01\r\ntracestate: \r\nConnection: Keep-Alive", 1)))
	f.Add([]byte(plain + plain))
	f.Fuzz(func(t *testing.T, b []byte) {
		mine, v := parse(b)
		if v != complete {
			// More bytes may complete an unfinished request; a foreign one stays foreign.
			if more, next := parse(append(b[:len(b):len(b)], "\r\n\r\n{}"...)); v == foreign && next != foreign {
				t.Fatalf("foreign, and with more %d: %+v", next, more)
			}
			return
		}
		for n := range mine.length {
			if _, early := parse(b[:n]); early != unfinished {
				t.Fatalf("complete, and the first %d bytes are %d", n, early)
			}
		}
		in := bufio.NewReader(bytes.NewReader(b))
		theirs, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("complete here, and there %v", err)
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil || !bytes.Equal(body, mine.body) {
			t.Fatalf("body %q here, and there %q, %v", mine.body, body, err)
		}
		rest, _ := io.ReadAll(in)
		if len(rest) != len(b)-mine.length {
			t.Fatalf("%d bytes are left here, and there %d", len(b)-mine.length, len(rest))
		}
		for name, value := range map[string][]byte{"Authorization": mine.authorization, "Traceparent": mine.traceparent, "Tracestate": mine.tracestate} {
			if values := theirs.Header.Values(name); len(values) > 1 || strings.Join(values, "") != string(value) || value != nil && len(values) == 0 {
				t.Fatalf("%s is %q here, and there %q", name, value, values)
			}
		}
		if !suits(theirs) || len(theirs.TransferEncoding) > 0 || theirs.Host != string(mine.host) || theirs.Close || len(theirs.Trailer) > 0 || theirs.ContentLength != int64(len(mine.body)) {
			t.Fatalf("%+v", theirs)
		}
	})
}

// Reading a request allocates nothing.
func TestParseAllocations(t *testing.T) {
	b := []byte(plain)
	if n := testing.AllocsPerRun(1000, func() { _, _ = parse(b) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	request := []byte(plain)
	b.ReportAllocs()
	for b.Loop() {
		if _, v := parse(request); v != complete {
			b.Fatal(v)
		}
	}
}
