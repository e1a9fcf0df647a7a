// Package docs_test keeps the documents of this repository true where a program can.
package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	// [text](target) and [label]: target.
	inlineLink    = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()\s]*\))?[^()\s]*)(?:\s+"[^"]*")?\)`)
	referenceLink = regexp.MustCompile(`(?m)^\s*\[.+?\]:\s+(\S+)`)
	heading       = regexp.MustCompile(`(?m)^#{1,6}\s+(.+?)\s*#*$`)
	fenced        = regexp.MustCompile("(?ms)^```.*?^```$")
	codeSpan      = regexp.MustCompile("`[^`\n]*`")
)

// TestLinks follows every relative link of every Markdown file, and the part after the # too.
func TestLinks(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, file := range markdownFiles(t, root) {
		text := read(t, file)
		for _, link := range linksIn(text) {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %s: %v", file, link, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			links++
			target := file
			if u.Path != "" {
				target = filepath.Join(filepath.Dir(file), filepath.FromSlash(u.Path))
			}
			if inside, err := filepath.Rel(root, target); err != nil || strings.HasPrefix(inside, "..") {
				t.Errorf("%s: %s leaves the repository", file, link)
				continue
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: no such file", file, link)
				continue
			}
			if u.Fragment != "" && !anchorsOf(read(t, target))[u.Fragment] {
				t.Errorf("%s: %s: no such heading", file, link)
			}
		}
	}
	if links == 0 {
		t.Error("no relative links found: the test is blind")
	}
}

// TestDecisionsAreListed sees to it that the list of decisions names each of them.
func TestDecisionsAreListed(t *testing.T) {
	list := read(t, "adr/README.md")
	decisions, err := filepath.Glob("adr/[0-9]*.md")
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions found: %v", err)
	}
	for _, d := range decisions {
		text := read(t, d)
		if !strings.Contains(list, "("+filepath.Base(d)+")") {
			t.Errorf("adr/README.md does not list %s", d)
		}
		for _, part := range []string{"## Context", "## Decision", "## Consequence"} {
			if !strings.Contains(text, "\n"+part+"\n") {
				t.Errorf("%s has no %q", d, part)
			}
		}
	}
}

// TestNamesAreDocumented sees to it that whoever meets a code, a detail or a metric
// finds it explained.
func TestNamesAreDocumented(t *testing.T) {
	for _, names := range []struct {
		source, page string
		pattern      *regexp.Regexp
	}{
		{"../internal/api/errors.go", "contract.md", regexp.MustCompile(`\d{3}, "([A-Z_]+)"`)},
		{"../internal/gateway/reason.go", "contract.md", regexp.MustCompile(`: +"([a-z_]+)"`)},
		{"../internal/metrics/metrics.go", "operations.md", regexp.MustCompile(`(?:desc\("|"ssegateway_)([a-z_]{2,})"`)},
		{"../internal/connections/own.go", "operations.md", regexp.MustCompile(`(?:count[A-Z]\w+:|InvalidSend =) +"([a-z_]+)"`)},
	} {
		found := names.pattern.FindAllStringSubmatch(read(t, names.source), -1)
		if len(found) == 0 {
			t.Errorf("%s: no names found: the test is blind", names.source)
		}
		page := read(t, names.page)
		for _, name := range found {
			if !strings.Contains(page, name[1]+"`") {
				t.Errorf("%s does not explain %s of %s", names.page, name[1], names.source)
			}
		}
	}
}

func linksIn(markdown string) []string {
	markdown = codeSpan.ReplaceAllString(fenced.ReplaceAllString(markdown, ""), "")
	var links []string
	for _, pattern := range []*regexp.Regexp{inlineLink, referenceLink} {
		for _, match := range pattern.FindAllStringSubmatch(markdown, -1) {
			links = append(links, match[1])
		}
	}
	return links
}

// anchorsOf returns the names by which a page's headings can be linked to: lower case,
// spaces as hyphens, without punctuation.
func anchorsOf(markdown string) map[string]bool {
	anchors := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(markdown, ""), -1) {
		anchors[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1])] = true
	}
	return anchors
}

func markdownFiles(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", ".git", "dist", ".pages"}, d.Name()) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
