package main

import (
	"slices"
	"time"
)

// results is everything that was measured.
type results struct {
	about   string // the machine, the programs, and when
	options options
	runs    []result
}

// result is what was measured at a time.
type result struct {
	scenario  scenario
	published int           // while it was measured
	took      time.Duration // until everything had arrived
	nodes     []time.Duration
	nats      time.Duration
}

// figure computes one figure of a result.
type figure func(r *result) float64

// perPublish returns processor time in µs for each publish.
func (r *result) perPublish(cpu time.Duration) float64 {
	return float64(cpu.Nanoseconds()) / 1e3 / float64(r.published)
}

func (r *result) allNodes() (sum time.Duration) {
	for _, cpu := range r.nodes {
		sum += cpu
	}
	return sum
}

func rate(r *result) float64      { return float64(r.published) / r.took.Seconds() }
func firstNode(r *result) float64 { return r.perPublish(r.nodes[0]) }
func nodesCost(r *result) float64 { return r.perPublish(r.allNodes()) }
func natsCost(r *result) float64  { return r.perPublish(r.nats) }
func perSecond(r *result) float64 { return float64(r.published) / (r.allNodes() + r.nats).Seconds() }

func foreignOne(r *result) float64 {
	return r.perPublish(r.allNodes()-r.nodes[0]) / float64(len(r.nodes)-1)
}

// median returns the median of a figure of a scenario. ok is false if it was not measured.
func (r *results) median(s scenario, f figure) (v float64, ok bool) {
	var values []float64
	for i := range r.runs {
		if r.runs[i].scenario == s {
			values = append(values, f(&r.runs[i]))
		}
	}
	n := len(values)
	if n == 0 {
		return 0, false
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2, true
}
