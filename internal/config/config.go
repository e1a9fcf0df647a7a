// Package config is the reference for every setting of the gateway: [Config] defines
// the settings and their types; one table (settings.go) their names, defaults, bounds and
// meanings. Flags, environment variables, keys of
// the file, messages and docs/configuration.md all derive from that table.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// Config is everything that can be set. [Load] fills it and is the only place
// where values are checked; whoever receives a Config may rely on the bounds.
type Config struct {
	// MemoryLimit is that of the process, in bytes, as Load was given it; 0: none. It is no setting.
	MemoryLimit int64

	// ConfigFile is the YAML file that was read; empty if none.
	ConfigFile string

	// Port of the public listener, 1 to 65535.
	Port int
	// TLSCertFile and TLSKeyFile are PEM files for the public listener; both or neither.
	TLSCertFile, TLSKeyFile string
	// H2C offers HTTP/2 without TLS on the public listener; never together with TLS.
	H2C bool
	// HTTP2MaxStreams bounds the concurrent requests of one HTTP/2 connection.
	HTTP2MaxStreams int
	// MaxConnections bounds the streams that are open or pending at a time.
	// 0: derived from the limit on open files.
	MaxConnections int
	// MaxConnectionsPerIP bounds the streams of one address that are open or pending at a time.
	// ConnectsPerMinutePerIP bounds those that it opens, and is its burst. 0: no bound.
	MaxConnectionsPerIP, ConnectsPerMinutePerIP int
	// TrustedProxies lists the proxies whose ClientIPHeader is believed. IPv4 prefixes are never
	// in IPv6-mapped form: unmap an address before the look-up.
	TrustedProxies []netip.Prefix
	// ProxyProtocol has each connection of TrustedProxies begin with a header of the PROXY protocol.
	ProxyProtocol bool
	// ClientIPHeader is the canonical name of the header field with the client's address.
	ClientIPHeader string
	// EventSourceErrors is what an EventSource gets instead of an error status: "status",
	// "retry" or "event".
	EventSourceErrors string
	// EventForm is how named events are written: "plain" or "envelope".
	EventForm string
	// CORSAllowedOrigins are the origins whose pages may open streams: each as a
	// browser sends it, or the single entry "*". Empty: CORS is off.
	CORSAllowedOrigins []string

	// CallbackURL is where callbacks are POSTed, exactly as given; [Backend] says where it leads.
	// Empty: not configured, streams are refused. Its query and userinfo are secret.
	CallbackURL string
	// CallbackURLBefore is the CallbackURL that other nodes may still have. Empty: none.
	CallbackURLBefore string
	// CallbackConcurrency bounds the connects under way, and separately the disconnects.
	// 0: derived from the limit on open files.
	CallbackConcurrency int
	// CallbackTimeout bounds a connect callback; 1 to 60 whole seconds.
	CallbackTimeout time.Duration
	// CallbackSigningSecrets sign callbacks, each by a signature of its own. Empty: they are not signed. Secret.
	CallbackSigningSecrets [][]byte
	// CallbackToken is the bearer token of callbacks; empty: none. Never together with a user in CallbackURL. Secret.
	CallbackToken string
	// BackendCAFile holds the CA certificates (PEM) that verify the backend; empty: the system's.
	BackendCAFile string
	// BackendClientCertFile and BackendClientKeyFile are PEM files of the certificate that the
	// gateway has for the backend; both or neither.
	BackendClientCertFile, BackendClientKeyFile string
	// CallbackBatch is how many disconnects one callback may carry. 1: each has its own.
	CallbackBatch int

	// RelayURL is the application that requests below RelayPaths are passed on to: a scheme and a host. Empty: none are.
	RelayURL string
	// RelayPaths are prefixes of whole segments of the raw path, each without a "/" at its end; "" is all.
	RelayPaths []string
	// RelayTimeout bounds the wait from the end of a relayed request to the head of its answer; whole seconds.
	RelayTimeout time.Duration
	// RelayResume is for how long a relayed answer can be resumed whose head does not say; whole seconds, 0: not at all.
	RelayResume time.Duration
	// RelayAnswerBytes and RelayBudgetBytes bound what is kept of one relayed answer, and of all.
	RelayAnswerBytes, RelayBudgetBytes int64

	// HeartbeatInterval between the heartbeats of a stream; whole seconds, at least one.
	HeartbeatInterval time.Duration
	// QueueBytes may wait for one client that reads slowly, or for one pending connection.
	QueueBytes int64
	// QueueBudgetBytes may wait in all queues together.
	QueueBudgetBytes int64
	// MaxTopics bounds the topics of a connection, and the topics that one event is published to.
	MaxTopics int
	// RequestBudgetBytes of requests may be kept, of connections and of disconnects that
	// are not delivered yet. 0: decided by the server.
	RequestBudgetBytes int64
	// LogBytes and LogAge bound what the log of published events keeps.
	LogBytes int64
	LogAge   time.Duration
	// RetainedBytes bounds what all retained events take.
	RetainedBytes int64

	// StateDir is the directory that keeps the log and the records of connections over a restart;
	// never together with NATS. Empty: both are in memory.
	StateDir string
	// StateSync is when writes to StateDir are forced to the disk: "second" or "always".
	StateSync string

	// NATSURL lists the NATS servers, separated by commas. They keep the log and connect the
	// nodes. Empty: no log and no other nodes. Users, passwords and tokens in it are secret.
	NATSURL string
	// NATSCredentialsFile holds the credentials of a NATS account; empty: none. NATSCAFile holds
	// the CA certificates (PEM) that verify the servers; empty: the system's.
	NATSCredentialsFile, NATSCAFile string
	// NATSPrefix begins the names of all subjects, streams and buckets on NATS.
	NATSPrefix string
	// NATSRead is which events are read from NATS: "all" or "own".
	NATSRead string
	// NATSReplicas is the number of NATS servers that keep each stream and bucket.
	NATSReplicas int
	// NodeLease is how long a node that does not renew its lease counts as alive; whole seconds, at least two.
	NodeLease time.Duration

	// InternalAddr is the address of a listener for /internal and /metrics; zero: the public
	// listener serves them.
	InternalAddr Addr
	// InternalTLSCertFile and InternalTLSKeyFile are PEM files for that listener, which is no socket
	// then; both or neither.
	InternalTLSCertFile, InternalTLSKeyFile string
	// InternalClientCAFile holds the CA certificates (PEM) that verify callers at that listener; only
	// with InternalTLSCertFile. Empty: callers need none.
	InternalClientCAFile string
	// InternalSocketMode has the permissions of that listener, if it is a socket.
	InternalSocketMode fs.FileMode
	// InternalAllow lists the callers of /internal besides this host. IPv4 prefixes are never
	// in IPv6-mapped form: unmap an address before the look-up.
	InternalAllow []netip.Prefix
	// InternalToken is the token that callers of /internal must present; empty: none. Secret.
	InternalToken string
	// MaxBodyBytes bounds the body of an internal request.
	MaxBodyBytes int64

	// DrainWindow is the time over which a shutdown spreads the closing of streams.
	// 0: all at once, everything done within 4.5 s.
	DrainWindow time.Duration

	// Console serves the operator's console at /internal/console/.
	Console bool
	// PProf serves profiles of the program at /internal/debug/pprof/.
	PProf bool

	LogLevel  slog.Level
	LogFormat string // "text" or "json"
}

// Addr is an address to listen on, as net.Listen takes it. The zero Addr is none.
type Addr struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the path of the socket
}

// String returns the address as it is configured.
func (a Addr) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Address
	}
	return a.Address
}

// IsLoopback reports whether only this host can reach the address.
func (a Addr) IsLoopback() bool {
	host, _, err := net.SplitHostPort(a.Address)
	if a.Network != "tcp" || err != nil {
		return a.Network == "unix"
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// Flags registers a flag for every setting, to be shown in the order of the table.
func Flags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	for _, s := range settings(new(Config)) {
		help := strings.ReplaceAll(s.meaning, "`", "") + " (" + s.allowed + ")"
		f := fs.VarPF(&flagValue{text: s.standard, kind: s.name}, s.flag(), "", help)
		if s.name == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// flagValue keeps a flag's text as given; Load parses it.
type flagValue struct{ text, kind string }

func (v *flagValue) String() string     { return v.text }
func (v *flagValue) Set(s string) error { v.text = s; return nil }
func (v *flagValue) Type() string       { return v.kind }

// Load makes a Config. A flag goes before the environment, the environment before the
// file, the file before the default. An empty value counts as none, but is an error where
// that would disable a protection. fs, which may be nil, was set up by [Flags] and parsed;
// environ has the form of os.Environ. memory is the limit on the memory of the process that is
// configured, in bytes: the defaults of the budgets fit into it. 0: there is none.
//
// The error joins all problems found. Warnings are values that were invalid and
// replaced by their default on purpose; they should be logged as errors. The Config
// is complete even with an error (defaults stand in), so that a program can log as
// configured before it exits.
func Load(fs *pflag.FlagSet, environ []string, memory int64) (c Config, warnings []error, err error) {
	c.MemoryLimit = memory
	table := settings(&c)
	for i := range table {
		table[i].fit(memory)
	}
	l := loader{
		flags: map[string]any{}, env: map[string]any{},
		values: koanf.New("\x00"), // no key is nested
	}
	for _, s := range table {
		l.add(map[string]any{s.key(): s.standard})
		if fs != nil {
			if f := fs.Lookup(s.flag()); f != nil && f.Changed {
				l.give(l.flags, s, f.Value.String(), "--"+s.flag())
			}
		}
		for _, variable := range environ {
			if name, value, _ := strings.Cut(variable, "="); name == s.env {
				l.give(l.env, s, value, s.env)
			}
		}
	}
	l.addFile(table)
	l.add(l.env)
	l.add(l.flags)

	for _, s := range table {
		problem := l.set(s)
		if problem == nil {
			continue
		}
		if s.standard != "" {
			_ = s.parse(s.standard)
		}
		if s.lenient {
			warnings = append(warnings, fmt.Errorf("%w; the default of %s is used", problem, s.standard))
		} else {
			l.problem(problem)
		}
	}
	for _, problem := range c.contradictions() {
		l.problem(problem)
	}
	if c.ClientIPHeader != standardIPHeader && len(c.TrustedProxies) == 0 {
		l.problem(errors.New("CLIENT_IP_HEADER: no header is read without TRUSTED_PROXIES; set that to the addresses of your proxies"))
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		l.problem(errors.New("PROXY_PROTOCOL: no header is read without TRUSTED_PROXIES; set that to the addresses of your proxies"))
	}
	return c, warnings, errors.Join(l.problems...)
}

// loader holds the layers of values while a Config is made of them.
type loader struct {
	flags, env map[string]any // what was set, by key; kept to name the source of a problem
	file       string         // path of the file, if one was read
	lines      map[string]int // of the file's keys
	values     *koanf.Koanf   // all layers, merged
	problems   []error
}

// give adds a value to a layer. An empty value counts as none, but is an error for a
// setting that protects something.
func (l *loader) give(layer map[string]any, s setting, value, source string) {
	if value != "" {
		layer[s.key()] = value
	} else if s.lock {
		l.nothing(source)
	}
}

func (l *loader) nothing(source string) {
	l.problem(fmt.Errorf("%s: it is set to nothing; leave it out, or give it a value", source))
}

func (l *loader) problem(err error) { l.problems = append(l.problems, err) }

func (l *loader) add(layer map[string]any) {
	if err := l.values.Load(confmap.Provider(layer, ""), nil); err != nil {
		l.problem(err) // cannot happen: a map does not fail
	}
}

// addFile adds the layer of the configuration file, if there is one.
func (l *loader) addFile(table []setting) {
	const key = "config_file"
	path, ok := l.flags[key].(string)
	if !ok {
		if path, ok = l.env[key].(string); !ok {
			return
		}
	}
	l.file = path
	content := koanf.New("\x00")
	if err := content.Load(file.Provider(path), yamlParser{}); err != nil {
		l.problem(fmt.Errorf("configuration file %s: %w", path, err))
		return
	}
	l.lines = keyLines(path)
	known, locks := map[string]bool{}, map[string]bool{}
	for _, s := range table {
		known[s.key()] = s.key() != key // a file does not name another one
		locks[s.key()] = s.lock
	}
	for _, k := range content.Keys() {
		if !known[k] {
			l.problem(fmt.Errorf("configuration file %s, line %d: unknown key %q%s", path, l.lines[k], k, hint(k, known)))
			content.Delete(k)
		} else if v := content.Get(k); v == nil || v == "" {
			content.Delete(k) // counts as none
			if locks[k] {
				l.nothing(l.inFile(k))
			}
		}
	}
	if err := l.values.Merge(content); err != nil {
		l.problem(fmt.Errorf("configuration file %s: %w", path, err))
	}
}

// hint returns the end of a message about an unknown key: the known one that was probably meant.
func hint(key string, known map[string]bool) string {
	if lower := strings.ToLower(key); known[lower] {
		return "; keys are in lower case: " + lower
	}
	const most = 3 // letters that are wrong
	best, distance := "", most+1
	for k, ok := range known {
		d := levenshtein.ComputeDistance(strings.ToLower(key), k)
		if ok && (d < distance || d == distance && k < best) && 2*d <= len(k) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// source returns the name of the place where the value of a setting was given.
func (l *loader) source(s setting) string {
	if _, ok := l.flags[s.key()]; ok {
		return "--" + s.flag()
	}
	if _, ok := l.env[s.key()]; ok {
		return s.env
	}
	return l.inFile(s.key())
}

// inFile returns the name of a key of the configuration file with its place.
func (l *loader) inFile(key string) string {
	return fmt.Sprintf("%s in %s, line %d", key, l.file, l.lines[key])
}

// text returns the value of a setting as it was given; empty: none.
func (l *loader) text(s setting) (string, error) {
	switch v := l.values.Get(s.key()).(type) {
	case string:
		return v, nil
	case []string:
		if s.list {
			return strings.Join(v, ","), nil
		}
	}
	return "", fmt.Errorf("%s: not a value of the right shape: must be %s", l.source(s), s.must())
}

// set parses the value of one setting into its field.
func (l *loader) set(s setting) error {
	text, err := l.text(s)
	if err != nil {
		return err
	}
	source, shown := l.source(s), s.quoted(text)
	if s.secret {
		path, err := l.text(s.fromFile())
		if err != nil {
			return nil //nolint:nilerr // reported for the path's own setting
		}
		if path != "" {
			source, shown = l.source(s.fromFile()), "what the file "+path+" holds"
			if text != "" {
				return fmt.Errorf("%s and %s: both are set; set one of them", l.source(s), source)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("%s: %w", source, err)
			}
			// An empty secret is an error: a failed mount must not disable the protection.
			if text = strings.TrimRight(string(content), "\r\n"); text == "" {
				return fmt.Errorf("%s: the file %s is empty", source, path)
			}
		}
	}
	if text == "" {
		return nil
	}
	if err := s.parse(text); err != nil {
		if errors.Is(err, errNotAllowed) {
			return fmt.Errorf("%s: %s is not valid: must be %s", source, shown, s.must())
		}
		return fmt.Errorf("%s: %s is not valid%w; it must be %s", source, shown, err, s.must())
	}
	return nil
}

// Redacted returns the configuration for the log, under the keys of the file, without
// settings that are not set and without secrets: it omits query and userinfo of the callback
// URL and userinfo of the NATS URLs, and shows only that there is a token.
func (c Config) Redacted() []slog.Attr {
	var attrs []slog.Attr
	for _, s := range settings(&c) {
		if v := s.show(); v != "" {
			attrs = append(attrs, slog.Any(s.key(), v))
		}
	}
	return attrs
}

// Changed returns the port, and each setting that differs from its default, as Redacted does.
func (c Config) Changed() []slog.Attr {
	var standard Config
	for _, s := range settings(&standard) {
		if s.standard != "" {
			_ = s.parse(s.standard) // which is valid
		}
	}
	defaults := standard.Redacted()
	return slices.DeleteFunc(c.Redacted(), func(a slog.Attr) bool {
		return a.Key != "port" && slices.ContainsFunc(defaults, a.Equal)
	})
}

// LogValue keeps secrets out of the log when a whole Config is logged.
func (c Config) LogValue() slog.Value { return slog.GroupValue(c.Redacted()...) }
