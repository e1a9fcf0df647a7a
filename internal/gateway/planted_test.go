package gateway_test

import (
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ssegateway/internal/planted"
)

// plant is a bug to be put into the code: at one exact place, so that a change of
// the code that touches it has to say here what the bug would be now.
type plant struct {
	bug  string
	file string
	old  string
	// new has BUG where the code is to ask whether the bug is on.
	new string
	// says is what has to be seen of it: one of these, as chance has it. None: it
	// is a further part of the bug before.
	says []string
	test string // that has to see it; TestModel if empty
	args []string
}

var plants = []plant{
	{
		bug: "a lost close", file: "conn.go",
		old:  "\tif end {\n",
		new:  "\tif end && (!BUG || c.lag == nil) {\n",
		says: []string{"Sent, but the connection had closed", "closes were answered with Sent", "0 disconnects instead of one", "is still found"},
	},
	{
		bug: "a second disconnect", file: "conn.go",
		old:  "\tc.finished = c.finished || last\n",
		new:  "\tc.finished = (c.finished || last) && !BUG\n",
		says: []string{"disconnects instead of one"},
	},
	{
		bug: "a send after the close", file: "conn.go",
		old:  "\t\treturn Gone\n",
		new:  "\t\tif BUG && c.stream != nil {\n\t\t\tc.appendLocked(*i)\n\t\t}\n\t\treturn Gone\n",
		says: []string{"bytes behind the last chunk"},
	},
	{
		bug: "a descriptor used after its close", file: "conn.go",
		old:  "\tif c.stream != nil {\n\t\tc.stream.Close(abort)\n",
		new:  "\tif c.stream != nil {\n\t\tif BUG {\n\t\t\tdefer c.stream.Write(frame.End.Wire(true))\n\t\t}\n\t\tc.stream.Close(abort)\n",
		says: []string{"in the state 2 of its stream"},
	},
	{
		bug: "a descriptor used when it is another's", file: "conn.go",
		old:  "\t\tc.stream = nil\n\t}\n",
		new:  "\t\tif !BUG {\n\t\t\tc.stream = nil\n\t\t}\n\t}\n",
		says: []string{"the client received", "but it is not open", "on the closed descriptor"},
		args: []string{"-model.blind"},
	},
	{
		bug: "a descriptor used when it is another's", file: "conn.go",
		old: "\tcase Closed:\n",
		new: "\tcase Closed:\n\t\tif BUG && c.stream != nil && c.lag == nil && !i.Frame.IsZero() {\n\t\t\t_, _ = c.stream.Write(i.Frame.Wire(true))\n\t\t}\n",
	},
	{
		bug: "a descriptor used when it is another's", file: "write.go",
		old: "\t\tif c.stream != s {\n\t\t\tbreak\n",
		new: "\t\tif c.stream != s || BUG && c.lag == nil {\n\t\t\tbreak\n",
	},
	{
		bug: "a descriptor closed twice", file: "conn.go",
		old:  "\t\tc.stream.Close(abort)\n",
		new:  "\t\tc.stream.Close(abort)\n\t\tif BUG {\n\t\t\tc.stream.Close(abort)\n\t\t}\n",
		says: []string{"in the state 2 of its stream"},
	},
	{
		bug: "a late event reaches the next owner of a descriptor", file: "write.go",
		old:  "\tif c.stream != s {\n\t\treturn\n\t}\n",
		new:  "\tif c.stream != s && !BUG {\n\t\treturn\n\t}\n",
		says: []string{"in the state 2 of its stream"},
	},
	{
		bug: "an event lost on a short write", file: "write.go",
		old:  "\tdefault:\n\t\tc.lagLocked()",
		new:  "\tdefault:\n\t\tif BUG && n > 0 {\n\t\t\tc.writtenLocked(i)\n\t\t\treturn true\n\t\t}\n\t\tc.lagLocked()",
		says: []string{"the client received"},
	},
	{
		bug: "a short write begun anew", file: "write.go",
		old:  ".PushRest(*i, n)\n",
		new:  ".PushRest(*i, map[bool]int{false: n}[BUG])\n",
		says: []string{"the client received"},
	},
	{
		bug: "a heartbeat inside another frame", file: "heartbeat.go",
		old:  "\tif c.state != Open || c.lag != nil {\n",
		new:  "\tif BUG && c.state == Open && c.lag != nil {\n\t\t_, _ = c.stream.Write(heartbeatFrame.Wire(c.chunked))\n\t}\n\tif c.state != Open || c.lag != nil {\n",
		says: []string{"the client received"},
	},
	{
		bug: "a write outside the lock", file: "heartbeat.go",
		old:  "\tc.writeLocked(&outbox.Item{Frame: heartbeatFrame})\n",
		new:  "\tif s := c.stream; BUG {\n\t\tc.mu.Unlock()\n\t\t_, _ = s.Write(heartbeatFrame.Wire(c.chunked))\n\t\tc.mu.Lock()\n\t\treturn\n\t}\n\tc.writeLocked(&outbox.Item{Frame: heartbeatFrame})\n",
		says: []string{"during another call to its stream", "in the state 2 of its stream", "the client received"},
	},
	{
		bug: "a queue dropped at an orderly close", file: "conn.go",
		old:  "\t\tif c.stream != nil && (graceful || c.cutsLocked()) {\n",
		new:  "\t\tif BUG && c.lag != nil {\n\t\t\tc.endLocked(false)\n\t\t\treturn\n\t\t}\n\t\tif c.stream != nil && (graceful || c.cutsLocked()) {\n",
		says: []string{"before an orderly end", "an orderly end without the last chunk"},
	},
	{
		bug: "an end without the last chunk", file: "conn.go",
		old:  "\t\t\t\tc.appendLocked(outbox.Item{Frame: frame.End})\n",
		new:  "\t\t\t\tif !BUG {\n\t\t\t\t\tc.appendLocked(outbox.Item{Frame: frame.End})\n\t\t\t\t}\n",
		says: []string{"an orderly end without the last chunk"},
	},
	{
		bug: "a disconnect before the answer", file: "conn.go",
		old:  "\tc.ended = c.answered\n",
		new:  "\tif BUG && !c.answered {\n\t\tc.needsDisconnect = true\n\t}\n\tc.ended = c.answered || BUG\n",
		says: []string{"a disconnect before the answer to the connect"},
	},
	{
		bug: "a disconnect of a refused client", file: "gateway.go",
		old:  "\tif c.needsDisconnect {\n",
		new:  "\tif c.needsDisconnect || BUG {\n",
		says: []string{"disconnects of a connection that the backend never had", "a disconnect callback for an unknown token"},
	},
	{
		bug: "no disconnect for one who left while connecting", file: "conn.go",
		old:  "= true, a.Known()\n",
		new:  "= true, a.Known() && (!BUG || c.state != Closed || a.Outcome != Accepted)\n",
		says: []string{"0 disconnects instead of one"},
	},
	{
		bug: "the last reason instead of the first", file: "conn.go",
		old:  "\t} else if graceful {\n",
		new:  "\t} else if BUG && !c.finished {\n\t\tc.reason, c.detail = r, d\n\t} else if graceful {\n",
		says: []string{"did not occur, or not first"},
	},
	{
		bug: "an opening after the close", file: "conn.go",
		old:  "\tif c.state != Pending || !c.answered {\n",
		new:  "\tif c.state != Pending && !BUG || !c.answered {\n",
		says: []string{"is in state 1", "left behind: pending: -1", "the client of a stream that never opened"},
	},
	{
		bug: "what was buffered comes in another order", file: "conn.go",
		old:  "\tbuffered := c.lag\n",
		new:  "\tbuffered := c.lag\n\tif BUG && buffered != nil {\n\t\ti, _ := buffered.Pop()\n\t\tbuffered.Push(i)\n\t}\n",
		says: []string{"but was sent before"},
	},
	{
		bug: "what is behind a buffered close is kept", file: "conn.go",
		old:  "\tif c.closing {\n",
		new:  "\tif c.closing && (!BUG || i.Frame.IsZero()) {\n",
		says: []string{"was sent behind a buffered close, but arrived", "did not occur, or not first"},
	},
	{
		bug: "a flush that stops early", file: "write.go",
		old:  "\t\tif n < len(b) {\n\t\t\treturn\n",
		new:  "\t\tif n < len(b) || BUG {\n\t\t\treturn\n",
		says: []string{"the reason error/stalled did not occur", "0 disconnects instead of one", "an orderly end without the last chunk", "before an orderly end"},
	},
	{
		bug: "nobody is told that an event was dropped", file: "conn.go",
		old:  "\ti.Tell(why)\n",
		new:  "\tif !BUG {\n\t\ti.Tell(why)\n\t}\n",
		says: []string{"told 0 times whether it was written, promised 1"},
	},
	{
		bug: "a lie about what was written", file: "conn.go",
		old:  "\t\tc.dropLocked(i, why)\n\t}\n}",
		new:  "\t\tif BUG {\n\t\t\ti.Tell(nil)\n\t\t\ti.Done = nil\n\t\t}\n\t\tc.dropLocked(i, why)\n\t}\n}",
		says: []string{"told to be written, but it was not"},
	},
	{
		bug: "told twice", file: "write.go",
		old:  "\ti.Tell(nil)\n}",
		new:  "\ti.Tell(nil)\n\tif BUG {\n\t\ti.Tell(nil)\n\t}\n}",
		says: []string{"told 2 times whether it was written, promised 1"},
	},
	{
		bug: "a stalled client kept", file: "backlog.go",
		old:  "\tcase now-l.moved >= StallDeadline:\n",
		new:  "\tcase now-l.moved >= StallDeadline && !BUG:\n",
		says: []string{"is still found"},
	},
	{
		bug: "a client's progress not seen", file: "backlog.go",
		old:  "\tif progress != l.progress || ",
		new:  "\tif progress != l.progress && !BUG || ",
		says: []string{"after the last progress"}, // which the model's clients acknowledge as well
		test: "TestStall",
	},
	{
		bug: "a stream left in the wheel", file: "conn.go",
		old:  "\t\t\tc.gw.beats.remove(c)\n",
		new:  "\t\t\tif !BUG {\n\t\t\t\tc.gw.beats.remove(c)\n\t\t\t}\n",
		says: []string{"left behind: connections in a slot of the wheel"},
	},
	{
		bug: "a queue left in the backlog", file: "backlog.go",
		old:  "\tif l.index < 0 {\n",
		new:  "\tif l.index < 0 || BUG {\n",
		says: []string{"left behind: connections in the backlog"},
	},
	{
		bug: "bytes that wait for ever", file: "../outbox/budget.go",
		old:  "\tb.bytes.Add(-bytes)\n",
		new:  "\tif !BUG {\n\t\tb.bytes.Add(-bytes)\n\t}\n",
		says: []string{"left behind: bytes queued"},
	},
	{
		bug: "a gauge that drifts", file: "conn.go",
		old:  "\t\tcase c.state == Pending:\n\t\t\tc.gw.stats.Pending.Add(-1)\n",
		new:  "\t\tcase c.state == Pending && !BUG:\n\t\t\tc.gw.stats.Pending.Add(-1)\n",
		says: []string{"left behind: pending"},
	},
	{
		bug: "a token never forgotten", file: "gateway.go",
		old:  "\tg.conns.remove(c.token)\n",
		new:  "\tif !BUG {\n\t\tg.conns.remove(c.token)\n\t}\n",
		says: []string{"left behind: connections registered"},
	},
	{
		bug: "a connection counted for ever", file: "gateway.go",
		old:  "if there is one\n\tg.releaseSlot()\n",
		new:  "if there is one\n\tif !BUG {\n\t\tg.releaseSlot()\n\t}\n",
		says: []string{"left behind: connections counted"},
	},
	{
		bug: "a request kept for ever", file: "gateway.go",
		old:  "\tg.cfg.Requests.Release(c.request) //",
		new:  "\tif !BUG || !c.needsDisconnect {\n\t\tg.cfg.Requests.Release(c.request)\n\t} //",
		says: []string{"left behind: bytes of requests"},
	},
	{
		bug: "asked about a client that has left", file: "connect.go",
		old:  "\ta = g.backend.Connect(g.connecting, client, c.token, request)\n",
		new:  "\tif BUG {\n\t\tclient = context.Background()\n\t}\n\ta = g.backend.Connect(g.connecting, client, c.token, request)\n",
		says: []string{"the backend is asked about a client that had left"},
	},
	{
		bug: "a queue without a bound", file: "write.go",
		old:  "\treturn c.lag == nil ||",
		new:  "\treturn BUG || c.lag == nil ||",
		says: []string{"Send returned 1 instead of 5", "Send returned 2 instead of 4"},
		test: "TestMachine",
	},
	{
		bug: "pending connections beyond the budget", file: "write.go",
		old:  "\tif c.state == Pending && !c.gw.budget",
		new:  "\tif !BUG && c.state == Pending && !c.gw.budget",
		says: []string{"Send returned 2 instead of 4"},
		test: "TestMachine",
	},
	{
		bug: "a budget that nobody keeps", file: "relief.go",
		old:  "\t\tif !g.budget.Exceeded() {\n",
		new:  "\t\tif !g.budget.Exceeded() || BUG {\n",
		says: []string{"is in state 1 instead of 2", "ended true, found true"},
		test: "TestMachine",
	},
	{
		bug: "clients that read are cut like those that do not", file: "relief.go",
		old:  "* (1 + idle.Milliseconds())}",
		new:  "* map[bool]int64{false: 1 + idle.Milliseconds(), true: 1}[BUG]}",
		says: []string{"is in state 1 instead of 2", "is in state 2 instead of 1", "ended true, found true", "ended false, found false"},
		test: "TestMachine",
	},
	{
		bug: "the queues that hold least are cut", file: "relief.go",
		old:  "return cmp.Or(cmp.Compare(y.weight, x.weight), ",
		new:  "if BUG {\n\t\t\tx, y = y, x\n\t\t}\n\t\treturn cmp.Or(cmp.Compare(y.weight, x.weight), ",
		says: []string{"is in state 1 instead of 2", "is in state 2 instead of 1", "ended true, found true", "ended false, found false"},
		test: "TestMachine",
	},
	{
		bug: "a chunk of the wrong size", file: "../frame/frame.go",
		old:  "\tf := open(e.Len())\n",
		new:  "\tn := e.Len()\n\tif BUG && n > 255 {\n\t\tn--\n\t}\n\tf := open(n)\n",
		says: []string{"the client received a chunk of"},
	},
}

// A model that cannot fail proves nothing. So each bug is planted in turn, and
// the test that is there to find it has to, and to say so in the right words.
func TestPlantedBugs(t *testing.T) {
	program := buildPlanted(t)
	t.Run("none", func(t *testing.T) {
		if out, err := runPlanted(t, program, plant{}); err != nil {
			t.Fatalf("without any bug: %v\n%s", err, out)
		}
	})
	turns := make(chan struct{}, 2)
	var running sync.WaitGroup
	defer running.Wait()
	for _, p := range slices.Concat(plants, seamPlants) {
		running.Go(func() {
			if p.says == nil {
				return
			}
			turns <- struct{}{}
			defer func() { <-turns }()
			out, err := runPlanted(t, program, p)
			var failed *exec.ExitError
			switch {
			case err == nil:
				t.Errorf("%s: not found", p.bug)
			case !errors.As(err, &failed):
				t.Errorf("%s: %v", p.bug, err)
			case !slices.ContainsFunc(p.says, func(says string) bool { return strings.Contains(out, says) }):
				t.Errorf("%s: found, but not as %q:\n%.3000s", p.bug, p.says, out)
			}
		})
	}
}

// buildPlanted builds this package's tests with all the bugs in the code.
func buildPlanted(t *testing.T) (program string) {
	t.Helper()
	var bugs []planted.Bug
	for _, p := range slices.Concat(plants, seamPlants) {
		bugs = append(bugs, planted.Bug{Name: p.bug, File: p.file, Old: p.old, New: p.new})
	}
	return planted.Build(t, bugs)
}

func runPlanted(t *testing.T, program string, p plant) (out string, err error) {
	test := p.test
	if test == "" {
		test = "TestModel"
	}
	// A bug may take its time to show on a busy machine, without one there is nothing to wait for.
	n := 10
	if p.bug == "" {
		n = 1
	}
	return planted.Run(t, program, p.bug, test, append([]string{
		"-model.n", strconv.Itoa(n * 20000), "-model.seed", "1", "-seam.n", strconv.Itoa(n * 60000), "-seam.seed", "1",
		"-seam.lives", strconv.Itoa(n * 60000), "-rapid.checks", strconv.Itoa(n * 5000), "-rapid.nofailfile", "-rapid.shrinktime", "0s",
	}, p.args...)...)
}
