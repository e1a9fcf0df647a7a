package contract

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ssegateway/e2e/harness"
)

// wireTable has events and their bytes on the wire.
var wireTable = []struct{ name, data, want string }{
	{"", "hello", "data: hello\n\n"},
	{"greeting", "hello", "event: greeting\ndata: hello\n\n"},
	{"", "Line 1\nLine 2", "data: Line 1\ndata: Line 2\n\n"},
	{"two", "Line 1\nLine 2", "event: two\ndata: Line 1\ndata: Line 2\n\n"},
	{"", "", "data: \n\n"},
	{"empty", "", "event: empty\ndata: \n\n"},
	{"", "\n", "data: \ndata: \n\n"},
	{"", "\n\n", "data: \ndata: \ndata: \n\n"},
	{"", "\na", "data: \ndata: a\n\n"},
	{"", "a\n", "data: a\ndata: \n\n"},
	{"", "\n\na\n\n", "data: \ndata: \ndata: a\ndata: \ndata: \n\n"},
	{"", "a\r\nb", "data: a\ndata: b\n\n"},
	{"", "a\rb", "data: a\ndata: b\n\n"},
	{"", "a\r", "data: a\ndata: \n\n"},
	{"", "\r", "data: \ndata: \n\n"},
	{"", "\r\n", "data: \ndata: \n\n"},
	{"", "\r\r", "data: \ndata: \ndata: \n\n"},
	{"", "\n\r", "data: \ndata: \ndata: \n\n"},
	{"", "\r\n\r\n", "data: \ndata: \ndata: \n\n"},
	{"", "a\r\r\nb", "data: a\ndata: \ndata: b\n\n"},
	{"", "a\n\r\nb", "data: a\ndata: \ndata: b\n\n"},
	{"", "a\r\n\nb\r\rc\n\rd", "data: a\ndata: \ndata: b\ndata: \ndata: c\ndata: \ndata: d\n\n"},
	{"", " leading and trailing blanks ", "data:  leading and trailing blanks \n\n"},
	{"", "\ttab", "data: \ttab\n\n"},
	{"", ": not a comment", "data: : not a comment\n\n"},
	{"", "data: x", "data: data: x\n\n"},
	{"", "é 日本 😀 \u2028\u2029\u0085\v\f", "data: é 日本 😀 \u2028\u2029\u0085\v\f\n\n"},
	{"", "\ufeffbom", "data: \ufeffbom\n\n"},
	{"", "a\x00b\x01\x7f", "data: a\x00b\x01\x7f\n\n"},
	{"", `{"json":"\n \\"}`, `data: {"json":"\n \\"}` + "\n\n"},
	{"", "<script>&amp;</script>", "data: <script>&amp;</script>\n\n"},
	{"with blank", "x", "event: with blank\ndata: x\n\n"},
	{" blank first", "x", "event:  blank first\ndata: x\n\n"},
	{"a:b", "x", "event: a:b\ndata: x\n\n"},
	{"日本.é-1/2", "x", "event: 日本.é-1/2\ndata: x\n\n"},
	{"data", "x", "event: data\ndata: x\n\n"},
	{"error", "x", "event: error\ndata: x\n\n"},
}

// forgeries try to turn one event into two, or to add a field.
var forgeries = []string{
	"x\n\nevent: forged\ndata: y", "x\r\rdata: forged", "x\revent: forged", "x\rid: 1", "x\nretry: 1", "x\r\n\r\n: comment", "\n\n\n", "\r\n\r\ndata: y\r\n\r\n",
	"x\n\n0\r\n\r\n", "x\u0000\nid: 2",
}

var wire = section{title: "5 bytes on the wire", core: true, cases: []contractCase{
	{name: "event line only where a name is given, a data line for each line, one empty line", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, row := range wireTable {
			event := object{"data": row.data}
			if row.name != "" {
				event["name"] = row.name
			}
			s.WantStatusOK(s.SendObject(object{"token": x.token, "event": event}), "ok")
			x.Want(row.want)
		}
		s.CloseStream(x.token)
		x.WantEnd()
	}},
	{name: "on HTTP 1.1 each event is one chunk, its end the last chunk", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, row := range wireTable {
			s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": row.data, "name": row.name}}), "ok")
			x.Want(row.want)
		}
		s.CloseStream(x.token)
		x.WantEnd() // with the last chunk: an end without it would be a cut
		pieces := x.Pieces()
		if pieces[0].Data == harness.Heartbeat {
			pieces = pieces[1:] // the beginning of the stream
		}
		if len(pieces) != len(wireTable) {
			t.Fatalf("%d chunks for %d events", len(pieces), len(wireTable))
		}
		for i, row := range wireTable {
			if pieces[i].Data != row.want {
				t.Errorf("chunk %q, want %q", pieces[i].Data, row.want)
			}
		}
	}},
	{name: "on HTTP 1.1 an event is a chunk byte by byte", run: func(t *T) {
		s := t.Shared()
		conn, err := s.endpoint.Dial(t.Context(), 0, "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		key := NewKey()
		if _, err := fmt.Fprintf(conn, "GET /raw HTTP/1.1\r\nHost: x\r\n%s: %s\r\n\r\n", harness.KeyHeader, key); err != nil {
			t.Fatal(err)
		}
		calls, err := s.backend.Await(patience, 1, action(key, "connect"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		readPast(t, conn, "\r\n\r\n")
		for _, row := range []struct{ data, want string }{
			{"hello", "d\r\ndata: hello\n\n\r\n"},
			{strings.Repeat("x", 300), "134\r\ndata: " + strings.Repeat("x", 300) + "\n\n\r\n"},
		} {
			s.Event(calls[0].Token, row.data)
			got := readPast(t, conn, "\n\n\r\n")
			if got == "d\r\n"+harness.Heartbeat+"\r\n" {
				got = readPast(t, conn, "\n\n\r\n") // after the beginning of the stream
			}
			if !strings.EqualFold(got, row.want) {
				t.Errorf("on the wire %q, want %q", got, row.want)
			}
		}
		s.CloseStream(calls[0].Token)
		if got := readPast(t, conn, "\r\n\r\n"); got != "0\r\n\r\n" {
			t.Errorf("at the end %q, want the last chunk", got)
		}
	}},
	{name: "nothing a backend sends can forge a second event or another field", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, data := range forgeries {
			s.Event(x.token, data)
			lines := regexp.MustCompile("\r\n|\n|\r").Split(data, -1)
			x.Want("data: " + strings.Join(lines, "\ndata: ") + "\n\n")
		}
	}},
	{name: "event.name with CR, LF, NUL or another control character: 400 INVALID_EVENT_NAME", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, name := range []string{"a\nb", "a\rb", "a\r\nb", "\n", "\r", "a\x00b", "\x00", "tab\t", "\x01", "\x1b[0m", "\x1f", "del\x7f", "a\n\ndata: forged", "a\rdata: forged"} {
			got := s.SendObject(object{"token": x.token, "event": object{"name": name, "data": "wrong"}})
			if problem := got.notError(http.StatusBadRequest, "INVALID_EVENT_NAME", ""); problem != "" {
				t.Errorf("name %q: %s", name, problem)
			}
		}
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "a large event arrives whole", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		var data strings.Builder
		for i := 0; data.Len() < 700<<10; i++ {
			data.WriteString(strconv.Itoa(i) + " ")
		}
		s.Event(x.token, data.String())
		x.Want("data: " + data.String() + "\n\n")
	}},
	{name: "every write is flushed at once", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for i := range 20 {
			s.Event(x.token, itoa(i))
			x.Want("data: " + itoa(i) + "\n\n") // before the next event is written
		}
	}},
	{name: "writes of one connection never interleave, each sender's order is kept", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		const senders, events = 10, 30
		failures := make(chan string, senders*events)
		var wg sync.WaitGroup
		for sender := range senders {
			wg.Go(func() {
				for i := range events {
					data := fmt.Sprintf("%d.%d\n%s", sender, i, strings.Repeat(strconv.Itoa(sender), 200+137*i))
					got, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "event": object{"data": data}}), "Content-Type", "application/json")
					if err != nil || got.Status != http.StatusOK {
						failures <- fmt.Sprint(got, err)
					}
				}
			})
		}
		wg.Wait()
		close(failures)
		for failure := range failures {
			t.Error(failure)
		}
		s.CloseStream(x.token)
		all, end, err := x.Rest(patience)
		if end != harness.Clean {
			t.Fatalf("%v: %v", end, err)
		}
		next := make([]int, senders)
		blocks := strings.Split(strings.TrimSuffix(all, "\n\n"), "\n\n")
		for _, block := range blocks {
			var sender, i int
			if _, err := fmt.Sscanf(block, "data: %d.%d\n", &sender, &i); err != nil || sender >= senders {
				t.Fatalf("block %s", quoted(block))
			}
			want := fmt.Sprintf("data: %d.%d\ndata: %s", sender, i, strings.Repeat(strconv.Itoa(sender), 200+137*i))
			if block != want || i != next[sender] {
				t.Fatalf("block %s, want event %d of sender %d", quoted(block), next[sender], sender)
			}
			next[sender]++
		}
		if len(blocks) != senders*events {
			t.Errorf("%d events, want %d", len(blocks), senders*events)
		}
	}},

	{name: "heartbeat: the comment and an empty line, every interval", slow: true, run: func(t *T) {
		wantHeartbeats(t.Start("HEARTBEAT_INTERVAL_SECONDS=2").Open("/"), 2*time.Second, 4)
	}},
	{name: "heartbeats go to every open stream, spread in time rather than all at once", slow: true, run: func(t *T) {
		s := t.Start("HEARTBEAT_INTERVAL_SECONDS=4")
		var all []*Stream
		for range 30 {
			all = append(all, s.Open("/"))
		}
		var at []time.Time
		for _, x := range all {
			x.Want(": heartbeat\n\n")
			x.Want(": heartbeat\n\n")
			pieces := x.Pieces()
			at = append(at, pieces[len(pieces)-1].At)
		}
		first, last := slices.MinFunc(at, time.Time.Compare), slices.MaxFunc(at, time.Time.Compare)
		// Thirty random times within 2 s or more are never within half of that by chance.
		if spread := last.Sub(first); spread < time.Second {
			t.Errorf("30 heartbeats came within %v", spread)
		}
	}},
	{name: "heartbeats and events never interleave", slow: true, run: func(t *T) {
		s := t.Start("HEARTBEAT_INTERVAL_SECONDS=1")
		x := s.Open("/")
		data := strings.Repeat("x", 2000)
		heartbeats, looked := 0, 0
		for deadline := time.Now().Add(patience); heartbeats < 4 && time.Now().Before(deadline); {
			s.Event(x.token, data)
			for _, piece := range x.PiecesFrom(looked) {
				heartbeats += strings.Count(piece.Data, ": heartbeat\n\n")
				looked++
			}
			pause(2 * time.Millisecond) // leaves the processor to other goroutines
		}
		if heartbeats < 4 {
			t.Errorf("%d heartbeats in %v", heartbeats, patience)
		}
		s.CloseStream(x.token)
		all, end, err := x.Rest(patience)
		if end != harness.Clean {
			t.Fatalf("%v: %v", end, err)
		}
		for _, block := range strings.SplitAfter(all, "\n\n") {
			switch block {
			case "", ": heartbeat\n\n", "data: " + data + "\n\n":
			default:
				t.Fatalf("block %s", quoted(block))
			}
		}
	}},
	{name: "no heartbeat after a close; the backend sees nothing of heartbeats", slow: true, run: func(t *T) {
		s := t.Start("HEARTBEAT_INTERVAL_SECONDS=1")
		closed, witness := s.Open("/closed"), s.Open("/witness")
		closed.Want(": heartbeat\n\n")
		s.CloseStream(closed.token)
		closed.WantEnd()
		early := s.Open("/early")
		s.CloseStream(early.token) // before the first heartbeat
		early.WantEnd()
		witness.Want(": heartbeat\n\n: heartbeat\n\n: heartbeat\n\n")
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Key == witness.key }); len(calls) != 1 {
			t.Errorf("%d callbacks for a stream that had three heartbeats", len(calls))
		}
		closed.WantDisconnect("server_closed")
		early.WantDisconnect("server_closed")
	}},
}}

// readPast reads until the end of the mark, and returns everything up to there.
func readPast(t *T, conn interface{ Read([]byte) (int, error) }, mark string) string {
	t.Helper()
	var got []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(got[max(0, len(got)-len(mark)):]), mark) {
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("read %q: %v", got, err)
		}
		got = append(got, one[0])
	}
	return string(got)
}
