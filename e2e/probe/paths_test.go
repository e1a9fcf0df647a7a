package probe

import "ssegateway/internal/probe"

// path is a configuration in deploy/, as it is or spoilt.
type path struct {
	proxy  string
	spoilt string   // in a few words; empty: as it is
	change []string // an old text and a new one, in turn
	want   []probe.ID
	names  string // what the advice for the proxy has to name
	bodies bool   // with --bodies
	tls    bool   // HTTP/2 and HTTP/1.1 over TLS
	all    bool   // what is no stream goes to the gateway too
	hold   string // --for; empty: 4s
	beats  string // the seconds between heartbeats; empty: an hour
}

// before puts a line before one that the configuration has.
func before(line, more string) []string { return []string{line, more + "\n" + line} }

// apacheFilter loads a module that filters answers, and uses it for the streams.
func apacheFilter(module, use string) []string {
	load := "LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so\nLoadModule " + module + "_module /usr/lib/apache2/modules/mod_" + module + ".so"
	return append(before("LoadModule headers_module", load), before("ErrorDocument 502", use)...)
}

// traefikMiddleware uses one more middleware for the streams.
func traefikMiddleware(text string) []string {
	return []string{"middlewares: [comeback]", "middlewares: [comeback, spoilt]", "  middlewares:\n    nobody:", "  middlewares:\n    spoilt: " + text + "\n    nobody:"}
}

const (
	nginxStream   = "proxy_read_timeout 60s;"
	haproxyStream = "http-response del-header X-Come-Back"
)

// The table in docs/probe.md is made of these.
var paths = []path{
	{proxy: "nginx"},
	{proxy: "nginx", tls: true},
	{proxy: "nginx-cluster", beats: "1"},
	{proxy: "haproxy"},
	{proxy: "haproxy", tls: true},
	{proxy: "caddy"},
	{proxy: "caddy", tls: true},
	{proxy: "apache", beats: "1"},
	{proxy: "apache", tls: true, beats: "1"},
	{proxy: "traefik"},
	{proxy: "traefik", tls: true},

	{proxy: "nginx", spoilt: "`proxy_ignore_headers X-Accel-Buffering`", change: before(nginxStream, "proxy_ignore_headers X-Accel-Buffering;"), want: []probe.ID{probe.HeldBack}, names: "proxy_ignore_headers X-Accel-Buffering"},
	{proxy: "nginx", spoilt: "`gzip_types text/event-stream`", change: before(nginxStream, "gzip on; gzip_min_length 1; gzip_types text/event-stream;"), want: []probe.ID{probe.Compressed}, names: "gzip_types"},
	{proxy: "nginx", spoilt: "`proxy_read_timeout 2s`", change: []string{nginxStream, "proxy_read_timeout 2s;"}, want: []probe.ID{probe.IdleCut}, names: "proxy_read_timeout"},
	{proxy: "nginx", spoilt: "`proxy_hide_header Cache-Control`", change: before(nginxStream, "proxy_hide_header Cache-Control;"), want: []probe.ID{probe.HeadersLost}, names: "proxy_hide_header"},
	{proxy: "nginx", spoilt: "`proxy_set_header Last-Event-ID \"\"`", change: before(nginxStream, `proxy_set_header Last-Event-ID "";`), want: []probe.ID{probe.LastEventIDLost}, names: "proxy_set_header Last-Event-ID"},
	{proxy: "nginx", spoilt: "`proxy_ignore_client_abort on`", change: before(nginxStream, "proxy_ignore_client_abort on;"), want: []probe.ID{probe.LeavingLate}, names: "proxy_ignore_client_abort"},
	{proxy: "nginx", spoilt: "nothing, with `--bodies`", bodies: true, want: []probe.ID{probe.BodyHeld}, names: "proxy_request_buffering off"},
	{proxy: "nginx", spoilt: "`proxy_request_buffering off`, with `--bodies`", bodies: true, change: before(nginxStream, "proxy_request_buffering off;")},
	{proxy: "nginx", spoilt: "no `location /internal/`", all: true, change: []string{"location /internal/ { deny all; }", ""}, want: []probe.ID{probe.InternalOpen}, names: "location /internal/ { deny all; }"},
	{proxy: "nginx", spoilt: "`proxy_cache` and `proxy_ignore_headers X-Accel-Buffering Cache-Control`", change: append(before("upstream application {", "proxy_cache_path cache keys_zone=streams:1m;"), before(nginxStream, "proxy_ignore_headers X-Accel-Buffering Cache-Control; proxy_cache streams; proxy_cache_valid 200 1m; proxy_cache_lock on; proxy_cache_lock_timeout 1m; proxy_cache_lock_age 1m;")...), want: []probe.ID{probe.HeldBack, probe.Cached, probe.LeavingHidden}, names: "proxy_cache off"},
	{proxy: "nginx", spoilt: "`proxy_cache`", change: append(before("upstream application {", "proxy_cache_path cache keys_zone=streams:1m;"), before(nginxStream, "proxy_cache streams;")...)},
	{proxy: "nginx", spoilt: "`proxy_pass http://gateway$uri`", change: []string{"proxy_pass http://gateway;", "proxy_pass http://gateway$uri;"}, want: []probe.ID{probe.QueryLost}, names: "$is_args$args"},
	{proxy: "nginx", spoilt: "`proxy_http_version 1.0`", change: []string{"proxy_http_version 1.1;", "proxy_http_version 1.0;"}},
	{proxy: "nginx", spoilt: "`sub_filter`", change: before(nginxStream, "sub_filter two 2; sub_filter_types text/event-stream;"), want: []probe.ID{probe.EventsChanged}, names: "sub_filter"},
	{proxy: "nginx", spoilt: "`proxy_hide_header Content-Type`", change: before(nginxStream, "proxy_hide_header Content-Type; add_header Content-Type text/plain;"), want: []probe.ID{probe.ContentType}, names: "Content-Type"},

	{proxy: "haproxy", spoilt: "no `option http-no-delay`", change: []string{"option http-no-delay", ""}, want: []probe.ID{probe.Delayed}, names: "option http-no-delay"},
	{proxy: "haproxy", spoilt: "no `option abortonclose`", change: []string{"option abortonclose", ""}, want: []probe.ID{probe.LeavingLate}, names: "option abortonclose"},
	{proxy: "haproxy", spoilt: "`timeout server 2s`", change: []string{"timeout server  60s", "timeout server 2s"}, want: []probe.ID{probe.IdleCut}, names: "timeout server"},
	{proxy: "haproxy", spoilt: "`compression type text/event-stream`", change: before("option forwardfor", "compression algo gzip\ncompression type text/event-stream")},
	{proxy: "haproxy", spoilt: "`http-response del-header Cache-Control`", change: before(haproxyStream, "http-response del-header Cache-Control"), want: []probe.ID{probe.HeadersLost}, names: "http-response del-header"},
	{proxy: "haproxy", spoilt: "`http-request del-header Last-Event-ID`", change: before("option forwardfor", "http-request del-header Last-Event-ID"), want: []probe.ID{probe.LastEventIDLost}, names: "http-request del-header Last-Event-ID"},
	{proxy: "haproxy", spoilt: "`option http-buffer-request`, with `--bodies`", bodies: true, change: before("option forwardfor", "option http-buffer-request"), want: []probe.ID{probe.BodyHeld}, names: "option http-buffer-request"},
	{proxy: "haproxy", spoilt: "no `http-request deny` of /internal", all: true, change: []string{"http-request deny deny_status 403 if { path,url_dec -m reg ^/+(internal|metrics)([/;]|$) }", ""}, want: []probe.ID{probe.InternalReached}, names: "http-request deny"},
	{proxy: "haproxy", spoilt: "`http-request set-query`", change: before("option forwardfor", "http-request set-query a=b"), want: []probe.ID{probe.QueryLost}, names: "http-request set-query"},
	{proxy: "haproxy", spoilt: "`http-response set-header Content-Type`", change: before(haproxyStream, "http-response set-header Content-Type text/plain"), want: []probe.ID{probe.ContentType}, names: "http-response set-header Content-Type"},
	{proxy: "haproxy", spoilt: "`http-response wait-for-body`", change: before(haproxyStream, "http-response wait-for-body time 60s"), want: []probe.ID{probe.HeldBack}, names: "http-response wait-for-body"},
	{proxy: "haproxy", spoilt: "no `alpn`, over TLS", tls: true, change: []string{" alpn h2,http/1.1", ""}, want: []probe.ID{probe.OnlyHTTP1}, names: "alpn"},

	{proxy: "caddy", spoilt: "`read_timeout 2s`", change: []string{"read_timeout 60s", "read_timeout 2s"}, want: []probe.ID{probe.IdleCut}, names: "read_timeout"},
	{proxy: "caddy", spoilt: "`encode gzip`", change: before("@unclean not expression", "encode {\ngzip\nminimum_length 1\n}"), want: []probe.ID{probe.Compressed}, names: "encode"},
	{proxy: "caddy", spoilt: "`header -Cache-Control`", change: before("@unclean not expression", "header -Cache-Control"), want: []probe.ID{probe.HeadersLost}, names: "header -Cache-Control"},
	{proxy: "caddy", spoilt: "`flush_interval -1`", change: before("transport http {", "flush_interval -1"), want: []probe.ID{probe.LeavingLate}, names: "flush_interval"},
	{proxy: "caddy", spoilt: "`header_up -Last-Event-ID`", change: before("transport http {", "header_up -Last-Event-ID"), want: []probe.ID{probe.LastEventIDLost}, names: "header_up -Last-Event-ID"},
	{proxy: "caddy", spoilt: "`buffer_responses`", change: before("transport http {", "buffer_responses"), want: []probe.ID{probe.HeldBack}, names: "buffer_responses"},
	{proxy: "caddy", spoilt: "`buffer_requests`, with `--bodies`", bodies: true, change: before("transport http {", "buffer_requests"), want: []probe.ID{probe.BodyHeld}, names: "buffer_requests"},
	{proxy: "caddy", spoilt: "no `@internal`", all: true, change: []string{"@internal path /internal /internal/* /metrics /metrics/*", "@internal path /nowhere"}, want: []probe.ID{probe.InternalReached}, names: "@internal"},
	{proxy: "caddy", spoilt: "`header_down Content-Type`", change: before("transport http {", "header_down Content-Type text/plain"), want: []probe.ID{probe.ContentType}, names: "header_down Content-Type"},
	{proxy: "caddy", spoilt: "`rewrite` without the query", change: before("transport http {", "rewrite {path}?"), want: []probe.ID{probe.QueryLost}, names: "rewrite"},
	{proxy: "caddy", spoilt: "`timeouts { write 10s }`", change: []string{"auto_https disable_redirects\n", "auto_https disable_redirects\nservers {\ntimeouts {\nwrite 10s\n}\n}\n"}, hold: "12s", want: []probe.ID{probe.LifeCut}, names: "write"},

	{proxy: "apache", spoilt: "`ProxyTimeout 1`, and a heartbeat each hour", change: []string{"ProxyTimeout 60", "ProxyTimeout 1"}, want: []probe.ID{probe.IdleCut}, names: "ProxyTimeout"},
	{proxy: "apache", spoilt: "a heartbeat each hour", want: []probe.ID{probe.LeavingLate}, names: "HEARTBEAT_INTERVAL_SECONDS"},
	{proxy: "apache", spoilt: "`RequestHeader unset Last-Event-ID`", beats: "1", change: before("ProxyPreserveHost On", "RequestHeader unset Last-Event-ID"), want: []probe.ID{probe.LastEventIDLost}, names: "RequestHeader unset Last-Event-ID"},
	{proxy: "apache", spoilt: "`AddOutputFilterByType DEFLATE`", beats: "1", change: apacheFilter("deflate", "AddOutputFilterByType DEFLATE text/event-stream"), want: []probe.ID{probe.Compressed}, names: "DEFLATE"},
	{proxy: "apache", spoilt: "`AddOutputFilterByType SUBSTITUTE`", beats: "1", change: apacheFilter("substitute", "AddOutputFilterByType SUBSTITUTE text/event-stream\nSubstitute s/two/2/"), want: []probe.ID{probe.EventsChanged}, names: "mod_substitute"},
	{proxy: "apache", spoilt: "`SetEnv force-response-1.0`", beats: "1", change: append(before("LoadModule headers_module", "LoadModule env_module /usr/lib/apache2/modules/mod_env.so"), before("ErrorDocument 502", "SetEnv downgrade-1.0 1\nSetEnv force-response-1.0 1")...), want: []probe.ID{probe.HTTP10}, names: "force-response-1.0"},
	{proxy: "apache", spoilt: "`Header unset Cache-Control`", beats: "1", change: before("ErrorDocument 502", "Header unset Cache-Control"), want: []probe.ID{probe.HeadersLost}, names: "Header unset"},
	{proxy: "apache", spoilt: "`Header set Content-Type`", beats: "1", change: before("ErrorDocument 502", "Header set Content-Type text/plain"), want: []probe.ID{probe.ContentType}, names: "Header set Content-Type"},
	{proxy: "apache", spoilt: "no `<LocationMatch>`", beats: "1", all: true, change: []string{"Require all denied", "Require all granted"}, want: []probe.ID{probe.InternalReached}, names: "LocationMatch"},
	{proxy: "apache", spoilt: "no `flushpackets=on`", beats: "1", change: []string{" flushpackets=on", ""}},
	{proxy: "apache", spoilt: "nothing, with `--bodies`", beats: "1", bodies: true, want: []probe.ID{probe.BodyHeld}, names: "16 KiB"},

	{proxy: "traefik", spoilt: "`buffering`", change: traefikMiddleware("{buffering: {maxResponseBodyBytes: 100000000}}"), want: []probe.ID{probe.HeldBack}, names: "`buffering` middleware"},
	{proxy: "traefik", spoilt: "`compress`", change: traefikMiddleware("{compress: {minResponseBodyBytes: 1}}"), want: []probe.ID{probe.Compressed}, names: "excludedContentTypes"},
	{proxy: "traefik", spoilt: "`customRequestHeaders`", change: traefikMiddleware("{headers: {customRequestHeaders: {Last-Event-ID: \"\"}}}"), want: []probe.ID{probe.LastEventIDLost}, names: "customRequestHeaders"},
	{proxy: "traefik", spoilt: "`customResponseHeaders` with `Cache-Control`", change: traefikMiddleware("{headers: {customResponseHeaders: {Cache-Control: \"\"}}}"), want: []probe.ID{probe.HeadersLost}, names: "customResponseHeaders"},
	{proxy: "traefik", spoilt: "`customResponseHeaders` with `Content-Type`", change: traefikMiddleware("{headers: {customResponseHeaders: {Content-Type: text/plain}}}"), want: []probe.ID{probe.ContentType}, names: "customResponseHeaders"},
	{proxy: "traefik", spoilt: "`silence: 2s`", change: []string{"silence: 60s", "silence: 2s"}, want: []probe.ID{probe.IdleCut}, names: "silence"},
	{proxy: "traefik", spoilt: "no router `internal`", all: true, change: []string{"rule: PathRegexp(", "rule: PathRegexp(`^/nowhere$`) && PathRegexp("}, want: []probe.ID{probe.InternalReached}, names: "PathRegexp"},
}
