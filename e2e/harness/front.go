package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Proxy is a running proxy in front of a gateway.
type Proxy struct {
	*Process
	Endpoint Endpoint

	command []string
	dir     string // where it runs
	reload  func() error
}

// Fronts are the proxies that deploy/ has a configuration for, and that Debian has, or those that
// the environment variable FRONTS names.
func Fronts() []string {
	if named := os.Getenv("FRONTS"); named != "" {
		return strings.Fields(named)
	}
	return []string{"nginx", "haproxy", "caddy", "apache"}
}

// front is what is special about one of the Fronts.
type front struct {
	program, file string
	// edit replaces in the configuration what a test must have otherwise.
	edit func(c *config, f *running)
	// command returns the arguments, behind the program.
	command func(f *running) []string
	// prepare, if any, writes what else the proxy reads.
	prepare func(f *running) error
	// reload has the process read its configuration and certificate again.
	reload func(p *Proxy, f *running) error
}

// running is where a proxy runs.
type running struct {
	dir, file   string
	port, admin int
	gateway     int
	application int
	cert        *Certificate // nil: plain HTTP
}

func (f *running) path(name string) string { return filepath.Join(f.dir, name) }

func nginxCommand(f *running) []string {
	user := "" // of the workers, which read and write in the test's directory
	if os.Getuid() == 0 {
		user = "user root; "
	}
	return []string{"-p", f.dir, "-c", f.file, "-e", "stderr", "-g", user + "daemon off; error_log stderr warn; pid " + f.path("pid") + ";"}
}

var fronts = map[string]front{
	"nginx": {
		program: "nginx", file: "nginx.conf",
		edit: func(c *config, f *running) {
			c.backends("server 127.0.0.1:3000;", "server 127.0.0.1:8000;", f)
			if f.cert == nil {
				c.replace("listen 80;", fmt.Sprintf("listen 127.0.0.1:%d;", f.port))
			} else {
				c.replace("listen 80;", "")
				c.replace("# listen 443 ssl http2;", fmt.Sprintf("listen 127.0.0.1:%d ssl http2;", f.port))
				c.replace("# ssl_certificate     /etc/ssl/example.pem;", "ssl_certificate "+f.cert.CertFile+";")
				c.replace("# ssl_certificate_key /etc/ssl/example.key;", "ssl_certificate_key "+f.cert.KeyFile+";")
			}
			c.text = withTempPaths(c.text, f.dir)
		},
		command: nginxCommand,
		reload:  func(p *Proxy, _ *running) error { return p.Signal(syscall.SIGHUP) },
	},
	// For three gateways. All of them are one here.
	"nginx-cluster": {
		program: "nginx", file: "nginx-cluster.conf",
		edit: func(c *config, f *running) {
			c.backends("server 10.0.0.11:3000 max_fails=0;", "server 127.0.0.1:8000;", f)
			for _, address := range []string{"10.0.0.11:", "10.0.0.12:", "10.0.0.13:"} {
				c.text = strings.ReplaceAll(c.text, address+"3000", fmt.Sprintf("127.0.0.1:%d", f.gateway))
				c.text = strings.ReplaceAll(c.text, address, "127.0.0.1:")
			}
			c.replace("listen 127.0.0.1:9000", fmt.Sprintf("listen 127.0.0.1:%d", f.admin))
			c.replace("listen 80 ", fmt.Sprintf("listen 127.0.0.1:%d ", f.port))
			c.text = withTempPaths(c.text, f.dir)
		},
		command: nginxCommand,
		reload:  func(p *Proxy, _ *running) error { return p.Signal(syscall.SIGHUP) },
	},
	"haproxy": {
		program: "haproxy", file: "haproxy.cfg",
		edit: func(c *config, f *running) {
			c.backends("gateway 127.0.0.1:3000", "app 127.0.0.1:8000", f)
			if f.cert == nil {
				c.replace("bind :80", fmt.Sprintf("bind 127.0.0.1:%d", f.port))
				return
			}
			c.replace("bind :80", "")
			c.replace("# bind :443 ssl crt /etc/ssl/example.pem", fmt.Sprintf("bind 127.0.0.1:%d ssl crt %s", f.port, f.path("both.pem")))
		},
		prepare: func(f *running) error {
			if f.cert == nil {
				return nil
			}
			cert, err := os.ReadFile(f.cert.CertFile)
			key, err2 := os.ReadFile(f.cert.KeyFile)
			return errors.Join(err, err2, os.WriteFile(f.path("both.pem"), append(cert, key...), 0o600))
		},
		command: func(f *running) []string { return []string{"-W", "-db", "-f", f.file, "-S", f.path("master")} },
		// The worker serves before the master takes commands, and a signal would be lost then.
		reload: func(_ *Proxy, f *running) error {
			conn, err := net.Dial("unix", f.path("master"))
			for deadline := time.Now().Add(Patience); err != nil && time.Now().Before(deadline); {
				conn, err = net.Dial("unix", f.path("master"))
			}
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = io.WriteString(conn, "reload\n")
			return err
		},
	},
	"caddy": {
		program: "caddy", file: "Caddyfile",
		edit: func(c *config, f *running) {
			c.backends("reverse_proxy 127.0.0.1:3000", "reverse_proxy 127.0.0.1:8000", f)
			options := fmt.Sprintf("{\n\tadmin 127.0.0.1:%d\n\tdefault_bind 127.0.0.1\n\tauto_https disable_redirects\n}\n", f.admin)
			if f.cert == nil {
				c.replace("example.com {", fmt.Sprintf("http://:%d {", f.port))
			} else {
				c.replace("example.com {", fmt.Sprintf("https://:%d {\n\ttls %s %s", f.port, f.cert.CertFile, f.cert.KeyFile))
			}
			c.text = options + c.text
		},
		command: func(f *running) []string { return []string{"run", "--adapter", "caddyfile", "--config", f.file} },
		reload: func(p *Proxy, f *running) error {
			return p.tell("reload", "--force", "--adapter", "caddyfile", "--config", f.file)
		},
	},
	"apache": {
		program: "apache2", file: "apache.conf",
		edit: func(c *config, f *running) {
			c.backends("http://127.0.0.1:3000/events/", "http://127.0.0.1:8000/", f)
			c.replace("/run/apache2/apache2.pid", f.path("pid"))
			c.replace("ErrorLog /var/log/apache2/error.log", "ErrorLog /dev/stderr\nDefaultRuntimeDir "+f.dir)
			c.replace("/etc/apache2/come-back.lua", filepath.Join(c.deploy, "apache-come-back.lua"))
			if f.cert == nil {
				c.replace("Listen 80", fmt.Sprintf("Listen 127.0.0.1:%d", f.port))
				return
			}
			c.replace("Listen 80", "")
			c.replace("# Listen 443\n# SSLEngine on", fmt.Sprintf("Listen 127.0.0.1:%d\nSSLEngine on", f.port))
			c.replace("# SSLCertificateFile    /etc/ssl/example.pem", "SSLCertificateFile "+f.cert.CertFile)
			c.replace("# SSLCertificateKeyFile /etc/ssl/example.key", "SSLCertificateKeyFile "+f.cert.KeyFile)
		},
		command: func(f *running) []string { return []string{"-D", "FOREGROUND", "-f", f.file} },
		reload:  func(p *Proxy, f *running) error { return p.tell("-f", f.file, "-k", "graceful") },
	},
	"traefik": {
		program: "traefik", file: "traefik/dynamic.yaml",
		edit: func(c *config, f *running) {
			c.backends(`"http://127.0.0.1:3000"`, `"http://127.0.0.1:8000"`, f)
			static, err := readConfig(c.t, filepath.Join(c.deploy, "traefik", "traefik.yaml"))
			if err != nil {
				c.t.Fatal(err)
			}
			static.replace(`":443"`, fmt.Sprintf(`"127.0.0.1:%d"`, f.port))
			if f.cert == nil {
				static.replace("http: {tls: {}}", "")
			} else {
				c.replace("/etc/ssl/example.crt", f.cert.CertFile)
				c.replace("/etc/ssl/example.key", f.cert.KeyFile)
			}
			if err := os.WriteFile(f.path("traefik.yaml"), []byte(static.text), 0o600); err != nil {
				c.t.Fatal(err)
			}
			plugins := "plugins-local"
			if err := os.Symlink(filepath.Join(c.deploy, "traefik", plugins), f.path(plugins)); err != nil && !errors.Is(err, os.ErrExist) {
				c.t.Fatal(err)
			}
		},
		command: func(*running) []string { return []string{"--configFile=traefik.yaml"} },
		reload:  func(p *Proxy, _ *running) error { return p.Signal(syscall.SIGHUP) },
	},
}

// StartFront runs a proxy until the end of the test with its configuration in deploy/. It
// replaces only addresses and paths, and what the test names: an old text and a new one, in turn.
// With a certificate it uses the lines for TLS. The proxy is ready when the application answers
// /healthz through it.
func StartFront(t testing.TB, name string, cert *Certificate, gatewayPort, applicationPort int, oldnew ...string) *Proxy {
	t.Helper()
	front := fronts[name]
	f := &running{dir: t.TempDir(), cert: cert, gateway: gatewayPort, application: applicationPort}
	f.file = f.path(filepath.Base(front.file))
	program, err := find(front.program)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{command: append([]string{program}, front.command(f)...), dir: f.dir}
	p.reload = func() error {
		if front.prepare != nil {
			if err := front.prepare(f); err != nil {
				return err
			}
		}
		return front.reload(p, f)
	}
	p.start(t, func(port int) error {
		f.port = port
		f.admin, err = FreePort()
		deploy, err2 := filepath.Abs(filepath.Join("..", "..", "deploy"))
		c, err3 := readConfig(t, filepath.Join(deploy, front.file))
		if err := errors.Join(err, err2, err3); err != nil {
			return err
		}
		c.deploy = deploy
		front.edit(c, f)
		for i := 0; i < len(oldnew); i += 2 {
			c.replace(oldnew[i], oldnew[i+1])
		}
		if front.prepare != nil {
			err = front.prepare(f)
		}
		p.Endpoint = Local(port, cert)
		return errors.Join(err, os.WriteFile(f.file, []byte(c.text), 0o600))
	})
	return p
}

// start runs the proxy on a free port until the end of the test. configure writes its configuration.
func (p *Proxy) start(t testing.TB, configure func(port int) error) {
	t.Helper()
	name := filepath.Base(p.command[0])
	for attempt := 1; ; attempt++ {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if err := configure(port); err != nil {
			t.Fatal(err)
		}
		if err = p.run(port); err == nil {
			break
		}
		if attempt == 3 || !strings.Contains(strings.ToLower(p.Log.Text()), "address already in use") {
			t.Fatalf("%s: %v\n%s", name, err, p.Log.Text())
		}
	}
	t.Cleanup(func() {
		if _, err := p.Stop(Patience); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.Log.Text())
		}
	})
}

// Restart waits until the proxy has exited, and starts it again on the same port.
func (p *Proxy) Restart(t testing.TB) {
	t.Helper()
	if err := p.run(p.Port); err != nil {
		t.Fatalf("%s: %v\n%s", p.command[0], err, p.Log.Text())
	}
}

// Reload has the proxy read its configuration and certificate again, as deploy/ says to.
func (p *Proxy) Reload(t testing.TB) {
	t.Helper()
	if err := p.reload(); err != nil {
		t.Fatalf("reload %s: %v", p.command[0], err)
	}
}

// tell runs the proxy's program with arguments that have the running one do something.
func (p *Proxy) tell(args ...string) error {
	out, err := exec.Command(p.command[0], args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (p *Proxy) run(port int) error {
	process, err := Run(Command{Args: p.command, Dir: p.dir})
	if err != nil {
		return err
	}
	process.Port, p.Process = port, process
	if err := process.AwaitHealth(p.Endpoint); err != nil {
		process.Kill()
		return err
	}
	return nil
}

// find returns the path of an installed program.
func find(program string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed, and these tests need it: run `make test-deps`", program)
}

// config is the text of a configuration in deploy/.
type config struct {
	t      testing.TB
	name   string
	deploy string // the folder
	text   string
}

func readConfig(t testing.TB, path string) (*config, error) {
	text, err := os.ReadFile(path)
	return &config{t: t, name: filepath.Base(path), text: string(text)}, err
}

// replace replaces what the configuration must have exactly once.
func (c *config) replace(old, by string) {
	c.t.Helper()
	if n := strings.Count(c.text, old); n != 1 {
		c.t.Fatalf("deploy/%s has %d times %q, want once", c.name, n, old)
	}
	c.text = strings.Replace(c.text, old, by, 1)
}

// backends replaces the ports of the gateway and of the application.
func (c *config) backends(gateway, application string, f *running) {
	c.t.Helper()
	c.replace(gateway, strings.Replace(gateway, "3000", fmt.Sprint(f.gateway), 1))
	c.replace(application, strings.Replace(application, "8000", fmt.Sprint(f.application), 1))
}
