package internal_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "draw the packages in docs/architecture.md again")

const (
	page       = "../docs/architecture.md"
	drawingTop = "```mermaid\nflowchart TD\n"
	drawingEnd = "```\n"
)

// undrawn packages are known by nearly all the others, serve tests only, or are no part of the program.
var undrawn = []string{"internal/guard", "internal/logging", "internal/logging/loggingtest", "internal/bubble", "internal/planted", "internal/gatewaytest", "internal/broker/brokertest", "internal/journal/journaltest", "deploy/traefik/plugins-local/src/comeback"}

// room is a package in the drawing. An arrow to a package that another arrow leads to as well,
// by way of a third package, is left out.
type room struct {
	lines  int // of code, tests left out
	arrows []string
}

// The drawing shows the arrows that there are, and lines of code that are at most a quarter off.
func TestDrawing(t *testing.T) {
	rooms := survey(t)
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(doc, []byte(drawingTop))
	drawn, after, ended := bytes.Cut(rest, []byte(drawingEnd))
	if !ok || !ended {
		t.Fatalf("%s has no drawing that begins with %q", page, drawingTop)
	}
	if *update {
		doc = slices.Concat(before, []byte(drawingTop), draw(rooms), []byte(drawingEnd), after)
		if err := os.WriteFile(page, doc, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, want := sizes.ReplaceAllString(string(drawn), "]"), sizes.ReplaceAllString(string(draw(rooms)), "]"); got != want {
		t.Errorf("the drawing in %s shows other packages or arrows than the code has (draw it again with -update):\n%s\nwant\n%s", page, got, want)
	}
	for _, size := range sizes.FindAllStringSubmatch(string(drawn), -1) {
		lines, err := strconv.Atoi(size[2])
		if r := rooms[size[1]]; err != nil || 4*max(lines-r.lines, r.lines-lines) > max(lines, 400) {
			t.Errorf("the drawing in %s says that %s has %s lines, which are %d (draw it again with -update)", page, size[1], size[2], r.lines)
		}
	}
}

// sizes matches the label of a package.
var sizes = regexp.MustCompile(`\["([a-z0-9/]+)<br>([0-9]+)"\]`)

func draw(rooms map[string]room) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		fmt.Fprintf(&b, "    %s[\"%s<br>%d\"]\n", id(name), name, rooms[name].lines)
	}
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		for _, to := range rooms[name].arrows {
			fmt.Fprintf(&b, "    %s --> %s\n", id(name), id(to))
		}
	}
	return b.Bytes()
}

// id returns what Mermaid takes as a name.
func id(name string) string { return strings.ReplaceAll(name, "/", "_") }

// survey measures the packages that are drawn, by names without "internal/".
func survey(t *testing.T) map[string]room {
	t.Helper()
	packages := list(t, []string{"GOOS=linux"}, nil)
	isDrawn := func(path string) bool {
		name, ours := strings.CutPrefix(path, module)
		_, known := arrows[name]
		return ours && (known || name == "cmd/ssegateway") && !slices.Contains(undrawn, name)
	}
	rooms := map[string]room{}
	for path, p := range packages {
		if !isDrawn(path) {
			continue
		}
		imports := slices.DeleteFunc(slices.Clone(p.Imports), func(to string) bool { return !isDrawn(to) })
		direct := slices.DeleteFunc(slices.Clone(imports), func(to string) bool {
			return slices.ContainsFunc(imports, func(via string) bool { return slices.Contains(packages[via].Deps, to) })
		})
		r := room{lines: lines(t, strings.TrimPrefix(path, module))}
		for _, to := range direct {
			r.arrows = append(r.arrows, short(to))
		}
		slices.Sort(r.arrows)
		rooms[short(path)] = r
	}
	return rooms
}

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "internal/")
}

// lines counts the lines of a package's Go files for all systems, without tests.
func lines(t *testing.T, dir string) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(b, []byte("\n"))
	}
	return n
}
