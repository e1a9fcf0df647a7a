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
	beats  string // the seconds between heartbeats; empty: an hour
}

// before puts a line before one that the configuration has.
func before(line, more string) []string { return []string{line, more + "\n" + line} }

const (
	nginxStream   = "proxy_read_timeout 60s;"
	haproxyStream = "http-response del-header X-Come-Back"
)

// The table in docs/probe.md is made of these.
var paths = []path{
	{proxy: "nginx"},
	{proxy: "nginx", tls: true},
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
	{proxy: "nginx", spoilt: "no `proxy_request_buffering off`, with `--bodies`", bodies: true, want: []probe.ID{probe.BodyHeld}, names: "proxy_request_buffering off"},
	{proxy: "nginx", spoilt: "`proxy_request_buffering off`, with `--bodies`", bodies: true, change: before(nginxStream, "proxy_request_buffering off;")},
	{proxy: "nginx", spoilt: "no `location /internal/`", all: true, change: []string{"location /internal/ { deny all; }", ""}, want: []probe.ID{probe.InternalOpen}, names: "location /internal/ { deny all; }"},

	{proxy: "haproxy", spoilt: "no `option http-no-delay`", change: []string{"option http-no-delay", ""}, want: []probe.ID{probe.Delayed}, names: "option http-no-delay"},
	{proxy: "haproxy", spoilt: "no `option abortonclose`", change: []string{"option abortonclose", ""}, want: []probe.ID{probe.LeavingLate}, names: "option abortonclose"},
	{proxy: "haproxy", spoilt: "`timeout server 2s`", change: []string{"timeout server  60s", "timeout server 2s"}, want: []probe.ID{probe.IdleCut}, names: "timeout server"},
	{proxy: "haproxy", spoilt: "`compression type text/event-stream`", change: before("option forwardfor", "compression algo gzip\ncompression type text/event-stream"), want: []probe.ID{probe.Compressed}, names: "compression type"},
	{proxy: "haproxy", spoilt: "`http-response del-header Cache-Control`", change: before(haproxyStream, "http-response del-header Cache-Control"), want: []probe.ID{probe.HeadersLost}, names: "http-response del-header"},
	{proxy: "haproxy", spoilt: "`http-request del-header Last-Event-ID`", change: before("option forwardfor", "http-request del-header Last-Event-ID"), want: []probe.ID{probe.LastEventIDLost}, names: "http-request del-header Last-Event-ID"},
	{proxy: "haproxy", spoilt: "`option http-buffer-request`, with `--bodies`", bodies: true, change: before("option forwardfor", "option http-buffer-request"), want: []probe.ID{probe.BodyHeld}, names: "option http-buffer-request"},
	{proxy: "haproxy", spoilt: "no `http-request deny` of /internal", all: true, change: []string{"http-request deny deny_status 403 if { path,url_dec -m reg ^/+(internal|metrics)([/;]|$) }", ""}, want: []probe.ID{probe.InternalReached}, names: "http-request deny"},

	{proxy: "caddy", spoilt: "`read_timeout 2s`", change: []string{"read_timeout 60s", "read_timeout 2s"}, want: []probe.ID{probe.IdleCut}, names: "read_timeout"},
	{proxy: "caddy", spoilt: "`encode gzip`", change: before("@unclean not expression", "encode {\ngzip\nminimum_length 1\n}"), want: []probe.ID{probe.Compressed}, names: "encode"},
	{proxy: "caddy", spoilt: "`header -Cache-Control`", change: before("@unclean not expression", "header -Cache-Control"), want: []probe.ID{probe.HeadersLost}, names: "header -Cache-Control"},
	{proxy: "caddy", spoilt: "`flush_interval -1`", change: before("transport http {", "flush_interval -1"), want: []probe.ID{probe.LeavingLate}, names: "flush_interval"},
	{proxy: "caddy", spoilt: "`header_up -Last-Event-ID`", change: before("transport http {", "header_up -Last-Event-ID"), want: []probe.ID{probe.LastEventIDLost}, names: "header_up -Last-Event-ID"},
	{proxy: "caddy", spoilt: "`buffer_responses`", change: before("transport http {", "buffer_responses"), want: []probe.ID{probe.HeldBack}, names: "buffer_responses"},
	{proxy: "caddy", spoilt: "`buffer_requests`, with `--bodies`", bodies: true, change: before("transport http {", "buffer_requests"), want: []probe.ID{probe.BodyHeld}, names: "buffer_requests"},
	{proxy: "caddy", spoilt: "no `@internal`", all: true, change: []string{"@internal path /internal /internal/* /metrics /metrics/*", "@internal path /nowhere"}, want: []probe.ID{probe.InternalReached}, names: "@internal"},

	{proxy: "apache", spoilt: "`ProxyTimeout 1`, and a heartbeat each hour", change: []string{"ProxyTimeout 60", "ProxyTimeout 1"}, want: []probe.ID{probe.IdleCut}, names: "ProxyTimeout"},
	{proxy: "apache", spoilt: "a heartbeat each hour", want: []probe.ID{probe.LeavingLate}, names: "HEARTBEAT_INTERVAL_SECONDS"},
	{proxy: "apache", spoilt: "`RequestHeader unset Last-Event-ID`", beats: "1", change: before("ProxyPreserveHost On", "RequestHeader unset Last-Event-ID"), want: []probe.ID{probe.LastEventIDLost}, names: "RequestHeader unset Last-Event-ID"},
}
