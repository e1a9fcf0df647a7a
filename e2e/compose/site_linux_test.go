package compose

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// file is a compose file, as far as it matters here. Its syntax is checked by release/deploy.
type file struct {
	Services map[string]*service
	Networks map[string]struct {
		IPAM struct {
			Config []struct{ Subnet string }
		}
	}
}

type service struct {
	Image       string
	Command     []string
	Environment map[string]string
	Volumes     []string
	Networks    map[string]struct {
		Address string `yaml:"ipv4_address"`
	}
	HealthCheck struct{ Test []string }

	name    string
	address string
	process *harness.Process
}

// programs are what the images run before the command, or instead of one.
type programs struct{ gateway, nats string }

// entry returns what the image of a service runs before its command.
func (p programs) entry(s *service) []string {
	switch {
	case s.Image == "ssegateway":
		return []string{p.gateway}
	case strings.HasPrefix(s.Image, "nats:"):
		return []string{p.nats}
	}
	return nil
}

// site is what a compose file describes.
type site struct {
	services map[string]*service
	hosts    string // the file /etc/hosts of all
	dir      string // of the compose file
	programs programs
	volumes  map[string]string // directories of the volumes with names
}

// newSite reads a compose file, and makes a host for each service.
func newSite(t *testing.T, name string) *site {
	t.Helper()
	netns.Need(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "compose", name))
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := yaml.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs(filepath.Join("..", "..", "deploy", "compose"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{services: f.Services, dir: dir, hosts: filepath.Join(t.TempDir(), "hosts"), programs: build(t), volumes: map[string]string{}}
	base, isNetwork := strings.CutSuffix(f.Networks["default"].IPAM.Config[0].Subnet, ".0/24")
	if !isNetwork {
		t.Fatalf("the network is %q", f.Networks["default"].IPAM.Config[0].Subnet)
	}
	// This process is where the clients are: outside, and as Docker has it at the network's first address.
	for _, arguments := range []string{"link set lo up", "link add compose type bridge forward_delay 0", "addr add " + base + ".1/24 dev compose", "link set compose up"} {
		netns.IP(t, arguments)
	}
	t.Cleanup(func() { netns.IP(t, "link del compose") })
	// Process 1 of these namespaces is this one: its end of each link is a port of the bridge.
	hosts, next := "127.0.0.1 localhost\n", 2
	for name, service := range s.services {
		service.name, service.address = name, service.Networks["default"].Address
		if service.address == "" { // as Docker does
			service.address = fmt.Sprintf("%s.%d", base, next)
			next++
		}
		hosts += service.address + " " + name + "\n"
		for _, arguments := range []string{
			"netns add " + name,
			"-n " + name + " link set lo up",
			"-n " + name + " link add eth0 type veth peer name " + name + " netns 1",
			"link set " + name + " up master compose",
			"-n " + name + " addr add " + service.address + "/24 dev eth0",
			"-n " + name + " link set eth0 up",
		} {
			netns.IP(t, arguments)
		}
		t.Cleanup(func() { netns.IP(t, "netns del "+name) })
	}
	if err := os.WriteFile(s.hosts, []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// build builds the gateway and the NATS server.
func build(t *testing.T) programs {
	t.Helper()
	dir := t.TempDir()
	gateway, err := harness.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	nats := filepath.Join(dir, "nats-server")
	if err := harness.BuildNATS(nats); err != nil {
		t.Fatal(err)
	}
	return programs{gateway, nats}
}

// container is the script that gives a command what a container would: the hosts file $1, and then
// up to "--" the files SOURCE:TARGET of its volumes. All targets are in /srv or /var/lib. What a program writes elsewhere ends with it.
const container = `
set -e
mount --bind "$1" /etc/hosts
mount -t tmpfs tmpfs /srv
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/nginx
if [ -d /var/log/nginx ]; then mount -t tmpfs tmpfs /var/log/nginx; fi
shift
while [ "$1" != -- ]; do
	source=${1%%:*} target=${1#*:}
	if [ -d "$source" ]; then mkdir "$target"; else touch "$target"; fi
	mount --bind "$source" "$target"
	shift
done
shift
exec "$@"
`

// on returns the command that runs another one as in the container of a service.
func (s *site) on(t *testing.T, service *service, args ...string) harness.Command {
	t.Helper()
	script := []string{"sh", "-c", container, service.name, s.hosts}
	for _, volume := range service.Volumes {
		source, target, _ := strings.Cut(strings.TrimSuffix(volume, ":ro"), ":")
		if strings.HasPrefix(source, ".") {
			source = filepath.Join(s.dir, source)
		} else { // a volume with a name
			if s.volumes[source] == "" {
				s.volumes[source] = t.TempDir()
			}
			source = s.volumes[source]
		}
		script = append(script, source+":"+target)
	}
	env := []string{"TMPDIR=" + t.TempDir()}
	for name, value := range service.Environment {
		env = append(env, name+"="+value)
	}
	return harness.Command{Args: netns.On(t, service.name, append(append(script, "--"), args...)...), Env: env}
}

// start runs a service until the end of the test.
func (s *site) start(t *testing.T, name string) {
	t.Helper()
	service := s.services[name]
	var err error
	service.process, err = harness.Run(s.on(t, service, append(s.programs.entry(service), service.Command...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = service.process.Stop(harness.Patience)
		if text := service.process.Log.Text(); t.Failed() || strings.Contains(text, "WARNING: DATA RACE") {
			t.Errorf("log of %s:\n%s", name, text)
		}
	})
}

// awaitHealthy runs the health check of a service until it succeeds.
func (s *site) awaitHealthy(t *testing.T, name string) {
	t.Helper()
	service := s.services[name]
	args := append([]string{s.programs.gateway}, service.HealthCheck.Test[2:]...) // behind CMD and the program
	await(t, name+" is healthy", func() error {
		check, err := harness.Run(s.on(t, service, args...))
		if err != nil {
			return err
		}
		if code, err := check.Exit(harness.Patience); err != nil || code != 0 {
			return fmt.Errorf("%d %w: %s", code, err, check.Log.Text())
		}
		return nil
	})
}

// await tries until it succeeds.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	end := time.After(harness.Patience)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-poll.C:
		case <-end:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// open opens a stream through nginx, and reads its first event.
func (s *site) open(t *testing.T, name string, header ...harness.Field) *harness.Exchange {
	t.Helper()
	x, err := harness.Endpoint{Addr: s.services["nginx"].address + ":80"}.Do(t.Context(), harness.Request{Target: "/events/?name=" + name, Header: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Leave)
	want(t, x, "welcome", "Hello, "+name)
	return x
}

// want waits for the next event, which must be this one, and returns its id. It ignores blocks without data.
func want(t *testing.T, x *harness.Exchange, name, data string) (id string) {
	t.Helper()
	end := time.Now().Add(harness.Patience)
	for time.Now().Before(end) {
		var block strings.Builder
		for !strings.HasSuffix(block.String(), "\n\n") {
			b, err := x.Next(1, harness.Patience)
			if err != nil {
				t.Fatalf("%q, then %v, want %s %q", block.String(), err, name, data)
			}
			block.WriteString(b)
		}
		if !strings.Contains(block.String(), "data: ") {
			continue
		}
		if got := "\n" + block.String(); !strings.Contains(got, "\nevent: "+name+"\n") || !strings.Contains(got, "\ndata: "+data+"\n") {
			t.Fatalf("%q, want %s %q", got, name, data)
		}
		_, after, _ := strings.Cut(block.String(), "id: ")
		id, _, _ = strings.Cut(after, "\n")
		return id
	}
	t.Fatalf("no %s %q", name, data)
	return ""
}

// do makes a request to a service from outside, and requires that status.
func (s *site) do(t *testing.T, method, name, target, body string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.services[name].address+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: harness.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Errorf("%s %s%s: %d %s (%v), want %d", method, name, target, resp.StatusCode, answer, err, status)
	}
	return string(answer)
}
