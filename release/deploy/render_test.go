package deploy

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const dir = "../../deploy/helm/ssegateway"

// release is what Helm would install.
type release struct {
	Notes string

	Deployment     *apps.Deployment
	Streams        *core.Service
	Internal       *core.Service
	ServiceAccount *core.ServiceAccount
	Budget         *policy.PodDisruptionBudget
	Autoscaler     *autoscaling.HorizontalPodAutoscaler
	Policy         *networking.NetworkPolicy
	Ingress        *networking.Ingress
	Monitor        *monitoring.ServiceMonitor
}

// kinds returns the kinds of all objects, sorted.
func (r *release) kinds() (kinds []string) {
	for kind, there := range map[string]bool{
		"Deployment": r.Deployment != nil, "Service": r.Streams != nil, "Service internal": r.Internal != nil,
		"ServiceAccount": r.ServiceAccount != nil, "PodDisruptionBudget": r.Budget != nil, "HorizontalPodAutoscaler": r.Autoscaler != nil,
		"NetworkPolicy": r.Policy != nil, "Ingress": r.Ingress != nil, "ServiceMonitor": r.Monitor != nil,
	} {
		if there {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(text), &values); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return values
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render does what `helm template` does, and decodes what comes out.
func render(t *testing.T, text string) (*release, error) {
	t.Helper()
	c := load(t)
	options := chartutil.ReleaseOptions{Name: "live", Namespace: "web", Revision: 1, IsInstall: true}
	values, err := chartutil.ToRenderValues(c, parse(t, text), options, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, values)
	if err != nil {
		return nil, err
	}
	r := new(release)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Base(name) == "NOTES.txt" {
			r.Notes = files[name]
			continue
		}
		for manifest := range strings.SplitSeq("\n"+files[name], "\n---\n") {
			if strings.TrimSpace(manifest) == "" {
				continue
			}
			if err := r.add(manifest); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, manifest)
			}
		}
	}
	return r, nil
}

// add decodes a manifest as strictly as the API server does: a key that the type does not have, or
// that differs in case, and a key that is there twice, are errors.
func (r *release) add(manifest string) error {
	data, err := yaml.YAMLToJSONStrict([]byte(manifest))
	if err != nil {
		return err
	}
	var head struct {
		meta.TypeMeta   `json:",inline"`
		meta.ObjectMeta `json:"metadata"`
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(data, &head); err != nil {
		return err
	}
	switch head.APIVersion + " " + head.Kind {
	case "apps/v1 Deployment":
		return decode(data, &r.Deployment)
	case "v1 Service":
		if head.Labels["app.kubernetes.io/component"] == "internal" {
			return decode(data, &r.Internal)
		}
		return decode(data, &r.Streams)
	case "v1 ServiceAccount":
		return decode(data, &r.ServiceAccount)
	case "policy/v1 PodDisruptionBudget":
		return decode(data, &r.Budget)
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return decode(data, &r.Autoscaler)
	case "networking.k8s.io/v1 NetworkPolicy":
		return decode(data, &r.Policy)
	case "networking.k8s.io/v1 Ingress":
		return decode(data, &r.Ingress)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return decode(data, &r.Monitor)
	}
	return fmt.Errorf("unexpected %s %s", head.APIVersion, head.Kind)
}

// decode decodes the only object of its kind.
func decode[T any](data []byte, into **T) error {
	if *into != nil {
		return errors.New("there are two of it")
	}
	*into = new(T)
	strict, err := json.UnmarshalStrict(data, *into)
	return errors.Join(append(strict, err)...)
}
