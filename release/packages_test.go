package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// debian is a Debian that has only what every Debian has.
type debian struct {
	t    *testing.T
	root string
}

// newDebian makes one, of the release that this system has.
func newDebian(t *testing.T) *debian {
	t.Helper()
	osRelease, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(osRelease), "VERSION_CODENAME=")
	suite, _, _ := strings.Cut(rest, "\n")
	d := &debian{t, filepath.Join(t.TempDir(), "debian")}
	if out, err := exec.Command("debootstrap", "--variant=minbase", suite, d.root).CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v: %s", err, out[max(0, len(out)-2000):])
	}
	return d
}

// run runs a command in it, which must succeed.
func (d *debian) run(args ...string) string {
	d.t.Helper()
	out, err := exec.Command("chroot", append([]string{d.root}, args...)...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%q: %v: %s", args, err, out)
	}
	return string(out)
}

// install installs a package.
func (d *debian) install(deb string) {
	d.t.Helper()
	data, err := os.ReadFile(deb)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.root, "new.deb"), data, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.run("dpkg", "--install", "/new.deb")
}

// The package installs, upgrades and purges in a Debian without anything else. It is started as its
// unit does, without systemd, which no chroot has.
func TestDeb(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("debootstrap needs root")
	}
	d := newDebian(t)
	deb := one(t, "_"+runtime.GOARCH+".deb")
	d.install(deb)
	if got := d.run("stat", "-c", "%a %U:%G", "/etc/ssegateway/config.yaml"); got != "640 root:ssegateway\n" {
		t.Errorf("the configuration is %s", got)
	}
	unit, err := os.ReadFile(filepath.Join(d.root, "lib/systemd/system/ssegateway.service")) //nolint:gocritic // a path in the root
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(unit), "\nExecStart=")
	command, _, _ := strings.Cut(rest, "\n")

	config := filepath.Join(d.root, "etc", "ssegateway", "config.yaml")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"events":[{"data":"hello"}]}`)
	}))
	defer backend.Close()
	port := freePort(t)
	settings, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	settings = fmt.Appendf(settings, "port: %d\ncallback_url: %s\n", port, backend.URL)
	if err := os.WriteFile(config, settings, 0o640); err != nil {
		t.Fatal(err)
	}
	service := exec.Command("chroot", append([]string{"--userspec=ssegateway", d.root}, strings.Fields(command)...)...)
	var log bytes.Buffer
	service.Stderr = &log
	service.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- service.Wait() }()
	awaitHealth(t, port, exited)
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/events", port))
	if err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(resp.Body).ReadString('\n')
	_ = resp.Body.Close()
	if err != nil || first != "data: hello\n" {
		t.Errorf("the stream begins with %q (%v)", first, err)
	}
	if err := service.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Errorf("%v: %s", err, log.String())
	}

	// A newer version keeps what was changed in the configuration.
	newer := &release{root: clone, out: t.TempDir(), version: "99.0.0", date: time.Unix(0, 0)}
	binary := filepath.Join(d.root, "usr", "bin", "ssegateway")
	if err := newer.packages(t.Context(), binary, target{"linux", runtime.GOARCH}); err != nil {
		t.Fatal(err)
	}
	d.install(filepath.Join(newer.out, "ssegateway_99.0.0_"+runtime.GOARCH+".deb"))
	if after, err := os.ReadFile(config); err != nil || !bytes.Equal(after, settings) {
		t.Errorf("the upgrade has changed the configuration (%v)", err)
	}
	if got := d.run("dpkg-query", "--show", "ssegateway"); !strings.Contains(got, "99.0.0") {
		t.Errorf("installed is %s", got)
	}
	d.run("dpkg", "--purge", "ssegateway")
	for _, path := range []string{"usr/bin/ssegateway", "etc/ssegateway", "lib/systemd/system/ssegateway.service", "var/lib/ssegateway"} {
		if _, err := os.Lstat(filepath.Join(d.root, path)); !os.IsNotExist(err) {
			t.Errorf("purging leaves %s (%v)", path, err)
		}
	}
	if passwd, err := os.ReadFile(filepath.Join(d.root, "etc", "passwd")); err != nil || bytes.Contains(passwd, []byte("ssegateway")) {
		t.Errorf("purging leaves the user (%v)", err)
	}
}
