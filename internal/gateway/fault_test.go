package gateway_test

import (
	"testing"

	"ssegateway/internal/gateway"
)

// A failed write may be the first sign that the client has left. Then that is the reason, not
// the failed write.
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
		{"timed out", gateway.Stalled, gateway.ClientClosed, 0, "error/stalled", gateway.Failed}, // a read after that reports the wrong cause
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
				t.Errorf("%s: Send returned %d", test.name, r)
			}
			s.expectEnds(t, test.end)
			s.expectNothingLeft(t)
		}
	}
}
