package main

import (
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
)

// Helm loads the chart of a release. It has the release's version, and installs its image.
func TestChart(t *testing.T) {
	image := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(one(t, "_image.oci.tar")), "ssegateway_"), "_image.oci.tar")
	path := one(t, ".tgz")
	c, err := loader.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.Metadata.AppVersion != image || filepath.Base(path) != "ssegateway-"+c.Metadata.Version+".tgz" {
		t.Errorf("the chart in %s has version %s and installs %s, want %s", path, c.Metadata.Version, c.Metadata.AppVersion, image)
	}
	shipped, err := loader.LoadDir(filepath.Join(clone, "deploy", "helm", "ssegateway"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range shipped.Raw {
		want[f.Name] = string(f.Data)
	}
	for _, f := range c.Raw {
		if f.Name != "Chart.yaml" && want[f.Name] != string(f.Data) {
			t.Errorf("%s differs", f.Name)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 || len(c.Schema) == 0 {
		t.Errorf("not in the chart: %v", want)
	}
}

// The chart's version is the release's, or one that Helm takes.
func TestChartVersion(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.3":               "1.2.3",
		"1.2.3-4-gabcdef0":    "1.2.3-4-gabcdef0",
		"0.0.0-abcdef0-dirty": "0.0.0-abcdef0-dirty",
		"0.0.0-0123456":       "0.0.0-gc0ffee",
		"1.2":                 "0.0.0-gc0ffee",
		"01.2.3":              "0.0.0-gc0ffee",
		"1.2.3-rc.1":          "1.2.3-rc.1",
	} {
		if got := chartVersion(version, "c0ffee"); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}
