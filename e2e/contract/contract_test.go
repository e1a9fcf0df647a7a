package contract

import (
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// section is a part of the contract with its cases.
type section struct {
	title string
	core  bool // belongs to the core contract, which foreign implementations share
	cases []contractCase
}

// contractCase is one line of the contract.
type contractCase struct {
	name string // quotes or closely paraphrases the line
	slow bool   // spends its time waiting, so it does not take a slot
	// exact: it compares what a callback says of a request, so its requests carry no canaries of
	// the suite.
	exact bool
	run   func(*T)

	section section // filled by allCases
}

// sections are all sections of the suite, in the order of the contract.
var sections = []section{
	configuration,
	clients, addresses, proxyProtocol, eventSourceErrors, cors, halfClosing, hardening,
	callbacks, lifecycle, storms, proofs,
	sending, bodies, pendingSends, repeating, events,
	wire, eventForm,
	health, logging, ownLogging, metrics,
	access, internalListeners,
	queues, overflows,
	draining, ownDraining,
	grants, topics, replays, positions, retaining, steering, streaming, histories, tails,
	relaying, resuming,
}

func allCases() []contractCase {
	var all []contractCase
	for _, s := range sections {
		for _, c := range s.cases {
			c.section = s
			all = append(all, c)
		}
	}
	return all
}

// leftOut returns why the case does not run on a gateway of that kind. It is empty if it does.
func (c contractCase) leftOut(kindName string) (why string) {
	if kindName == foreign && coreOnly && !c.section.core {
		return "beyond the core"
	}
	specific, ok := wireSpecific[c.name]
	if !ok || slices.Contains(specific.kinds, kindName) {
		return ""
	}
	return specific.why
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runMain(m))
}

func runMain(m *testing.M) int {
	// Most cases wait most of the time. Those that use the processor take a slot (see slots).
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("2000")
	}
	return harness.Main(m, func(dir string) (err error) {
		theKinds, err = makeKinds(dir)
		return err
	})
}

// slots bounds how many cases run at a time, except slow ones. starts bounds how many gateways
// start at a time. So a small machine stays responsive.
var (
	slots  = make(chan struct{}, 6)
	starts = make(chan struct{}, 2)
)

// TestContract runs all cases in parallel, as TestContract/<kind>/<section>/<case>.
func TestContract(t *testing.T) {
	var mu sync.Mutex
	ran := map[string][]string{}
	t.Cleanup(func() {
		if !narrowed() {
			checkCounts(t, ran)
			canaries.report(t)
		}
	})
	for _, k := range theKinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			shared := &sharedSite{kind: k}
			t.Cleanup(func() { shared.close(t) })
			for _, s := range sections {
				t.Run(s.title, func(t *testing.T) {
					t.Attr("section", s.title) // what e2e/conformance reports by
					t.Attr("core", strconv.FormatBool(s.core))
					t.Parallel()
					for _, c := range s.cases {
						c.section = s
						why := c.leftOut(k.Name)
						if why != "" && k.Name != foreign {
							continue // is no part of the run, so that own cases are never skipped
						}
						t.Run(c.name, func(t *testing.T) {
							t.Attr("case", c.name)
							if why != "" {
								t.Skip(why)
							}
							t.Parallel()
							if !c.slow {
								slots <- struct{}{}
								defer func() { <-slots }()
							}
							defer func() {
								mu.Lock()
								defer mu.Unlock()
								if !t.Skipped() {
									ran[k.Name] = append(ran[k.Name], c.name)
								}
							}()
							c.run(&T{T: t, kind: k, shared: shared, exact: c.exact})
						})
					}
				})
			}
		})
	}
}

// narrowed reports whether a flag selects only some of the cases, so that their number cannot be checked.
func narrowed() bool {
	return strings.Contains(flag.Lookup("test.run").Value.String(), "/") || flag.Lookup("test.skip").Value.String() != ""
}

// patience is how long tests wait for something that must happen, on a loaded machine.
const patience = 20 * time.Second
