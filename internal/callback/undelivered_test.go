package callback

import (
	"maps"
	"slices"
	"testing"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// OnDelayed is called once for each notice whose first attempt fails, and for no other. What is
// left when Run ends is undelivered: ready, waiting, deferred, or cut short with a worker.
func TestUndelivered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		delivered, rejected, failing, deferred, hanging := closed(), closed(), closed(), closed(), closed()
		statuses := map[string]int{delivered.Token.String(): 200, rejected.Token.String(): 400, failing.Token.String(): 500, hanging.Token.String(): 0}
		delayed := map[gateway.Token]int{}
		b := newPipeBackend(t)
		b.answer = func(n *body, _ int) int { return statuses[n.Token] }
		c, err := New(Config{
			URL: "http://backend/", Concurrency: 1,
			Permit: func(token gateway.Token) gateway.Permission {
				if token == deferred.Token {
					return gateway.Deferred
				}
				return gateway.Granted
			},
			OnDelayed: func(n gateway.Notice) { delayed[n.Token]++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		c.pool.dial = b.dial
		stop := run(t, c)
		for _, n := range []gateway.Notice{delivered, rejected, failing, deferred} {
			c.Disconnect(n)
		}
		<-time.After(5 * time.Minute)
		c.Disconnect(hanging)
		<-time.After(time.Second) // its attempt is under way
		ready := closed()
		c.Disconnect(ready)
		stop()
		if want := map[gateway.Token]int{failing.Token: 1}; !maps.Equal(delayed, want) {
			t.Errorf("delayed are %v, want %v", delayed, want)
		}
		var got []gateway.Token
		c.Undelivered(func(n gateway.Notice) { got = append(got, n.Token) })
		for _, want := range []gateway.Notice{failing, deferred, hanging, ready} {
			if !slices.Contains(got, want.Token) {
				t.Errorf("%v is not among the undelivered", want.Token)
			}
		}
		if len(got) != 4 {
			t.Errorf("%d are undelivered, want 4", len(got))
		}
	})
}
