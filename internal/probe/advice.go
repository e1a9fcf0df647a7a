package probe

import "slices"

// ID names a kind of finding.
type ID string

// Kinds of findings.
const (
	HeldBack        ID = "held-back"
	Delayed         ID = "delayed"
	EventsLost      ID = "events-lost"
	EventsCut       ID = "events-cut"
	EventsChanged   ID = "events-changed"
	HeartbeatsLost  ID = "heartbeats-lost"
	Compressed      ID = "compressed"
	Cached          ID = "cached"
	ContentType     ID = "content-type"
	HeadersLost     ID = "headers-lost"
	HTTP10          ID = "http-1.0"
	OnlyHTTP1       ID = "only-http-1"
	IdleCut         ID = "idle-cut"
	LifeCut         ID = "life-cut"
	EndHidden       ID = "end-hidden"
	EndCut          ID = "end-cut"
	LeavingLate     ID = "leaving-late"
	LeavingHidden   ID = "leaving-hidden"
	LastEventIDLost ID = "last-event-id-lost"
	QueryLost       ID = "query-lost"
	BodyHeld        ID = "body-held"
	InternalOpen    ID = "internal-open"
	InternalReached ID = "internal-reached"
)

// Setting is what ends a fault in one proxy.
type Setting struct {
	Proxy string `json:"proxy"`
	Text  string `json:"setting"`
}

// kind is a kind of finding.
type kind struct {
	id    ID
	what  string               // in general
	cause string               // that is likely
	by    [len(proxies)]string // what to set; empty: nothing that is known
}

// proxies are those that the settings are for, in their order.
var proxies = [...]string{"nginx", "Apache", "HAProxy", "Caddy", "Traefik", "Envoy", "ingress-nginx", "Cloudflare", "AWS ALB"}

func (k kind) settings() []Setting {
	list := []Setting{}
	for i, text := range k.by {
		if text != "" {
			list = append(list, Setting{proxies[i], text})
		}
	}
	return list
}

// rank orders kinds, the worst first.
func rank(id ID) int { return slices.IndexFunc(kinds, func(k kind) bool { return k.id == id }) }

func kindOf(id ID) kind { return kinds[rank(id)] }

// denying keeps the gateway's own paths from clients.
var denying = [len(proxies)]string{
	"`location /internal/ { deny all; }`, and no path in `proxy_pass`", "`<LocationMatch \"^/(internal|metrics)(/|$)\"> Require all denied`",
	"`http-request deny if { path,url_dec -m reg ^/+(internal|metrics)([/;]|$) }`", "`@internal path /internal /internal/* /metrics /metrics/*` and `respond @internal 403`",
	"a router with `PathRegexp` and `ipAllowList`", "`safe_regex` with `direct_response: {status: 403}`, and `normalize_path: true`", //nolint:misspell // Envoy calls it so
	"no Ingress path that covers /internal and /metrics; `path: /events/`, `pathType: Prefix`, and no `rewrite-target`", "a WAF custom rule that blocks these paths, beside the origin's own",
	"a listener rule for /internal* and /metrics* with a fixed response 403, before the others",
}

// unfiltered passes bodies on as they are.
var unfiltered = [len(proxies)]string{
	"no `sub_filter`, `charset` with `charset_types`, and `body_filter_by_lua_block`", "no `mod_substitute`, `mod_proxy_html`, `mod_xml2enc`, and `mod_ext_filter`", "no `filter lua.…`", "no `replace` and `templates`",
	"no plugins that rewrite bodies", "no `lua`, `wasm`, and `ext_proc`", "no snippets with `sub_filter`", "no Workers, Email Address Obfuscation, and Automatic HTTPS Rewrites", "",
}

var kinds = []kind{
	{
		InternalOpen, "/internal or /metrics answers a client from outside.",
		"No proxy denies these paths, and one on the gateway's host adds no forwarding header, so that the gateway takes its requests for those of a local backend. Deny every spelling, as the files in deploy/ do, or move these paths away with INTERNAL_ADDR.",
		denying,
	},
	{
		InternalReached, "Requests for /internal or /metrics from outside reach the gateway, which refuses them.",
		"No proxy denies these paths. Only the gateway's own rule keeps strangers out. Deny every spelling, as the files in deploy/ do.",
		denying,
	},
	{
		HeldBack, "Events, or the head of the answer, are held back until more bytes come.",
		"A proxy collects the answer before it passes it on.",
		[...]string{
			"`proxy_buffering off`; by default X-Accel-Buffering of the gateway does that, unless `proxy_ignore_headers X-Accel-Buffering`", "no `text/event-stream` in `SecResponseBodyMimeType` of ModSecurity",
			"no `http-response wait-for-body`", "no `response_buffers` (before 2.7 `buffer_responses`)",
			"no `buffering` middleware", "no filter that buffers answers: `file_system_buffer`, or `ext_proc` with `response_body_mode: BUFFERED`",
			"`nginx.ingress.kubernetes.io/proxy-buffering: \"off\"`", "a Configuration Rule for the path with Response Body Buffering: None; no Worker that reads the answer as a whole",
			"no Lambda function as the target",
		},
	},
	{
		Delayed, "Each event comes late, and those that are near each other come together.",
		"A proxy joins small writes (no TCP_NODELAY), or passes on what has come at fixed times.",
		[...]string{
			"`tcp_nodelay on`, the default", "",
			"`option http-no-delay`", "`flush_interval` not set: event streams are flushed at once",
			"`responseForwarding.flushInterval`: event streams are flushed at once whatever it says, unless a middleware hides their content type", "",
			"`tcp_nodelay on`, the default", "", "",
		},
	},
	{
		EventsLost, "Events do not come, and later ones do.",
		"A filter in a proxy drops a part of the answer. Take it off this path.",
		unfiltered,
	},
	{
		EventsCut, "A large event does not come whole, or ends the stream.",
		"A proxy bounds what it buffers or scans of an answer.",
		[...]string{
			"`proxy_buffering off`", "no `text/event-stream` in `SecResponseBodyMimeType` of ModSecurity, which has a `SecResponseBodyLimit`",
			"larger `tune.bufsize`, if a filter needs the body", "no `response_buffers`", "no `buffering` middleware with `maxResponseBodyBytes`", "larger `per_connection_buffer_limit_bytes`, if a filter needs the body",
			"`proxy-buffering: \"off\"`; `enable-modsecurity` off for this path", "no Worker that reads the answer as a whole", "no Lambda function as the target: its answers are bounded",
		},
	},
	{
		EventsChanged, "Events come with other bytes than were sent, in another order, or twice.",
		"A filter in a proxy rewrites bodies: links, characters, line ends, blanks. Take it off this path.",
		unfiltered,
	},
	{
		HeartbeatsLost, "Heartbeats do not come, and so nothing keeps an idle stream alive.",
		"A filter in a proxy drops comments, or holds back what is small. Take it off this path.",
		unfiltered,
	},
	{
		Compressed, "The stream is compressed.",
		"A proxy compresses text/event-stream. It may hold events back for that, and needs memory for each stream. The gateway says `Cache-Control: no-transform`, which HAProxy and Envoy heed: no proxy may replace it.",
		[...]string{
			"`gzip off` for the location, or no `text/event-stream` (or `*`) in `gzip_types`", "`SetEnv no-gzip 1`, or no `text/event-stream` in `AddOutputFilterByType DEFLATE`",
			"no `text/event-stream` in `compression type`", "`encode` with a matcher that leaves the path out", "`excludedContentTypes: [text/event-stream]` of the `compress` middleware",
			"no `text/event-stream` in `content_type` of the compressor", "no `text/event-stream` in `gzip-types` and `brotli-types` of the ConfigMap", "a Compression Rule for the path: Disable compression", "",
		},
	},
	{
		Cached, "Another client's answer is given, or waited for: the request does not reach the gateway.",
		"A cache keeps the answer, or joins requests for one URL.",
		[...]string{
			"`proxy_cache off` for the location", "`CacheDisable /events/`", "no `http-request cache-use` for the path", "no cache module for the path", "no cache plugin for the path",
			"no `cache` filter for the route", "no snippet with `proxy_cache` for the path", "a Cache Rule for the path: Bypass cache", "none of its own; in CloudFront before it the policy CachingDisabled",
		},
	},
	{
		ContentType, "The answer is no text/event-stream any more, which an EventSource refuses.",
		"A proxy sets Content-Type.",
		[...]string{
			"no `add_header Content-Type` and no `proxy_hide_header Content-Type`", "no `Header set Content-Type`", "no `http-response set-header Content-Type`", "no `header_down Content-Type`, and no `header Content-Type` with `defer`",
			"no `Content-Type` in `customResponseHeaders`", "no `content-type` in `response_headers_to_add`", "no `Content-Type` in snippets and in `custom-headers`", "no Response Header Transform Rule for it", "",
		},
	},
	{
		HeadersLost, "Cache-Control or X-Content-Type-Options of the gateway do not come.",
		"A proxy hides or replaces headers of answers.",
		[...]string{
			"no `proxy_hide_header` for them; no `expires`", "no `Header unset` for them; no `ExpiresActive On`", "no `http-response del-header` for them", "no `header -Cache-Control`, and no `header_down -Cache-Control`",
			"not in `customResponseHeaders`", "not in `response_headers_to_remove`", "no `hide-headers` for them in the ConfigMap", "Browser Cache TTL: Respect Existing Headers; no Response Header Transform Rule", "no header modification attributes for them",
		},
	},
	{
		HTTP10, "The answer is HTTP/1.0: a stream that is cut looks as one that has ended.",
		"A very old proxy, or one that lowers the version.",
		[...]string{
			"", "no `downgrade-1.0` and `force-response-1.0` in `SetEnv` and `BrowserMatch`", "", "", "", "", "", "", "",
		},
	},
	{
		OnlyHTTP1, "The public end does not speak HTTP/2: a browser opens at most six streams to the site, for all its tabs.",
		"HTTP/2 is switched off.",
		[...]string{
			"`listen 443 ssl http2`, since 1.25.1 `http2 on`", "`Protocols h2 http/1.1` and `mod_http2`", "`alpn h2,http/1.1` of `bind`", "`protocols h1 h2 h3` of `servers`, the default",
			"`alpnProtocols` of the TLS options with `h2`, the default", "`alpn_protocols: [h2, http/1.1]`", "`use-http2: \"true\"` in the ConfigMap, the default", "HTTP/2 on, in Speed, Protocol Optimization", "`routing.http2.enabled` true, and an HTTPS listener",
		},
	},
	{
		IdleCut, "A stream is cut when no byte comes for a while.",
		"A proxy's timeout is shorter than the gateway's HEARTBEAT_INTERVAL_SECONDS. Raise the one, or lower the other.",
		[...]string{
			"`proxy_read_timeout 60s`", "`ProxyTimeout 60`, or `timeout=60` of `ProxyPass`", "`timeout server 60s`", "`read_timeout 60s` of `transport http`",
			"`silence: 60s` of the plugin in deploy/", "`stream_idle_timeout: 60s`, and `idle_timeout: 60s` of the route", "`nginx.ingress.kubernetes.io/proxy-read-timeout: \"60\"`",
			"Proxy Read Timeout, 120 s by default, which only Enterprise can change: let HEARTBEAT_INTERVAL_SECONDS be less", "`idle_timeout.timeout_seconds`, 60 by default",
		},
	},
	{
		LifeCut, "A stream is cut although bytes come.",
		"A proxy bounds the time of a whole answer or connection. Or the backend does, by max_age_seconds, or the gateway or a proxy was restarted.",
		[...]string{
			"none of one answer; at a reload `worker_shutdown_timeout` not set", "none of one answer; `GracefulShutdownTimeout 0`", "none of one answer; `hard-stop-after` not set", "`write` of `timeouts` in `servers` not set; `grace_period` not set",
			"`respondingTimeouts.writeTimeout: 0`", "`timeout: 0s` of the route (15 s by default), no `max_stream_duration` and no `max_connection_duration`", "`worker-shutdown-timeout` in the ConfigMap, 240s by default, ends streams at each reload",
			"none that can be set", "`deregistration_delay.timeout_seconds` of the target group, 300 by default, after which the streams of a target that is taken away end",
		},
	},
	{
		EndHidden, "The gateway ends a stream, and the client's stays open.",
		"A filter or a cache in a proxy loses the end of the body, and waits for more. Take it off this path.",
		unfiltered,
	},
	{
		EndCut, "A stream that the gateway ends properly looks to the client as if it had been cut.",
		"A proxy drops the end of the body: the last chunk, or END_STREAM. A filter may be what does it.",
		unfiltered,
	},
	{
		LeavingHidden, "A client that has left stays open at the gateway.",
		"A proxy goes on reading the answer for nobody.",
		[...]string{
			"`proxy_ignore_client_abort off`, the default; no `proxy_cache` and no `proxy_store` for the path", "no `CacheEnable` for the path", "`option abortonclose`", "`flush_interval` not `-1`, which also keeps the request of a client that has left",
			"", "", "no snippet with `proxy_ignore_client_abort on`", "no Worker that reads on by `waitUntil`", "",
		},
	},
	{
		LeavingLate, "The gateway hears that a client has left only when it writes to it.",
		"A proxy looks at the client only when it has something for it. HEARTBEAT_INTERVAL_SECONDS is then how late the backend is told.",
		[...]string{
			"`proxy_ignore_client_abort off`, the default", "none: a smaller HEARTBEAT_INTERVAL_SECONDS", "`option abortonclose`", "`flush_interval` not `-1`", "none: a smaller HEARTBEAT_INTERVAL_SECONDS", "",
			"no snippet with `proxy_ignore_client_abort on`", "none: a smaller HEARTBEAT_INTERVAL_SECONDS", "none: a smaller HEARTBEAT_INTERVAL_SECONDS",
		},
	},
	{
		LastEventIDLost, "A client that comes back gets neither what it missed nor a gap: Last-Event-ID does not arrive.",
		"A proxy drops request headers that it does not know, or a cache key does not have it.",
		[...]string{
			"no `proxy_set_header Last-Event-ID \"\"` and no `proxy_pass_request_headers off`", "no `RequestHeader unset Last-Event-ID`", "no `http-request del-header Last-Event-ID`", "no `header_up -Last-Event-ID`",
			"no `Last-Event-ID` in `customRequestHeaders`", "not in `request_headers_to_remove`", "no `proxy-set-headers` and no snippet that empties it", "no Request Header Transform Rule for it", "none of its own; in CloudFront before it an origin request policy with all viewer headers",
		},
	},
	{
		QueryLost, "The query of the URL does not arrive.",
		"A proxy rewrites the target without its query.",
		[...]string{
			"`proxy_pass` without variables or with `$is_args$args`; no `rewrite` to what ends with `?`", "no `[QSD]` and no `?` in a `RewriteRule`, or `[QSA]`", "no `http-request set-query`", "no `rewrite` to what ends with `?`, and no `uri query`", "no `replacePathRegex` or plugin that drops it", "no filter that sets `:path`",
			"no `rewrite-target` that ends with `?`", "no URL Rewrite Rule with a static query", "",
		},
	},
	{
		BodyHeld, "The body of a request is held back until it is whole.",
		"A proxy buffers requests. A relayed application gets nothing before; other paths have no bodies.",
		[...]string{
			"`proxy_request_buffering off` and `proxy_http_version 1.1`", "none: it waits for the first 16 KiB, or the whole body; beyond that no `proxy-sendcl`, and `SecRequestBodyAccess Off`", "no `option http-buffer-request` and no `http-request wait-for-body`", "no `request_buffers` (before 2.7 `buffer_requests`)",
			"no `buffering` middleware", "no `buffer` filter for the route", "`nginx.ingress.kubernetes.io/proxy-request-buffering: \"off\"`", "a Configuration Rule for the path with Request Body Buffering: None", "",
		},
	},
}
