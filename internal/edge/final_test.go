package edge

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A peer that sends more than its last request has left: also where net/http has read of that before the request was known
// to be the last one.
func TestFinal(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, before := range map[string]string{"the first request": "", "behind another one": request, "behind two others": request + request} {
		for _, more := range []string{"", "x"} {
			for _, early := range []bool{false, true} {
				requests := 0
				handler := func(_ http.ResponseWriter, r *http.Request) {
					if requests++; requests <= len(before)/len(request) {
						return
					}
					c := From(r.Context())
					if early {
						time.Sleep(time.Second) // fake clock
					}
					err := c.Final()
					time.Sleep(2 * time.Second) // fake clock
					knows := errors.Is(c.Err(), ErrUnexpected)
					if ends := r.Context().Err() != nil; knows != (more != "") || errors.Is(err, ErrUnexpected) != (knows && early) || ends != (knows && !early) {
						t.Errorf("%s, %q behind it, early %t: Final %v, Err %v, the context has ended %t", name, more, early, err, c.Err(), ends)
					}
				}
				serve(t, handler, func(_ *world, dial func() net.Conn) {
					nc := dial()
					go func() { _, _ = io.Copy(io.Discard, nc) }()
					_, _ = io.WriteString(nc, before)
					_, _ = io.WriteString(nc, request[:len(request)-1])
					_, _ = io.WriteString(nc, "\n") // a byte alone, but of the request
					if !early {
						time.Sleep(time.Second) // fake clock
					}
					_, _ = io.WriteString(nc, more)
					time.Sleep(4 * time.Second) // fake clock
					_ = nc.Close()
				})
				if requests != 1+len(before)/len(request) {
					t.Errorf("%s: %d requests", name, requests)
				}
			}
		}
	}
}
