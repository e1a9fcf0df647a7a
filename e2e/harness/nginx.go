package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Nginx is a running nginx.
type Nginx struct {
	*Process
	Endpoint Endpoint

	command []string
}

// StartNginx runs nginx in front of a gateway. It speaks HTTP/1.1 to clients or, with a
// certificate, HTTP/2 over TLS. site and location may hold directives; otherwise its
// defaults apply.
func StartNginx(t testing.TB, cert *Certificate, gatewayPort int, site, location string) *Nginx {
	t.Helper()
	listen := ";"
	if cert != nil {
		listen = fmt.Sprintf(" ssl http2; ssl_certificate %s; ssl_certificate_key %s;", cert.CertFile, cert.KeyFile)
	}
	return startNginx(t, cert, func(port int) string {
		return fmt.Sprintf(`
events {}
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

// StartShippedNginx runs nginx with deploy/nginx.conf. It replaces only ports and paths, and
// for TLS it uncomments the lines for TLS.
func StartShippedNginx(t testing.TB, cert *Certificate, gatewayPort, applicationPort int) *Nginx {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "..", "deploy", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(config, old, by string) string {
		t.Helper()
		if n := strings.Count(config, old); n != 1 {
			t.Fatalf("deploy/nginx.conf has %d times %q, want once", n, old)
		}
		return strings.Replace(config, old, by, 1)
	}
	config := replace(string(file), "server 127.0.0.1:3000;", fmt.Sprintf("server 127.0.0.1:%d;", gatewayPort))
	config = replace(config, "server 127.0.0.1:8000;", fmt.Sprintf("server 127.0.0.1:%d;", applicationPort))
	listen, options := "listen 80;", ""
	if cert != nil {
		config = replace(config, listen, "")
		listen, options = "# listen 443 ssl http2;", " ssl http2"
		config = replace(config, "# ssl_certificate     /etc/ssl/example.pem;", "ssl_certificate "+cert.CertFile+";")
		config = replace(config, "# ssl_certificate_key /etc/ssl/example.key;", "ssl_certificate_key "+cert.KeyFile+";")
	}
	return startNginx(t, cert, func(port int) string {
		return replace(config, listen, fmt.Sprintf("listen 127.0.0.1:%d%s;", port, options))
	})
}

// startNginx runs nginx in the foreground and as a single process until the end of the test,
// and waits until it forwards /healthz.
func startNginx(t testing.TB, cert *Certificate, config func(port int) string) *Nginx {
	t.Helper()
	path, err := findNginx()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	n := &Nginx{command: []string{
		path, "-p", dir, "-c", file, "-e", "stderr",
		"-g", "daemon off; master_process off; error_log stderr warn; pid " + filepath.Join(dir, "pid") + ";",
	}}
	for attempt := 1; ; attempt++ {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(withTempPaths(config(port), dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		n.Endpoint = Local(port, cert)
		if err = n.run(port); err == nil {
			break
		}
		if attempt == 3 || !strings.Contains(n.Log.Text(), "Address already in use") {
			t.Fatalf("nginx: %v\n%s", err, n.Log.Text())
		}
	}
	t.Cleanup(func() {
		if _, err := n.Stop(Patience); err != nil {
			t.Errorf("nginx: %v", err)
		}
		if t.Failed() {
			t.Logf("log of nginx:\n%s", n.Log.Text())
		}
	})
	return n
}

// Restart waits until nginx has exited, and starts it again on the same port.
func (n *Nginx) Restart(t testing.TB) {
	t.Helper()
	if err := n.run(n.Port); err != nil {
		t.Fatalf("nginx: %v\n%s", err, n.Log.Text())
	}
}

func (n *Nginx) run(port int) error {
	p, err := Run(Command{Args: n.command})
	if err != nil {
		return err
	}
	p.Port, n.Process = port, p
	if err := p.awaitHealth(n.Endpoint); err != nil {
		p.Kill()
		return err
	}
	return nil
}

func findNginx() (string, error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("nginx is not installed, and these tests need it: run `make test-deps`")
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
