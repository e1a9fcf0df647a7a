package histories

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ssegateway/e2e/harness"
)

// The size of a run. The defaults are for tests of every change.
var (
	scripts        = flag.Int("scripts", 2, "how many scripts there are")
	configurations = flag.Int("configurations", 5, "under how many configurations each is performed, beside the base; with 5 each value has its turn")
	longest        = flag.Int("steps", 30, "how many steps the longest script has")
	seed           = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides on scripts and configurations; printed")
)

func TestMain(m *testing.M) {
	flag.Parse()
	for name, value := range map[string]any{"rapid.checks": *scripts, "rapid.seed": *seed, "rapid.nofailfile": true} {
		if err := flag.Set(name, fmt.Sprint(value)); err != nil {
			panic(err)
		}
	}
	os.Exit(harness.Main(m, func(dir string) (err error) {
		kinds, err = harness.BuildKinds(dir)
		return err
	}))
}

// all of this has to occur in the histories of twenty scripts or more, or they show little.
var occurrences = []string{
	"event: gap", `"duplicate":true`, "IDEMPOTENCY_KEY_REUSED", "TOKEN_NOT_FOUND", `"status":"buffered"`, `"status":"written"`, `{"removed":1}`, `{"closed":2}`,
	`"retained":[{`, "client_closed", "server_closed", "draining", "connect_unanswered", "head 401", "head 403", "head 404", "head 500", "head 502", "head 503",
	"<position 0>", "lastEventId=", "last-event-id", "event: forged", "1 disconnects failed", "while pending", "clean end", "left",
}

// TestHistories performs random scripts under random configurations. Each history has to be
// that of the base.
func TestHistories(t *testing.T) {
	t.Logf("seed %d", *seed)
	serveBroker(t)
	var drawn, performed, steps, lines int
	occurred := map[string]bool{}
	touched := map[string]map[string]bool{}
	slots := make(chan struct{}, 3*runtime.GOMAXPROCS(0))
	rapid.Check(t, func(rt *rapid.T) {
		drawn++
		s := drawScript(rt, *longest)
		all := append([]configuration{base()}, drawConfigurations(rt, *configurations)...)
		histories, errs := make([]history, len(all)), make([]error, len(all))
		var wg sync.WaitGroup
		for i, c := range all {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				histories[i], errs[i] = play(s, c)
			})
		}
		wg.Wait()
		for i, c := range all {
			if errs[i] != nil {
				rt.Fatalf("under %s\n%v", c, errs[i])
			}
			if diff := cmp.Diff([]string(histories[0]), []string(histories[i])); diff != "" {
				rt.Fatalf("under %s\nthe history differs from that of the base (-):\n%s", c, diff)
			}
			for _, what := range occurrences {
				occurred[what] = occurred[what] || slices.ContainsFunc(histories[i], func(line string) bool { return strings.Contains(line, what) })
			}
			performed++
			steps += len(s)
			lines += len(histories[i])
			for name, value := range c {
				if touched[name] == nil {
					touched[name] = map[string]bool{}
				}
				touched[name][value] = true
			}
		}
	})
	if t.Failed() {
		return
	}
	if drawn < *scripts { // rapid stops without a word when it expects to run out of time
		t.Errorf("only %d of %d scripts in the time that there is", drawn, *scripts)
	}
	for _, d := range dimensions {
		for _, value := range d.values {
			if !touched[d.name][value] && *configurations >= len(d.values) {
				t.Errorf("no configuration has %s=%s", d.name, value)
			}
		}
	}
	for _, what := range occurrences {
		if !occurred[what] && *scripts >= 20 {
			t.Errorf("no history has %s", what)
		}
	}
	harness.Figure(t, "0 differences: %d random scripts, each under the base and %d random configurations; %d runs, %d steps, %d lines of history", drawn, *configurations, performed, steps, lines)
}

// TestDraws checks what the histories rely on: configurations that together have every value.
func TestDraws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := drawConfigurations(rt, 5)
		for _, d := range dimensions {
			for _, value := range d.values {
				if !slices.ContainsFunc(all, func(c configuration) bool { return c[d.name] == value }) {
					rt.Fatalf("no %s in\n%s", value, strings.TrimSpace(fmt.Sprint(all)))
				}
			}
		}
	})
}
