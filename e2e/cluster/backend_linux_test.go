package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"
)

const (
	backendPort = "8000"
	callbackURL = "http://198.18.0.1:" + backendPort + "/callback"

	// clientHeader has the client's number, topicsHeader the topics that it is granted.
	clientHeader = "X-Client"
	topicsHeader = "X-Topics"

	retryMillis = 1000 // until a client reconnects, unless the gateway sets another retry
)

// serveBackend accepts every stream, records the connections, and makes each stream begin
// with an event that has its token.
func serveBackend(t *testing.T, r *record) {
	t.Helper()
	l, err := net.Listen("tcp", ":"+backendPort)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(r.serveCallback)}
	go server.Serve(l) //nolint:errcheck // ends by Close
	t.Cleanup(func() { server.Close() })
}

func (r *record) serveCallback(w http.ResponseWriter, req *http.Request) {
	var call struct {
		Action, Token, Reason, Detail string
		Request                       struct{ Headers map[string]string }
	}
	if err := json.NewDecoder(req.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	node := nodeOf(req.RemoteAddr)
	client, err := strconv.Atoi(call.Request.Headers["x-client"])
	if err != nil {
		client = -1 // not a client of these tests
	}
	r.mu.Lock()
	c := r.connections[call.Token]
	if c == nil {
		c = &connection{token: call.Token, client: client, node: -1}
		r.connections[call.Token] = c
	}
	r.mu.Unlock()
	if call.Action == "disconnect" {
		c.mu.Lock()
		c.told = append(c.told, telling{time.Now(), node, call.Reason, call.Detail})
		c.mu.Unlock()
		return
	}
	c.mu.Lock()
	c.node, c.asked = node, time.Now()
	c.mu.Unlock()
	topics := call.Request.Headers["x-topics"]
	if topics == "" {
		topics = `["` + topicName(everybody) + `"]`
	}
	fmt.Fprintf(w, `{"topics":%s,"retry_ms":%d`, topics, retryMillis)
	if client >= 0 {
		fmt.Fprint(w, `,"events":[{"name":"token","data":"`+call.Token+`"}]`)
	}
	fmt.Fprint(w, "}")
}

func topicName(topic int) string {
	if topic == everybody {
		return "everybody"
	}
	return "room." + strconv.Itoa(topic)
}

// nodeOf returns the node that has the address, or -1.
func nodeOf(remote string) int {
	host, _, _ := net.SplitHostPort(remote)
	for i := range nodeCount {
		if addresses[nodeHost(i)][front] == host {
			return i
		}
	}
	return -1
}
