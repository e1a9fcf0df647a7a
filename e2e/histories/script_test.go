package histories

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// script is what happens, one step behind the other. Numbers in it are taken modulo what there
// is when their step has its turn, so that any part of a script is a script.
type script []step

// step is one thing that happens. What it has to cause is awaited before the next one.
type step struct {
	What   string
	Client int // which stream, of all that there were so far
	Way    int // one of several ways to do it

	Topics   int // a set, one bit for each
	Others   int // a second set
	Events   []event
	Close    bool
	Written  bool   // wait for it to be written
	Retain   bool   // keep the event
	Key      string // of what is retained
	Volatile bool   // do not store
	CountAll bool
	Keyed    int // how it is repeated under an idempotency key: see the constants
	Connect  connect
}

// How a request is repeated.
const (
	unkeyed     = iota
	keyed       // has a key, and is not repeated at once
	repeated    // is made again
	repeatedNot // another one is made with its key
	keyedWays
)

// connect is what a client asks and what the backend answers.
type connect struct {
	Refusal  int // index of refusals; 0: accepted
	Failures int // how many times the disconnect fails
	LastID   int // see the player's lastID
	InQuery  bool
	Position int // see the player's position
	Rewind   int
	RetryMS  int
	Subject  int
	Events   []event
	Pending  []event // sent while the callback is unanswered
	Publish  bool    // publish to its topics meanwhile
	EndsThen int     // while pending: 1 the backend closes, 2 the client leaves
}

type event struct {
	Name, ID, Data string
	Times          int // how often the data is repeated
	Retry          int // 0: none
}

func (e event) data() string { return strings.Repeat(e.Data, e.Times) }

// value is the event in JSON.
func (e event) value() map[string]any {
	v := map[string]any{"data": e.data()}
	if e.Name != "" {
		v["name"] = e.Name
	}
	if e.ID != "" {
		v["id"] = e.ID
	}
	if e.Retry > 0 {
		v["retry"] = e.Retry
	}
	return v
}

// text is the event as an event stream has it (contract, section 5).
func (e event) text() string {
	var b strings.Builder
	if e.Name != "" {
		fmt.Fprintf(&b, "event: %s\n", e.Name)
	}
	if e.ID != "" {
		fmt.Fprintf(&b, "id: %s\n", e.ID)
	}
	if e.Retry > 0 {
		fmt.Fprintf(&b, "retry: %d\n", e.Retry)
	}
	for _, line := range strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(e.data()), "\n") {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	return b.String() + "\n"
}

var topicNames = []string{"room.7", "user.42", "a topic with blanks", "übung/☃"}

func topicsOf(set int) []string {
	names := []string{}
	for i, name := range topicNames {
		if set&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

var (
	someData = []string{
		"x", "", "line 1\nline 2", "\n\n", "a\rb\r\nc\r", `{"n":1}`, "grüße ☃ 𝄞", "\ufeffbom", "data: x\n\nevent: forged", " blank ", "id: 9", "nul\x00", "\u2028", ": heartbeat\n\n",
	}
	names   = []string{"", "order", " blank", "a: b", "ünïcode ☃", "gap"}
	ids     = []string{"", "", "17", "a b", "ü☃", "0"}
	sizes   = []int{1, 1, 1, 1, 3, 900, 30_000}
	subject = []string{"", "ada", "bob"}
	keys    = []string{"", "", "stage", "k☃"}
)

// an draws one of some values; the first ones are the simplest.
func an[V any](t *rapid.T, name string, values []V) V { return rapid.SampledFrom(values).Draw(t, name) }

func upTo(t *rapid.T, name string, n int) int { return rapid.IntRange(0, n).Draw(t, name) }

func flip(t *rapid.T, name string) bool { return rapid.Bool().Draw(t, name) }

func drawEvent(withID bool) *rapid.Generator[event] {
	return rapid.Custom(func(t *rapid.T) event {
		e := event{Data: an(t, "data", someData), Times: an(t, "times", sizes), Name: an(t, "name", names), Retry: an(t, "retry", []int{0, 0, 0, 1, 3000})}
		if withID {
			e.ID = an(t, "id", ids)
		}
		return e
	})
}

func drawEvents(t *rapid.T, name string, least, most int) []event {
	return rapid.SliceOfN(drawEvent(true), least, most).Draw(t, name)
}

// steps are those that there are, the frequent ones several times.
var steps = []string{
	"connect", "connect", "connect", "send", "send", "send", "publish", "publish", "publish", "publish", "patch", "leave", "remove", "again", "close many", "list",
}

func drawStep(t *rapid.T) step {
	s := step{What: an(t, "what", steps), Client: upTo(t, "client", 15), Way: upTo(t, "way", 7)}
	switch s.What {
	case "connect":
		s.Topics = upTo(t, "topics", 15)
		c := &s.Connect
		c.LastID, c.Position = upTo(t, "last id", 7), upTo(t, "position", 7)
		c.InQuery = flip(t, "in the query")
		c.Rewind, c.RetryMS, c.Subject = upTo(t, "rewind", 3), an(t, "retry_ms", []int{0, 0, 1, 2500}), upTo(t, "subject", 2)
		c.Events = drawEvents(t, "state", 0, 2)
		if upTo(t, "how", 3) == 3 {
			c.Pending, c.Publish, c.EndsThen = drawEvents(t, "pending", 0, 3), flip(t, "publish"), upTo(t, "ends", 2)
		}
		if upTo(t, "refused", 4) == 4 {
			c.Refusal = upTo(t, "refusal", len(refusals)-1)
		}
		if upTo(t, "fails", 9) == 9 {
			c.Failures = 1
		}
	case "send":
		s.Events, s.Close = drawEvents(t, "events", 1, 4), upTo(t, "close", 5) == 5
		s.Written, s.Keyed = flip(t, "written"), upTo(t, "keyed", keyedWays-1)
	case "publish":
		s.Topics = 1 + upTo(t, "topics", 14)
		s.Events = rapid.SliceOfN(drawEvent(false), 1, 3).Draw(t, "events")
		switch upTo(t, "kept", 3) {
		case 2:
			s.Retain, s.Key = true, an(t, "key", keys)
		case 3:
			s.Volatile = true
		}
		s.CountAll, s.Keyed = flip(t, "count"), upTo(t, "keyed", keyedWays-1)
	case "patch":
		s.Topics, s.Others = upTo(t, "add", 15), upTo(t, "remove", 15)
	case "remove":
		s.Topics, s.Key = upTo(t, "topic", len(topicNames)-1), an(t, "key", keys)
	}
	return s
}

func drawScript(t *rapid.T, most int) script {
	return rapid.SliceOfN(rapid.Custom(drawStep), most/2, most).Draw(t, "script")
}
