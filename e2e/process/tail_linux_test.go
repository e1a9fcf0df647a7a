package process

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// tailing is a `tail` that runs.
type tailing struct {
	t          *testing.T
	cmd        *exec.Cmd
	out, notes *bufio.Scanner
}

func (o *operated) tail(args ...string) *tailing {
	o.t.Helper()
	out, outEnd := pipe(o.t)
	notes, notesEnd := pipe(o.t)
	tl := &tailing{o.t, exec.Command(binary, append([]string{"tail"}, args...)...), bufio.NewScanner(out), bufio.NewScanner(notes)}
	tl.cmd.Env, tl.cmd.Stdout, tl.cmd.Stderr = o.settings, outEnd, notesEnd
	tl.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := tl.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	killLate(o.t, tl.cmd)
	_, _ = outEnd.Close(), notesEnd.Close()
	return tl
}

// wants waits for a line that has to have this pattern.
func (tl *tailing) wants(lines *bufio.Scanner, pattern string) string {
	tl.t.Helper()
	if !lines.Scan() || !regexp.MustCompile("^(?:"+pattern+")$").MatchString(lines.Text()) {
		tl.t.Errorf("%q, want %s", lines.Text(), pattern)
	}
	return lines.Text()
}

// end interrupts it. It has to end with code 0, and without another word.
func (tl *tailing) end() {
	tl.t.Helper()
	if err := tl.cmd.Process.Signal(os.Interrupt); err != nil {
		tl.t.Fatal(err)
	}
	for name, lines := range map[string]*bufio.Scanner{"output": tl.out, "notes": tl.notes} {
		if lines.Scan() {
			tl.t.Errorf("%s at the end: %q", name, lines.Text())
		}
	}
	if err := tl.cmd.Wait(); err != nil {
		tl.t.Error(err)
	}
}

// `tail` prints each event of its topics once, in a form of its own, as JSON, or as it is on the wire; nothing
// in an event can pass for another line.
func TestTail(t *testing.T) {
	o := operate(t, nil)
	first := strings.Split(o.wants(true, "ok, .*\n", "publish", "room.7", "first"), ", ")[1]
	begin := first[:len(first)-1] + "0" // from the beginning: that it follows is seen by what it prints
	lines, asJSON, raw := o.tail("room.7", "room.8", "--from", begin), o.tail("room.7", "room.8", "--from", begin, "--json"), o.tail("room.7", "room.8", "--from", begin, "--raw")
	clock := `\d\d:\d\d:\d\d\.\d{3}`
	lines.wants(lines.out, clock+" "+first+" message first")
	asJSON.wants(asJSON.out, `\{"time":"[^"]+","id":"`+first+`","data":"first"\}`)
	for _, line := range []string{"id: " + begin, "", "id: " + first, "data: first", ""} {
		raw.wants(raw.out, line)
	}
	second := strings.Split(o.wants(true, "ok, .*\n", "publish", "room.8", "two\nlines \x1b[31m", "--event", "order"), ", ")[1]
	o.wants(true, "ok, not stored, .*\n", "publish", "room.7", "gone", "--no-store")
	o.wants(true, "ok, .*\n", "publish", "room.9", "another topic")
	o.wants(true, "ok, .*\n", "publish", "room.7", "last")
	lines.wants(lines.out, clock+" "+second+` order two\\nlines \\x1b\[31m`)
	lines.wants(lines.out, clock+" - message gone")
	lines.wants(lines.out, clock+` \S+-4 message last`)
	asJSON.wants(asJSON.out, `\{"time":"[^"]+","id":"`+second+`","event":"order","data":"two\\nlines \\u001b\[31m"\}`)
	asJSON.wants(asJSON.out, `\{"time":"[^"]+","data":"gone"\}`)
	asJSON.wants(asJSON.out, `\{"time":"[^"]+","id":"\S+-4","data":"last"\}`)
	for _, line := range []string{"event: order", "id: " + second, "data: two", `data: lines \x1b\[31m`, "", "data: gone", "", `id: \S+-4`, "data: last", ""} {
		raw.wants(raw.out, line)
	}
	for _, tl := range []*tailing{lines, asJSON, raw} {
		tl.end()
	}
	o.wants(false, "INVALID_TOPICS: .*\n", "tail", "")
}

// `tail` says that it has lost the gateway, and goes on when that is back: with a gap, since its log is a new one.
// With the log on NATS nothing is missing.
func TestTailGoesOn(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{"memory": nil, "NATS": {"NATS_URL=" + natsServer(t, true)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := operate(t, nil, settings...)
			o.awaitReady()
			first := strings.Split(o.wants(true, "ok, .*\n", "publish", "room.7", "before"), ", ")[1]
			begin := first[:len(first)-1] + "0"
			tl := o.tail("room.7", "--from", begin)
			tl.wants(tl.out, `\S+ `+first+" message before")
			o.Restart(t)
			tl.wants(tl.notes, "the stream has ended: .*")
			o.awaitReady()
			if name == "NATS" {
				o.wants(true, "ok, .*\n", "publish", "room.7", "missed")
			}
			tl.wants(tl.notes, "following again, behind "+first)
			if name == "NATS" {
				tl.wants(tl.out, `\S+ \S+-2 message missed`)
			} else {
				tl.wants(tl.out, `\S+ \S+-0 gap \{"last_event_id":"`+first+`"\}`)
			}
			o.wants(true, "ok, .*\n", "publish", "room.7", "live")
			tl.wants(tl.out, `\S+ \S+ message live`)
			tl.end()
		})
	}
}

// awaitReady waits until the gateway is ready for streams.
func (o *operated) awaitReady() {
	o.t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.After(harness.Patience); ; {
		out, ok := command(o.settings, "health", "--ready")
		if ok {
			return
		}
		select {
		case <-poll.C:
		case <-end:
			o.t.Fatal(out)
		}
	}
}
