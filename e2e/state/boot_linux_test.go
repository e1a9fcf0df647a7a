package state

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// The gateway learns from /proc whether the machine was booted since a kill. Where it cannot, the log has a new epoch
// after each, and that is said; with STATE_SYNC=always it need not know. The unit that is shipped lets it know.
func TestBootIsKnown(t *testing.T) {
	if out, err := exec.Command("unshare", "--mount", "mount", "-t", "proc", "proc", "/proc").CombinedOutput(); err != nil {
		t.Skipf("another /proc needs root: %v %s", err, out)
	}
	for _, test := range []struct {
		name, proc, sync string
		same, warned     bool
	}{
		{"as in the unit", unitProc(t), "second", true, false},
		{"hidden", "subset=pid", "second", false, true},
		{"hidden, and each write is synced", "subset=pid", "always", true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			command := harness.Command{
				Args: []string{"unshare", "--mount", "sh", "-c", `mount -t proc -o "$1" proc /proc && exec "$0"`, binary, test.proc},
				Env:  []string{"CALLBACK_URL=http://127.0.0.1:9/", "STATE_DIR=" + t.TempDir(), "STATE_SYNC=" + test.sync},
			}
			position := func() (at, log string) {
				t.Helper()
				p, err := harness.Start(command, func(port int) harness.Endpoint { return harness.Local(port, nil) })
				if err != nil {
					t.Fatal(err)
				}
				defer p.Kill()
				resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(p.Port) + "/internal/position")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				var answer struct{ Position string }
				if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Position == "" {
					t.Fatal(answer, err)
				}
				return answer.Position, p.Log.Text()
			}
			first, log := position()
			if warned := strings.Contains(log, "[WARN] STATE_DIR: "); warned != test.warned {
				t.Errorf("a warning is %v\n%s", warned, log)
			}
			if second, log := position(); (second == first) != test.same {
				t.Errorf("the log is at %s after a kill at %s\n%s", second, first, log)
			}
		})
	}
}

// unitProc returns the options with which systemd mounts /proc for the unit.
func unitProc(t *testing.T) string {
	t.Helper()
	unit, err := os.ReadFile("../../deploy/systemd/ssegateway.service")
	if err != nil {
		t.Fatal(err)
	}
	options := []string{"nosuid"}
	for line := range strings.Lines(string(unit)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
		case "ProtectProc":
			options = append(options, "hidepid="+value)
		case "ProcSubset":
			options = append(options, "subset="+value)
		}
	}
	return strings.Join(options, ",")
}
