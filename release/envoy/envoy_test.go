// Package envoy tests deploy/envoy.yaml with the types that Envoy reads it into.
package envoy

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

const heartbeat = 15 * time.Second // HEARTBEAT_INTERVAL_SECONDS, if it is not set

// read returns the configuration. Envoy does the same checks: names, types and rules of each field.
func read(t *testing.T) *bootstrap.Bootstrap {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "envoy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	json, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	b := &bootstrap.Bootstrap{}
	if err := protojson.Unmarshal(json, b); err != nil {
		t.Fatal(err)
	}
	if err := b.ValidateAll(); err != nil {
		t.Error(err)
	}
	return b
}

// unpack checks what is in an Any, which ValidateAll of what it is in does not.
func unpack[M interface {
	proto.Message
	ValidateAll() error
}](t *testing.T, packed *anypb.Any, m M) M {
	t.Helper()
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	if err := m.ValidateAll(); err != nil {
		t.Error(err)
	}
	return m
}

// site returns how Envoy serves the site.
func site(t *testing.T) *manager.HttpConnectionManager {
	t.Helper()
	filters := read(t).GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()
	return unpack(t, filters[0].GetTypedConfig(), &manager.HttpConnectionManager{})
}

// Envoy takes the configuration, speaks HTTP/2, and holds a stream for as long as heartbeats come.
func TestStreams(t *testing.T) {
	b := read(t)
	chain := b.GetStaticResources().GetListeners()[0].GetFilterChains()[0]
	secured := unpack(t, chain.GetTransportSocket().GetTypedConfig(), &tls.DownstreamTlsContext{})
	if got := secured.GetCommonTlsContext().GetAlpnProtocols(); len(got) == 0 || got[0] != "h2" {
		t.Errorf("the protocols are %v, want h2 first", got)
	}
	s := site(t)
	if got := s.GetStreamIdleTimeout().AsDuration(); got < 2*heartbeat {
		t.Errorf("stream_idle_timeout is %v", got)
	}
	if s.GetRequestTimeout() != nil || s.GetCommonHttpProtocolOptions().GetMaxStreamDuration() != nil {
		t.Error("there is a limit for a whole stream")
	}
	if len(s.GetHttpFilters()) != 1 {
		t.Errorf("the filters are %v, want the router only: a compressor would hold events back", s.GetHttpFilters())
	}
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.GetName() != "gateway" {
			continue
		}
		for _, limits := range c.GetCircuitBreakers().GetThresholds() {
			if limits.GetMaxConnections().GetValue() < 1e6 || limits.GetMaxPendingRequests().GetValue() < 1e6 || limits.GetMaxRequests().GetValue() < 1e6 {
				t.Errorf("the gateway's limits are %v", limits)
			}
			return
		}
	}
	t.Error("the gateway has Envoy's limit of 1024 requests")
}

// Only cleaned paths below /events/ reach the gateway, once each. Those of the backend are denied.
func TestRoutes(t *testing.T) {
	s := site(t)
	if !s.GetNormalizePath().GetValue() || !s.GetMergeSlashes() || s.GetPathWithEscapedSlashesAction() != manager.HttpConnectionManager_REJECT_REQUEST {
		t.Error("paths are not cleaned before they are compared")
	}
	hosts := s.GetRouteConfig().GetVirtualHosts()
	if len(hosts) != 1 || hosts[0].GetRetryPolicy() != nil {
		t.Fatalf("the sites are %v, want one without a retry policy", hosts)
	}
	host := hosts[0]
	denied := host.GetRoutes()[0]
	if denied.GetDirectResponse().GetStatus() != 403 {
		t.Errorf("the first route is %v, want one that denies", denied)
	}
	regex, err := regexp.Compile("^(?:" + denied.GetMatch().GetSafeRegex().GetRegex() + ")$") // Envoy compares the whole path
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/internal": true, "/internal/send": true, "/internal;x": true, "/internal/": true, "/metrics": true, "/metrics/": true,
		"/internals": false, "/events/internal/send": false, "/": false, "/metrics.html": false,
	} {
		if regex.MatchString(path) != want {
			t.Errorf("%s: denied is %v", path, !want)
		}
	}
	toGateway := 0
	for _, r := range host.GetRoutes() {
		action := r.GetRoute()
		if action.GetCluster() != "gateway" {
			continue
		}
		toGateway++
		if r.GetMatch().GetPrefix() != "/events/" || action.GetRetryPolicy() != nil || rewrites(action) {
			t.Errorf("the route to the gateway is %v", r)
		}
		if action.GetTimeout() == nil || action.GetTimeout().AsDuration() != 0 || action.GetIdleTimeout().AsDuration() < 2*heartbeat {
			t.Errorf("the timeouts to the gateway are %v and %v", action.GetTimeout(), action.GetIdleTimeout())
		}
	}
	if toGateway != 1 {
		t.Errorf("%d routes to the gateway, want one", toGateway)
	}
}

func rewrites(a *route.RouteAction) bool {
	return a.GetPrefixRewrite() != "" || a.GetRegexRewrite() != nil
}

// Only where Envoy itself found no gateway it says to come back, after 1 to 5 s, a second at random.
func TestComeBack(t *testing.T) {
	mappers := site(t).GetLocalReplyConfig().GetMappers()
	if len(mappers) != 4 {
		t.Fatalf("%d mappers, want 4", len(mappers))
	}
	for i, m := range mappers {
		filters := m.GetFilter().GetAndFilter().GetFilters()
		if filters[0].GetHeaderFilter().GetHeader().GetStringMatch().GetPrefix() != "/events/" {
			t.Errorf("mapper %d is not for streams: %v", i, filters[0])
		}
		if flags := filters[1].GetResponseFlagFilter().GetFlags(); len(flags) == 0 {
			t.Errorf("mapper %d is for every answer", i)
		}
		if i < 3 {
			random := filters[2].GetRuntimeFilter()
			if want := []uint32{25, 33, 50}[i]; random.GetPercentSampled().GetNumerator() != want || !random.GetUseIndependentRandomness() {
				t.Errorf("mapper %d takes %v, want %d%%", i, random, want)
			}
		} else if len(filters) != 2 {
			t.Errorf("the last mapper does not take the rest: %v", filters)
		}
		body := m.GetBodyFormatOverride()
		want := "retry: " + string(rune('1'+i)) + "%START_TIME(%3f)%\n\n"
		if got := body.GetTextFormatSource().GetInlineString(); m.GetStatusCode().GetValue() != 200 || got != want || body.GetContentType() != "text/event-stream" {
			t.Errorf("mapper %d answers %v with %q as %q", i, m.GetStatusCode(), got, body.GetContentType())
		}
		if h := m.GetHeadersToAdd(); len(h) != 1 || h[0].GetHeader().GetKey() != "cache-control" || h[0].GetHeader().GetValue() != "no-cache" {
			t.Errorf("mapper %d adds %v", i, h)
		}
	}
}
