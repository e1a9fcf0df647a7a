package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The page is what the figures make of it.
func TestPage(t *testing.T) {
	figures, err := readFigures("../../docs")
	if err != nil {
		t.Fatal(err)
	}
	want, err := renderPage(figures)
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/guarantees.md is not what docs/guarantees.json and the scenarios make: run `go run ./bench/stress --page`")
	}
	for name := range figures {
		if _, err := choose([]string{name}); err != nil {
			t.Errorf("docs/guarantees.json has a figure of a scenario that is gone: %v", err)
		}
	}
}

// Each scenario is a test that exists, and reports a figure.
func TestScenarios(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			if names[s.name] {
				t.Error("there are two of this name")
			}
			names[s.name] = true
			if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(s.name) {
				t.Error("its name is no anchor of a page")
			}
			if s.promise == "" || s.limits == "" {
				t.Error("it says nothing")
			}
			text, err := exec.Command("sh", "-c", "cat ../../"+s.pkg+"/*_test.go").Output()
			if err != nil {
				t.Fatal(err)
			}
			for test := range strings.SplitSeq(s.test, "|") {
				if !regexp.MustCompile(`(?m)^func ` + test + `\(`).Match(text) {
					t.Errorf("%s has no %s", s.pkg, test)
				}
			}
			if !bytes.Contains(text, []byte("harness.Figure(")) {
				t.Errorf("the tests of %s report no figure", s.pkg)
			}
			if s.seeded != bytes.Contains(text, []byte(`("seed", `)) {
				t.Errorf("seeded is %v, and the tests of %s say otherwise", s.seeded, s.pkg)
			}
		})
	}
}
