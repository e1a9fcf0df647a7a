package site

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// document is a page of the built site.
type document struct {
	path    string // from the root of the site
	root    *html.Node
	anchors map[string]bool
}

// documents returns all pages of the site by their paths.
func documents(t *testing.T) map[string]*document {
	t.Helper()
	all := map[string]*document{}
	err := filepath.WalkDir(built, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".html" {
			return err
		}
		path, err := filepath.Rel(built, file)
		if err != nil || strings.HasPrefix(path, "_files") {
			return err
		}
		path = filepath.ToSlash(path)
		all[path] = parse(t, path)
		return nil
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return all
}

func parse(t *testing.T, path string) *document {
	t.Helper()
	f, err := os.Open(filepath.Join(built, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	root, err := html.Parse(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	d := &document{path, root, map[string]bool{}}
	for n := range root.Descendants() {
		if id := attribute(n, "id"); id != "" {
			d.anchors[id] = true
		}
	}
	return d
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// links returns what a part of a page leads to or loads.
func links(part *html.Node) (all []string) {
	for n := range part.Descendants() {
		for _, name := range []string{"href", "src"} {
			if target := attribute(n, name); target != "" {
				all = append(all, target)
			}
		}
	}
	return all
}

// within returns the first element with that class.
func (d *document) within(class string) *html.Node {
	for n := range d.root.Descendants() {
		if slices.Contains(strings.Fields(attribute(n, "class")), class) {
			return n
		}
	}
	return nil
}
