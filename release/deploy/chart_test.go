package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// least is what has to be set. always are the objects of every release.
const least = `
callbackUrl: http://backend:8000/sse/callback
networkPolicy: {backendPodSelector: {matchLabels: {app: backend}}}
`

var always = []string{"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service internal", "ServiceAccount"}

// cases are values that have to work. What a case has beside `least` is in the same text.
var cases = map[string]struct {
	values string
	more   []string // objects beside those of every release
	check  func(*testing.T, *release)
}{
	"least": {least, nil, func(t *testing.T, r *release) {
		equal(t, "replicas", *r.Deployment.Spec.Replicas, 1)
		equal(t, "image", container(r).Image, "ssegateway:0.0.0")
		equal(t, "environment", environment(r), map[string]string{
			"CALLBACK_URL": "http://backend:8000/sse/callback", "PORT": "3000", "INTERNAL_ADDR": ":9000", "DRAIN_SECONDS": "20",
		})
		equal(t, "grace", *pod(r).TerminationGracePeriodSeconds, 5+20+10)
		equal(t, "volumes", len(pod(r).Volumes), 0)
		if !strings.Contains(r.Notes, "http://live-ssegateway-internal.web:9000/internal/send\n") || !strings.Contains(r.Notes, "Without NATS") {
			t.Errorf("the notes are\n%s", r.Notes)
		}
	}},
	"a relay alone": {strings.Replace(least, "callbackUrl: http://backend:8000/sse/callback", "extraEnv: [{name: RELAY_URL, value: 'http://app:8000'}]", 1), nil, func(t *testing.T, r *release) {
		equal(t, "environment", environment(r), map[string]string{"RELAY_URL": "http://app:8000", "PORT": "3000", "INTERNAL_ADDR": ":9000", "DRAIN_SECONDS": "20"})
	}},
	"three pods on NATS": {least + `
replicas: 3
drainSeconds: 0
image: {repository: registry.example:5000/a/gateway, tag: "1.2"}
nats:
  url: nats://n1:4222,tls://n2:4222
  prefix: live
  credentialsSecret: {name: account}
  caSecret: {name: authority, key: root.pem}
`, nil, func(t *testing.T, r *release) {
		equal(t, "replicas", *r.Deployment.Spec.Replicas, 3)
		equal(t, "image", container(r).Image, "registry.example:5000/a/gateway:1.2")
		env := environment(r)
		equal(t, "NATS_URL", env["NATS_URL"], "nats://n1:4222,tls://n2:4222")
		equal(t, "NATS_PREFIX", env["NATS_PREFIX"], "live")
		equal(t, "credentials", secretFile(t, r, env["NATS_CREDENTIALS_FILE"]), "account/nats.creds")
		equal(t, "authority", secretFile(t, r, env["NATS_CA_FILE"]), "authority/root.pem")
		if container(r).Lifecycle != nil {
			t.Errorf("without a drain there is %v", container(r).Lifecycle)
		}
	}},
	"a pod that remembers": {least + `
state: {claim: gateway}
tlsSecret: certificate
`, nil, func(t *testing.T, r *release) {
		equal(t, "strategy", r.Deployment.Spec.Strategy.Type, apps.RecreateDeploymentStrategyType)
		var at string
		for _, m := range container(r).VolumeMounts {
			if m.Name == "state" && !m.ReadOnly {
				at = m.MountPath
			}
		}
		equal(t, "directory", environment(r)["STATE_DIR"], at+"/state")
		equal(t, "claim", pod(r).Volumes[0].PersistentVolumeClaim.ClaimName, "gateway")
		if !strings.Contains(r.Notes, "survives a kill") {
			t.Errorf("the notes are\n%s", r.Notes)
		}
	}},
	"secrets": {`
callbackUrlSecret: {name: callback}
internalTokenSecret: {name: gateway, key: bearer}
replicas: 2
nats: {urlSecret: {name: nats, key: servers}}
networkPolicy: {enabled: false}
extraEnv:
  - {name: LOG_FORMAT, value: json}
  - {name: HEARTBEAT_INTERVAL_SECONDS, valueFrom: {configMapKeyRef: {name: site, key: heartbeat}}}
`, []string{"-NetworkPolicy"}, func(t *testing.T, r *release) {
		env := environment(r)
		equal(t, "CALLBACK_URL", env["CALLBACK_URL"], "secret callback/url")
		equal(t, "INTERNAL_TOKEN", env["INTERNAL_TOKEN"], "secret gateway/bearer")
		equal(t, "NATS_URL", env["NATS_URL"], "secret nats/servers")
		equal(t, "LOG_FORMAT", env["LOG_FORMAT"], "json")
		if !strings.Contains(r.Notes, "with the token of the Secret gateway") {
			t.Errorf("the notes are\n%s", r.Notes)
		}
	}},
	"ingress": {least + `
ingress:
  enabled: true
  className: nginx
  annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: "60"}
  hosts: [{host: example.com, paths: [/events, /x/internal]}, {host: "*.example.org", paths: [/]}]
  tls: [{secretName: example, hosts: [example.com]}]
`, []string{"Ingress"}, func(t *testing.T, r *release) {
		equal(t, "class", *r.Ingress.Spec.IngressClassName, "nginx")
		equal(t, "annotations", r.Ingress.Annotations, map[string]string{"nginx.ingress.kubernetes.io/proxy-read-timeout": "60"})
		equal(t, "TLS", r.Ingress.Spec.TLS[0].SecretName, "example")
		equal(t, "rules", len(r.Ingress.Spec.Rules), 2)
	}},
	"monitoring": {`
callbackUrl: http://backend:8000/sse/callback
serviceMonitor: {enabled: true, intervalSeconds: 15, labels: {release: prometheus}}
internalTokenSecret: {name: gateway}
networkPolicy:
  backendPodSelector: {matchLabels: {app: backend}}
  backendNamespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
  prometheusPodSelector: {matchExpressions: [{key: app.kubernetes.io/name, operator: In, values: [prometheus]}]}
  prometheusNamespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
`, []string{"ServiceMonitor"}, func(t *testing.T, r *release) {
		equal(t, "label", r.Monitor.Labels["release"], "prometheus")
		endpoint := r.Monitor.Spec.Endpoints[0]
		equal(t, "interval", endpoint.Interval, "15s")
		equal(t, "path", endpoint.Path, "/metrics")
		equal(t, "credentials", endpoint.Authorization.Credentials.Name+"/"+endpoint.Authorization.Credentials.Key, "gateway/token")
		peers := r.Policy.Spec.Ingress[1].From
		equal(t, "peers", len(peers), 2)
		equal(t, "namespace of the backend", peers[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"], "shop")
		equal(t, "pods of Prometheus", peers[1].PodSelector.MatchExpressions[0].Values[0], "prometheus")
		equal(t, "namespace of Prometheus", peers[1].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"], "monitoring")
	}},
	"autoscaling": {least + `
drainSeconds: 3600
nats: {url: nats://nats:4222}
autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 12, openStreams: 2000000}
`, []string{"HorizontalPodAutoscaler"}, func(t *testing.T, r *release) {
		if r.Deployment.Spec.Replicas != nil {
			t.Error("the Deployment sets the number of pods beside the autoscaler")
		}
		spec := r.Autoscaler.Spec
		equal(t, "pods", []int32{*spec.MinReplicas, spec.MaxReplicas}, []int32{3, 12})
		equal(t, "target", spec.ScaleTargetRef.Kind+" "+spec.ScaleTargetRef.Name, "Deployment "+r.Deployment.Name)
		metric := spec.Metrics[0].Pods
		equal(t, "metric", metric.Metric.Name+" "+metric.Metric.Selector.MatchLabels["state"], "ssegateway_connections open")
		equal(t, "streams", metric.Target.AverageValue.Value(), 2000000)
	}},
	"TLS": {least + `
tlsSecret: certificate
service: {type: LoadBalancer, port: 443, annotations: {a: b}}
`, nil, func(t *testing.T, r *release) {
		env := environment(r)
		equal(t, "certificate", secretFile(t, r, env["TLS_CERT_FILE"]), "certificate/tls.crt")
		equal(t, "key", secretFile(t, r, env["TLS_KEY_FILE"]), "certificate/tls.key")
		equal(t, "scheme", []core.URIScheme{container(r).ReadinessProbe.HTTPGet.Scheme, container(r).LivenessProbe.HTTPGet.Scheme}, []core.URIScheme{"HTTPS", "HTTPS"})
		equal(t, "Service", r.Streams.Spec.Type, core.ServiceTypeLoadBalancer)
		equal(t, "port", r.Streams.Spec.Ports[0].Port, 443)
	}},
	"listed callers": {`
callbackUrl: http://backend:8000/sse/callback
networkPolicy: {enabled: false}
extraEnv: [{name: INTERNAL_ALLOW, value: 10.0.0.0/8}]
`, []string{"-NetworkPolicy"}, func(t *testing.T, r *release) {
		equal(t, "INTERNAL_ALLOW", environment(r)["INTERNAL_ALLOW"], "10.0.0.0/8")
	}},
	"placement": {least + `
imagePullSecrets: [registry]
resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}
podAnnotations: {a: b}
nodeSelector: {disk: ssd}
tolerations: [{key: edge, operator: Exists, effect: NoSchedule}]
affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {a: b}}}]}}
`, nil, func(t *testing.T, r *release) {
		equal(t, "credentials", pod(r).ImagePullSecrets[0].Name, "registry")
		equal(t, "memory", container(r).Resources.Limits.Memory().String(), "2Gi")
		equal(t, "annotations", r.Deployment.Spec.Template.Annotations, map[string]string{"a": "b"})
		equal(t, "nodes", pod(r).NodeSelector["disk"], "ssd")
		equal(t, "toleration", pod(r).Tolerations[0].Key, "edge")
		equal(t, "affinity", pod(r).Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].TopologyKey, "zone")
	}},
	"come back": {least + `
ingress: {enabled: true, nginxComeBack: true, hosts: [{host: example.com, paths: [/events]}]}
`, []string{"Ingress"}, func(t *testing.T, r *release) {
		equal(t, "annotations", slices.Sorted(maps.Keys(r.Ingress.Annotations)), []string{configurationSnippet, serverSnippet})
	}},
}

// Every combination of values passes Helm's linter without a warning, gives the objects that were
// asked for, and keeps what holds for all releases.
func TestChart(t *testing.T) {
	known := settings(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path, err := filepath.Abs(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range lint.All(path, parse(t, c.values), "web", true).Messages {
				if m.Severity >= support.WarningSev {
					t.Errorf("lint: %v", m)
				}
			}
			r, err := render(t, c.values)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(always)
			for _, kind := range c.more {
				if without, ok := strings.CutPrefix(kind, "-"); ok {
					want = slices.DeleteFunc(want, func(k string) bool { return k == without })
				} else {
					want = append(want, kind)
				}
			}
			slices.Sort(want)
			equal(t, "objects", r.kinds(), want)
			checkAlways(t, r, known)
			c.check(t, r)
		})
	}
}

// checkAlways checks what holds for every release.
func checkAlways(t *testing.T, r *release, known []string) {
	t.Helper()
	for name := range environment(r) {
		if !slices.Contains(known, name) {
			t.Errorf("%s is no setting of the gateway", name)
		}
	}
	checkRestrictions(t, r)
	checkStop(t, r)
	checkNetwork(t, r)
	if r.Ingress == nil {
		return
	}
	for _, rule := range r.Ingress.Spec.Rules {
		for _, path := range rule.HTTP.Paths {
			if first, _, _ := strings.Cut(path.Path[1:], "/"); first == "internal" || first == "metrics" {
				t.Errorf("the Ingress carries %s", path.Path)
			}
			equal(t, "kind of path", *path.PathType, "Prefix")
			equal(t, "backend", path.Backend.Service.Name+" "+path.Backend.Service.Port.Name, r.Streams.Name+" "+r.Streams.Spec.Ports[0].Name)
		}
	}
}

// checkRestrictions checks that a pod may do nothing that the gateway does not need.
func checkRestrictions(t *testing.T, r *release) {
	t.Helper()
	p, c := pod(r).SecurityContext, container(r).SecurityContext
	equal(t, "user", []int64{*p.RunAsUser, *p.RunAsGroup}, []int64{65532, 65532})
	equal(t, "restrictions", []bool{*p.RunAsNonRoot, *c.ReadOnlyRootFilesystem, *c.AllowPrivilegeEscalation}, []bool{true, true, false})
	equal(t, "seccomp", p.SeccompProfile.Type, core.SeccompProfileTypeRuntimeDefault)
	equal(t, "capabilities", c.Capabilities, &core.Capabilities{Drop: []core.Capability{"ALL"}})
	equal(t, "tokens of the API", []bool{*pod(r).AutomountServiceAccountToken, *r.ServiceAccount.AutomountServiceAccountToken}, []bool{false, false})
	equal(t, "account", pod(r).ServiceAccountName, r.ServiceAccount.Name)
	equal(t, "arguments", len(container(r).Args)+len(container(r).Command), 0)
}

// checkStop checks that a pod may take the time that it needs to stop, and that none stops before
// another is ready.
func checkStop(t *testing.T, r *release) {
	t.Helper()
	var drain, before int64
	if err := yaml.Unmarshal([]byte(environment(r)["DRAIN_SECONDS"]), &drain); err != nil {
		t.Fatal(err)
	}
	if container(r).Lifecycle != nil {
		before = container(r).Lifecycle.PreStop.Sleep.Seconds
	}
	const rest = 6 // 4.5 s behind the window, and 1 s for the parts to end
	if grace := *pod(r).TerminationGracePeriodSeconds; grace < before+drain+rest {
		t.Errorf("a pod is killed after %d s, in the middle of its drain: %d s, then %d s, then up to %d s", grace, before, drain, rest)
	}
	if _, state := environment(r)["STATE_DIR"]; !state {
		update := r.Deployment.Spec.Strategy.RollingUpdate
		equal(t, "update", []int{update.MaxUnavailable.IntValue(), update.MaxSurge.IntValue()}, []int{0, 1})
	}
	if _, nats := environment(r)["NATS_URL"]; nats {
		spec := r.Deployment.Spec
		if int64(spec.MinReadySeconds) < before+drain+rest || *spec.ProgressDeadlineSeconds <= spec.MinReadySeconds {
			t.Errorf("the next pod stops after %d s of %d, while this one drains", spec.MinReadySeconds, *spec.ProgressDeadlineSeconds)
		}
	}
	equal(t, "readiness", container(r).ReadinessProbe.HTTPGet.Path, "/readyz")
	equal(t, "liveness", container(r).LivenessProbe.HTTPGet.Path, "/healthz")
	equal(t, "budget", r.Budget.Spec.MaxUnavailable.IntValue(), 1)
}

// checkNetwork checks that everything finds the pods and their ports, and that the internal port
// is open only to those who are named.
func checkNetwork(t *testing.T, r *release) {
	t.Helper()
	ports := map[string]int32{}
	for _, p := range container(r).Ports {
		ports[p.Name] = p.ContainerPort
	}
	equal(t, "ports", ports, map[string]int32{"streams": 3000, "internal": 9000})
	equal(t, "ports of probes", []string{container(r).ReadinessProbe.HTTPGet.Port.StrVal, container(r).LivenessProbe.HTTPGet.Port.StrVal}, []string{"streams", "streams"})
	equal(t, "internal Service", r.Internal.Spec.Type, core.ServiceTypeClusterIP)
	equal(t, "targets", []string{r.Streams.Spec.Ports[0].TargetPort.StrVal, r.Internal.Spec.Ports[0].TargetPort.StrVal}, []string{"streams", "internal"})

	template := labels.Set(r.Deployment.Spec.Template.Labels)
	selectors := map[string]*meta.LabelSelector{
		"Deployment": r.Deployment.Spec.Selector, "PodDisruptionBudget": r.Budget.Spec.Selector,
		"spread":  pod(r).TopologySpreadConstraints[0].LabelSelector,
		"Service": {MatchLabels: r.Streams.Spec.Selector}, "internal Service": {MatchLabels: r.Internal.Spec.Selector},
	}
	if r.Policy != nil {
		selectors["NetworkPolicy"] = &r.Policy.Spec.PodSelector
		equal(t, "rules", len(r.Policy.Spec.Ingress), 2)
		streams, internal := r.Policy.Spec.Ingress[0], r.Policy.Spec.Ingress[1]
		equal(t, "open ports", []intstr.IntOrString{*streams.Ports[0].Port, *internal.Ports[0].Port}, []intstr.IntOrString{intstr.FromInt32(3000), intstr.FromInt32(9000)})
		equal(t, "numbers of ports", []int{len(streams.Ports), len(internal.Ports)}, []int{1, 1})
		equal(t, "who may open streams", len(streams.From), 0)
		peers := 1
		if r.Monitor != nil {
			peers = 2
		}
		equal(t, "callers of the internal port", len(internal.From), peers)
		equal(t, "pods of the backend", internal.From[0].PodSelector.MatchLabels, map[string]string{"app": "backend"})
		for _, peer := range internal.From {
			if s := peer.PodSelector; s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
				t.Error("every pod may use the internal port")
			}
		}
	}
	for what, s := range selectors {
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(template) {
			t.Errorf("%s selects %v, the pods have %v (%v)", what, selector, template, err)
		}
	}
	if r.Monitor != nil {
		selector, err := meta.LabelSelectorAsSelector(&r.Monitor.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(r.Internal.Labels)) || selector.Matches(labels.Set(r.Streams.Labels)) {
			t.Errorf("the ServiceMonitor selects %v (%v)", selector, err)
		}
		equal(t, "port of the metrics", r.Monitor.Spec.Endpoints[0].Port, r.Internal.Spec.Ports[0].Name)
	}
}

func pod(r *release) *core.PodSpec { return &r.Deployment.Spec.Template.Spec }

func container(r *release) *core.Container { return &pod(r).Containers[0] }

// environment returns the variables of the container. One from a Secret is "secret name/key".
func environment(r *release) map[string]string {
	env := map[string]string{}
	for _, e := range container(r).Env {
		if _, twice := env[e.Name]; twice {
			env[e.Name] = "twice"
			continue
		}
		env[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			env[e.Name] = "secret " + e.ValueFrom.SecretKeyRef.Name + "/" + e.ValueFrom.SecretKeyRef.Key
		}
	}
	return env
}

// secretFile returns which key of which Secret is mounted as that file, as name/key.
func secretFile(t *testing.T, r *release, path string) string {
	t.Helper()
	for _, m := range container(r).VolumeMounts {
		if m.MountPath != filepath.Dir(path) || !m.ReadOnly {
			continue
		}
		for _, v := range pod(r).Volumes {
			if v.Name != m.Name {
				continue
			}
			equal(t, "mode of "+path, *v.Secret.DefaultMode, 0o440)
			if len(v.Secret.Items) == 0 {
				return v.Secret.SecretName + "/" + filepath.Base(path)
			}
			equal(t, "file of "+v.Name, v.Secret.Items[0].Path, filepath.Base(path))
			return v.Secret.SecretName + "/" + v.Secret.Items[0].Key
		}
	}
	t.Errorf("%q is on no volume", path)
	return ""
}

// settings returns the names of the gateway's settings.
func settings(t *testing.T) (names []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| `--").FindAllSubmatch(page, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) < 30 {
		t.Fatalf("docs/configuration.md has %d settings: the test is blind", len(names))
	}
	return names
}
