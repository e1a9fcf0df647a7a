package records

import (
	"bytes"
	"testing"

	"ssegateway/internal/gateway"
)

// FuzzRecord: what is told of a record is what was written, or an end with the gateway.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"url":"/","headers":{}}`))
	f.Add([]byte("server_closed draining\n{\"url\":\"/\"}"))
	f.Add([]byte("of_tomorrow unheard\n{}"))
	f.Add([]byte("error \n{}"))
	f.Add([]byte("\n\n{"))
	f.Fuzz(func(t *testing.T, record []byte) {
		token := gateway.Token{1}
		n, ok := decode(token, record)
		if !ok {
			return
		}
		if n.Token != token || !bytes.HasPrefix(n.Request, []byte("{")) || !bytes.HasSuffix(record, n.Request) {
			t.Errorf("%q is read as %+v", record, n)
		}
		// An end without a detail is known with and without the blank behind its reason.
		lost := n.Reason == gateway.Error && n.Detail == gateway.GatewayLost
		end := n.Reason.String() + " " + n.Detail.String() + "\n"
		if !lost && !bytes.Equal(record, append([]byte(end), n.Request...)) && !bytes.Equal(record, append([]byte(n.Reason.String()+"\n"), n.Request...)) {
			t.Errorf("%q is read as the end %q", record, end)
		}
		again, ok := decode(token, encode(n))
		if !ok || again.Reason != n.Reason || again.Detail != n.Detail || !bytes.Equal(again.Request, n.Request) {
			t.Errorf("%+v is written, and read as %+v, %v", n, again, ok)
		}
	})
}
