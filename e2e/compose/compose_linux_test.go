package compose

import (
	"encoding/json"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ssegateway/e2e/harness"
)

// awaitListening waits until a service listens on a port.
func (s *site) awaitListening(t *testing.T, name, port string) {
	t.Helper()
	await(t, name+" listens", func() error {
		select {
		case <-s.services[name].process.Exited():
			t.Fatalf("%s has ended", name)
		default:
		}
		conn, err := net.Dial("tcp", net.JoinHostPort(s.services[name].address, port))
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// With the file for one gateway a stream through nginx gets what the backend sends. Nobody outside
// reaches the internal API or the callback, and a client of a gateway that stops is told to come back.
func TestOne(t *testing.T) {
	s := newSite(t, "compose.yaml")
	s.start(t, "backend")
	s.awaitListening(t, "backend", "8000")
	s.start(t, "gateway")
	s.awaitHealthy(t, "gateway")
	s.start(t, "nginx")
	s.awaitListening(t, "nginx", "80")

	ada := s.open(t, "ada")
	s.do(t, "POST", "nginx", "/send?name=ada", "hello", 200)
	want(t, ada, "note", "hello")
	s.do(t, "POST", "nginx", "/publish", "rain", 200)
	id := want(t, ada, "news", "rain")
	s.do(t, "POST", "nginx", "/stream?name=ada", "word by word", 200)
	for _, word := range []string{"word", "by", "word"} {
		want(t, ada, "word", word)
	}

	s.checkClosed(t, "gateway")

	// What a gateway that is killed knew is in its volume.
	s.do(t, "POST", "nginx", "/publish", "sun", 200)
	s.services["gateway"].process.Kill()
	s.start(t, "gateway")
	s.awaitHealthy(t, "gateway")
	ada = s.open(t, "ada", harness.Field{Name: "Last-Event-ID", Value: id})
	want(t, ada, "news", "sun")

	if err := s.services["gateway"].process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, end, err := ada.Rest(harness.Patience)
	if end != harness.Clean || !regexp.MustCompile(`retry: \d{4}\n\n$`).MatchString(rest) {
		t.Errorf("at the end of the gateway: %q, %v, %v", rest, end, err)
	}
	if code, err := s.services["gateway"].process.Exit(harness.Patience); err != nil || code != 0 {
		t.Errorf("the gateway: %d %v", code, err)
	}
	if got := s.do(t, "GET", "nginx", "/events/?name=ada", "", 200); !regexp.MustCompile(`^retry: \d{4}\n\n$`).MatchString(got) {
		t.Errorf("without the gateway: %q", got)
	}
	if got := s.do(t, "GET", "nginx", "/streams", "", 200); got != "[]" {
		t.Errorf("the backend believes in %s", got)
	}
}

// With the file for three gateways each has a stream, all get what is published, and a send finds its
// stream by any of them. When one dies its client comes back to another one and gets what it missed.
func TestCluster(t *testing.T) {
	s := newSite(t, "compose.cluster.yaml")
	gateways := []string{"gateway-1", "gateway-2", "gateway-3"}
	for _, name := range append([]string{"backend", "nats"}, gateways...) {
		s.start(t, name)
	}
	for _, name := range gateways {
		s.awaitHealthy(t, name)
	}
	s.start(t, "nginx")
	s.awaitListening(t, "nginx", "80")

	// nginx gives streams out in turn, but each of its processes for itself.
	streams := map[string]*harness.Exchange{"ada": s.open(t, "ada")}
	for i := 0; i < 50 && slices.ContainsFunc(gateways, func(name string) bool { return !s.hasConnect(name, "") }); i++ {
		name := "user" + strconv.Itoa(i)
		streams[name] = s.open(t, name)
	}
	for _, name := range gateways {
		if !s.hasConnect(name, "") {
			t.Errorf("%s has no stream of %d", name, len(streams))
		}
		s.checkClosed(t, name)
	}
	s.do(t, "POST", "nginx", "/publish", "rain", 200)
	id := ""
	for name, x := range streams {
		id = want(t, x, "news", "rain")
		s.do(t, "POST", "nginx", "/send?name="+name, "hello "+name, 200)
		want(t, x, "note", "hello "+name)
	}

	var page struct{ Connections []struct{ Token string } }
	list := s.do(t, "GET", "nginx", ":9000/internal/connections?subject=ada", "", 200)
	if err := json.Unmarshal([]byte(list), &page); err != nil || len(page.Connections) != 1 {
		t.Fatalf("%v: %s", err, list)
	}
	owner := slices.IndexFunc(gateways, func(name string) bool { return s.hasConnect(name, page.Connections[0].Token) })
	if owner < 0 {
		t.Fatalf("no gateway has %s", list)
	}
	s.services[gateways[owner]].process.Kill()
	if rest, end, _ := streams["ada"].Rest(harness.Patience); end == harness.NotEnded {
		t.Errorf("ada's gateway is dead, and her stream open: %q", rest)
	}
	s.do(t, "POST", "nginx", "/publish", "sun", 200)
	ada := s.open(t, "ada", harness.Field{Name: "Last-Event-ID", Value: id})
	want(t, ada, "news", "sun")
	s.do(t, "POST", "nginx", "/send?name=ada", "back", 200)
	want(t, ada, "note", "back")
}

// hasConnect reports whether a gateway has logged the connect of a token that begins like this.
func (s *site) hasConnect(gateway, token string) bool {
	return strings.Contains(s.services[gateway].process.Log.Text(), "[INFO] connect token="+token)
}

// checkClosed checks that neither nginx nor the gateway's public port lets anybody use the internal
// API or the metrics, and that nobody can play the gateway.
func (s *site) checkClosed(t *testing.T, gateway string) {
	t.Helper()
	for _, target := range []string{"/internal/stats", "/internal/connections", "/metrics", "/callback"} {
		s.do(t, "GET", "nginx", target, "", 403)
	}
	for _, target := range []string{":3000/internal/stats", ":3000/metrics"} {
		s.do(t, "GET", gateway, target, "", 403)
	}
}
