package deploy

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose loads a file as `docker compose` does, which takes no key that the specification does not have.
func loadCompose(t *testing.T, name string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../../deploy/compose/" + name})
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// The compose files are valid. All that they name is there, the gateways have settings that there
// are and time for their drain, and only nginx is reached from outside.
func TestCompose(t *testing.T) {
	known := settings(t)
	for file, gateways := range map[string][]string{
		"compose.yaml":         {"gateway"},
		"compose.cluster.yaml": {"gateway-1", "gateway-2", "gateway-3"},
	} {
		t.Run(file, func(t *testing.T) {
			p := loadCompose(t, file)
			subnet := netip.MustParsePrefix(p.Networks["default"].Ipam.Config[0].Subnet)
			addresses := map[string]bool{}
			for name, s := range p.Services {
				for _, v := range s.Volumes {
					if v.Type != types.VolumeTypeBind {
						continue
					}
					if info, err := os.Stat(v.Source); err != nil || info.IsDir() || !v.ReadOnly {
						t.Errorf("%s mounts %s: %v, to be changed: %v", name, v.Source, err, !v.ReadOnly)
					}
				}
				if len(s.Ports) > 0 && name != "nginx" {
					t.Errorf("%s is open to the outside", name)
				}
				if address := s.Networks["default"]; address != nil {
					if ip := address.Ipv4Address; addresses[ip] || !subnet.Contains(netip.MustParseAddr(ip)) {
						t.Errorf("%s has the address %s: in use %v, network %v", name, ip, addresses[ip], subnet)
					}
					addresses[address.Ipv4Address] = true
				}
			}
			var found []string
			for name, s := range p.Services {
				if s.Image == "ssegateway" {
					found = append(found, name)
					checkGateway(t, name, s, known)
					equal(t, name+" waits for the backend", s.DependsOn["backend"].Condition, "service_started")
				}
			}
			slices.Sort(found)
			equal(t, "gateways", found, gateways)
			nginx := p.Services["nginx"]
			equal(t, "ports", nginx.Ports[0].Published+":"+strconv.Itoa(int(nginx.Ports[0].Target)), "8080:80")
			equal(t, "nginx waits for", slices.Sorted(maps.Keys(nginx.DependsOn)), slices.Sorted(slices.Values(append([]string{"backend"}, gateways...))))
			for _, name := range gateways {
				equal(t, "nginx waits for "+name, nginx.DependsOn[name].Condition, "service_healthy")
			}
		})
	}
}

func checkGateway(t *testing.T, name string, s types.ServiceConfig, known []string) {
	t.Helper()
	for variable, value := range s.Environment {
		if !slices.Contains(known, variable) || value == nil {
			t.Errorf("%s: %s is no setting of the gateway, or has no value", name, variable)
		}
	}
	drain, err := strconv.Atoi(*s.Environment["DRAIN_SECONDS"])
	if err != nil || time.Duration(*s.StopGracePeriod) < time.Duration(drain+6)*time.Second {
		t.Errorf("%s is killed after %v, in the middle of its drain of %d s (%v)", name, s.StopGracePeriod, drain, err)
	}
	if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "directory of the build", s.Build.Context, root)
	equal(t, "health check", []string(s.HealthCheck.Test), []string{"CMD", "/ssegateway", "health", "--ready"})
	equal(t, "restrictions", []any{s.ReadOnly, s.CapDrop[0], s.SecurityOpt[0]}, []any{true, "ALL", "no-new-privileges:true"})
}
