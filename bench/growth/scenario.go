package main

import "fmt"

const maxNodes = 5

// layout says on which nodes it is published.
type layout string

const (
	spread  layout = "on all nodes" // each topic on the node that has its client
	oneNode layout = "on one node"  // which has the clients of its topics; the others have clients of other topics
)

// reads are the values of NATS_READ.
var reads = []string{"all", "own"}

// scenario is what is measured at a time.
type scenario struct {
	nodes  int
	layout layout
	read   string
}

func (s scenario) String() string {
	return fmt.Sprintf("%d nodes, published %s, NATS_READ=%s", s.nodes, s.layout, s.read)
}

// scenarios returns one repetition. The values of NATS_READ take turns, and every other repetition begins with the other one.
func (o *options) scenarios(repetition int) (all []scenario) {
	for _, nodes := range o.nodes {
		for _, l := range []layout{spread, oneNode} {
			if nodes == 1 && l == oneNode {
				continue // the same
			}
			for i := range reads {
				all = append(all, scenario{nodes, l, reads[(i+repetition)%len(reads)]})
			}
		}
	}
	return all
}

// publishers returns how many there are, if each node that is published on has that many.
func (s scenario) publishers(each int) int {
	if s.layout == oneNode {
		return each
	}
	return each * s.nodes
}

// publishesAt returns the node on which a publisher publishes.
func (s scenario) publishesAt(publisher int) int {
	if s.layout == oneNode {
		return 0
	}
	return publisher % s.nodes
}
