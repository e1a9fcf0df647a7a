package site

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Pages that no group of the navigation has, each for a reason.
var nowhere = map[string]string{}

// Each file of docs/ is in the navigation exactly once, or nowhere on purpose.
func TestNavigation(t *testing.T) {
	sidebar := parse(t, "index.html").within("VPSidebar")
	if sidebar == nil {
		t.Fatal("no sidebar")
	}
	times := map[string]int{}
	for _, link := range links(sidebar) {
		page := strings.TrimSuffix(targetOf("index.html", link), ".html") + ".md"
		times[page]++
	}
	docs := filepath.Join("..", "..", "docs")
	err := filepath.WalkDir(docs, func(file string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".md" {
			return err
		}
		page, err := filepath.Rel(docs, file)
		if err != nil {
			return err
		}
		page = filepath.ToSlash(page)
		want := 1
		if nowhere[page] != "" {
			want = 0
		}
		if times[page] != want {
			t.Errorf("docs/%s is %d times in the navigation, want %d: see site/navigation.json", page, times[page], want)
		}
		delete(times, page)
		delete(nowhere, page)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for page := range times {
		t.Errorf("the navigation has %s, which docs/ has not", page)
	}
	for page := range nowhere {
		t.Errorf("%s is nowhere at all", page)
	}
}
