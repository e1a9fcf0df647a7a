package config

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

func defaults() Config {
	return Config{
		Port: 3000, HeartbeatInterval: 15 * time.Second,
		MaxBodyBytes: 1 << 20, QueueBytes: 1 << 20, QueueBudgetBytes: 128 << 20, MaxTopics: 10000, LogBytes: 64 << 20, LogAge: 10 * time.Minute, RetainedBytes: 64 << 20,
		StateSync: "second", NATSPrefix: "ssegateway", NATSReplicas: 1, NATSRead: "all", NodeLease: 10 * time.Second,
		CallbackConcurrency: 0, CallbackBatch: 1, RelayTimeout: time.Minute, RelayAnswerBytes: 4 << 20, RelayBudgetBytes: 64 << 20, HTTP2MaxStreams: 250, LogLevel: slog.LevelInfo, LogFormat: "text", ClientIPHeader: "X-Forwarded-For", EventSourceErrors: "status", EventForm: "plain",
		CallbackTimeout: 5 * time.Second, InternalSocketMode: 0o660,
	}
}

func with(change func(*Config)) Config {
	c := defaults()
	change(&c)
	return c
}

var exact = cmp.Options{cmpopts.EquateComparable(netip.Prefix{})}

func TestDefaults(t *testing.T) {
	c, warnings, err := Load(nil, nil, 0)
	if err != nil || warnings != nil {
		t.Fatal(err, warnings)
	}
	if diff := cmp.Diff(defaults(), c, exact); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Budgets that are not set fit into a limit on memory. Those that are set stay.
func TestMemoryLimit(t *testing.T) {
	budgets := func(memory int64, environ ...string) [5]int64 {
		c, _, err := Load(nil, environ, memory)
		if err != nil || c.MemoryLimit != memory {
			t.Fatal(c.MemoryLimit, err)
		}
		return [5]int64{c.QueueBudgetBytes, c.LogBytes, c.RetainedBytes, c.RelayBudgetBytes, c.RequestBudgetBytes}
	}
	for memory, want := range map[int64][5]int64{
		0:             {128 * mib, 64 * mib, 64 * mib, 64 * mib},
		1:             {1, 1, 1, 1},
		64 * mib:      {4 * mib, 2 * mib, 2 * mib, 2 * mib},
		gib:           {64 * mib, 32 * mib, 32 * mib, 32 * mib},
		2*gib - 1:     {128*mib - 1, 64*mib - 1, 64*mib - 1, 64*mib - 1},
		2 * gib:       {128 * mib, 64 * mib, 64 * mib, 64 * mib},
		math.MaxInt64: {128 * mib, 64 * mib, 64 * mib, 64 * mib},
	} {
		if got := budgets(memory); got != want {
			t.Errorf("a limit of %d: %d, want %d", memory, got, want)
		}
	}
	// To set a default is to set it.
	got := budgets(64*mib, "QUEUE_BUDGET_BYTES=134217728", "TOPIC_LOG_BYTES=67108864", "RETAINED_BYTES=0", "RELAY_BUDGET_BYTES=7", "REQUEST_BUDGET_BYTES=5")
	if want := [5]int64{128 * mib, 64 * mib, 0, 7, 5}; got != want {
		t.Errorf("what is set: %d, want %d", got, want)
	}
}

func TestEveryDefaultIsAllowed(t *testing.T) {
	for _, s := range settings(new(Config)) {
		if s.standard != "" && s.parse(s.standard) != nil {
			t.Errorf("%s: the default %q is not allowed", s.env, s.standard)
		}
	}
}

// A header that nobody may send is a mistake.
func TestHeaderWithoutProxies(t *testing.T) {
	const env = "CLIENT_IP_HEADER=X-Real-IP"
	if _, _, err := Load(nil, []string{env}, 0); err == nil || !strings.HasPrefix(err.Error(), "CLIENT_IP_HEADER: no header is read without TRUSTED_PROXIES") {
		t.Error(err)
	}
	if _, _, err := Load(nil, []string{"PROXY_PROTOCOL=true"}, 0); err == nil || !strings.HasPrefix(err.Error(), "PROXY_PROTOCOL: no header is read without TRUSTED_PROXIES") {
		t.Error(err)
	}
	if c, _, err := Load(nil, []string{"PROXY_PROTOCOL=true", "TRUSTED_PROXIES=::1"}, 0); err != nil || !c.ProxyProtocol {
		t.Error(err)
	}
	if c, _, err := Load(nil, []string{env, "TRUSTED_PROXIES=::1"}, 0); err != nil || c.ClientIPHeader != "X-Real-Ip" {
		t.Error(c.ClientIPHeader, err)
	}
}

// TestEveryFieldIsASetting finds a field that nothing sets.
func TestEveryFieldIsASetting(t *testing.T) {
	environ := []string{}
	for env, value := range map[string]string{
		"CONFIG_FILE": write(t, "config.yaml", ""), "PORT": "1", "CALLBACK_URL": "http://h/", "CALLBACK_URL_BEFORE": "http://b/", "RELAY_URL": "http://r", "RELAY_PATHS": "/r", "RELAY_RESUME_SECONDS": "1", "RELAY_ANSWER_BYTES": "1", "RELAY_BUDGET_BYTES": "1", "HEARTBEAT_INTERVAL_SECONDS": "1",
		"INTERNAL_ADDR": ":1", "INTERNAL_ALLOW": "::1", "INTERNAL_TOKEN": "x", "CORS_ALLOWED_ORIGINS": "*",
		"TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k", "H2C": "true", "MAX_CONNECTIONS": "1", "MAX_CONNECTIONS_PER_IP": "1", "CONNECTS_PER_MINUTE_PER_IP": "1",
		"TRUSTED_PROXIES": "::1", "CLIENT_IP_HEADER": "X-Real-Ip", "PROXY_PROTOCOL": "true", "MAX_BODY_BYTES": "1",
		"QUEUE_BYTES": "1", "QUEUE_BUDGET_BYTES": "1", "MAX_TOPICS": "1", "REQUEST_BUDGET_BYTES": "1", "CALLBACK_CONCURRENCY": "1", "CALLBACK_BATCH": "2", "DRAIN_SECONDS": "1",
		"LOG_LEVEL": "error", "LOG_FORMAT": "json", "EVENTSOURCE_ERRORS": "event", "EVENT_FORM": "envelope",
		"STATE_DIR": "d", "STATE_SYNC": "always", "NATS_URL": "nats://n", "NATS_CREDENTIALS_FILE": "c", "NATS_CA_FILE": "c", "NATS_PREFIX": "x", "NATS_REPLICAS": "2",
		"NODE_LEASE_SECONDS": "2", "CONSOLE": "true", "PPROF": "true",
		"CALLBACK_SIGNING_SECRET": secretA, "CALLBACK_TOKEN": "x", "BACKEND_CA_FILE": "c", "BACKEND_CLIENT_CERT_FILE": "c", "BACKEND_CLIENT_KEY_FILE": "k",
		"INTERNAL_TLS_CERT_FILE": "c", "INTERNAL_TLS_KEY_FILE": "k", "INTERNAL_CLIENT_CA_FILE": "c",
	} {
		environ = append(environ, env+"="+value)
	}
	c, _, err := Load(nil, environ, 1)
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.HasPrefix(err.Error(), "H2C: ") || !strings.Contains(err.Error(), "\nSTATE_DIR: ") {
		t.Errorf("got %v, want only the conflicts of H2C with TLS, and of STATE_DIR with NATS", err)
	}
	for i, v := range reflect.ValueOf(c).Fields() {
		if v.IsZero() {
			t.Errorf("no variable sets %s", i.Name)
		}
	}
}

func TestValues(t *testing.T) {
	tests := []struct {
		env  string
		want func(*Config)
	}{
		{"PORT=1", func(c *Config) { c.Port = 1 }},
		{"PORT=65535", func(c *Config) { c.Port = 65535 }},
		{"PORT=", func(*Config) {}},
		{"CALLBACK_URL=http://b?secret=a%20b&c", func(c *Config) { c.CallbackURL = "http://b?secret=a%20b&c" }},
		{"CALLBACK_URL=HTTPS://u:p@[::1]:9/x/../y", func(c *Config) { c.CallbackURL = "HTTPS://u:p@[::1]:9/x/../y" }},
		{"HEARTBEAT_INTERVAL_SECONDS=1", func(c *Config) { c.HeartbeatInterval = time.Second }},
		{"HEARTBEAT_INTERVAL_SECONDS=4294967295", func(c *Config) { c.HeartbeatInterval = 4294967295 * time.Second }},
		{"INTERNAL_ADDR=:9000", func(c *Config) { c.InternalAddr = Addr{"tcp", ":9000"} }},
		{"INTERNAL_ADDR=[::1]:9000", func(c *Config) { c.InternalAddr = Addr{"tcp", "[::1]:9000"} }},
		{"INTERNAL_ADDR=unix:/run/gw.sock", func(c *Config) { c.InternalAddr = Addr{"unix", "/run/gw.sock"} }},
		{"INTERNAL_ALLOW=10.1.2.3/8, 192.0.2.7,::ffff:172.16.0.0/108,fd00::/8,::ffff:10.0.0.1", func(c *Config) {
			for _, p := range []string{"10.0.0.0/8", "192.0.2.7/32", "172.16.0.0/12", "fd00::/8", "10.0.0.1/32"} {
				c.InternalAllow = append(c.InternalAllow, netip.MustParsePrefix(p))
			}
		}},
		{"INTERNAL_TOKEN=a~!b", func(c *Config) { c.InternalToken = "a~!b" }},
		{"CORS_ALLOWED_ORIGINS=*", func(c *Config) { c.CORSAllowedOrigins = []string{"*"} }},
		{"CORS_ALLOWED_ORIGINS=HTTPS://App.Example:443,http://a:80,http://b:0443,https://[2001:DB8:0::1]:8443,null,https://c:,http://[::ffff:1.2.3.4],http://127.0.0.1:80", func(c *Config) {
			c.CORSAllowedOrigins = []string{"https://app.example", "http://a", "http://b:443", "https://[2001:db8::1]:8443", "null", "https://c", "http://[::ffff:102:304]", "http://127.0.0.1"}
		}},
		{"CORS_ALLOWED_ORIGINS=https://a.b, http://localhost:5173,app://x", func(c *Config) {
			c.CORSAllowedOrigins = []string{"https://a.b", "http://localhost:5173", "app://x"}
		}},
		{"H2C=1", func(c *Config) { c.H2C = true }},
		{"MAX_CONNECTIONS=10000000", func(c *Config) { c.MaxConnections = 10_000_000 }},
		{"MAX_CONNECTIONS_PER_IP=10000000", func(c *Config) { c.MaxConnectionsPerIP = 10_000_000 }},
		{"CONNECTS_PER_MINUTE_PER_IP=1000000", func(c *Config) { c.ConnectsPerMinutePerIP = 1_000_000 }},
		{"TRUSTED_PROXIES=10.1.2.3/8,::ffff:192.0.2.7", func(c *Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")}
		}},
		{"CLIENT_IP_HEADER=x-forwarded-for", func(*Config) {}},
		{"MAX_BODY_BYTES=1", func(c *Config) { c.MaxBodyBytes = 1 }},
		{"QUEUE_BYTES=1073741824", func(c *Config) { c.QueueBytes = 1 << 30 }},
		{"MAX_TOPICS=1000000", func(c *Config) { c.MaxTopics = 1000000 }},
		{"QUEUE_BUDGET_BYTES=1099511627776", func(c *Config) { c.QueueBudgetBytes = 1 << 40 }},
		{"REQUEST_BUDGET_BYTES=1099511627776", func(c *Config) { c.RequestBudgetBytes = 1 << 40 }},
		{"CALLBACK_CONCURRENCY=1", func(c *Config) { c.CallbackConcurrency = 1 }},
		{"CALLBACK_TIMEOUT_SECONDS=60", func(c *Config) { c.CallbackTimeout = time.Minute }},
		{"CALLBACK_TOKEN=a~!b", func(c *Config) { c.CallbackToken = "a~!b" }},
		{"BACKEND_CA_FILE=c", func(c *Config) { c.BackendCAFile = "c" }},
		{"INTERNAL_SOCKET_MODE=0600", func(c *Config) { c.InternalSocketMode = 0o600 }},
		{"INTERNAL_SOCKET_MODE=777", func(c *Config) { c.InternalSocketMode = 0o777 }},
		{"CALLBACK_BATCH=1000", func(c *Config) { c.CallbackBatch = 1000 }},
		{"DRAIN_SECONDS=3600", func(c *Config) { c.DrainWindow = time.Hour }},
		{"STATE_DIR=/d", func(c *Config) { c.StateDir = "/d" }},
		{"STATE_SYNC=ALWAYS", func(c *Config) { c.StateSync = "always" }},
		{"NATS_URL=nats://u:p%2C@h:4222, tls://token@[::1]", func(c *Config) { c.NATSURL = "nats://u:p%2C@h:4222,tls://token@[::1]" }},
		{"NATS_CREDENTIALS_FILE=c", func(c *Config) { c.NATSCredentialsFile = "c" }},
		{"NATS_CA_FILE=c", func(c *Config) { c.NATSCAFile = "c" }},
		{"NATS_PREFIX=a-Z_9", func(c *Config) { c.NATSPrefix = "a-Z_9" }},
		{"NATS_READ=own", func(c *Config) { c.NATSRead = "own" }},
		{"NATS_REPLICAS=5", func(c *Config) { c.NATSReplicas = 5 }},
		{"NODE_LEASE_SECONDS=2", func(c *Config) { c.NodeLease = 2 * time.Second }},
		{"LOG_LEVEL=WARN", func(c *Config) { c.LogLevel = slog.LevelWarn }},
		{"LOG_LEVEL=debug", func(c *Config) { c.LogLevel = slog.LevelDebug }},
		{"EVENTSOURCE_ERRORS=Retry", func(c *Config) { c.EventSourceErrors = "retry" }},
		{"EVENT_FORM=Envelope", func(c *Config) { c.EventForm = "envelope" }},
		{"LOG_FORMAT=json", func(c *Config) { c.LogFormat = "json" }},
	}
	for _, test := range tests {
		t.Run(test.env, func(t *testing.T) {
			c, warnings, err := Load(nil, []string{test.env}, 0)
			if err != nil || warnings != nil {
				t.Fatal(err, warnings)
			}
			if diff := cmp.Diff(with(test.want), c, exact); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestInvalidValues(t *testing.T) {
	const port = ` is not valid: must be a whole number, 1 to 65535`
	tests := []struct{ env, want string }{
		{"PORT=0", `PORT: "0"` + port},
		{"PORT=65536", `PORT: "65536"` + port},
		{"PORT=-1", `PORT: "-1"` + port},
		{"PORT=+80", `PORT: "+80"` + port},
		{"PORT= 80", `PORT: " 80"` + port},
		{"PORT=80.0", `PORT: "80.0"` + port},
		{"PORT=http", `PORT: "http"` + port},
		{"PORT=99999999999999999999", `PORT: "99999999999999999999"` + port},
		{"PORT=8\x1b\n", `PORT: "8\x1b\n"` + port},
		{"CALLBACK_URL=ftp://h/x?q=SECRET", `CALLBACK_URL: "ftp://h/x" is not valid: it does not begin with http:// or https://; it must be an http or https URL with a host`},
		{"CALLBACK_URL=localhost:80/?SECRET", "CALLBACK_URL: the given value is not valid: it does not begin with http:// or"},
		{"CALLBACK_URL=http:///x?SECRET", "CALLBACK_URL: the given value is not valid: it has no host"},
		{"CALLBACK_URL=http://:80/?SECRET", `CALLBACK_URL: "http://:80/" is not valid: it has no host`},
		{"CALLBACK_URL=http://u:SECRET@h:99999/", `CALLBACK_URL: "http://h:99999/" is not valid: its port is none`},
		{"CALLBACK_URL=http://u:SEC?RET@h/", `CALLBACK_URL: the given value is not valid: it is malformed`},
		{"CALLBACK_URL=http://u:SECRET/x@h/", `CALLBACK_URL: the given value is not valid: it is malformed`},
		{"CALLBACK_URL=http://h/?SECRET a", `CALLBACK_URL: "http://h/" is not valid: it contains a space`},
		{"CALLBACK_URL=http://h/\n", `CALLBACK_URL: the given value is not valid: it contains a space or a control`},
		{"INTERNAL_ADDR=9000", `INTERNAL_ADDR: "9000" is not valid: must be host:port, or unix:`},
		{"INTERNAL_ADDR=h:0", `INTERNAL_ADDR: "h:0" is not valid: the port`},
		{"INTERNAL_ADDR=h:http", `INTERNAL_ADDR: "h:http" is not valid: the port`},
		{"INTERNAL_ADDR=unix:gw.sock", `INTERNAL_ADDR: "unix:gw.sock" is not valid: the path`},
		{"INTERNAL_ALLOW=10.0.0.0/8,x", `INTERNAL_ALLOW: "10.0.0.0/8,x" is not valid: "x" is neither; it must be IP addresses`},
		{"INTERNAL_ALLOW=10.0.0.0/33", `"10.0.0.0/33" is neither`},
		{"INTERNAL_ALLOW=::ffff:10.0.0.0/8", `"::ffff:10.0.0.0/8" is neither`},
		{"INTERNAL_ALLOW=fe80::1%eth0", `"fe80::1%eth0" is neither`},
		{"INTERNAL_ALLOW=10.0.0.1,", `it has an empty entry`},
		{"INTERNAL_TOKEN=SECRET value", "INTERNAL_TOKEN: the given value is not valid: must be visible ASCII"},
		{"INTERNAL_TOKEN=SECRETé", "INTERNAL_TOKEN: the given value is not valid"},
		{"INTERNAL_TOKEN=", "INTERNAL_TOKEN: it is set to nothing; leave it out"},
		{"INTERNAL_TOKEN_FILE=", "INTERNAL_TOKEN_FILE: it is set to nothing; leave it out"},
		{"CORS_ALLOWED_ORIGINS=https://a/", `"https://a/" is not an origin`},
		{"CORS_ALLOWED_ORIGINS=a.example", `"a.example" is not an origin`},
		{"CORS_ALLOWED_ORIGINS=*,https://a", `"*" is not an origin`},
		{"CORS_ALLOWED_ORIGINS=https://*.a", `"https://*.a" is not an origin`},
		{"CORS_ALLOWED_ORIGINS=https://bücher.example", "xn--"},
		{"CORS_ALLOWED_ORIGINS=https://b%C3%BCcher.example", "is not an origin"},
		{"CORS_ALLOWED_ORIGINS=https://a:0", `the port of "https://a:0" is none`},
		{"CORS_ALLOWED_ORIGINS=https://a:65536", "the port of"},
		{"CORS_ALLOWED_ORIGINS=https://[::x]", "is not an origin"},
		{"CORS_ALLOWED_ORIGINS=http://127.1", "an IPv4 address that is not written as four decimal numbers"},
		{"CORS_ALLOWED_ORIGINS=http://0x7f.0x1", "an IPv4 address that is not written"},
		{"CORS_ALLOWED_ORIGINS=http://127.0.0.01", "an IPv4 address that is not written"},
		{"CORS_ALLOWED_ORIGINS=https://a.256", "an IPv4 address that is not written"},
		{"CORS_ALLOWED_ORIGINS=https://a<b", "is not an origin"},
		{"CORS_ALLOWED_ORIGINS=https://u@a", `"https://u@a" is not an origin`},
		{"H2C=yes", `H2C: "yes" is not valid: must be true or false`},
		{"MAX_CONNECTIONS_PER_IP=-1", `MAX_CONNECTIONS_PER_IP: "-1" is not valid`},
		{"CONNECTS_PER_MINUTE_PER_IP=1000001", `CONNECTS_PER_MINUTE_PER_IP: "1000001" is not valid`},
		{"TRUSTED_PROXIES=proxy", `TRUSTED_PROXIES: "proxy" is not valid: "proxy" is neither`},
		{"TRUSTED_PROXIES=::ffff:0:0/95", `TRUSTED_PROXIES: "::ffff:0:0/95" is not valid`},
		{"CLIENT_IP_HEADER=forwarded", `CLIENT_IP_HEADER: "forwarded" is not valid: the form of that header (RFC 7239) is not read`},
		{"CLIENT_IP_HEADER=a b", `CLIENT_IP_HEADER: "a b" is not valid`},
		{"MAX_CONNECTIONS=-1", `MAX_CONNECTIONS: "-1" is not valid`},
		{"MAX_CONNECTIONS=10000001", `MAX_CONNECTIONS: "10000001" is not valid`},
		{"MAX_BODY_BYTES=1M", `MAX_BODY_BYTES: "1M" is not valid: must be bytes, 1 to 1073741824`},
		{"QUEUE_BYTES=0", `QUEUE_BYTES: "0" is not valid`},
		{"MAX_TOPICS=0", `MAX_TOPICS: "0" is not valid`},
		{"QUEUE_BUDGET_BYTES=0", `QUEUE_BUDGET_BYTES: "0" is not valid`},
		{"CALLBACK_CONCURRENCY=-1", `CALLBACK_CONCURRENCY: "-1" is not valid`},
		{"CALLBACK_URL=unix:run/app.sock", `CALLBACK_URL: the given value is not valid: it is not unix: with`},
		{"CALLBACK_URL=unix:/run/app.sock:callback?SECRET", "CALLBACK_URL: the given value is not valid: it is not unix: with"},
		{"CALLBACK_URL=unix://host/run/app.sock", "CALLBACK_URL: the given value is not valid: it is not unix: with"},
		{"CALLBACK_URL=unix://u:SECRET@/run/app.sock", "CALLBACK_URL: the given value is not valid: it is not unix: with"},
		{"CALLBACK_URL=unix:/run/app.sock:/a b", `CALLBACK_URL: "unix:/run/app.sock:/a%20b" is not valid: it contains a space`},
		{"CALLBACK_URL=unix:/run/", "CALLBACK_URL: the given value is not valid: it is not unix: with"},
		{"CALLBACK_TIMEOUT_SECONDS=0", `CALLBACK_TIMEOUT_SECONDS: "0" is not valid: must be whole seconds, 1 to 60`},
		{"CALLBACK_TIMEOUT_SECONDS=61", `CALLBACK_TIMEOUT_SECONDS: "61" is not valid`},
		{"CALLBACK_TOKEN=", "CALLBACK_TOKEN: it is set to nothing"},
		{"CALLBACK_TOKEN=SEC RET", "CALLBACK_TOKEN: the given value is not valid: must be visible ASCII"},
		{"CALLBACK_SIGNING_SECRET=", "CALLBACK_SIGNING_SECRET: it is set to nothing"},
		{"CALLBACK_SIGNING_SECRET=,", "CALLBACK_SIGNING_SECRET: the given value is not valid: must be 1 to 8 secrets"},
		{"CALLBACK_SIGNING_SECRET=SECRETSECRETSECRETSECRETSECRETSE", "CALLBACK_SIGNING_SECRET: the given value is not valid: secret number 1 does not begin with whsec_"},
		{"CALLBACK_SIGNING_SECRET=whsec_SECRET", "CALLBACK_SIGNING_SECRET: the given value is not valid: secret number 1 is not base64 behind whsec_"},
		{"CALLBACK_SIGNING_SECRET=" + secretA + ",whsec_SECRETSECRET", "CALLBACK_SIGNING_SECRET: the given value is not valid: secret number 2 has 9 bytes"},
		{"CALLBACK_SIGNING_SECRET=" + strings.Repeat(secretA+" ", 9), "must be 1 to 8 secrets"},
		{"INTERNAL_SOCKET_MODE=0668", `INTERNAL_SOCKET_MODE: "0668" is not valid: must be three or four octal digits`},
		{"INTERNAL_SOCKET_MODE=1777", `INTERNAL_SOCKET_MODE: "1777" is not valid`},
		{"INTERNAL_SOCKET_MODE=66", `INTERNAL_SOCKET_MODE: "66" is not valid`},
		{"INTERNAL_CLIENT_CA_FILE=", "INTERNAL_CLIENT_CA_FILE: it is set to nothing"},
		{"CALLBACK_BATCH=0", `CALLBACK_BATCH: "0" is not valid`},
		{"CALLBACK_BATCH=1001", `CALLBACK_BATCH: "1001" is not valid`},
		{"DRAIN_SECONDS=3601", `DRAIN_SECONDS: "3601" is not valid: must be whole seconds, 0 to 3600`},
		{"NATS_URL=http://u:SECRET@h", `NATS_URL: "http://h" is not valid: it does not begin with nats:// or tls://; it must be nats:// or`},
		{"NATS_URL=nats://u:SECRET@h,h:4222", "NATS_URL: the given value is not valid: it does not begin with"},
		{"NATS_URL=nats://u:SEC,RET@h", "NATS_URL: the given value is not valid: it is malformed"},
		{"NATS_URL=nats://u:SECRET@h:x", "NATS_URL: the given value is not valid: it is malformed"},
		{"NATS_URL=nats://u:SECRET@h/x", `NATS_URL: "nats://h/x" is not valid: there is more behind a host than a port`},
		{"NATS_URL=nats://h?SECRET", `NATS_URL: "nats://h" is not valid: there is more`},
		{"NATS_URL=nats://h,", "it has an empty entry"},
		{"NATS_PREFIX=a.b", `NATS_PREFIX: "a.b" is not valid: must be 1 to 64 letters`},
		{"NATS_REPLICAS=6", `NATS_REPLICAS: "6" is not valid`},
		{"NODE_LEASE_SECONDS=1", `NODE_LEASE_SECONDS: "1" is not valid: must be whole seconds, 2 to 3600`},
		{"LOG_LEVEL=trace", `LOG_LEVEL: "trace" is not valid: must be one of debug, info, warn, error`},
		{"EVENTSOURCE_ERRORS=true", `EVENTSOURCE_ERRORS: "true" is not valid: must be one of status, retry, event`},
		{"EVENT_FORM=json", `EVENT_FORM: "json" is not valid: must be one of plain, envelope`},
		{"LOG_FORMAT=xml", `LOG_FORMAT: "xml" is not valid: must be one of text, json`},
		{"TLS_CERT_FILE=c", "TLS_CERT_FILE and TLS_KEY_FILE: one is set"},
		{"TLS_KEY_FILE=c", "TLS_CERT_FILE and TLS_KEY_FILE: one is set"},
		{"TLS_CERT_FILE=c\x00", `TLS_CERT_FILE: "c\x00" is not valid`},
		{"CONFIG_FILE=/nonexistent/c.yaml", "configuration file /nonexistent/c.yaml: open"},
		{"CALLBACK_URL_FILE=/nonexistent/u", "CALLBACK_URL_FILE: open /nonexistent/u"},
	}
	for _, test := range tests {
		t.Run(test.env, func(t *testing.T) {
			c, warnings, err := Load(nil, []string{test.env}, 0)
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			if warnings != nil {
				t.Error("warnings:", warnings)
			}
			if got := err.Error(); !strings.Contains(got, test.want) || strings.Contains(got, "\n") {
				t.Errorf("error is\n%s\nwant\n%s", got, test.want)
			}
			if said := strings.ReplaceAll(err.Error(), "SIGNING_SECRET", ""); strings.Contains(said, "SECRET") || strings.Contains(said, "u:SEC") {
				t.Errorf("the error gives away a secret: %s", err)
			}
			c.ConfigFile, c.TLSCertFile, c.TLSKeyFile = "", "", ""
			if diff := cmp.Diff(defaults(), c, exact); diff != "" {
				t.Errorf("beside the error, -default +got:\n%s", diff)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, warnings, err := Load(nil, []string{
		"PORT=x", "LOG_FORMAT=x", "H2C=x", "HEARTBEAT_INTERVAL_SECONDS=x", "TLS_KEY_FILE=x",
		"CONFIG_FILE=" + write(t, "c.yaml", "prot: 1\nqueue_bytes: x\ndrain_seconds: {a: 1}"),
	}, 0)

	if err == nil || len(warnings) != 1 {
		t.Fatal(err, warnings)
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 7 {
		t.Errorf("%d problems, want 7:\n%s", got, err)
	}
}

func TestHeartbeatIsForgiving(t *testing.T) {
	for _, text := range []string{"0", "-1", "1.5", "abc", "15s", "4294967296", "1e3", " 15"} {
		c, warnings, err := Load(nil, []string{"HEARTBEAT_INTERVAL_SECONDS=" + text, "PORT=80"}, 0)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if c.HeartbeatInterval != 15*time.Second || c.Port != 80 {
			t.Errorf("%q: got %+v", text, c)
		}
		want := fmt.Sprintf("HEARTBEAT_INTERVAL_SECONDS: %q is not valid: must be whole seconds, at least 1; the default of 15 is used", text)
		if len(warnings) != 1 || warnings[0].Error() != want {
			t.Errorf("warnings are %v, want %s", warnings, want)
		}
	}
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestPrecedence(t *testing.T) {
	file := write(t, "c.yaml", "port: 1001\nlog_level: warn\ndrain_seconds: 7")
	other := write(t, "other.yaml", "port: 1002")
	tests := []struct {
		name    string
		args    []string
		environ []string
		port    int
	}{
		{"default", nil, nil, 3000},
		{"file over default", []string{"--config", file}, nil, 1001},
		{"file named by the environment", nil, []string{"CONFIG_FILE=" + other}, 1002},
		{"file named by the flag first", []string{"--config", file}, []string{"CONFIG_FILE=" + other}, 1001},
		{"environment over file", []string{"--config", file}, []string{"PORT=1003"}, 1003},
		{"empty variable is unset", []string{"--config", file}, []string{"PORT="}, 1001},
		{"flag over environment", []string{"--config", file, "--port=1004"}, []string{"PORT=1003"}, 1004},
		{"flag with the default's value", []string{"--port=3000"}, []string{"PORT=1003"}, 3000},
		{"empty flag is unset", []string{"--port="}, []string{"PORT=1003"}, 1003},
		{"the last of two variables", nil, []string{"PORT=1", "PORT=2"}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, _, err := Load(flags(t, test.args...), test.environ, 0)
			if err != nil {
				t.Fatal(err)
			}
			if c.Port != test.port {
				t.Errorf("port %d, want %d", c.Port, test.port)
			}
		})
	}
}

func TestProblemNamesItsSource(t *testing.T) {
	file := write(t, "c.yaml", "port: 0")
	for want, arrange := range map[string][]string{
		"--port: ":            {"--port=x", "PORT=1"},
		"PORT: ":              {"--h2c", "PORT=x"},
		"port in " + file:     {"--config=" + file, ""},
		"--internal-token: ":  {"--internal-token= ", ""},
		"--callback-url-file": {"--callback-url-file=/nonexistent", ""},
	} {
		_, _, err := Load(flags(t, arrange[0]), arrange[1:], 0)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v gives %v, want %s…", arrange, err, want)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, s := range settings(new(Config)) {
		if flags(t).Lookup(s.flag()) == nil {
			t.Errorf("no flag %s", s.flag())
		}
	}
	if c, _, err := Load(flags(t, "--h2c"), nil, 0); err != nil || !c.H2C {
		t.Errorf("--h2c without a value: %v, %v", c.H2C, err)
	}
	if _, _, err := Load(flags(t, "--internal-token="), nil, 0); err == nil || !strings.Contains(err.Error(), "--internal-token: it is set to nothing") {
		t.Errorf("--internal-token without a value: %v", err)
	}
	usage := flags(t).FlagUsages()
	for _, line := range []string{
		"--port number ", "(a whole number, 1 to 65535) (default 3000)",
		"--config path ", "--h2c ", "--tls-key-file path ", "--callback-url-file path ",
	} {
		if !strings.Contains(usage, line) {
			t.Errorf("the help lacks %q:\n%s", line, usage)
		}
	}
	if strings.Contains(usage, "`") {
		t.Errorf("the help has Markdown in it:\n%s", usage)
	}
}

func TestFile(t *testing.T) {
	tests := []struct {
		name, content string
		want          func(*Config) // nil: an error
		err           string
	}{
		{"empty", "", func(*Config) {}, ""},
		{"comment only", "# nothing\n", func(*Config) {}, ""},
		{"empty document", "---\n", func(*Config) {}, ""},
		{"null is unset", "port:\nlog_format: ~\nh2c: ''", func(*Config) {}, ""},
		{"scalars", "port: 80\nh2c: true\nlog_level: debug", func(c *Config) { c.Port, c.H2C, c.LogLevel = 80, true, slog.LevelDebug }, ""},
		{"text as written", "internal_token: 0123", func(c *Config) { c.InternalToken = "0123" }, ""},
		{"list", "cors_allowed_origins: [https://a, https://b]", func(c *Config) { c.CORSAllowedOrigins = []string{"https://a", "https://b"} }, ""},
		{"commas", "cors_allowed_origins: https://a, https://b", func(c *Config) { c.CORSAllowedOrigins = []string{"https://a", "https://b"} }, ""},
		{"empty list", "internal_allow: []", func(*Config) {}, ""},
		{"alias", "port: &p 80\nmax_connections: *p", func(c *Config) { c.Port, c.MaxConnections = 80, 80 }, ""},
		{"unknown key", "h2c: true\n\nprot: 80", nil, `, line 3: unknown key "prot"; did you mean port?`},
		{"unknown key of several words", "max_conections: 80", nil, `, line 1: unknown key "max_conections"; did you mean max_connections?`},
		{"unknown key that is like none", "database: x", nil, `unknown key "database"`},
		{"key in upper case", "PORT: 80", nil, `unknown key "PORT"; keys are in lower case: port`},
		{"key with a dot", "server.port: 80", nil, `unknown key "server.port"`},
		{"another file", "config_file: x", nil, `unknown key "config_file"`},
		{"unknown key with an empty value", "prot:", nil, `unknown key "prot"`},
		{"a lock set to nothing", "internal_token:", nil, "internal_token in "},
		{"its file set to nothing", "internal_token_file: ''", nil, "it is set to nothing"},
		{"nested", "server: {port: 80}", nil, `unknown key "server"`},
		{"list of lists", "internal_allow: [[a]]", nil, "internal_allow in "},
		{"mapping where there is one value", "port: {a: SECRET}", nil, "not a value of the right shape"},
		{"list where there is one value", "port: [80]", nil, "port in "},
		{"octal is not read as such", "port: 0o17", nil, `"0o17" is not valid`},
		{"duplicate key", "port: 1\nport: 2", nil, "already defined"},
		{"not YAML", "port: [", nil, "yaml: "},
		{"star without quotes", "internal_token: *SECRET", nil, "has to be quoted"},
		{"not a mapping", "SECRET", nil, "it is not a mapping of keys to values"},
		{"two documents", "port: 1\n---\nport: 2", nil, "more after the first document"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, "c.yaml", test.content)
			c, warnings, err := Load(nil, []string{"CONFIG_FILE=" + path}, 0)
			if warnings != nil {
				t.Error("warnings:", warnings)
			}
			if test.want == nil {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %s and the path", err, test.err)
				}
				if err != nil && strings.Contains(err.Error(), "SECRET") {
					t.Errorf("the error shows a value: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := with(test.want)
			want.ConfigFile = path
			if diff := cmp.Diff(want, c, exact); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestSecretFiles(t *testing.T) {
	const url = "https://h/cb?key=SECRET"
	tests := []struct {
		name, content string
		environ       []string
		token, err    string
	}{
		{"plain", "SECRET", nil, "SECRET", ""},
		{"line end", "SECRET\n", nil, "SECRET", ""},
		{"line ends of Windows", "SECRET\r\n\r\n", nil, "SECRET", ""},
		{"both", "SECRET", []string{"INTERNAL_TOKEN=SECRET"}, "", "INTERNAL_TOKEN and INTERNAL_TOKEN_FILE: both are set"},
		{"empty", "\n", nil, "", "is empty"},
		{"invalid", "SECRET\nSECRET", nil, "", "INTERNAL_TOKEN_FILE: what the file "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			environ := append(test.environ, "INTERNAL_TOKEN_FILE="+write(t, "token", test.content))
			c, _, err := Load(nil, environ, 0)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if c.InternalToken != test.token {
				t.Errorf("token %q, want %q", c.InternalToken, test.token)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error gives away the secret: %v", err)
			}
		})
	}
	c, _, err := Load(nil, []string{"CALLBACK_URL_FILE=" + write(t, "url", url+"\n")}, 0)
	if err != nil || c.CallbackURL != url {
		t.Errorf("%q, %v", c.CallbackURL, err)
	}
	_, _, err = Load(nil, []string{"CALLBACK_URL_FILE=" + write(t, "url", "SECRET://h/")}, 0)
	if err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("want an error without what the file holds, got %v", err)
	}
}

func TestRedacted(t *testing.T) {
	c, _, err := Load(nil, []string{
		"CALLBACK_URL=https://user:SECRET@h:8443/cb%2F/x?key=SECRET#SECRET", "INTERNAL_TOKEN=SECRET",
		"CALLBACK_SIGNING_SECRET=whsec_SECRETSECRETSECRETSECRETSECRETSE", "INTERNAL_SOCKET_MODE=600",
		"INTERNAL_ADDR=unix:/run/gw.sock", "INTERNAL_ALLOW=10.0.0.0/8,::1", "DRAIN_SECONDS=30", "NATS_URL=nats://u:SECRET@n:1,tls://SECRET@m",
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := "[port=3000 callback_url=https://h:8443/cb%2F/x relay_timeout_seconds=60 relay_resume_seconds=0 relay_answer_bytes=4194304 relay_budget_bytes=67108864 callback_signing_secret=(set) callback_timeout_seconds=5 heartbeat_interval_seconds=15 internal_addr=unix:/run/gw.sock internal_socket_mode=0600" +
		" internal_allow=10.0.0.0/8,::1/128 internal_token=(set) eventsource_errors=status event_form=plain h2c=false http2_max_streams=250 max_connections=0 max_connections_per_ip=0 connects_per_minute_per_ip=0 client_ip_header=X-Forwarded-For proxy_protocol=false max_body_bytes=1048576" +
		" queue_bytes=1048576 queue_budget_bytes=134217728 max_topics=10000 request_budget_bytes=0 topic_log_bytes=67108864 topic_log_seconds=600 retained_bytes=67108864 state_sync=second nats_url=nats://n:1,tls://m nats_prefix=ssegateway nats_replicas=1" +
		" nats_read=all node_lease_seconds=10 callback_concurrency=0 callback_batch=1 drain_seconds=30 console=false pprof=false log_level=info log_format=text]"
	if diff := cmp.Diff(want, fmt.Sprint(c.Redacted())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want = "[port=3000 callback_url=https://h:8443/cb%2F/x callback_signing_secret=(set) internal_addr=unix:/run/gw.sock internal_socket_mode=0600 internal_allow=10.0.0.0/8,::1/128 internal_token=(set)" +
		" nats_url=nats://n:1,tls://m drain_seconds=30]"
	if diff := cmp.Diff(want, fmt.Sprint(c.Changed())); diff != "" {
		t.Errorf("what is changed, -want +got:\n%s", diff)
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("start", "config", c)
	if strings.Contains(b.String(), "SECRET") {
		t.Errorf("a logged Config gives away secrets: %s", b.String())
	}
}

// FuzzLoad gives any text to any setting: nothing panics, an error names the variable
// and keeps secrets, and what was accepted is in bounds and shows as text that is accepted again.
func FuzzLoad(f *testing.F) {
	for i, text := range []string{
		"", "80", "http://u:p@h/?q", "15", "unix:/a", "10.0.0.0/8,::1", "t", "https://a,*", "c", "k", "true", "0", "1", "1", "1", "9", "1", "nats://u:p@h:1,tls://t@h", "c", "c", "x", "3", "t", "d", "2", "1", "warn", "json",
	} {
		f.Add(uint(i), text)
	}
	table := settings(new(Config))
	f.Fuzz(func(t *testing.T, index uint, text string) {
		s := table[index%uint(len(table))]
		if s.env == "CONFIG_FILE" || strings.HasSuffix(s.env, "_FILE") {
			t.Skip("reads files")
		}
		c, warnings, err := Load(nil, []string{s.env + "=" + text}, 0)
		switch {
		case err != nil:
			of, _, named := strings.Cut(err.Error(), ": ") // one setting, or two that need each other
			if !named || !slices.Contains(strings.Split(of, " and "), s.env) || strings.ContainsAny(err.Error(), "\n\x1b\x7f") {
				t.Errorf("error %q", err)
			}
			if s.env == "INTERNAL_TOKEN" && len(text) > 40 && strings.Contains(err.Error(), text) {
				t.Errorf("error %q gives away %q", err, text)
			}
			return
		case len(warnings) > 0:
			return
		}
		if c.Port < 1 || c.Port > 65535 || c.HeartbeatInterval < time.Second || c.QueueBytes < 1 || c.MaxConnections < 0 {
			t.Errorf("%s=%q gives %+v", s.env, text, c)
		}
		if s.secret {
			return
		}
		for _, a := range c.Redacted() {
			if a.Key != s.key() {
				continue
			}
			again, _, err := Load(nil, []string{s.env + "=" + a.Value.String()}, 0)
			if err != nil {
				t.Fatalf("%s=%q shows as %q: %v", s.env, text, a.Value, err)
			}
			if diff := cmp.Diff(c, again, exact); diff != "" {
				t.Errorf("%s=%q shows as %q, which differs:\n%s", s.env, text, a.Value, diff)
			}
		}
	})
}

// FuzzFile gives any bytes as the configuration file: nothing panics.
func FuzzFile(f *testing.F) {
	f.Add([]byte("port: 80\ninternal_allow: [::1, 10.0.0.0/8]\n"))
	f.Add([]byte("a: &a [*a]\n<<: *a"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, _, _ := Load(nil, []string{"CONFIG_FILE=" + path}, 0); c.Port < 1 {
			t.Errorf("port %d", c.Port)
		}
	})
}
