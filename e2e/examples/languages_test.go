package examples

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// The examples in all languages behave the same.
var languages = []example{
	{"go", []string{"BACKEND"}, "listening on", "", nil, nil},
	{"java", []string{"java", path("java", "Backend.java")}, "listening on", "default-jdk-headless", nil, nil},
	{"node", []string{"node", path("node", "backend.mjs")}, "listening on", "nodejs", nil, nil},
	{
		"php",
		[]string{"php", "-S", "127.0.0.1:PORT", path("php", "backend.php")},
		"Development Server .* started", "php-cli",
		[]string{"php", path("php", "backend.php")},
		nil,
	},
	{"python", []string{"python3", path("python", "backend.py")}, "listening on", "python3", nil, nil},
}

func TestLanguages(t *testing.T) {
	for _, e := range languages {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			s := e.start(t)
			s.open(t, "/events/", 401).Leave()
			s.wantStreams(t, "[]")

			// The example accepts streams, and greets the users.
			name := `Ada "Ü" & co`
			ada := s.open(t, "/events/?x=1&name=Ada%20%22%C3%9C%22+%26%20co", 200)
			ada.want(t, "welcome", "Hello, "+name)
			bob := s.open(t, "/events/?name=bob", 200)
			bob.want(t, "welcome", "Hello, bob")
			s.wantStreams(t, `["Ada \"Ü\" & co" "bob"]`)

			// It sends to one stream.
			const note = "two\nlines, \"quoted\" \\ 👋"
			s.do(t, "POST", "/send?name=bob", note, 200, nil)
			bob.want(t, "note", note)

			// It publishes to all streams.
			var published struct {
				ID        string
				Receivers int
			}
			s.do(t, "POST", "/publish", "rain", 200, &published)
			for _, x := range []*stream{ada, bob} {
				if id := x.want(t, "news", "rain"); id != published.ID || published.Receivers != 2 {
					t.Errorf("id %q, published as %+v to 2", id, published)
				}
			}

			// It sends a streaming request.
			words := strings.Fields("To be, or not to be, that is the question")
			s.do(t, "POST", "/stream?name=bob", strings.Join(words, " "), 200, nil)
			for _, word := range words {
				bob.want(t, "word", word)
			}

			// A client that reconnects gets the events that it missed.
			token := s.token(t, "subject=bob")
			bob.Leave()
			s.wantDisconnect(t, token, "client_closed")
			rain := published.ID
			s.do(t, "POST", "/publish", "sun", 200, &published)
			bob = s.open(t, "/events/?name=bob", 200, harness.Field{Name: "Last-Event-ID", Value: rain})
			if got := []event{bob.next(t), bob.next(t)}; !slices.Contains(got, event{"welcome", "", "Hello, bob"}) ||
				!slices.Contains(got, event{"news", published.ID, "sun"}) {
				t.Errorf("bob came back to %+v", got)
			}
			ada.want(t, "news", "sun")

			// It forgets a client that has disconnected.
			token = s.token(t, "subject=bob")
			bob.Leave()
			s.wantDisconnect(t, token, "client_closed")
			s.wantStreams(t, `["Ada \"Ü\" & co"]`)
			s.do(t, "POST", "/send?name=bob", "nobody", 404, nil)

			// After a restart it knows the streams that it had, more than a page of the list, and hears of
			// one that ended meanwhile.
			bob = s.open(t, "/events/?name=bob", 200)
			bob.want(t, "welcome", "Hello, bob")
			bob.want(t, "news", "sun") // who comes later gets the last news
			crowd := make([]*stream, 110)
			for i := range crowd {
				crowd[i] = s.open(t, "/events/?name=cleo", 200)
				crowd[i].want(t, "welcome", "Hello, cleo")
				crowd[i].want(t, "news", "sun")
			}
			token = s.token(t, "subject=bob")
			s.example.Kill()
			bob.Leave()
			if e.name == "php" { // the one that has files: of this stream it has never heard the end
				_, port, _ := strings.Cut(strings.TrimPrefix(s.app, "http://"), ":")
				if err := os.WriteFile(filepath.Join(s.files, "streams-"+port, "gone"), []byte("cleo"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.startExample(t)
			s.wantDisconnect(t, token, "client_closed")
			s.wantStreams(t, `["Ada \"Ü\" & co"`+strings.Repeat(` "cleo"`, len(crowd))+`]`)
			s.do(t, "POST", "/send?name=cleo", "still there", 200, nil)
			tokens := s.tokens(t, "subject=cleo&limit=1000")
			for _, cleo := range crowd {
				cleo.want(t, "note", "still there")
				cleo.Leave()
			}
			for _, token := range tokens {
				s.wantDisconnect(t, token, "client_closed")
			}
			s.do(t, "POST", "/send?name="+url.QueryEscape(name), "you too", 200, nil)
			ada.want(t, "note", "you too")

			// It survives a callback that is no JSON, and a gateway that is away.
			s.do(t, "POST", "/callback", "{", 400, nil)
			ada.Leave()
			s.stopGateway(t)
			s.do(t, "POST", "/publish", "nobody", 502, nil)
			s.wantStreams(t, "[]")
		})
	}
}

func (s *site) wantStreams(t *testing.T, want string) {
	t.Helper()
	var names []string
	s.do(t, "GET", "/streams", "", 200, &names)
	if got := fmt.Sprintf("%q", names); got != want {
		t.Errorf("the example remembers the streams of %s, want %s", got, want)
	}
}
