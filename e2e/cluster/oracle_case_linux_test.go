package cluster

import (
	"strings"
	"testing"
	"time"
)

// The oracle finds each error that it exists for.
func TestOracleHistory(t *testing.T) {
	at := func(epoch int, offset uint64) position { return position{epoch, offset} }
	// Publications 0 to 4 are at offsets 1 to 5. All are for room 1 except 2, which is for
	// room 2. Publication 3 was not answered. 5 and 6 are in another log.
	r := newRecord()
	for i, topic := range []int{1, 1, 2, 1, 1, 1, 1} {
		_, p := r.publish(topic, 0)
		p.at = at(0, uint64(i+1))
		if i > 4 {
			p.at = at(1, uint64(i+1))
		}
		p.answered.Store(i != 3)
	}
	ev := func(n int) item { return item{kind: event, publication: n, at: r.publications[n].at} }
	begin := item{kind: start, at: at(0, 0)}
	for name, c := range map[string]struct {
		history []item
		want    string // "": nothing is wrong
	}{
		"complete, with a gap":       {[]item{begin, ev(0), ev(1), ev(3), ev(4), {kind: gap, from: at(0, 5), at: at(1, 5)}, ev(5), ev(6)}, ""},
		"without what is unknown":    {[]item{begin, ev(0), ev(1), ev(4), {kind: gap, from: at(0, 5), at: at(1, 5)}, ev(5), ev(6)}, ""},
		"a gap over what was lost":   {[]item{begin, ev(0), {kind: gap, from: at(0, 1), at: at(1, 6)}, ev(6)}, ""},
		"came later":                 {[]item{{kind: start, at: at(0, 2)}, ev(4), {kind: gap, from: at(0, 5), at: at(1, 5)}, ev(5), ev(6)}, ""},
		"one missing":                {[]item{begin, ev(0), ev(4), {kind: gap, from: at(0, 5), at: at(1, 6)}, ev(6)}, "event 1 at {0 2} is missing"},
		"missing at the end":         {[]item{begin, ev(0), ev(1), ev(4), {kind: gap, from: at(0, 5), at: at(1, 5)}, ev(5)}, "event 6 at {1 7} is missing at the end"},
		"one doubled":                {[]item{begin, ev(0), ev(0), ev(1), ev(4)}, "doubled"},
		"out of order":               {[]item{begin, ev(1), ev(0), ev(4)}, "doubled, or out of order"},
		"of another's topic":         {[]item{begin, ev(0), ev(1), ev(2)}, "which it does not have"},
		"of another log":             {[]item{begin, ev(0), ev(1), ev(4), ev(5), ev(6)}, "another log"},
		"a gap for nothing":          {[]item{begin, ev(0), {kind: gap, from: at(0, 1), at: at(0, 2)}, ev(4)}, "nothing of the log was lost"},
		"a gap that forgets":         {[]item{begin, ev(0), ev(1), {kind: gap, from: at(0, 1), at: at(1, 5)}, ev(5), ev(6)}, "but it had"},
		"a gap that does not cover":  {[]item{begin, ev(0), ev(1), ev(4), {kind: gap, from: at(0, 5), at: at(1, 5)}, ev(6)}, "event 5 at {1 6} is missing"},
		"not where it was published": {[]item{begin, {kind: event, publication: 0, at: at(0, 9)}}, "its publisher got"},
		"lost as it came":            {[]item{{kind: gap, from: at(0, 2), at: at(1, 5)}, ev(5), ev(6)}, ""},
		"a gap that covers too much": {[]item{{kind: gap, from: at(0, 2), at: at(1, 6)}, ev(5), ev(6)}, "doubled, or out of order"},
		"a gap for a new client":     {[]item{{kind: gap, from: at(0, 1), at: at(0, 2)}, ev(4)}, "nothing of the log was lost"},
		"no position at the start":   {[]item{ev(0)}, "and not with a position"},
	} {
		got := strings.Join(r.checkHistory(&client{record: r, topics: []int{1}, stays: true, history: c.history}, r.expectations()), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := r.checkPublishers(); len(got) != 0 {
		t.Error(got)
	}
	r.publications[1].at = at(0, 1)
	if got := r.checkPublishers(); len(got) != 2 {
		t.Errorf("a position that is used twice and out of order: got %q, want 2 errors", got)
	}
}

func TestOracleConnection(t *testing.T) {
	begin := time.Now()
	after := begin.Add
	for name, c := range map[string]struct {
		connection *connection
		want       string
	}{
		"all came":          {&connection{sent: []outcome{accepted, unknown, accepted}, got: []int{0, 2}}, ""},
		"the tail was lost": {&connection{sent: []outcome{accepted, accepted}, got: []int{0}, ended: true}, ""},
		"a tail is missing": {&connection{sent: []outcome{accepted, accepted}, got: []int{0}}, "on a stream that is open"},
		"one is missing":    {&connection{sent: []outcome{accepted, accepted}, got: []int{1}, ended: true}, "send 0 was answered 200"},
		"out of order":      {&connection{sent: []outcome{accepted, accepted}, got: []int{1, 0}}, "send 0 came after 1"},
		"late, unanswered":  {&connection{sent: []outcome{unknown, accepted}, got: []int{1, 0}}, ""},
		"came twice":        {&connection{sent: []outcome{accepted}, got: []int{0, 0}}, "came twice"},
		"refused, and came": {&connection{sent: []outcome{refused}, got: []int{0}}, "was refused"},
		"told, and ended":   {&connection{told: []telling{{at: after(0)}}, last: after(time.Second)}, ""},
		"told, and goes on": {&connection{told: []telling{{at: after(0)}}, last: after(time.Minute)}, "its disconnect was reported"},
		"gone, and goes on": {&connection{gone: after(0), last: after(time.Minute)}, "404"},
		"told by another":   {&connection{node: 1, told: []telling{{node: 2, at: after(0)}}}, "reported by node 3"},
		"lost, and was":     {&connection{node: 0, told: []telling{{node: 2, at: after(0), detail: "gateway_lost"}}}, ""},
		"lost, and was not": {&connection{node: 1, told: []telling{{node: 2, at: after(0), detail: "gateway_lost"}}}, "its node was well"},
	} {
		c.connection.opened = begin
		got := strings.Join(checkConnection(c.connection, func(c *connection, _ time.Time) bool { return c.node == 0 }, func(at time.Time) time.Time { return at }), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
