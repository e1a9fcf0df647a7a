package generated

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

const (
	secret   = "s3cr3t+/="
	document = "../../internal/api/openapi.yaml"
)

var binary string // the gateway

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, err = harness.Build(dir)
	return err
}

func TestOapiCodegen(t *testing.T) {
	t.Parallel()
	dir := copied(t, "client")
	if err := os.Mkdir(filepath.Join(dir, "gateway"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "go", "tool", "oapi-codegen", "-generate", "types,client", "-package", "gateway", "-o", "gateway/gateway.go", "openapi.yaml")
	run(t, dir, "go", "build", "-o", "client", ".")
	useIn(t, dir, "./client")
}

func TestTypeScript(t *testing.T) {
	t.Parallel()
	dir := copied(t, "npm")
	packages, err := filepath.Abs("npm/node_modules")
	if err == nil {
		_, err = os.Stat(packages)
	}
	if err == nil {
		err = os.Symlink(packages, filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	run(t, dir, "node_modules/.bin/openapi-typescript", "openapi.yaml", "-o", "openapi-typescript.ts")
	run(t, dir, "node_modules/.bin/openapi-ts", "-i", "openapi.yaml", "-o", "hey-api")
	run(t, dir, "node_modules/.bin/tsc")
	for _, client := range []string{"openapi-fetch.js", "hey-api.js"} {
		t.Run(client, func(t *testing.T) { useIn(t, dir, "node", client) })
	}
}

// copied returns a copy of a folder, without what was installed in it, and with the document.
func copied(t *testing.T, folder string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	names, err := filepath.Glob(folder + "/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, document) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*harness.Patience) // the first time compilers are slow
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// useIn opens a stream of a new gateway, has the client use the API on it, and looks at what the stream has got.
func useIn(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	gw := harness.StartGateway(t, binary, nil, "INTERNAL_TOKEN="+secret)
	const topic = "a topic/ü" // which a client has to encode
	grant, err := json.Marshal(map[string]any{"topics": []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	gw.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Status: http.StatusOK, Body: string(grant)}
	}})
	x := gw.Open(t, "")
	token := gw.Await(t, 1, "connect", func(*harness.Callback) bool { return true })[0].Token
	run(t, dir, name, append(args, fmt.Sprintf("http://%s", gw.Endpoint.Addr), secret, token, topic)...)
	stream, end, err := x.Rest(harness.Patience)
	if end != harness.Clean {
		t.Fatal(end, err)
	}
	var got []string
	for line := range strings.Lines(stream) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			got = append(got, strings.TrimSuffix(data, "\n"))
		}
	}
	if want := []string{"sent", "published", "in a batch", "to all in a batch", "streamed"}; !slices.Equal(got, want) {
		t.Errorf("the stream has %q, want %q", got, want)
	}
}
