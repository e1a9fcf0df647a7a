//go:build linux && !portable

package stream_test

import (
	"net/http"
	"testing"

	"ssegateway/internal/gateway"
)

// A client that leaves between the backend's answer and its stream gets none, and counts as none.
func TestLeftBeforeOpen(t *testing.T) {
	for _, p := range []protocol{http11, http10, front} {
		t.Run(string(p), func(t *testing.T) {
			s := newSite(t, p, welcome{}, nil)
			accepted, opened := make(chan struct{}), make(chan struct{})
			s.serve(func(w http.ResponseWriter, r *http.Request) {
				defer close(opened)
				c, _, err := s.gw.Connect(r.Context(), []byte(`{"url":"/","headers":{}}`))
				if err != nil {
					t.Error(err)
					return
				}
				close(accepted)
				<-r.Context().Done() // the client's end has come
				s.opener.Open(w, r, c, gateway.Grant{})
			})
			c, err := dial(t.Context(), p, s.addr, "/", 0)
			if err != nil {
				t.Fatal(err)
			}
			await(t, "the backend accepts", accepted)
			_ = c.conn.Close()
			await(t, "the handler's end", opened)
			await(t, "the client's end", c.over)
			if n := s.gw.Stats().Opened.Load(); n != 0 {
				t.Errorf("%d streams were opened", n)
			}
			s.settle(t)
		})
	}
}
