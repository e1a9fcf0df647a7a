package records

import (
	"bytes"
	"strings"

	"ssegateway/internal/gateway"
)

// A record is the connection's request, a JSON object, which is all that a pending or open
// connection needs. That of an ended one has a line before it, with the reason and the detail:
//
//	server_closed draining
//	{"url":"/","headers":{}}

// encode returns the record of an ended connection.
func encode(n gateway.Notice) []byte {
	end := n.Reason.String() + " " + n.Detail.String() + "\n"
	return append([]byte(end), n.Request...)
}

// decode returns the end to be reported of a connection. One that had not ended, or ended for a
// reason that only a newer version knows, was lost with its gateway.
func decode(token gateway.Token, record []byte) (n gateway.Notice, ok bool) {
	n = gateway.Notice{Token: token, Request: record, Reason: gateway.Error, Detail: gateway.GatewayLost}
	if !bytes.HasPrefix(record, []byte("{")) {
		end, request, _ := bytes.Cut(record, []byte("\n"))
		n.Request = request
		reason, detail, _ := strings.Cut(string(end), " ")
		if r, d, known := gateway.ParseEnd(reason, detail); known {
			n.Reason, n.Detail = r, d
		}
	}
	return n, bytes.HasPrefix(n.Request, []byte("{"))
}
