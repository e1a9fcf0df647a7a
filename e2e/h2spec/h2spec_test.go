package h2spec

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var (
	gateway string // the program
	suite   string // the program h2spec
	cert    *harness.Certificate
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	if gateway, cert, err = harness.BuildWithCertificate(dir); err != nil {
		return err
	}
	suite = filepath.Join(dir, "h2spec")
	build := exec.Command("go", "build", "-modfile=../../tools.mod", "-o", suite, "github.com/summerwind/h2spec/cmd/h2spec")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(build.Args, " "), err, out)
	}
	return nil
}

// cases is the number of cases, including those for strict servers.
const cases = 147

// failure says why the failure of a case does no harm.
type failure struct {
	why string
	// plain: it fails only without TLS.
	plain bool
	// raced: it fails only if the gateway answers before it sees the error in the body.
	raced bool
}

// failures are the cases that fail, by their names as arguments of h2spec. All are due to
// net/http.
var failures = map[string]failure{
	"http2/3.5/2": {
		plain: true,
		why: `What is no preface of HTTP/2 is read as HTTP/1.1, which the port speaks as well: it is answered 400 and the
			connection is closed. The case takes the answer for a broken frame.`,
	},
	"http2/4.2/3": {
		why: `A frame of 17 KiB is no error: the gateway's SETTINGS_MAX_FRAME_SIZE allows 1 MiB. The case does not look at it.`,
	},
	"http2/6.5.3/1": {
		why: `SETTINGS with one identifier twice end the connection with PROTOCOL_ERROR. RFC 9113 has the last value count, but no
			client sends such a frame.`,
	},
	"http2/8.1.2.2/1": {
		why: `A request with a Connection field is answered 400, not reset: it is refused and nothing else sees it.`,
	},
	"http2/8.1.2.2/2": {
		why: `A request with a TE field other than "trailers" is answered 400, not reset: it is refused and nothing else sees it.`,
	},
	"http2/8.1.2.6/1": {raced: true, why: unread},
	"http2/8.1.2.6/2": {raced: true, why: unread},
}

const unread = `A POST is answered 405, which needs no body (RFC 9113 section 8.1 lets a server answer first). If the answer is
	out before the body comes, nobody reads the body and its length no longer matters.`

func TestH2spec(t *testing.T) {
	for _, plain := range []bool{true, false} {
		t.Run(fmt.Sprintf("tls=%t", !plain), func(t *testing.T) {
			t.Parallel()
			failed := conform(t, plain)
			for name, text := range failed {
				if f, ok := failures[name]; !ok || f.plain && !plain {
					t.Errorf("%s fails: %s", name, text)
				}
			}
			for name, f := range failures {
				if f.raced || f.plain && !plain {
					continue
				}
				if _, ok := failed[name]; !ok {
					t.Errorf("%s passes now: take it off the list of failures", name)
				}
			}
		})
	}
}

// report is the report of h2spec, in JUnit's format.
type report struct {
	Groups []struct {
		Name  string `xml:"package,attr"`
		Cases []struct {
			Title   string    `xml:"classname,attr"`
			Failure *string   `xml:"failure"`
			Error   *string   `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// patience is for all cases together. Each case that fails takes 2 s or 4 s, and the others no time.
const patience = 2 * time.Minute

// conform runs all cases, and returns those that fail.
//
// The path is that of a stream, but no backend is configured. So the answer ends, which many
// cases wait for, and it comes only when it is known whether the request has a body. If a case
// sends HEADERS and then a wrong frame, the gateway therefore sees the frame first.
func conform(t *testing.T, plain bool) map[string]string {
	settings, c := []string{"CALLBACK_URL="}, cert
	args := []string{"--strict", "--host", "127.0.0.1", "--path", "/", "--junit-report"}
	file := filepath.Join(t.TempDir(), "report.xml")
	args = append(args, file)
	if plain {
		settings, c = append(settings, "H2C=true"), nil
	} else {
		args = append(args, "--tls", "--insecure")
	}
	g := harness.StartGateway(t, gateway, c, settings...)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// h2spec exits with an error if a case fails, but also if it could not continue.
	out, runErr := exec.CommandContext(ctx, suite, append(args, "--port", strconv.Itoa(g.Port))...).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("no report: %v, %v\n%s", err, runErr, out)
	}
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v in the report\n%s", err, text)
	}
	failed, n := map[string]string{}, 0
	for _, group := range r.Groups {
		for i, c := range group.Cases {
			n++
			name := fmt.Sprintf("%s/%d", group.Name, i+1)
			switch {
			case c.Failure != nil:
				failed[name] = c.Title + ": " + *c.Failure
			case c.Error != nil:
				failed[name] = c.Title + ": " + *c.Error
			case c.Skipped != nil:
				t.Errorf("%s is skipped: %s", name, c.Title)
			}
		}
	}
	if n != cases {
		t.Fatalf("%d cases ran, want %d: %v\n%s", n, cases, runErr, out)
	}
	protocol := "HTTP/2 over TLS"
	if plain {
		protocol = "h2c"
	}
	harness.Figure(t, "%s: %d of the %d cases of h2spec pass, those for strict servers among them", protocol, n-len(failed), n)
	return failed
}
