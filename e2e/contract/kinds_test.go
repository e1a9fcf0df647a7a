package contract

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ssegateway/e2e/harness"
)

// kind is one way to serve and to reach streams. The whole suite runs on each kind.
type kind struct{ harness.Kind }

// The names of the kinds.
const (
	detached = harness.Detached
	parked   = harness.Parked
	tlsHTTP1 = harness.TLSHTTP1
	tlsHTTP2 = harness.TLSHTTP2
	h2c      = harness.H2CHTTP2
	foreign  = "foreign" // CONTRACT_COMMAND, over HTTP/1.1
)

var (
	http1Kinds = []string{detached, parked, tlsHTTP1, foreign}
	http2Kinds = []string{tlsHTTP2, h2c}
	tlsKinds   = []string{tlsHTTP1, tlsHTTP2}
)

// wireSpecific has the cases that make sense only on some kinds, with the reason. All other
// cases have to run on every kind.
var wireSpecific = map[string]struct {
	kinds []string
	why   string
}{
	"response head on HTTP 1.1: Connection keep-alive, chunked":                                        {http1Kinds, "HTTP/2 has neither field"},
	"response head on HTTP 2: nothing about the connection":                                            {http2Kinds, "HTTP/1.1 has these fields"},
	"HTTP 1.0: no chunking, Connection close, ended by the close":                                      {http1Kinds, "HTTP/2 has no older form on its connection"},
	"headers of the connection itself are headers too":                                                 {http1Kinds, "HTTP/2 forbids them"},
	"the same header in different cases is one header":                                                 {http1Kinds, "HTTP/2 has names in lower case only"},
	"on HTTP 1.1 each event is one chunk, its end the last chunk":                                      {http1Kinds, "HTTP/2 has DATA frames, which may be cut anywhere"},
	"on HTTP 1.1 an event is a chunk byte by byte":                                                     {http1Kinds, "HTTP/2 has no chunks"},
	"a byte from the client after its request ends the connection: error, unexpected_data":             {http1Kinds, "in HTTP/2 the request has an END_STREAM, and the protocol's own error behind it"},
	"bytes behind the request, there with it: error, unexpected_data":                                  {http1Kinds, "as above"},
	"bytes behind the request while the connect is pending: error, unexpected_data":                    {http1Kinds, "as above"},
	"bytes behind the request, and then the end, before the connect has its turn: no callbacks":        {http1Kinds, "as above"},
	"the detail of a close is logged":                                                                  {http1Kinds, "uses unexpected_data, see above"},
	"streams of one address count whatever connection they share":                                      {http2Kinds, "HTTP/1.1 has one on each"},
	"a malformed request leaves no secret in the log":                                                  {http1Kinds, "the requests are HTTP/1.1 bytes"},
	"a chunked body on GET is refused with 400, and so is one that does not come":                      {http1Kinds, "HTTP/2 has no chunked coding"},
	"a target in absolute form is its path and query, and its authority the host":                      {http1Kinds, "HTTP/2 has :scheme and :authority instead"},
	"internal in absolute form: 403 at the public port, whoever asks":                                  {http1Kinds, "as above"},
	"a target of another scheme, or with user information: 400, without a callback":                    {http1Kinds, "as above"},
	"a malformed request is a 400 and the connection ends":                                             {http1Kinds, "HTTP/2 has protocol errors instead"},
	"a malformed request: the error form, and CORS":                                                    {http1Kinds, "HTTP/2 has protocol errors instead"},
	"a malformed request behind another one: the error form":                                           {http1Kinds, "as above"},
	"HTTP to a port that speaks HTTPS: 400 INVALID_REQUEST, which says so":                             {tlsKinds, "needs TLS"},
	"OPTIONS of the gateway as a whole: a 405 like that of a path":                                     {http1Kinds, "the target is of HTTP/1.1"},
	"the certificate is read again when it changes":                                                    {tlsKinds, "needs TLS"},
	"headers that nobody takes: 431":                                                                   {http1Kinds, "HTTP/2 connections end then"},
	"a target or headers over 32 KiB on HTTP 2: the connection and its other streams go on":            {http2Kinds, "HTTP/1.1 has one request at a time"},
	"a client that asks for the close of its connection is promised it":                                {http1Kinds, "HTTP/2 does not have the field"},
	"a client that was refused over HTTP 1: the connection ends behind the answer":                     {http1Kinds, "HTTP/2 connections are shared by many streams"},
	"a client that was refused over HTTP 2: the connection and its other streams go on":                {http2Kinds, "HTTP/1.1 has one request at a time"},
	"relay on HTTP 1.1: an unwanted body is not waited for, and one that does not come is a 400":       {http1Kinds, "the harness ends a body over HTTP/2 at once"},
	"relay on HTTP 1.1: a WebSocket handshake is a 501, two lengths are a 400, and h2c is passed over": {http1Kinds, "HTTP/2 has neither of the three"},
	"two streams on one HTTP 2 connection live and die apart":                                          {http2Kinds, "HTTP/1.1 has one stream on a connection"},
	"a request that is too large once it is encoded: 431 REQUEST_TOO_LARGE, without a callback":        {http1Kinds, "HTTP/2's own bound on headers comes first"},
}

// theKinds are filled by TestMain.
var theKinds []kind

// coreOnly leaves out the sections beyond the core. CONTRACT_SECTIONS=all has a foreign implementation run them as well.
var coreOnly = os.Getenv("CONTRACT_COMMAND") != "" && os.Getenv("CONTRACT_SECTIONS") != "all"

// makeKinds returns the kinds, after it has built the gateway for them.
func makeKinds(dir string) ([]kind, error) {
	if command := os.Getenv("CONTRACT_COMMAND"); command != "" {
		k := kind{harness.Kind{Name: foreign, Command: []string{"/bin/sh", "-c", "exec " + command}}}
		p, err := k.run(nil, nil) // what does not start fails here, and not in each case
		if err != nil {
			return nil, err
		}
		p.Kill()
		return []kind{k}, nil
	}
	standard, err := binary("CONTRACT_BINARY", filepath.Join(dir, "standard"))
	if err != nil {
		return nil, err
	}
	portable, err := binary("CONTRACT_BINARY_PORTABLE", filepath.Join(dir, "portable"), "-tags", "portable")
	if err != nil {
		return nil, err
	}
	all, err := harness.KindsOf(dir, standard, portable)
	if err != nil {
		return nil, err
	}
	kinds := make([]kind, len(all))
	for i, k := range all {
		kinds[i] = kind{k}
	}
	return kinds, nil
}

// binary returns the program that the variable names, or builds the gateway with the race detector.
func binary(variable, dir string, flags ...string) (string, error) {
	if given := os.Getenv(variable); given != "" {
		return filepath.Abs(given)
	}
	return harness.Build(dir, flags...)
}

// checkCounts checks that every kind ran every case. A missing kind, and a case that was
// skipped on a kind, are failures.
func checkCounts(t *testing.T, ran map[string][]string) {
	t.Helper()
	for _, k := range theKinds {
		for _, c := range allCases() {
			if want, got := c.leftOut(k.Name) == "", slices.Contains(ran[k.Name], c.name); want != got {
				t.Errorf("kind %s, case %q: ran %v, should run %v", k.Name, c.name, got, want)
			}
		}
		t.Logf("%-10s %3d cases", k.Name, len(ran[k.Name]))
	}
	names := map[string]bool{}
	for _, c := range allCases() {
		if names[c.name] {
			t.Errorf("two cases are called %q", c.name)
		}
		names[c.name] = true
	}
	for name := range wireSpecific {
		if !names[name] {
			t.Errorf("wireSpecific names a case that does not exist: %q", name)
		}
	}
}
