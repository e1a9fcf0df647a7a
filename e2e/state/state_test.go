package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// A gateway is killed. After its restart clients get what they missed, and the backend is told of
// the streams that were open, in the form that any other disconnect has.
func TestOutlivesKill(t *testing.T) {
	for _, mode := range []string{"second", "always"} {
		t.Run(mode, func(t *testing.T) {
			s := start(t, filepath.Join(t.TempDir(), "made"), "STATE_SYNC="+mode)
			x := s.open("")
			ended := s.open("")
			first := s.publish("1")
			x.Wants("id: " + behind(t, first, -1) + "\n\n" + event(first, "1"))
			s.CloseStream(t, ended.token)
			s.Await(t, 1, "disconnect", of(ended.token))
			ids := []string{first}
			for _, data := range []string{"2", "3", "4"} {
				ids = append(ids, s.publish(data))
			}
			s.Kill()
			s.restart()
			began := time.Now()
			back := s.open(first)
			back.Wants("id: " + first + "\n\n" + event(ids[1], "2") + event(ids[2], "3") + event(ids[3], "4"))
			next := s.publish("5")
			if want := behind(t, ids[3], 1); next != want {
				t.Errorf("the id %s comes after %s", next, ids[3])
			}
			back.Wants(event(next, "5"))
			end := s.Await(t, 1, "disconnect", of(x.token))[0]
			asked := s.Await(t, 1, "connect", of(x.token))[0]
			_, request, _ := bytes.Cut(asked.Body, []byte(`"request":`))
			if want := `{"action":"disconnect","reason":"error","detail":"gateway_lost","token":"` + x.token + `","request":` + string(request); string(end.Body) != want {
				t.Errorf("the disconnect is\n%s\nwant\n%s", end.Body, want)
			}
			if id := end.Header.Get("Webhook-Id"); id != x.token+"-disconnect" {
				t.Errorf("its webhook-id is %q", id)
			}
			if took := end.At.Sub(began); took > 5*time.Second {
				t.Errorf("told %v after the start", took)
			}
			if status, answer := s.call(http.MethodPost, "/internal/send", `{"token":"`+x.token+`"}`); status != http.StatusNotFound {
				t.Errorf("a send to the former token: %d %s", status, answer)
			}
			// The gateway is stopped cleanly: nothing is left to be told.
			back.HangUp()
			s.Await(t, 1, "disconnect", of(back.token))
			if n := s.Metric(s.t, "ssegateway_state_restored_total"); n != 1 {
				t.Errorf("%v are restored, want 1", n)
			}
			s.restart()
			if n := s.Metric(s.t, "ssegateway_state_restored_total"); n != 0 {
				t.Errorf("%v are restored after a clean stop", n)
			}
			if next := s.publish("6"); next != behind(t, ids[3], 2) {
				t.Errorf("the id %s after a clean stop", next)
			}
			for _, told := range []struct {
				token string
				n     int
			}{{x.token, 1}, {ended.token, 1}, {back.token, 1}} {
				if calls := s.Backend.Calls(func(c *harness.Callback) bool { return c.Action == "disconnect" && c.Token == told.token }); len(calls) != told.n {
					t.Errorf("%s was told %d times", told.token, len(calls))
				}
			}
		})
	}
}

// A gateway is killed while the backend is being asked: the next one tells the end, since the backend may have accepted.
// Of a connect that was refused nothing is told.
func TestKilledWhileAsked(t *testing.T) {
	s := start(t, t.TempDir())
	s.Backend.On("waits", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		<-c.Context.Done()
		return harness.Answer{}
	}})
	s.Backend.On("refused", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: http.StatusForbidden} }})
	ask := func(key string) string {
		x, err := s.Endpoint.Do(t.Context(), harness.Request{Target: "/", Header: []harness.Field{{Name: harness.KeyHeader, Value: key}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.HangUp)
		if key == "refused" {
			if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusForbidden {
				t.Fatal(head, err)
			}
		}
		return s.Await(t, 1, "connect", func(c *harness.Callback) bool { return c.Key == key })[0].Token
	}
	refused, asked := ask("refused"), ask("waits")
	s.Kill()
	s.restart()
	if end := s.Await(t, 1, "disconnect", of(asked))[0]; end.Detail != "gateway_lost" {
		t.Errorf("told as %s %s", end.Reason, end.Detail)
	}
	if calls := s.Backend.Calls(func(c *harness.Callback) bool { return c.Action == "disconnect" && c.Token == refused }); len(calls) > 0 {
		t.Error("the end of the refused one is told")
	}
}

// The backend is away when streams end. What a kill interrupts is told by the next gateway, with the reason that it had.
func TestNoticesGoOn(t *testing.T) {
	s := start(t, t.TempDir())
	var away harness.Script
	away.Disconnect = func(*harness.Callback) harness.Answer { return harness.Answer{Status: http.StatusServiceUnavailable} }
	s.Backend.On("", away)
	x := s.open("")
	s.CloseStream(t, x.token)
	s.Await(t, 2, "disconnect", of(x.token)) // so the first has failed, and is recorded
	s.Kill()
	s.Backend.On("", harness.Script{})
	s.restart()
	if end := s.told(x.token); end.Reason != "server_closed" || end.Detail != "" {
		t.Errorf("told as %q %q", end.Reason, end.Detail)
	}
}

// The backend counts as down when streams end, so most of these ends are not even tried. They are told with their own reason all the same.
func TestNoticesWhileDown(t *testing.T) {
	for _, batch := range []string{"1", "3"} {
		t.Run("CALLBACK_BATCH="+batch, func(t *testing.T) {
			s := start(t, t.TempDir(), "CALLBACK_BATCH="+batch)
			var tokens []string
			for range 10 {
				tokens = append(tokens, s.open("").token)
			}
			unavailable := func(*harness.Callback) harness.Answer { return harness.Answer{Status: http.StatusServiceUnavailable} }
			s.Backend.On("", harness.Script{Connect: unavailable, Disconnect: unavailable})
			s.Backend.OnBatch(unavailable)
			for begin := time.Now(); !strings.Contains(s.Log.Text(), "the backend is down") && time.Since(begin) < harness.Patience; {
				s.call(http.MethodGet, "/", "")
			}
			if s.Metric(s.t, "ssegateway_backend_down") != 1 {
				t.Fatal("the backend is not down")
			}
			for _, token := range tokens {
				s.CloseStream(t, token)
			}
			ends := func(c *harness.Callback) bool { return strings.HasPrefix(c.Action, "disconnect") }
			// The second probe: all have been recorded long since.
			if calls, err := s.Backend.Await(harness.Patience, 2, ends); err != nil || len(calls) > 3 {
				t.Fatalf("%d attempts, %v", len(calls), err)
			}
			s.Kill()
			s.Backend.On("", harness.Script{})
			s.Backend.OnBatch(nil)
			s.restart()
			want := map[string]bool{}
			for _, token := range tokens {
				want[token] = true
			}
			for count := 1; len(want) > 0; count++ {
				calls, err := s.Backend.Await(harness.Patience, count, func(c *harness.Callback) bool { return ends(c) && c.At.After(s.begun) })
				if err != nil {
					t.Fatalf("%d are not told of: %v", len(want), err)
				}
				for _, c := range calls {
					type end struct{ Token, Reason, Detail string }
					told := struct {
						Events []end
						end
					}{}
					if err := json.Unmarshal(c.Body, &told); err != nil {
						t.Fatal(err)
					}
					if told.Token != "" {
						told.Events = []end{told.end}
					}
					for _, e := range told.Events {
						if e.Reason != "server_closed" || e.Detail != "" {
							t.Fatalf("told as %+v", e)
						}
						delete(want, e.Token)
					}
				}
			}
		})
	}
}

// A drain cannot deliver, since the backend is away. The exit code is 0, and the next gateway tells.
func TestDrainLeavesNotices(t *testing.T) {
	s := start(t, t.TempDir())
	s.Backend.On("", harness.Script{Disconnect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: http.StatusBadGateway} }})
	x, hung := s.open(""), s.open("")
	if code, err := s.Stop(harness.Patience); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v\n%s", code, err, s.Log.Text())
	}
	if text := s.Log.Text(); !strings.Contains(text, "undelivered=2 lost=0") {
		t.Errorf("the log does not say what is left:\n%s", text)
	}
	s.Backend.On("", harness.Script{})
	s.restart()
	for _, token := range []string{x.token, hung.token} {
		if end := s.told(token); end.Reason != "server_closed" || end.Detail != "draining" {
			t.Errorf("told as %q %q", end.Reason, end.Detail)
		}
	}
}

// A directory is one process's. A second one says so and ends; the first is unharmed.
func TestSecondRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	id := s.publish("1")
	refused(t, dir, "STATE_DIR", dir, "another")
	if next := s.publish("2"); next != behind(t, id, 1) {
		t.Errorf("%s comes after %s", next, id)
	}
}

// A file that the gateway did not write is an error that names it, and nothing is changed.
func TestForeignRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	s.publish("1")
	if _, err := s.Stop(harness.Patience); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	newest := newestFile(t, dir)
	was, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	foreign := []byte("This is a letter to Aunt Agatha, and not what a gateway writes.\n" + strings.Repeat("Dear Aunt. ", 100))
	if err := os.WriteFile(newest, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, filepath.Base(newest), "move")
	if is, err := os.ReadFile(newest); err != nil || !bytes.Equal(is, foreign) {
		t.Errorf("the foreign file was changed: %v", err)
	}
	if err := os.WriteFile(newest, was, 0o600); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.publish("2")
}

// refused starts a second gateway on a directory, which must end with code 1 and an error with these words.
func refused(t *testing.T, dir string, words ...string) {
	t.Helper()
	refusedAs(t, nil, dir, words...)
}

// refusedAs is refused, by a command that runs its arguments.
func refusedAs(t *testing.T, command []string, dir string, words ...string) {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p, err := harness.Run(harness.Command{Args: append(command, binary), Env: []string{"PORT=" + strconv.Itoa(port), "STATE_DIR=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	code, err := p.Exit(harness.Patience)
	text := p.Log.Text()
	if code != 1 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("the log has no %q:\n%s", word, text)
		}
	}
}

// newestFile returns the file of a directory, the lock apart, that was written last.
func newestFile(t *testing.T, dir string) (newest string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var at time.Time
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().IsRegular() && info.Size() > 0 && !info.ModTime().Before(at) {
			newest, at = filepath.Join(dir, e.Name()), info.ModTime()
		}
	}
	if newest == "" {
		t.Fatalf("%s has no file", dir)
	}
	return newest
}

// `check` says whether the directory can be used, and changes nothing in it.
func TestCheck(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "state")
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	wants := func(code int, line string, more ...string) {
		t.Helper()
		before := listing(t, above)
		p, err := harness.Run(harness.Command{Args: []string{binary, "check"}, Env: append([]string{"PORT=" + strconv.Itoa(port), "STATE_DIR=" + dir}, more...)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Exit(harness.Patience)
		if text := p.Log.Text(); err != nil || got != code || !strings.Contains(text, line) {
			t.Errorf("exit code %d, %v, want %d and %q:\n%s", got, err, code, line, text)
		}
		if after := listing(t, above); after != before {
			t.Errorf("the directory had\n%s\nand has\n%s", before, after)
		}
	}
	wants(0, "ok    STATE_DIR: the directory "+dir+" will be made")
	wants(1, "fail  STATE_DIR: not possible together with NATS_URL", "NATS_URL=nats://127.0.0.1:1")
	s := start(t, dir)
	wants(1, "fail  STATE_DIR: "+dir+" is in use by another process: ")
	wants(0, "ok    STATE_DIR: "+dir+" is in use, and a gateway runs", "PORT="+strconv.Itoa(s.Port))
	s.publish("1")
	if _, err := s.Stop(harness.Patience); err != nil {
		t.Fatal(err)
	}
	wants(0, "ok    STATE_DIR: the directory "+dir+" is writable")
	newest := newestFile(t, dir)
	text, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	text[8]++ // the version
	if err := os.WriteFile(newest, text, 0o600); err != nil {
		t.Fatal(err)
	}
	wants(1, "fail  STATE_DIR: "+newest+" was written by a newer version")
	refused(t, dir, newest+" was written by a newer version", "move the directory "+dir+" away")
	text[8]--
	if err := os.WriteFile(newest, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.restart()
}

// listing returns the files below a directory, with their sizes and times.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
