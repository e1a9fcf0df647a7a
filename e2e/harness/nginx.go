package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartNginx runs nginx in front of a gateway. It speaks HTTP/1.1 to clients or, with a
// certificate, HTTP/2 over TLS. site and location may hold directives; otherwise its
// defaults apply.
func StartNginx(t testing.TB, cert *Certificate, gatewayPort int, site, location string) *Proxy {
	t.Helper()
	listen := ";"
	if cert != nil {
		listen = fmt.Sprintf(" ssl http2; ssl_certificate %s; ssl_certificate_key %s;", cert.CertFile, cert.KeyFile)
	}
	return startNginx(t, cert, func(port int) string {
		return fmt.Sprintf(`
events { worker_connections 8192; }
http {
    access_log off;
    server {
        listen 127.0.0.1:%d%s
        %s
        location / {
            proxy_pass http://127.0.0.1:%d;
            %s
        }
    }
}
`, port, listen, site, gatewayPort, location)
	})
}

// StartNginxAs runs nginx with these directives about events and, for the port that it gets, about HTTP.
func StartNginxAs(t testing.TB, events string, http func(port int) string) *Proxy {
	t.Helper()
	return startNginx(t, nil, func(port int) string {
		return fmt.Sprintf("events { %s }\nhttp {\naccess_log off;\n%s\n}\n", events, http(port))
	})
}

// startNginx runs nginx in the foreground and as a single process until the end of the test,
// and waits until it forwards /healthz.
func startNginx(t testing.TB, cert *Certificate, config func(port int) string) *Proxy {
	t.Helper()
	path, err := find("nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	n := &Proxy{command: []string{
		path, "-p", dir, "-c", file, "-e", "stderr",
		"-g", "daemon off; master_process off; error_log stderr warn; pid " + filepath.Join(dir, "pid") + ";",
	}}
	n.start(t, func(port int) error {
		n.Endpoint = Local(port, cert)
		return os.WriteFile(file, []byte(withTempPaths(config(port), dir)), 0o600)
	})
	return n
}

// withTempPaths moves nginx's temporary files to a directory of the test. By default they are
// where only the system's own instance may write.
func withTempPaths(config, dir string) string {
	paths := "http {\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths += fmt.Sprintf("    %s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return strings.Replace(config, "http {\n", paths, 1)
}
