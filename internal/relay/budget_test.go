package relay

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ssegateway/internal/gateway"
)

// An answer counts with its head, even without an event, and where there is no room for that it is not kept.
func TestHeadsCount(t *testing.T) {
	r := newPlain(t, &pieces{})
	begin := func() *answer {
		c, err := r.cfg.Gateway.Forward([]byte("{}"), func() {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Pass)
		head := http.Header{"X-Large": {strings.Repeat("x", 60_000)}, resumeField: {"60"}}
		return r.newAnswer(&exchange{conn: c, in: &http.Request{}, answer: &http.Response{Header: head}, resume: 60, cancel: func() {}})
	}
	r.cfg.BudgetBytes = 100_000
	a := begin()
	if n := r.Stats().Bytes; n < 60_000+answerCost || n > 70_000 {
		t.Errorf("an answer with a head of 60,000 bytes counts as %d", n)
	}
	if b := begin(); b.kept || r.find(b.key) != nil || r.Stats().Unkept != 1 || r.Stats().Kept != 1 {
		t.Errorf("kept beyond the budget: %+v", r.Stats())
	}
	r.remove(a)
	a.back(nil) // as of a reader for whom there is no room
	if n := r.Stats().Bytes; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// Who comes back takes the place of the answer, whichever limit is reached.
func TestRoom(t *testing.T) {
	for _, err := range []error{gateway.ErrFull, gateway.ErrRequests} {
		if !isRoom(fmt.Errorf("wrapped: %w", err)) {
			t.Errorf("%v", err)
		}
	}
	if isRoom(gateway.ErrDraining) || isRoom(gateway.ErrNameless) {
		t.Error("the end of a connection makes no room for those")
	}
}
