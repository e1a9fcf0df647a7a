package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ssegateway/internal/broker"
)

func published(t *testing.T, a *API, body string) (id string) {
	t.Helper()
	w := do(t, a, http.MethodPost, "/internal/publish", body)
	want(t, w, http.StatusOK, `"status":"ok"`)
	return answer[struct {
		ID string `json:"id"`
	}](t, w).ID
}

// retainedPage is a page of the list, each event as topic/key=data.
func retainedPage(t *testing.T, a *API, query string) (events []string, next string) {
	t.Helper()
	w := do(t, a, http.MethodGet, "/internal/retained?"+query, "")
	want(t, w, http.StatusOK, `{"retained":[`)
	page := answer[retainedListing](t, w)
	for _, e := range page.Retained {
		events = append(events, e.Topic+"/"+e.Key+"="+e.Event.Data)
	}
	return events, page.Next
}

func expectRetained(t *testing.T, a *API, query string, expected ...string) {
	t.Helper()
	if got, next := retainedPage(t, a, query); !slices.Equal(got, expected) || next != "" {
		t.Errorf("%s: retained are %q, and more behind %q; want %q", query, got, next, expected)
	}
}

func TestRetained(t *testing.T) {
	a, _ := newAPI(t)
	expectRetained(t, a, "")
	published(t, a, `{"topic":"a","event":{"data":"not retained"},"retain":false}`)
	published(t, a, `{"topics":["b","a"],"event":{"data":"1"},"retain":true}`)
	published(t, a, `{"topic":"a","event":{"data":"2"},"retain":true,"key":"k"}`)
	id := published(t, a, `{"topic":"a","event":{"name":"n","data":"x\r\ny","retry":7},"retain":true}`)
	want(t, do(t, a, http.MethodPost, "/internal/batch", `{"operations":[{"topic":"c","event":{"data":"4"},"retain":true,"key":"ä"}]}`), http.StatusOK, `"status":"ok"`)
	expectRetained(t, a, "", "b/=1", "a/k=2", "a/=x\ny", "c/ä=4")
	expectRetained(t, a, "topic=a", "a/k=2", "a/=x\ny")
	expectRetained(t, a, "topic=none")
	want(t, do(t, a, http.MethodGet, "/internal/retained?topic=a", ""), http.StatusOK,
		`,{"topic":"a","id":"`+id+`","event":{"name":"n","data":"x\ny","retry":7}}]}`)

	for query, removed := range map[string]string{
		"topic=a&key=other": "0", "topic=other": "0", "topic=c&key=" + url.QueryEscape("ä"): "1", "topic=a": "2",
	} {
		want(t, do(t, a, http.MethodDelete, "/internal/retained?"+query, ""), http.StatusOK, `{"removed":`+removed+`}`)
	}
	expectRetained(t, a, "", "b/=1")
}

func TestRetainedPages(t *testing.T) {
	a, _ := newAPI(t)
	var all []string
	for i := range 7 {
		topics := []string{"t" + strconv.Itoa(i)}
		if i%2 > 0 {
			topics = append(topics, "u", "v")
		}
		published(t, a, `{"topics":["`+strings.Join(topics, `","`)+`"],"event":{"data":"x"},"retain":true,"key":"`+strconv.Itoa(i)+`"}`)
		for _, topic := range topics {
			all = append(all, topic+"/"+strconv.Itoa(i)+"=x")
		}
	}
	for limit := 1; limit <= len(all)+1; limit++ {
		var got []string
		cursor := ""
		for {
			page, next := retainedPage(t, a, "limit="+strconv.Itoa(limit)+"&cursor="+cursor)
			if got = append(got, page...); len(page) != limit && next != "" {
				t.Errorf("%d events on a page that is not the last, of %d", len(page), limit)
			}
			if cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("in pages of %d: %q, want %q", limit, got, all)
		}
	}
	page, next := retainedPage(t, a, "topic=u&limit=2")
	rest, end := retainedPage(t, a, "topic=u&limit=2&cursor="+next)
	if got := append(page, rest...); !slices.Equal(got, []string{"u/1=x", "u/3=x", "u/5=x"}) || end != "" {
		t.Errorf("of one topic %q and %q", page, rest)
	}
}

func TestInvalidRetained(t *testing.T) {
	a, _ := newAPI(t)
	for body, code := range map[string]string{
		`"retain":1`:                   "INVALID_RETAIN",
		`"retain":null`:                "INVALID_RETAIN",
		`"retain":true,"store":false`:  "INVALID_RETAIN",
		`"key":"k"`:                    "INVALID_KEY",
		`"retain":false,"key":"k"`:     "INVALID_KEY",
		`"retain":true,"key":""`:       "INVALID_KEY",
		`"retain":true,"key":7`:        "INVALID_KEY",
		`"retain":true,"key":null`:     "INVALID_KEY",
		`"retain":true,"key":"a\nb"`:   "INVALID_KEY",
		`"retain":true,"key":"\u0085"`: "INVALID_KEY",
		`"retain":true,"key":"` + strings.Repeat("x", 257) + `"`: "INVALID_KEY",
	} {
		body = `{"topic":"t","event":{"data":"x"},` + body + `}`
		want(t, do(t, a, http.MethodPost, "/internal/publish", body), http.StatusBadRequest, `"code":"`+code+`"`)
		want(t, do(t, a, http.MethodPost, "/internal/batch", `{"operations":[`+body+`]}`), http.StatusOK, `"code":"`+code+`"`)
	}
	published(t, a, `{"topic":"t","event":{"data":"x"},"retain":true,"key":"`+strings.Repeat("x", 256)+`"}`)
	for _, test := range [][]string{
		{http.MethodGet, "limit=0", "INVALID_LIMIT"},
		{http.MethodGet, "limit=1001", "INVALID_LIMIT"},
		{http.MethodGet, "cursor=x", "INVALID_CURSOR"},
		{http.MethodGet, "cursor=1", "INVALID_CURSOR"},
		{http.MethodGet, "cursor=1.0", "INVALID_CURSOR"},
		{http.MethodGet, "cursor=1.01", "INVALID_CURSOR"},
		{http.MethodGet, "cursor=-1.1", "INVALID_CURSOR"},
		{http.MethodGet, "topic=%zz", "INVALID_QUERY"},
		{http.MethodDelete, "", "INVALID_TOPICS"},
		{http.MethodDelete, "topic=&key=k", "INVALID_TOPICS"},
		{http.MethodDelete, "topic=%0a", "INVALID_TOPICS"},
		{http.MethodDelete, "topic=t&key=", "INVALID_KEY"},
		{http.MethodDelete, "topic=t&key=%0a", "INVALID_KEY"},
	} {
		w := do(t, a, test[0], "/internal/retained?"+test[1], "")
		want(t, w, http.StatusBadRequest, `"code":"`+test[2]+`"`)
	}
	want(t, do(t, a, http.MethodPost, "/internal/retained", "{}"), http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
	if got, _ := retainedPage(t, a, ""); len(got) != 1 {
		t.Errorf("retained are %q, want the one event", got)
	}
}

// An event for which there is no room is not published.
func TestRetainedFull(t *testing.T) {
	a, _ := newAPI(t)
	full := 0
	for i := range 100 {
		before := extentOf(a).Last
		w := do(t, a, http.MethodPost, "/internal/publish", `{"topic":"t","event":{"data":"x"},"retain":true,"key":"`+strconv.Itoa(i)+`"}`)
		if w.Code == http.StatusOK {
			continue
		}
		want(t, w, http.StatusInsufficientStorage, `"code":"RETAINED_FULL"`)
		if after := extentOf(a).Last; after != before {
			t.Errorf("the log went from %d to %d", before, after)
		}
		full++
	}
	if full == 0 || full == 100 {
		t.Errorf("%d of 100 events were refused", full)
	}
	published(t, a, `{"topic":"t","event":{"data":"y"},"retain":true,"key":"0"}`) // takes the place of another of its size
	want(t, do(t, a, http.MethodDelete, "/internal/retained?topic=t", ""), http.StatusOK, `{"removed":`+strconv.Itoa(100-full)+`}`)
	published(t, a, `{"topic":"t","event":{"data":"x"},"retain":true}`)
}

func FuzzRetainedCursor(f *testing.F) {
	f.Add("17.2")
	f.Add("0.1")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parseRetainedCursor(s)
		if ok && formatRetainedCursor(c) != s || !ok && c != (broker.RetainedCursor{}) && formatRetainedCursor(c) == s && c.Topics > 0 {
			t.Errorf("%q is read as %+v, %v", s, c, ok)
		}
	})
}
