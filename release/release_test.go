package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// patience is how long something may take that should happen at once.
const patience = 30 * time.Second

// dist has a release of the last commit for this system, and clone is what it was built from.
var dist, clone string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	flag.Parse()
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	clone, dist = filepath.Join(dir, "clone"), filepath.Join(dir, "dist")
	if err := errors.Join(cloneTo(clone), run(context.Background(), clone, dist, "linux/"+runtime.GOARCH)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// cloneTo clones the last commit of the project.
func cloneTo(dir string) error {
	out, err := exec.Command("git", "clone", "-q", "..", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git clone: %w: %s", err, out)
	}
	return nil
}

// one returns the only file of the release with that end.
func one(t *testing.T, end string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dist, "*"+end))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d files *%s (%v), want one", len(found), end, err)
	}
	return found[0]
}

// Another clone, in another place and with empty caches, gives the same bytes.
func TestReproducible(t *testing.T) {
	again, out := filepath.Join(t.TempDir(), "quite", "another", "place"), filepath.Join(t.TempDir(), "dist")
	if err := cloneTo(again); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", t.TempDir())
	if err := run(t.Context(), again, out, "linux/"+runtime.GOARCH); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("two builds differ (%v):\n%s\n%s", err, want, got)
	}
}

func TestChecksums(t *testing.T) {
	cmd := exec.Command("sha256sum", "--strict", "-c", "SHA256SUMS")
	cmd.Dir = dist
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	files := 0
	err = filepath.WalkDir(dist, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files++
		}
		return err
	})
	if err != nil || strings.Count(string(out), ": OK\n") != files-1 {
		t.Errorf("%d files, checked:\n%s (%v)", files, out, err)
	}
}

// The program in the archive is static, and names version, commit and Go.
func TestArchive(t *testing.T) {
	f, err := os.Open(one(t, "_linux_"+runtime.GOARCH+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names := untar(t, z, dir)
	base := strings.TrimSuffix(filepath.Base(f.Name()), ".tar.gz")
	want := []string{base + "/CHANGELOG.md", base + "/LICENSE", base + "/README.md", base + "/configuration.md", base + "/ssegateway"}
	if !slices.Equal(names, want) {
		t.Errorf("the archive has %q, want %q", names, want)
	}
	program := filepath.Join(dir, base, "ssegateway")
	out, err := exec.Command(program, "version").CombinedOutput()
	head, headErr := exec.Command("git", "-C", clone, "rev-parse", "HEAD").Output()
	version, _, _ := strings.Cut(strings.TrimPrefix(base, "ssegateway_"), "_linux_")
	wantLine := fmt.Sprintf("ssegateway v%s, commit %s, %s linux/%s\n", version, strings.TrimSpace(string(head)), runtime.Version(), runtime.GOARCH)
	if err := errors.Join(err, headErr); err != nil || string(out) != wantLine {
		t.Errorf("%v: %q, want %q", err, out, wantLine)
	}
	if out, _ := exec.Command("ldd", program).CombinedOutput(); !strings.Contains(string(out), "not a dynamic executable") {
		t.Errorf("not static: %s", out)
	}
}

// untar unpacks an archive into a directory, and returns the names of its files, sorted.
func untar(t *testing.T, r io.Reader, dir string) (names []string) {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			t.Fatalf("%q is no file of the archive", h.Name)
		}
		names = append(names, strings.TrimSuffix(h.Name, "/"))
		if h.Typeflag == tar.TypeDir {
			if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, h.FileInfo().Mode()), os.Chown(path, h.Uid, h.Gid)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, h.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSBOM(t *testing.T) {
	data, err := os.ReadFile(one(t, "_sbom.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(data, &bom); err != nil || bom.BOMFormat != "CycloneDX" {
		t.Fatalf("%v: %q", err, bom.BOMFormat)
	}
	for _, name := range []string{"github.com/nats-io/nats.go", "github.com/prometheus/client_golang", "github.com/spf13/cobra"} {
		found := false
		for _, c := range bom.Components {
			found = found || c.Name == name && c.Version != ""
		}
		if !found {
			t.Errorf("%s is in the program, and not in the SBOM", name)
		}
	}
	if bytes.Contains(data, []byte(clone)) {
		t.Error("the SBOM names the place of the build")
	}
}

// loadImage unpacks the image for this system, and returns its configuration and its files.
func loadImage(t *testing.T) (config v1.Config, root string, names []string) {
	t.Helper()
	f, err := os.Open(one(t, "_image.oci.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	untar(t, f, dir)
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("%v: %+v", err, manifest)
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if manifest, err = index.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest.Manifests {
		if m.Platform.OS != "linux" || m.Platform.Architecture != runtime.GOARCH {
			continue
		}
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		file, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		root = t.TempDir()
		files := mutate.Extract(image)
		names = untar(t, files, root)
		return file.Config, root, names
	}
	t.Fatal("no image for this system")
	return config, "", nil
}

// The image has nothing but the program, the certificates, and a directory for STATE_DIR. It runs as nobody in
// particular, on a root that it cannot write to, and its health check asks the gateway.
func TestImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	config, root, names := loadImage(t)
	if want := []string{"etc/ssl/certs/ca-certificates.crt", "ssegateway", "var/lib/ssegateway"}; !slices.Equal(names, want) {
		t.Errorf("the image has %q, want %q", names, want)
	}
	authorities, err := os.ReadFile(filepath.Join(root, "etc", "ssl", "certs", "ca-certificates.crt"))
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(authorities) || bytes.Count(authorities, []byte("BEGIN")) < 50 {
		t.Errorf("%v: the image has %d certificates", err, bytes.Count(authorities, []byte("BEGIN")))
	}
	if config.User != "65532:65532" || !slices.Equal(config.Entrypoint, []string{"/ssegateway"}) {
		t.Errorf("user %q, entry point %q", config.User, config.Entrypoint)
	}
	// A directory of root's, in which nobody else may write.
	for _, dir := range []string{filepath.Dir(root), root} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := container{t, config, root, freePort(t)}
	if out, err := c.health(); err == nil || !strings.Contains(out, "cannot reach the gateway") {
		t.Errorf("health without a gateway: %v, %s", err, out)
	}
	stop := c.start()
	if out, err := c.health(); err != nil {
		t.Errorf("health: %v, %s", err, out)
	}
	if err := stop(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM ends it with %v", err)
	}

	// The directory is the user's, so a log in it is there after a kill. A container has /proc, too.
	boot := "/proc/sys/kernel/random/boot_id"
	id, err := os.ReadFile(boot)
	if err := errors.Join(err, os.MkdirAll(filepath.Join(root, filepath.Dir(boot)), 0o755), os.WriteFile(filepath.Join(root, boot), id, 0o644)); err != nil {
		t.Fatal(err)
	}
	stop = c.start("STATE_DIR=/var/lib/ssegateway")
	first := c.position()
	_ = stop(syscall.SIGKILL)
	stop = c.start("STATE_DIR=/var/lib/ssegateway")
	if second := c.position(); second != first || !strings.HasSuffix(second, "-0") {
		t.Errorf("the log is at %q after a kill, and was at %q", second, first)
	}
	_ = stop(syscall.SIGKILL)
}

// container is the unpacked image, as a container runtime would run it.
type container struct {
	t      *testing.T
	config v1.Config
	root   string
	port   int
}

func (c container) command(args []string, settings ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = "/", append([]string{"PORT=" + strconv.Itoa(c.port), "CALLBACK_URL=http://127.0.0.1:9/"}, settings...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// health runs the health check.
func (c container) health() (string, error) {
	out, err := c.command(c.config.Healthcheck.Test[1:]).CombinedOutput()
	return string(out), err
}

// start starts the gateway. stop ends it by a signal, and returns how it ended.
func (c container) start(settings ...string) (stop func(syscall.Signal) error) {
	c.t.Helper()
	gateway := c.command(c.config.Entrypoint, settings...)
	var log bytes.Buffer
	gateway.Stderr = &log
	if err := gateway.Start(); err != nil {
		c.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- gateway.Wait() }()
	awaitHealth(c.t, c.port, exited)
	return func(signal syscall.Signal) error {
		c.t.Helper()
		if err := gateway.Process.Signal(signal); err != nil {
			c.t.Fatal(err)
		}
		select {
		case err := <-exited:
			c.t.Log(log.String())
			return err
		case <-time.After(patience):
			c.t.Fatalf("%v does not end it", signal)
			return nil
		}
	}
}

// position asks the gateway where its log is.
func (c container) position() string {
	c.t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(c.port) + "/internal/position")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Position string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		c.t.Fatal(err)
	}
	return answer.Position
}

// The Dockerfile gives the same image.
func TestDockerfile(t *testing.T) {
	config, _, names := loadImage(t)
	text, err := os.ReadFile("../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := strings.Cut(string(text), "FROM scratch\n")
	health := config.Healthcheck
	want := []string{
		"USER " + config.User,
		"EXPOSE 3000/tcp",
		fmt.Sprintf("HEALTHCHECK --interval=%v --timeout=%v CMD %s", health.Interval, health.Timeout, inJSON(health.Test[1:])),
		"ENTRYPOINT " + inJSON(config.Entrypoint),
	}
	var got, copied []string
	for line := range strings.Lines(last) {
		if fields := strings.Fields(line); fields[0] == "COPY" {
			copied = append(copied, strings.TrimPrefix(fields[len(fields)-1], "/"))
			if owner := "--chown=" + config.User; slices.Contains(fields, owner) != (copied[len(copied)-1] == "var/lib/ssegateway") {
				t.Errorf("%s: only the directory has %s", line, owner)
			}
		} else {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	slices.Sort(copied)
	if !slices.Equal(got, want) || !slices.Equal(copied, names) {
		t.Errorf("the Dockerfile has %q and %q, the image %q and %q", got, copied, want, names)
	}
}

func inJSON(list []string) string {
	return `["` + strings.Join(list, `", "`) + `"]`
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// awaitHealth waits until a gateway answers.
func awaitHealth(t *testing.T, port int, exited <-chan error) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	end := time.After(patience)
	for {
		resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-poll.C:
		case err := <-exited:
			t.Fatalf("the gateway ended: %v", err)
		case <-end:
			t.Fatalf("no answer: %v", err)
		}
	}
}
