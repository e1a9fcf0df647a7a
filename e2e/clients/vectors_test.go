package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "embed"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	gosse "github.com/tmaxmax/go-sse"
	"golang.org/x/text/encoding/unicode"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
	"ssegateway/sse"
)

// vector is a stream, and what there is in it: the examples of the format that package sse has for
// other languages too.
type vector struct {
	Name       string
	Wire       string
	WireBase64 []byte `json:"wire_base64"` // instead, where it is not UTF-8
	Events     []parsed
}

// parsed is an event as a reader gives it. A reader that gives no id where none was set gives "".
type parsed struct{ Name, ID, Data string }

// vectors are those of the decoder, and what the encoder writes in the others, which is to be read again.
func vectors(t *testing.T) (all []vector) {
	t.Helper()
	text, err := os.ReadFile("../../sse/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Encode []struct {
			Name, Wire string
			Event      parsed
		}
		Decode []vector
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Encode {
		v.Event.Data = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(v.Event.Data)
		all = append(all, vector{Name: "encode: " + v.Name, Wire: v.Wire, Events: []parsed{v.Event}})
	}
	for _, v := range file.Decode {
		if v.WireBase64 != nil {
			v.Wire = string(v.WireBase64)
		}
		all = append(all, v)
	}
	long := strings.Repeat("0123456789", 10_000)
	return append(all, vector{Name: "a line of 100,000 bytes", Wire: "id: 1\r\ndata: " + long + "\r\ndata: x\r\n\r\n: " + long + "\rdata: y\r\r\n", Events: []parsed{{"", "1", long + "\nx"}, {"", "1", "y"}}})
}

// reading is a reader of streams. It reads each vector in one piece and in many.
type reading struct {
	name string
	read func(t *testing.T, all []vector, pieces bool) [][]parsed
	// differs names the vectors of which the reader is known to say something else than the standard,
	// behind inOnePiece those of which it does so only then.
	differs map[string]string
}

const (
	inOnePiece = "in one piece: "

	atTheEnd  = "a CR at the very end waits for an LF that may follow"
	emptyData = "a block without data is given as an event, so an event of empty data cannot be told from none"
)

var readings = []reading{
	{name: "package sse", read: readOwn},
	{name: "Chromium", read: readChromium, differs: map[string]string{"BOM and empty line": "an empty line right behind the BOM spoils the line behind it"}},
	{name: "eventsource-parser", read: readNode, differs: map[string]string{
		"final CR dispatches":                    atTheEnd,
		"block of only an id":                    "an id without data is forgotten at the empty line",
		inOnePiece + "the Latin-1 look of a BOM": "the three characters are stripped like a BOM",
	}},
	{name: "go-sse", read: readGoSSE, differs: map[string]string{
		"encode: empty data": emptyData, "only a space": emptyData, "no colon": emptyData, "standard: empty data": emptyData, "no data, no event": emptyData,
	}},
}

// TestVectors: readers by others, a browser among them, read each stream as package sse does, in
// one piece and in many. What they are known to read otherwise is listed, and looked at too.
func TestVectors(t *testing.T) {
	all := vectors(t)
	startChromium(t)
	for _, r := range readings {
		for _, pieces := range []bool{false, true} {
			t.Run(r.name+", in pieces "+strconv.FormatBool(pieces), func(t *testing.T) {
				got := r.read(t, all, pieces)
				if len(got) != len(all) {
					t.Fatalf("%d of %d vectors were read", len(got), len(all))
				}
				for i, v := range all {
					diff := cmp.Diff(v.Events, got[i])
					if len(v.Events)+len(got[i]) == 0 {
						diff = ""
					}
					why, known := r.differs[v.Name]
					if !known && !pieces {
						why, known = r.differs[inOnePiece+v.Name]
					}
					switch {
					case known && diff == "":
						t.Errorf("%s: it reads this as the standard says, and no longer so: %s", v.Name, why)
					case !known && diff != "":
						t.Errorf("%s: %q (-want +got):\n%s", v.Name, v.Wire, diff)
					}
				}
			})
		}
	}
	if !t.Failed() {
		var known []string
		for _, r := range readings {
			known = append(known, strconv.Itoa(len(r.differs))+" of "+r.name)
		}
		harness.Figure(t, "%d vectors, whole and in pieces, read by %d readers: all agree, but for known faults of readers: %s", len(all), len(readings), strings.Join(known, ", "))
	}
}

// pieceSize is how much of a vector comes at once, in bytes: one, or of a long one a thousandth.
func pieceSize(v vector, pieces bool) int {
	if pieces {
		return 1 + len(v.Wire)/1000
	}
	return 1 + len(v.Wire)
}

// body is a vector's bytes as a reader gets them.
type body struct {
	*strings.Reader
	size int
}

func (b body) Read(p []byte) (int, error) { return b.Reader.Read(p[:min(len(p), b.size)]) }

func bodyOf(v vector, pieces bool) io.Reader {
	return body{strings.NewReader(v.Wire), pieceSize(v, pieces)}
}

func readOwn(t *testing.T, all []vector, pieces bool) (got [][]parsed) {
	t.Helper()
	for _, v := range all {
		var events []parsed
		d := sse.NewDecoder(bodyOf(v, pieces))
		for {
			e, err := d.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", v.Name, err)
				}
				break
			}
			events = append(events, parsed{e.Name.String(), e.ID.String(), e.Data})
		}
		got = append(got, events)
	}
	return got
}

func readGoSSE(t *testing.T, all []vector, pieces bool) (got [][]parsed) {
	t.Helper()
	for _, v := range all {
		var events []parsed
		for e, err := range gosse.Read(unicode.UTF8.NewDecoder().Reader(bodyOf(v, pieces)), &gosse.ReadConfig{MaxEventSize: 1 << 20}) {
			if err != nil {
				t.Errorf("%s: %v", v.Name, err)
				break
			}
			if e.Data != "" || e.Type != "" { // it gives a block without data as an event
				events = append(events, parsed{e.Type, e.LastEventID, e.Data})
			}
		}
		got = append(got, events)
	}
	return got
}

// readNode has npm's eventsource-parser read all vectors.
func readNode(t *testing.T, all []vector, pieces bool) (got [][]parsed) {
	t.Helper()
	wantCommand(t, "node", "nodejs")
	const dir = "../../sse/testdata/eventsource-parser"
	var in, stderr bytes.Buffer
	for _, v := range all {
		if err := json.NewEncoder(&in).Encode(map[string]any{"wire": []byte(v.Wire), "pieces": pieces}); err != nil {
			t.Fatal(err)
		}
	}
	node := exec.CommandContext(t.Context(), "node", "parse.mjs")
	node.Dir, node.Stdin, node.Stderr = dir, &in, &stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node parse.mjs: %v; run `make test-deps`\n%s", err, &stderr)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var answer struct {
			Events []struct {
				Name, Data string
				ID         *string
			}
		}
		if err := d.Decode(&answer); errors.Is(err, io.EOF) {
			return got
		} else if err != nil {
			t.Fatal(err)
		}
		var events []parsed
		last := "" // it leaves it to its caller to let ids persist
		for _, e := range answer.Events {
			if e.ID != nil {
				last = *e.ID
			}
			events = append(events, parsed{e.Name, last, e.Data})
		}
		got = append(got, events)
	}
}

// vectorScript is the JavaScript of the page of vectors.
//
//go:embed vectors.js
var vectorScript string

// readChromium serves the vectors to EventSources of a page.
func readChromium(t *testing.T, all []vector, pieces bool) (got [][]parsed) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<!doctype html><script>"+vectorScript+"</script>")
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		_ = rc.Flush()
		for piece := range slices.Chunk([]byte(all[n].Wire), pieceSize(all[n], pieces)) {
			_, _ = w.Write(piece)
			_ = rc.Flush()
		}
	}))
	defer server.Close()
	tab := browser.Open(t)
	chromium.Run(t, tab, chromedp.Navigate(server.URL+"/page"))
	names := map[string]bool{}
	for _, v := range all {
		for _, e := range v.Events {
			names[e.Name] = true
		}
	}
	delete(names, "")
	return chromium.Call[[][]parsed](t, tab, "readAll", len(all), slices.Sorted(maps.Keys(names)))
}
