package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// equal compares a value with what it should be, of the same type.
func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

const ingress = least + "ingress: {enabled: true, hosts: [{host: example.com, paths: [PATH]}]}"

// Values that cannot work are refused, with a message that says what to do.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, values, message string }{
		{"nothing", "", "callbackUrl is required: the URL where your backend answers"},
		{"two callback URLs", least + "callbackUrlSecret: {name: x}", "callbackUrl and callbackUrlSecret.name are both set"},
		{"two NATS URLs", least + "nats: {url: nats://x, urlSecret: {name: x}}", "nats.url and nats.urlSecret.name are both set"},
		{"a claim with NATS", least + "state: {claim: x}\nnats: {url: nats://x}", "state.claim and nats are both set"},
		{"pods without NATS", least + "replicas: 2", "replicas is more than 1, which needs a NATS that all pods share"},
		{"credentials without NATS", least + "nats: {credentialsSecret: {name: x}}", "nats.credentialsSecret and nats.caSecret are for a NATS"},
		{"autoscaling without NATS", least + "autoscaling: {enabled: true}", "autoscaling.enabled needs a NATS"},
		{"autoscaling downwards", least + "nats: {url: nats://x}\nautoscaling: {enabled: true, minReplicas: 3, maxReplicas: 2}", "maxReplicas is less than"},
		{"any caller", "callbackUrl: http://x", "networkPolicy.backendPodSelector is required"},
		{"no policy", "callbackUrl: http://x\nnetworkPolicy: {enabled: false}", "without a NetworkPolicy every pod could use the internal port"},
		{"an empty list of callers", "callbackUrl: http://x\nnetworkPolicy: {enabled: false}\nextraEnv: [{name: INTERNAL_ALLOW, value: ''}]", "without a NetworkPolicy every pod"},
		{"Prometheus shut out", least + "serviceMonitor: {enabled: true}", "networkPolicy.prometheusPodSelector is required"},
		{"a setting of the chart", least + "extraEnv: [{name: DRAIN_SECONDS, value: '1'}]", "must not have DRAIN_SECONDS: the value of this chart for it is drainSeconds"},
		{"another port", least + "extraEnv: [{name: INTERNAL_ADDR, value: ':1'}]", "must not have INTERNAL_ADDR"},
		{"ingress without hosts", least + "ingress: {enabled: true}", "ingress.hosts is required"},
		{"/internal", strings.Replace(ingress, "PATH", "/internal", 1), "the path /internal is refused"},
		{"/internal/", strings.Replace(ingress, "PATH", "/internal/send", 1), "the path /internal/send is refused"},
		{"/Metrics", strings.Replace(ingress, "PATH", "/Metrics", 1), "the path /Metrics is refused"},
		{"dots", strings.Replace(ingress, "PATH", "/x/../internal", 1), "has an empty segment, or one of dots"},
		{"two slashes", strings.Replace(ingress, "PATH", "//internal", 1), "has an empty segment, or one of dots"},

		// By the schema.
		{"escapes", strings.Replace(ingress, "PATH", "/%69nternal", 1), "/ingress/hosts/0/paths/0"},
		{"unknown", least + "drain: 3", "'drain'"},
		{"unknown below", least + "nats: {URL: x}", "'URL'"},
		{"callback URL", "callbackUrl: backend:8000", "/callbackUrl"},
		{"drain", least + "drainSeconds: 3601", "/drainSeconds"},
		{"drain as text", least + "drainSeconds: 20s", "/drainSeconds"},
		{"prefix", least + "nats: {prefix: a.b}", "/nats/prefix"},
		{"NATS URL", least + "nats: {url: 'http://x'}", "/nats/url"},
		{"port", least + "service: {port: 0}", "/service/port"},
		{"any label", "callbackUrl: http://x\nnetworkPolicy: {backendPodSelector: {matchLabels: {}}}", "/networkPolicy/backendPodSelector/matchLabels"},
		{"extraEnv as a map", least + "extraEnv: {LOG_LEVEL: debug}", "/extraEnv"},
		{"extraEnv without a value", least + "extraEnv: [{name: LOG_LEVEL}]", "/extraEnv/0"},
		{"number in extraEnv", least + "extraEnv: [{name: MAX_TOPICS, value: 3}]", "/extraEnv/0/value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := render(t, c.values)
			if err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("%v, want %q", err, c.message)
			}
		})
	}
}

// Every setting that the chart gives itself is refused in extraEnv: the later of two would count.
func TestOwnSettings(t *testing.T) {
	for name, c := range cases {
		r, err := render(t, c.values)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for variable := range environment(r) {
			if strings.Contains(c.values, "name: "+variable) {
				continue
			}
			_, err := render(t, strings.Replace(least, "callbackUrl", "extraEnv: [{name: "+variable+", value: x}]\ncallbackUrl", 1))
			if err == nil || !strings.Contains(err.Error(), "must not have "+variable+":") {
				t.Errorf("%s: %v", variable, err)
			}
		}
	}
}

// Every value has a comment, and the schema knows exactly the values that there are.
func TestValues(t *testing.T) {
	text, err := os.ReadFile(dir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documented, _, _ := strings.Cut(string(text), "\nresources:\n") // those are Kubernetes' own
	comment, values := false, 0
	for line := range strings.Lines(documented) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, "#") {
			values++
			if !comment {
				t.Errorf("%s: %s has no comment", key, value)
			}
		}
		comment = strings.HasPrefix(line, "#")
	}
	if values < 40 {
		t.Errorf("%d values: the test is blind", values)
	}

	c := load(t)
	type schema struct {
		Properties map[string]schema
		Ref        string `json:"$ref"`
	}
	var root schema
	if err := json.Unmarshal(c.Schema, &root); err != nil {
		t.Fatal(err)
	}
	delete(root.Properties, "global")
	for _, free := range []string{"resources", "affinity"} { // empty, or Kubernetes' own
		delete(root.Properties, free)
		delete(c.Values, free)
	}
	var compare func(where string, s schema, defaults map[string]any)
	compare = func(where string, s schema, defaults map[string]any) {
		equal(t, "values below "+where, slices.Sorted(maps.Keys(defaults)), slices.Sorted(maps.Keys(s.Properties)))
		for name, below := range s.Properties {
			if values, ok := defaults[name].(map[string]any); ok && below.Properties != nil {
				compare(where+name+"/", below, values)
			}
		}
	}
	compare("/", root, c.Values)
}
