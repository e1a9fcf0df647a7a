package bench

import (
	"net/http"
	"net/url"
	"strings"
)

// Profiles are the servers whose requests bench knows, and custom.
var Profiles = []string{"ssegateway", "nchan", "pushpin", "custom"}

// requests are the requests to a server. Those that it does not support are nil.
type requests struct {
	open requestSpec
	// publish goes to the common channel, send to the channel of one stream. batch and
	// stream carry many events: batch for any streams, stream for a single one.
	publish, send, batch, stream *requestSpec
}

// profile returns the requests of the profile that the options name, with these base URLs.
func (o *Options) profile(server, publishServer string) requests {
	if publishServer == "" {
		publishServer = server
	}
	fill := strings.NewReplacer("{server}", server, "{publish-server}", publishServer)
	first := func(given, standard string) string {
		if given == "" {
			given = standard
		}
		return fill.Replace(given)
	}
	all := func(texts []string) (filled []string) {
		for _, t := range texts {
			filled = append(filled, fill.Replace(t))
		}
		return filled
	}
	opener := func(url string) requestSpec {
		return requestSpec{first(o.Method, http.MethodGet), first(o.URL, url), all(o.Headers), fill.Replace(o.Body)}.
			withHeader("Accept", "text/event-stream")
	}
	publisher := func(url, contentType, body string) *requestSpec {
		s := requestSpec{first(o.PublishMethod, http.MethodPost), first(o.PublishURL, url), all(o.PublishHeaders), first(o.PublishBody, body)}.
			withHeader("Content-Type", contentType)
		return &s
	}
	const (
		json   = "application/json"
		send   = `{"token":"{token}","event":{"data":"{data}"}}`
		topics = `{"topic":"{channel}","event":{"data":"{data}"}}`
	)
	switch o.Profile {
	case "nchan":
		p := publisher("{publish-server}/pub/{channel}", "text/plain", "{data}")
		return requests{open: opener("{server}/sub/{channel}"), publish: p, send: p}
	case "pushpin":
		p := publisher("{publish-server}/publish/", json,
			`{"items":[{"channel":"{channel}","formats":{"http-stream":{"content":"data: {data}\n\n"}}}]}`)
		return requests{open: opener("{server}/stream/{channel}"), publish: p, send: p}
	case "custom":
		r := requests{open: opener("")}
		if o.PublishURL != "" {
			r.publish = publisher("", json, "{data}")
			r.send = r.publish
		}
		return r
	default:
		internal := "{publish-server}/internal/"
		return requests{
			open:    opener("{server}/bench/{n}"),
			publish: publisher(internal+"publish", json, topics),
			send:    publisher(internal+"send", json, send),
			batch:   publisher(internal+"batch", json, send),
			stream:  publisher(internal+"connections/{token}/stream", "application/x-ndjson", `{"data":"{data}"}`),
		}
	}
}

// publishBase returns the base URL for publishing: the default of the profile unless the user sets it.
func (o *Options) publishBase() string {
	if o.PublishServer != "" || o.Profile != "pushpin" {
		return o.PublishServer
	}
	u, err := url.Parse(o.Server)
	if err != nil {
		return o.Server
	}
	u.Host = u.Hostname() + ":5561"
	return u.String()
}
