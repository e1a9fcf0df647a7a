package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"ssegateway/bench"
)

// Results are all results. They are kept in a file, from which the document can be made again.
type Results struct {
	Began       time.Time `json:"began"`
	Seconds     float64   `json:"seconds"`
	Repetitions int       `json:"repetitions"`
	Machine     Machine   `json:"machine"`
	Programs    []Program `json:"programs"`
	BinaryBytes int64     `json:"binary_bytes"` // size of this program
	Runs        []Run     `json:"runs"`
}

// Machine describes the machine on which the results were measured.
type Machine struct {
	CPU         string  `json:"cpu"`
	Cores       int     `json:"cores"`
	MemoryBytes int64   `json:"memory_bytes"`
	Kernel      string  `json:"kernel"`
	OpenFiles   uint64  `json:"open_files"` // limit of each process
	Load        float64 `json:"load"`       // average over the minute before the beginning
}

// Program is a program that was used, with its version.
type Program struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Run is one run of a scenario with a server.
type Run struct {
	Repetition int          `json:"repetition"`
	Scenario   string       `json:"scenario"`
	Server     string       `json:"server"`
	Result     bench.Result `json:"result"`
	Error      string       `json:"error,omitempty"` // if set, the figures do not count
}

func readResults(path string) (r Results, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// value returns a figure of one run, in the figure's own unit.
func (r *Run) value(f figure) (v float64, ok bool) {
	if r.Error != "" {
		return 0, false
	}
	for _, name := range f.names {
		for _, got := range r.Result.Figures {
			if got.Name == name {
				return got.Value * f.scale, true
			}
		}
	}
	return 0, false
}

// values returns a figure's values by repetition.
func (r *Results) values(scenario, server string, f figure) map[int]float64 {
	values := map[int]float64{}
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Scenario != scenario || run.Server != server {
			continue
		}
		if v, ok := run.value(f); ok {
			values[run.Repetition] = v
		}
	}
	return values
}

// summary summarises the values of several repetitions.
type summary struct {
	n                   int // number of values
	median, least, most float64
}

func summarise(values map[int]float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	var sorted []float64
	for _, v := range values {
		sorted = append(sorted, v)
	}
	slices.Sort(sorted)
	n := len(sorted)
	return summary{n, (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// ratios returns a server's values, each divided by another server's value in the same repetition.
func ratios(of, by map[int]float64) map[int]float64 {
	quotients := map[int]float64{}
	for repetition, v := range of {
		if w := by[repetition]; w != 0 {
			quotients[repetition] = v / w
		}
	}
	return quotients
}

// failures returns the errors of a server in a scenario, and how often it ran.
func (r *Results) failures(scenario, server string) (reasons []string, runs int) {
	for _, run := range r.Runs {
		if run.Scenario == scenario && run.Server == server {
			runs++
			if run.Error != "" {
				reasons = append(reasons, run.Error)
			}
		}
	}
	return reasons, runs
}
