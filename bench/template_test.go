package bench

import (
	"strings"
	"testing"
)

// The requests of the profiles and flags have exactly these bytes.
func TestRequests(t *testing.T) {
	one := values{stream: 7, token: "T", data: []byte("D")}
	all := values{stream: everybody, common: true, data: []byte("D")}
	custom := Options{
		Profile: "custom", URL: "http://localhost:8/s?c={channel}&n={n}", Method: "PUT", Headers: []string{"accept: */*", "X-Stream: {n}"}, Body: "{channel}",
		PublishURL: "{server}", PublishHeaders: []string{"Host: other"},
	}
	for _, test := range []struct {
		name string
		spec func() *requestSpec
		v    values
		want string
	}{
		{
			"a stream", func() *requestSpec { r := (&Options{}).profile("http://127.0.0.1:8", ""); return &r.open }, one,
			"GET /bench/7 HTTP/1.1|Accept: text/event-stream|Host: 127.0.0.1:8||",
		},
		{
			"a send", func() *requestSpec { return (&Options{}).profile("http://127.0.0.1:8", "").send }, one,
			`POST /internal/send HTTP/1.1|Content-Type: application/json|Host: 127.0.0.1:8|Content-Length: 34||{"token":"T","event":{"data":"D"}}`,
		},
		{
			"a publish elsewhere", func() *requestSpec { return (&Options{}).profile("http://127.0.0.1:8", "http://127.0.0.1:9").publish }, all,
			`POST /internal/publish HTTP/1.1|Content-Type: application/json|Host: 127.0.0.1:9|Content-Length: 38||{"topic":"bench","event":{"data":"D"}}`,
		},
		{
			"nchan", func() *requestSpec { return (&Options{Profile: "nchan"}).profile("http://127.0.0.1:8", "").publish }, all,
			"POST /pub/bench HTTP/1.1|Content-Type: text/plain|Host: 127.0.0.1:8|Content-Length: 1||D",
		},
		{
			"pushpin", func() *requestSpec {
				o := Options{Profile: "pushpin", Server: "http://127.0.0.1:8"}
				return o.profile(o.Server, o.publishBase()).send
			}, one,
			`POST /publish/ HTTP/1.1|Content-Type: application/json|Host: 127.0.0.1:5561|Content-Length: 79||{"items":[{"channel":"7","formats":{"http-stream":{"content":"data: D\n\n"}}}]}`,
		},
		{
			"a stream by flags", func() *requestSpec { r := custom.profile("", ""); return &r.open }, one,
			"PUT /s?c=7&n=7 HTTP/1.1|accept: */*|X-Stream: 7|Host: localhost:8|Content-Length: 1||7",
		},
		{
			"a publish by flags", func() *requestSpec { return custom.profile("http://127.0.0.1:8", "").publish }, all,
			"POST / HTTP/1.1|Host: other|Content-Type: application/json|Content-Length: 1||D",
		},
	} {
		r := test.spec().parse()
		got := string(r.append(nil, &test.v, r.addEvent(nil, &test.v)))
		if got = strings.ReplaceAll(got, "\r\n", "|"); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
	}

	batch := (&Options{}).profile("http://127.0.0.1:8", "").batch.parse().withEvents("[", ",", "]")
	body := batch.addEvent(batch.addEvent(nil, &one), &one)
	if got := string(batch.append(nil, &one, body)); !strings.HasSuffix(got, "Content-Length: 71\r\n\r\n"+
		`[{"token":"T","event":{"data":"D"}},{"token":"T","event":{"data":"D"}}]`) {
		t.Errorf("a batch: %s", got)
	}
}
