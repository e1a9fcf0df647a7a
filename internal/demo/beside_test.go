package demo

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"ssegateway/internal/config"
	"ssegateway/internal/logging"
	"ssegateway/internal/server"
)

// The page and its backend serve a gateway that somebody else runs, and say on which
// node a stream is.
func TestBeside(t *testing.T) {
	port, pagePort := freePort(t), freePort(t)
	cfg, _, err := config.Load(nil, []string{
		"PORT=" + strconv.Itoa(port), "CALLBACK_URL=http://127.0.0.1:" + strconv.Itoa(pagePort) + "/callback?secret=hush",
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	log, out := newBuffer(), newBuffer()
	gateway, err := server.New(cfg, "test", logging.New(log, cfg.LogLevel, cfg.LogFormat))
	if err != nil {
		t.Fatal(err)
	}
	run := func(f func(context.Context) error) (stop func(), ended chan struct{}) {
		ctx, cancel := context.WithCancel(t.Context())
		ended = make(chan struct{})
		go func() {
			defer close(ended)
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		}()
		return func() { cancel(); <-ended }, ended
	}
	stopDemo, ended := run(func(ctx context.Context) error { return RunBeside(ctx, cfg, port, pagePort, out) })
	defer stopDemo()
	if !out.waitFor("Open this page", ended) {
		t.Fatal(out.String())
	}
	stopGateway, ended := run(gateway.Run)
	defer stopGateway()
	if !log.waitFor("ssegateway started", ended) {
		t.Fatal(log.String())
	}
	r := &running{t: t, page: "http://localhost:" + strconv.Itoa(pagePort), client: &http.Client{Transport: &http.Transport{}}}
	defer r.client.CloseIdleConnections()
	stream := r.open("http://localhost:" + strconv.Itoa(port) + "/events/guest")
	defer stream.head.Body.Close()
	if data := stream.want("welcome"); !regexp.MustCompile(`^You are guest\. This stream is on the node \S+\. To send`).MatchString(data) {
		t.Errorf("welcome: %q", data)
	}
	if err := RunBeside(t.Context(), config.Config{CallbackURL: "http://127.0.0.1/"}, port, pagePort, out); err == nil {
		t.Error("ran without a secret")
	}
}
