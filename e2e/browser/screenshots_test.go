package browser

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color" //nolint:misspell // it is called so
	"image/png"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var traffic = flag.Duration("traffic", 6*time.Minute, "how long TestScreenshots makes traffic before")

// TestScreenshots makes the pictures of docs/console.md, of a cluster of three with some traffic, one of them in front of an application that answers by itself.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("-screenshots is not given: run `make screenshots`")
	}
	s := startScene(t)
	s.run(*traffic)
	o := s.nodes[0]
	o.open()
	token := chromium.Call[string](t, o.tab, `async () => (await (await fetch("../connections?subject=user-97007")).json()).connections[0].token`)
	for _, view := range []struct {
		name, scheme  string
		width, height int64
	}{{"light", "light", 1280, 860}, {"dark", "dark", 1280, 860}, {"phone", "light", 390, 844}} {
		chromium.Run(t, o.tab, chromedp.EmulateViewport(view.width, view.height))
		o.colours(view.scheme)
		for name, page := range map[string]string{
			"overview": "", "connections": "connections", "connection": "connections/" + token, "topics": "topics", "topic": "topics/room.7", "relayed": "relayed", "nodes": "nodes", "tester": "tester",
		} {
			o.goTo("relayed") // so that each page begins anew
			o.goTo(page)
			o.wants(name, `() => document.querySelector("h1") !== null`)
			if name == "tester" {
				o.fill("Path", "/rooms/7/events?user=7")
				o.click("Open")
			}
			s.run(3 * time.Second) // figures that are rates need two moments
			picture := chromium.Run(t, o.tab, chromedp.CaptureScreenshot())
			if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+view.name+".png"), small(t, picture), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// scene is what the pictures show: streams that come and go, and what is published to them.
type scene struct {
	t     *testing.T
	nodes []*operator
	open  [][]net.Conn // by node
	began time.Time
	n     int // events so far
}

func startScene(t *testing.T) *scene {
	t.Helper()
	nats := harness.StartNATS(t)
	application := httptest.NewServer(http.HandlerFunc(answerSlowly))
	t.Cleanup(application.Close)
	s := &scene{t: t, began: time.Now()}
	for range 3 {
		settings := []string{"NATS_URL=" + nats.URL(), "RELAY_URL=" + application.URL, "RELAY_PATHS=/chat,/mcp"}
		if len(s.nodes) > 0 {
			settings = append(settings, "CALLBACK_URL="+s.nodes[0].gw.Backend.URL("/callback"))
		}
		o := startConsole(t, settings...)
		o.gw.Becomes(t, http.StatusOK, http.MethodGet, "/readyz", "")
		s.nodes = append(s.nodes, o)
		s.open = append(s.open, o.streams(0, 200+130*len(s.nodes)))
	}
	for i, path := range []string{"/chat", "/chat", "/mcp", "/chat/7f3a/messages", "/chat", "/chat/91c2/messages", "/mcp", "/chat"} {
		c, err := net.Dial("tcp", s.nodes[i%2].gw.Endpoint.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: app.example.org\r\nAccept: text/event-stream\r\nContent-Length: 2\r\n\r\n{}", path)
		go func() { _, _ = io.Copy(io.Discard, c) }()
	}
	s.nodes[0].streams(97007, 1) // which is in room 7 and stays
	s.nodes[0].gw.Call(t, http.MethodPost, "/internal/publish", `{"topic":"room.7","event":{"name":"stage","data":"doors open at 19:30"},"retain":true,"key":"stage"}`)
	return s
}

// answerSlowly is an application that streams its answer, until its reader has left.
func answerSlowly(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	if r.URL.Path != "/mcp" {
		w.Header().Set("Sse-Gateway-Resume", "60")
	}
	for word := 0; ; word++ {
		if _, err := fmt.Fprintf(w, "data: {\"delta\":\"word %d \"}\n\n", word); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(400 * time.Millisecond):
		}
	}
}

// run has traffic for a while: half of the events to the busiest rooms, and as many streams as come and go in waves.
func (s *scene) run(d time.Duration) {
	s.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		wave := math.Sin(time.Since(s.began).Minutes() * 2)
		for range 4 + int(3*wave) {
			room := s.n % 9
			if s.n%2 == 0 {
				room = s.n * 31 % 97
			}
			s.nodes[s.n%3].gw.Publish(s.t, fmt.Sprintf("room.%d", room), map[string]any{"name": "message", "data": fmt.Sprintf(`{"from":"user-%d","text":"message %d"}`, s.n%31, s.n)})
			s.n++
		}
		for i, o := range s.nodes {
			if wave > -.6 || s.n%5 == 0 {
				s.open[i] = append(s.open[i], o.streams(s.n%970, 1+s.n%2)...)
			}
			for range min(2, len(s.open[i])-330-130*i-int(60*wave)) {
				n := s.n * 31 % len(s.open[i])
				_ = s.open[i][n].Close()
				s.open[i] = slices.Delete(s.open[i], n, n+1)
			}
		}
	}
}

// small returns a picture with 256 of its colours, which takes about a third of the bytes.
//
//nolint:misspell // Go's package is called color.
func small(t *testing.T, picture []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	count, bounds := map[color.RGBA]int{}, from.Bounds()
	at := func(x, y int) color.RGBA { c, _ := color.RGBAModel.Convert(from.At(x, y)).(color.RGBA); return c }
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			count[at(x, y)]++
		}
	}
	var palette color.Palette
	for c := range count {
		palette = append(palette, c)
	}
	slices.SortFunc(palette, func(a, b color.Color) int { return count[b.(color.RGBA)] - count[a.(color.RGBA)] })
	// The first of each kind before others of it: a thin line of a colour of its own keeps that.
	kind := func(c color.Color) [3]uint8 { v := c.(color.RGBA); return [3]uint8{v.R >> 5, v.G >> 5, v.B >> 5} }
	seen := map[[3]uint8]bool{}
	var first, others color.Palette
	for _, c := range palette {
		if seen[kind(c)] {
			others = append(others, c)
		} else {
			first = append(first, c)
		}
		seen[kind(c)] = true
	}
	palette = append(first, others...)
	palette = palette[:min(256, len(palette))]
	to, nearest := image.NewPaletted(bounds, palette), map[color.RGBA]uint8{}
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c := at(x, y)
			n, ok := nearest[c]
			if !ok {
				n = uint8(palette.Index(c))
				nearest[c] = n
			}
			to.SetColorIndex(x, y, n)
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, to); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
