package deploy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	serverSnippet        = "nginx.ingress.kubernetes.io/server-snippet"
	configurationSnippet = "nginx.ingress.kubernetes.io/configuration-snippet"

	// patience is how long something may take that should happen at once.
	patience = 20 * time.Second
)

// With ingress.nginxComeBack nginx turns 502, 503 and 504 into a stream that has a browser come
// back, whoever they are from, and leaves the backend's refusals alone.
func TestComeBack(t *testing.T) {
	r, err := render(t, cases["come back"].values)
	if err != nil {
		t.Fatal(err)
	}
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		status, err := strconv.Atoi(filepath.Base(req.URL.Path))
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	}))
	defer answers.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	dir := t.TempDir()
	config := fmt.Sprintf(`
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	server {
		listen unix:%[1]s/socket;
		%[2]s
		location /events/ {
			%[3]s
			proxy_pass %[4]s;
		}
		location /gone {
			%[3]s
			proxy_pass %[5]s;
		}
	}
}
`, dir, r.Ingress.Annotations[serverSnippet], r.Ingress.Annotations[configurationSnippet], answers.URL, gone.URL)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	client := startNginx(t, dir)
	after := map[string]bool{}
	for path, status := range map[string]int{"/gone": 200, "/events/502": 200, "/events/503": 200, "/events/504": 200, "/events/401": 401, "/events/500": 500} {
		resp, err := client.Get("http://example.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s: %s (%v), want %d", path, resp.Status, err, status)
		}
		if status != http.StatusOK {
			continue
		}
		after[string(body)] = true
		if !regexp.MustCompile(`^retry: [1-4]\d\d0\n\n$`).Match(body) || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %v %q", path, resp.Header, body)
		}
	}
	if len(after) < 2 {
		t.Errorf("all come back together: %v", after)
	}
}

// startNginx runs nginx with the configuration in dir, and returns a client of its socket.
func startNginx(t *testing.T, dir string) *http.Client {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	var log strings.Builder
	cmd := exec.Command(path, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr",
		"-g", "daemon off; master_process off; pid "+filepath.Join(dir, "pid")+";")
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("nginx is needed, run `make test-deps`: %v", err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("log of nginx:\n%s", log.String())
		}
	})
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "socket"))
		},
	}}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	end := time.After(patience)
	for {
		resp, err := client.Get("http://example.com/")
		if err == nil {
			resp.Body.Close()
			return client
		}
		select {
		case <-poll.C:
		case <-exited:
			t.Fatal("nginx ended")
		case <-end:
			t.Fatalf("nginx does not answer: %v", err)
		}
	}
}
