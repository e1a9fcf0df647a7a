package browser

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color" //nolint:misspell // it is called so
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

var traffic = flag.Duration("traffic", 3*time.Minute, "how long TestScreenshots makes traffic before")

// TestScreenshots makes the pictures of docs/console.md, of a gateway with some traffic.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("-screenshots is not given: run `make screenshots`")
	}
	o := startConsole(t)
	o.streams(0, 640)
	o.gw.Call(t, http.MethodPost, "/internal/publish", `{"topic":"room.7","event":{"name":"stage","data":"doors open at 19:30"},"retain":true,"key":"stage"}`)
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	n := 0
	run := func(ticks int) {
		for range ticks {
			<-tick.C
			for range 2 + (n/500)%3 {
				o.gw.Publish(t, fmt.Sprintf("room.%d", n%9), map[string]any{"name": "message", "data": fmt.Sprintf(`{"from":"user-%d","text":"message %d"}`, n%31, n)})
				n++
			}
			if n%4 == 0 {
				for _, c := range o.streams(n, 2+n/700%2)[1:] {
					_ = c.Close()
				}
			}
		}
	}
	run(int(*traffic / (40 * time.Millisecond)))
	o.open()
	tokens := chromium.Call[[]string](t, o.tab, `async () => (await (await fetch("../connections?topic=room.7&limit=1")).json()).connections.map((c) => c.token)`)
	for _, view := range []struct {
		name, scheme  string
		width, height int64
	}{{"light", "light", 1280, 860}, {"dark", "dark", 1280, 860}, {"phone", "light", 390, 844}} {
		chromium.Run(t, o.tab, chromedp.EmulateViewport(view.width, view.height))
		o.colours(view.scheme)
		for name, page := range map[string]string{
			"overview": "", "connections": "connections", "connection": "connections/" + tokens[0], "topics": "topics", "topic": "topics/room.7", "relayed": "relayed", "nodes": "nodes", "tester": "tester",
		} {
			o.goTo("relayed") // so that each page begins anew
			o.goTo(page)
			o.wants(name, `() => document.querySelector("h1") !== null`)
			if name == "tester" {
				o.fill("Path", "/rooms/7/events?user=7")
				o.click("Open")
			}
			run(75) // figures that are rates need two moments
			picture := chromium.Run(t, o.tab, chromedp.CaptureScreenshot())
			if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+view.name+".png"), small(t, picture), 0o644); err != nil {
				t.Fatal(err)
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
