package demo

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// network is the way of the pages' answers to the gateway, so that a button can cut it. Nobody else needs it.
type network struct {
	proxy http.Handler

	mu    sync.Mutex
	open  map[*http.Request]passage
	until map[string]time.Time // by user: when what is cut comes up again
}

// passage is a request on its way.
type passage struct {
	user string
	cut  context.CancelFunc
}

const (
	networkPath = "/network"
	cutTime     = 5 * time.Second
)

func newNetwork(gateway string) *network {
	to, err := url.Parse(gateway)
	if err != nil {
		panic(err) // localhost and a port
	}
	broken := func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	return &network{
		open: map[*http.Request]passage{}, until: map[string]time.Time{},
		proxy: http.StripPrefix(networkPath, &httputil.ReverseProxy{
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
			Transport: &http.Transport{DisableKeepAlives: true}, ErrorHandler: broken, ErrorLog: log.New(io.Discard, "", 0),
		}),
	}
}

// ServeHTTP passes a request on, and breaks it off when its user's network is cut.
func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u, _ := session(r.Cookies())
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	n.mu.Lock()
	down := time.Now().Before(n.until[u.id])
	n.open[r] = passage{u.id, cancel}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.open, r)
		n.mu.Unlock()
	}()
	if down {
		panic(http.ErrAbortHandler)
	}
	n.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// serveCut serves the button.
func (n *network) serveCut(w http.ResponseWriter, r *http.Request) {
	u, ok := session(r.Cookies())
	if !ok {
		answer(w, http.StatusUnauthorized, "Reload the page: it has no session.")
		return
	}
	n.mu.Lock()
	for user, until := range n.until {
		if time.Now().After(until) {
			delete(n.until, user)
		}
	}
	n.until[u.id] = time.Now().Add(cutTime)
	for _, p := range n.open {
		if p.user == u.id {
			p.cut()
		}
	}
	n.mu.Unlock()
	answer(w, http.StatusOK, "The network is cut.")
}
