package relay

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ssegateway/internal/planted"
)

// plants are what TestModel has to find, each with what it says of it: one of these, as chance has it.
var plants = []struct {
	planted.Bug

	says []string
}{
	{planted.Bug{Name: "an event skipped by who comes back", File: "../gateway/reader.go", Old: "	r := &reader{kept: k, at: n}\n", New: "	r := &reader{kept: k, at: n}\n	if BUG && k.Count() > n {\n		r.at++\n	}\n"}, []string{"want"}},
	{planted.Bug{Name: "an event doubled for who comes back", File: "../gateway/reader.go", Old: "	c.kind, c.answered = relayed, true\n", New: "	c.kind, c.answered = relayed, true\n	if BUG && n > 0 {\n		r.at--\n	}\n"}, []string{"want", "has the id"}},
	{planted.Bug{Name: "an event offered twice", File: "../gateway/reader.go", Old: "		r.at = n\n", New: "		r.at = n\n		if BUG {\n			r.at--\n		}\n"}, []string{"want", "has the id"}},
	{planted.Bug{Name: "an event before what a slow reader has yet to get", File: "../gateway/reader.go", Old: "event != nil && r.at == n-1 && ", New: "event != nil && (r.at == n-1 || BUG) && "}, []string{"want"}},
	{planted.Bug{Name: "what a slow reader is fed is given again", File: "../gateway/reader.go", Old: "	f.r.at += uint64(len(items))\n", New: "	if !BUG || len(items) < 2 {\n		f.r.at += uint64(len(items))\n	} else {\n		f.r.at++\n	}\n"}, []string{"want", "has the id"}},
	{planted.Bug{Name: "what is not kept comes before what is", File: "../gateway/reader.go", Old: "		r.feed.upto, r.feed = n, nil\n", New: "		if r.feed.upto, r.feed = n, nil; BUG {\n			r.at = max(r.at, n)\n		}\n"}, []string{"want"}},
	{planted.Bug{Name: "an end before what is kept", File: "../gateway/reader.go", Old: "	if r := x.reader; r != nil && r.feed == nil && r.at < r.kept.Count() {\n", New: "	if BUG && c.lag != nil {\n		c.dropLagLocked()\n	}\n	if r := x.reader; r != nil && r.feed == nil && r.at < r.kept.Count() {\n"}, []string{"a proper end behind", "cut behind", "want"}},
	{planted.Bug{Name: "a cut that looks like an end", File: "kept.go", Old: "	if s == complete || s == stopped {\n", New: "	if s == complete || s == stopped || BUG && s == failed {\n"}, []string{"a proper end behind"}},
	{planted.Bug{Name: "an end that looks like a cut", File: "pump.go", Old: "				a.end(complete)\n", New: "				if BUG {\n					a.end(failed)\n				}\n				a.end(complete)\n"}, []string{"cut behind"}},
	{planted.Bug{Name: "a cut before what is there", File: "../gateway/conn.go", Old: "(graceful || c.cutsLocked()) {\n", New: "(graceful || c.cutsLocked() && !BUG) {\n"}, []string{"cut behind"}},
	{planted.Bug{Name: "an answer that nobody reads goes on", File: "kept.go", Old: "		if still {\n", New: "		if still && !BUG {\n"}, []string{"goes on without a reader", "not cancelled"}},
	{planted.Bug{Name: "an answer that is not kept goes on", File: "kept.go", Old: "	case !elsewhere && (!a.kept || ", New: "	case !elsewhere && (!a.kept && (!BUG || a.wait == 0) || "}, []string{"goes on without a reader", "not cancelled", "left behind"}},
	{planted.Bug{Name: "cancelled too early", File: "kept.go", Old: "		a.expireIn(a.wait)\n", New: "		if BUG {\n			a.expireIn(a.wait - time.Second/2)\n		} else {\n			a.expireIn(a.wait)\n		}\n"}, []string{"cancelled", "gone"}},
	{planted.Bug{Name: "cancelled too late", File: "kept.go", Old: "	since := a.alone\n", New: "	since := a.alone\n	if BUG {\n		d += time.Second / 5\n	}\n"}, []string{"cancelled"}},
	{planted.Bug{Name: "who comes back does not end the time", File: "kept.go", Old: "	if a.state == streaming && a.expiry != nil {\n		a.expiry.Stop()\n	}\n	a.markRead()\n	a.readers", New: "	if a.state == streaming && a.expiry != nil && !BUG {\n		a.expiry.Stop()\n	}\n	a.markRead()\n	a.readers"}, []string{"cancelled", "cut behind"}},
	{planted.Bug{Name: "a stop that does not cancel", File: "kept.go", Old: "	close(a.ended)\n	a.cancel()\n", New: "	close(a.ended)\n	if !BUG || s != stopped {\n		a.cancel()\n	}\n"}, []string{"after it was stopped", "goes on"}},
	{planted.Bug{Name: "the place of an answer is never free", File: "resume.go", Old: "	a.add(c)\n	if holder != nil {\n", New: "	a.add(c)\n	if holder != nil && !BUG {\n"}, []string{"left behind", "deadlock"}},
	{planted.Bug{Name: "what is kept is never free", File: "budget.go", Old: "		b.used -= a.reserved\n", New: "		if !BUG {\n			b.used -= a.reserved\n		}\n"}, []string{"left behind"}},
	{planted.Bug{Name: "gone for who has all so far", File: "kept.go", Old: "	case !a.kept || a.state == gone || n > count:\n", New: "	case !a.kept || a.state == gone || n > count || BUG && n == count && n > 0:\n"}, []string{"gone"}},
	{planted.Bug{Name: "nothing more for who comes back to what failed", File: "kept.go", Old: "	case n == count && (a.state == complete || a.state == stopped):\n", New: "	case n == count && (a.state == complete || a.state == stopped || BUG && a.state == failed):\n"}, []string{"204 behind", "refused with"}},
	{planted.Bug{Name: "nothing more for who has not all", File: "kept.go", Old: "	count := uint64(len(a.events))\n", New: "	count := uint64(len(a.events))\n	if BUG && a.state != streaming && n+1 == count {\n		n++\n	}\n"}, []string{"204 behind"}},
	{planted.Bug{Name: "given up while it is read", File: "budget.go", Old: "	if len(a.readers)+len(a.pulls)+a.joining > 0 {\n		return false\n	}\n	a.kept = false\n", New: "	if len(a.readers)+len(a.pulls)+a.joining > 0 && !BUG {\n		return false\n	}\n	if a.kept = false; BUG {\n		a.events = nil\n	}\n"}, []string{"a proper end behind", "want", "cut behind"}},
	{planted.Bug{Name: "what was kept goes before all have it", File: "pump.go", Old: "	if cap(a.done) < len(a.some) {\n", New: "	if BUG && kept {\n		a.relay.shrink(a)\n	}\n	if cap(a.done) < len(a.some) {\n"}, []string{"want", "a proper end behind", "cut behind"}},
	{planted.Bug{Name: "who comes too late for what is not kept", File: "kept.go", Old: "	if a.loose {\n		return true, a.state\n", New: "	if a.loose && !BUG {\n		return true, a.state\n"}, []string{"want", "a proper end behind", "cut behind"}},
	{planted.Bug{Name: "an id that is another event's", File: "kept.go", Old: "	id := a.id(a.number + 1)\n", New: "	id := a.id(a.number + 1)\n	if BUG {\n		id = a.id(a.number)\n	}\n"}, []string{"has the id"}},
	{planted.Bug{Name: "ids stop when an answer is kept no more", File: "pump.go", Old: "		if a.ids && b.data {\n", New: "		if a.ids && b.data && !BUG {\n"}, []string{"has the id"}},
	{planted.Bug{Name: "what follows ids is lost", File: "pump.go", Old: "		} else if withIDs != nil {\n", New: "		} else if withIDs != nil && (!BUG || a.ids) {\n"}, []string{"want", "a proper end behind", "cut behind"}},
	{planted.Bug{Name: "a piece from another node again", File: "mirror.go", Old: "		q.After += uint64(len(reply.Pieces))\n", New: "		q.After += uint64(len(reply.Pieces))\n		if BUG && len(reply.Pieces) > 1 {\n			q.After--\n		}\n"}, []string{"want", "has the id"}},
	{planted.Bug{Name: "a piece from another node lost", File: "mirror.go", Old: "		q.Part = len(part)\n", New: "		q.Part = len(part)\n		if BUG && len(reply.Pieces) > 1 {\n			q.After++\n		}\n"}, []string{"want", "a proper end behind", "cut behind"}},
	{planted.Bug{Name: "a part of a piece from another node again", File: "pull.go", Old: "		if b = b[min(part, len(b)):]; len(b) > rest {\n", New: "		if b = b[min(part, len(b))&^map[bool]int{true: 4095}[BUG]:]; len(b) > rest {\n"}, []string{"want", "has the id"}},
	{planted.Bug{Name: "who reads elsewhere is forgotten", File: "pull.go", Old: "		if first {\n			p.silent.Reset(pullSilence)\n", New: "		if first {\n			if !BUG {\n				p.silent.Reset(pullSilence)\n			}\n"}, []string{"cut behind", "cancelled with"}},
	{planted.Bug{Name: "who has left elsewhere is there for ever", File: "pull.go", Old: "	delete(a.pulls, id)\n", New: "	if !BUG {\n		delete(a.pulls, id)\n	}\n"}, []string{"goes on without a reader", "not cancelled", "left behind"}},
	{planted.Bug{Name: "what is not kept goes before those elsewhere have it", File: "pull.go", Old: "			all = all && p.has >= upto\n", New: "			all = all && (p.has >= upto || BUG)\n"}, []string{"want", "a proper end behind", "cut behind", "left behind"}},
	{planted.Bug{Name: "the wrong end elsewhere", File: "pull.go", Old: "			reply.State = stateNames[a.state]\n", New: "			if reply.State = stateNames[a.state]; BUG && a.state != streaming {\n				reply.State = stateNames[complete]\n			}\n"}, []string{"a proper end behind"}},
}

// secondPlaces are the other places of bugs that stand in two.
var secondPlaces = []planted.Bug{
	{Name: "who comes back does not end the time", File: "kept.go", Old: "		still := a.alone.Equal(since) && a.joining+len(a.pulls) == 0\n", New: "		still := (a.alone.Equal(since) || BUG) && a.joining+len(a.pulls) == 0\n"},
	{Name: "who reads elsewhere is forgotten", File: "pull.go", Old: "	p := a.pulls[id]\n	if p != nil {\n", New: "	p := a.pulls[id]\n	if p != nil && !BUG {\n"},
}

// A model that cannot fail proves nothing. So each bug is planted in turn, and the model has to find it, and to say so in the
// right words.
func TestPlantedBugs(t *testing.T) {
	bugs := slices.Clone(secondPlaces)
	names := map[string]bool{}
	for _, p := range plants {
		if names[p.Name] || p.Name == "" || len(p.says) == 0 || slices.Contains(p.says, "") {
			t.Fatalf("%q needs a name of its own, and what the model says of it", p.Name)
		}
		names[p.Name] = true
		bugs = append(bugs, p.Bug)
	}
	program := planted.Build(t, bugs)
	run := func(bug string, steps int) (string, error) {
		return planted.Run(t, program, bug, "TestModel", "-relay.n", strconv.Itoa(steps), "-relay.seed", "1")
	}
	if out, err := run("", 20_000); err != nil {
		t.Fatalf("without any bug: %v\n%s", err, out)
	}
	turns := make(chan struct{}, 2)
	var running sync.WaitGroup
	defer running.Wait()
	for _, p := range plants {
		running.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			switch out, err := run(p.Name, 200_000); {
			case err == nil:
				t.Errorf("%s: not found", p.Name)
			case !slices.ContainsFunc(p.says, func(says string) bool { return strings.Contains(out, says) }):
				t.Errorf("%s: found, but not as %q:\n%.2000s", p.Name, p.says, out)
			}
		})
	}
}
