package site

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness/chromium"
)

// What people ask, in their words, and the places of which one has to be among the first results.
var questions = []struct {
	asked string
	found []string
}{
	{"nothing arrives", []string{"operations.html#nothing-arrives-find-out-where"}},
	{"topics bytes_queued drops", []string{"operations.html#what-topics-bytes_queued-and-drops-tell"}},
	{"auth without cookies", []string{"operations.html#authentication-without-cookies"}},
	{"protect the callback", []string{"operations.html#protecting-the-callback"}},
	{"own CA for https callback SSL_CERT_FILE", []string{"operations.html#an-https-callback-with-a-certificate-of-your-own-authority-ca"}},
	{"second SIGTERM", []string{"operations.html#signals-and-reload", "contract.html#10-shutdown"}},
	{"upgrade", []string{"upgrade.html#upgrade"}},
	{"reload SIGHUP", []string{"operations.html#signals-and-reload"}},
	{"log rotation", []string{"operations.html#logs"}},
	{"restart of a single node", []string{"operations.html#restart-of-a-single-gateway"}},
	{"haproxy apache", []string{"proxies.html#haproxy", "proxies.html#apache"}},
	{"backend restarted lost tokens", []string{"restart.html#your-backend-was-restarted"}},
	{"EventSource gives up after 503", []string{"contract.html#2-client-to-gateway", "restart.html#while-it-is-away"}},
}

// first is how many results count.
const first = 3

// Who types a question finds where it is answered.
func TestSearch(t *testing.T) {
	r := open(t)
	for _, q := range questions {
		r.read("index.html")
		found := r.search(q.asked)
		if !slices.ContainsFunc(found[:min(first, len(found))], func(place string) bool { return slices.Contains(q.found, place) }) {
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
