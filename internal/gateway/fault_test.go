package gateway_test

import (
	"testing"

	"ssegateway/internal/gateway"
)

// A write may be the first to notice that the client has left. Its failing is what
// follows from that, not the reason.
func TestFaultedWrite(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  gateway.Detail
		reason gateway.Reason
		detail gateway.Detail
		end    string
		result gateway.Result
	}{
		{"left", gateway.WriteFailed, gateway.ClientClosed, 0, "client_closed/", gateway.Gone},
		{"talked, and left", gateway.WriteFailed, gateway.Error, gateway.UnexpectedData, "error/unexpected_data", gateway.Failed},
		{"there", gateway.WriteFailed, 0, 0, "error/write_failed", gateway.Failed},
		{"timed out", gateway.Stalled, gateway.ClientClosed, 0, "error/stalled", gateway.Failed}, // what a read tells after that is wrong
	} {
		for _, queued := range []bool{false, true} {
			s := newSite(nil)
			c, tp := s.open(t, 0)
			if queued {
				c.Send(eventOf(t, 100), false, nil)
			}
			tp.fault, tp.reason, tp.detail = test.fault, test.reason, test.detail
			if queued {
				c.Ready(tp, false, true)
			} else if r := c.Send(eventOf(t, 100), false, nil); r != test.result {
				t.Errorf("%s: the send was answered with %d", test.name, r)
			}
			s.expectEnds(t, test.end)
			s.expectNothingLeft(t)
		}
	}
}
