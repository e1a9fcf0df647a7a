package bench

import (
	"fmt"
	"strings"
	"testing"
)

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

// event returns the block of event number n of a stream.
func event(stream int, n uint64) string {
	return "id: 7\ndata: " + string(appendData(nil, stream, n, 12345, 100)) + "\n\n"
}

func events(numbers ...uint64) string {
	var b strings.Builder
	for _, n := range numbers {
		b.WriteString(event(3, n))
	}
	return b.String()
}

// chunked encodes text in chunks of at most size bytes.
func chunked(text string, size int) string {
	var b strings.Builder
	for len(text) > 0 {
		n := min(size, len(text))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, text[:n])
		text = text[n:]
	}
	return b.String()
}

// checked feeds a response in pieces to the checker of stream 3, and returns its result.
func checked(t *testing.T, response string, piece int, sent uint64) (Check, error) {
	t.Helper()
	own, common := sent, uint64(0)
	if strings.HasPrefix(t.Name(), "TestChecker/to_everybody") {
		own, common = 0, sent
	}
	c := checker{stream: 3}
	for b := []byte(response); len(b) > 0; {
		n := min(piece, len(b))
		if err := c.feed(b[:n], func(_ bool, _ uint64, at int64) {
			if at != 12345 {
				t.Errorf("sent at %d", at)
			}
		}); err != nil {
			return c.finish(own, common), err
		}
		b = b[n:]
	}
	return c.finish(own, common), nil
}

func TestChecker(t *testing.T) {
	whole := event(3, 2)
	for _, test := range []struct {
		name, body string
		want       Check
	}{
		{"in order", events(1, 2, 3), Check{Events: 3}},
		{"a block of only an id, heartbeats, CRLF", "id: 1\n\n" + event(3, 1) + ": heartbeat\n\n" + strings.ReplaceAll(events(2, 3), "\n", "\r\n"), Check{Events: 3}},
		{"to everybody", event(everybody, 1) + event(everybody, 2) + event(everybody, 3), Check{Events: 3}},
		{"a heartbeat has begun", events(1, 2, 3) + ": hea", Check{Events: 3}},
		{"lost in the middle", events(1, 3), Check{Events: 2, Lost: 1}},
		{"lost at the start", events(2, 3), Check{Events: 2, Lost: 1}},
		{"lost at the end", events(1, 2), Check{Events: 2, Lost: 1}},
		{"all lost", "", Check{Lost: 3}},
		{"doubled", events(1, 2, 2, 3), Check{Events: 4, Doubled: 1}},
		{"doubled later", events(1, 2, 3, 1), Check{Events: 4, Doubled: 1}},
		{"reordered", events(1, 3, 2), Check{Events: 3, Reordered: 1}},
		{"reordered and doubled", events(1, 3, 2, 2), Check{Events: 4, Reordered: 1, Doubled: 1}},
		{"a byte changed", events(1) + strings.Replace(whole, "xxx", "xyx", 1) + events(3), Check{Events: 2, Lost: 1, Torn: 1}},
		{"a byte missing", events(1) + strings.Replace(whole, "xxx", "xx", 1) + events(3), Check{Events: 2, Lost: 1, Torn: 1}},
		{"two interleaved", events(1) + whole[:60] + event(3, 3) + whole[60:], Check{Events: 1, Lost: 2, Torn: 2}},
		{"the rest of one", events(1) + whole[20:] + events(3), Check{Events: 2, Lost: 1, Torn: 1}},
		{"ends within one", events(1, 2) + event(3, 3)[:60], Check{Events: 2, Lost: 1, Torn: 1}},
		{"ends before the empty line", events(1, 2) + strings.TrimSuffix(event(3, 3), "\n"), Check{Events: 2, Lost: 1, Torn: 1}},
		{"meant for another stream", events(1) + event(4, 2) + events(2, 3), Check{Events: 3, Misdelivered: 1}},
		{"not ours", "event: gap\ndata: {}\n\n" + events(1, 2, 3), Check{Events: 3, Torn: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, piece := range []int{1, 7, 100, 1 << 20} {
				responses := []string{head + "\r\n" + test.body}
				for _, size := range []int{1, 50, 1 << 20} {
					responses = append(responses, head+"Transfer-Encoding: chunked\r\n\r\n"+chunked(test.body, size))
				}
				for i, response := range responses {
					got, err := checked(t, response, piece, 3)
					if err != nil {
						t.Fatal(err)
					}
					if got != test.want {
						t.Fatalf("response %d in pieces of %d: %+v, want %+v", i, piece, got, test.want)
					}
				}
			}
			if faultless := test.want == (Check{Events: 3}); (test.want.err() == nil) != faultless {
				t.Errorf("%+v: %v", test.want, test.want.err())
			}
		})
	}
}

// A response that cannot be parsed is an error.
func TestCheckerGivesUp(t *testing.T) {
	for name, response := range map[string]string{
		"refused":                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
		"no HTTP":                "hello\r\n",
		"a head without end":     head + strings.Repeat("x", maxLine+1),
		"no size of a chunk":     head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		"a chunk that is longer": head + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 1 << 20} {
				if _, err := checked(t, response, piece, 0); err == nil {
					t.Errorf("pieces of %d: no error", piece)
				}
			}
		})
	}
}

// A stream that its client has opened again may begin with any event, and must have all
// events from there on.
func TestCheckerOfReopenedStream(t *testing.T) {
	for _, test := range []struct {
		name, first, second string
		want                Check
	}{
		{"goes on later", events(1, 2), events(5, 6), Check{Events: 4}},
		{"cut within an event", events(1) + event(3, 2)[:60], events(6), Check{Events: 2}},
		{"nothing came again", events(1, 2), "", Check{Events: 2}},
		{"a hole in the first life", events(1, 3), events(6), Check{Events: 3, Lost: 1}},
		{"a hole in the second", events(1), events(3, 4, 6), Check{Events: 4, Lost: 1}},
		{"lost at the end", events(1), events(3, 4), Check{Events: 3, Lost: 2}},
		{"doubled", events(1), events(5, 5, 6), Check{Events: 4, Doubled: 1}},
		{"reordered", events(1), events(4, 6, 5), Check{Events: 4, Reordered: 1}},
		{"both series", events(1), event(everybody, 9) + events(6), Check{Events: 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := checker{stream: 3}
			for i, body := range []string{test.first, test.second} {
				if i > 0 {
					c.reopen()
				}
				if err := c.feed([]byte(head+"\r\n"+body), func(bool, uint64, int64) {}); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.finish(6, 9); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// A stream that comes back with its position and a new token has every event of both series.
func TestCheckerOfResumedStream(t *testing.T) {
	at := func(id string, number uint64) string { return "id: " + id + "\n" + event(everybody, number) }
	for _, test := range []struct {
		name, first, second string
		want                Check
	}{
		{"goes on", events(1, 2) + at("a", 1), at("b", 2) + events(1), Check{Events: 5}},
		{"cut within an event", at("a", 1) + at("b", 2)[:70], at("b", 2) + events(1), Check{Events: 3}},
		{"cut after an id", at("a", 1) + "id: b\n", at("b", 2) + events(1), Check{Events: 3}},
		{"without a position", strings.ReplaceAll(events(1), "id: 7\n", ""), at("b", 2) + events(1), Check{Events: 3}},
		{"lost meanwhile", at("a", 1), events(1), Check{Events: 2, Lost: 1}},
		{"doubled", at("a", 1) + at("b", 2), at("b", 2) + events(1), Check{Events: 4, Doubled: 1}},
		{"the first of its own lost", at("a", 1) + at("b", 2), "", Check{Events: 2, Lost: 1}},
		{"one of the former token", events(1) + at("a", 1) + at("b", 2), events(2), Check{Events: 4, Lost: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := checker{stream: 3, resumes: true}
			for i, body := range []string{test.first, test.second} {
				if i > 0 {
					c.reopen()
				}
				if err := c.feed([]byte(head+"\r\n"+body), func(bool, uint64, int64) {}); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.finish(1, 2); got != test.want {
				t.Errorf("%+v, want %+v; the position is %q", got, test.want, c.id)
			}
		})
	}
}

// Neither reading an event nor making a request allocates. Garbage collection would take
// processor time from the machine that is measured.
func TestNoGarbage(t *testing.T) {
	c := checker{stream: 3}
	arrived := func(bool, uint64, int64) {}
	number, text := uint64(0), []byte(nil)
	next := func() []byte {
		number++
		text = append(text[:0], "12c\r\nid: 7\ndata: "...)
		text = appendData(text, 3, number, 12345, 300-len("id: 7\ndata: \n\n"))
		return append(text, "\n\n\r\n"...)
	}
	if err := c.feed([]byte(head+"Transfer-Encoding: chunked\r\n\r\n"), arrived); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if err := c.feed(next(), arrived); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for an event", n)
	}
	if got := c.finish(number, 0); got != (Check{Events: int64(number)}) {
		t.Errorf("%+v of %d events", got, number)
	}

	o := Options{Profile: "ssegateway"}
	r := o.profile("http://127.0.0.1:80", "").send.parse()
	v := values{stream: 3, token: "token"}
	var out, body []byte
	if n := testing.AllocsPerRun(1000, func() {
		v.data = appendData(v.data[:0], 3, 1, 12345, 300)
		body = r.addEvent(body[:0], &v)
		out = r.append(out[:0], &v, body)
	}); n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}

func TestDataHasItsSize(t *testing.T) {
	for _, size := range []int{minSize, 256, 10_000} {
		if b := appendData(nil, 123_456, 1<<40, 1<<60, size); len(b) != size {
			t.Errorf("%d bytes, want %d", len(b), size)
		}
	}
}

// FuzzChecker: nothing panics, and the result does not depend on the pieces in which bytes arrive.
func FuzzChecker(f *testing.F) {
	f.Add(head+"\r\n"+events(1, 2), 7)
	f.Add(head+"Transfer-Encoding: chunked\r\n\r\n"+chunked(events(1, 3, 2), 50), 1)
	f.Fuzz(func(t *testing.T, response string, piece int) {
		if piece < 1 {
			return
		}
		run := func(piece int) (Check, string) {
			c := checker{stream: 3}
			for b := []byte(response); len(b) > 0; {
				n := min(piece, len(b))
				if err := c.feed(b[:n], func(bool, uint64, int64) {}); err != nil {
					return c.finish(3, 0), "failed"
				}
				b = b[n:]
			}
			return c.finish(3, 0), ""
		}
		whole, err1 := run(max(len(response), 1))
		pieces, err2 := run(piece)
		if whole != pieces || err1 != err2 {
			t.Errorf("at once %+v %s, in pieces of %d %+v %s", whole, err1, piece, pieces, err2)
		}
	})
}
