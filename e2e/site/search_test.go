package site

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

// What people ask, in their words, and what has to be among the first three results.
var questions = []struct{ asked, found string }{
	{"topics bytes_queued drops", "contract.html#12-connections-of-the-gateway"},
}

// first is how many results count.
const first = 3

// Who types a question finds where it is answered.
func TestSearch(t *testing.T) {
	r := open(t)
	for _, q := range questions {
		r.read("index.html")
		found := r.search(q.asked)
		if !slices.Contains(found[:min(first, len(found))], q.found) {
			t.Errorf("%q finds %s, want %s among the first %d", q.asked, strings.Join(found[:min(8, len(found))], "  "), q.found, first)
		}
	}
	r.isQuiet()
}

// search types words into the search of the page, and returns where the results lead, the best first.
func (r *reader) search(words string) []string {
	r.t.Helper()
	chromium.Call[chromedp.Void](r.t, r.tab, `() => document.querySelector("#local-search button").click()`)
	r.wants("the search", `() => Boolean(document.querySelector("#localsearch-input"))`)
	chromium.Call[chromedp.Void](r.t, r.tab, `(words) => {
		const input = document.querySelector("#localsearch-input")
		input.value = words
		input.dispatchEvent(new Event("input"))
	}`, words)
	r.wants("results for "+words, `() => Boolean(document.querySelector(".VPLocalSearchBox .result"))`)
	var found []string
	for _, link := range chromium.Call[[]string](r.t, r.tab, `() => [...document.querySelectorAll(".VPLocalSearchBox a.result")].map((a) => a.href)`) {
		found = append(found, strings.TrimPrefix(link, files.URL+"/"))
	}
	return found
}
