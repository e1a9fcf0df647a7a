package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed guarantees.md.tmpl
var pageText string

var pageTemplate = template.Must(template.New("guarantees").Parse(pageText))

// row is a scenario as the page shows it.
type row struct{ Name, Promise, Limits, Figure, Command, Scaled string }

// readFigures reads what earlier runs measured, by the names of the scenarios.
func readFigures(docs string) (map[string]figure, error) {
	figures := map[string]figure{}
	text, err := os.ReadFile(filepath.Join(docs, "guarantees.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return figures, nil
	}
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &figures)
	return figures, err
}

func write(docs string, figures map[string]figure) error {
	text, err := json.MarshalIndent(figures, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, "guarantees.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return writePage(docs, figures)
}

func writePage(docs string, figures map[string]figure) error {
	page, err := renderPage(figures)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "guarantees.md"), page, 0o644)
}

func renderPage(figures map[string]figure) ([]byte, error) {
	var rows []row
	for _, s := range scenarios {
		rows = append(rows, row{
			Name: s.name, Promise: s.promise, Limits: s.limits,
			Figure:  figures[s.name].cell(),
			Command: strings.Join(s.command(), " "),
			Scaled:  strings.TrimPrefix(s.pkg, "./"),
		})
	}
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, rows)
	return page.Bytes(), err
}

// cell is the figure in a table.
func (f figure) cell() string {
	if f.Figures == nil {
		return "not measured yet"
	}
	where := fmt.Sprintf("%s, %s, %d s", f.Date, f.Commit, f.Seconds)
	if f.Seed != 0 {
		where += fmt.Sprintf(", seed %d", f.Seed)
	}
	return strings.ReplaceAll(strings.Join(f.Figures, "; "), "|", "\\|") + " (" + where + ")"
}
