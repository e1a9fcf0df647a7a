package main

import (
	"bytes"
	"fmt"
	"path/filepath"

	"golang.org/x/mod/semver"
)

// chart packs the Helm chart, with the versions of this release.
func (r *release) chart() error {
	files, err := filesIn(filepath.Join(r.root, "deploy", "helm", "ssegateway"))
	if err != nil {
		return err
	}
	version := chartVersion(r.version, r.commit)
	for i := range files {
		f := &files[i]
		if f.name == "Chart.yaml" {
			for old, by := range map[string]string{"\nversion: 0.0.0\n": "\nversion: " + version + "\n", "\nappVersion: \"0.0.0\"\n": "\nappVersion: \"" + r.version + "\"\n"} {
				if bytes.Count(f.data, []byte(old)) != 1 {
					return fmt.Errorf("%s does not have %q once", f.name, old)
				}
				f.data = bytes.Replace(f.data, []byte(old), []byte(by), 1)
			}
		}
		f.name = "ssegateway/" + f.name
	}
	packed, err := tarGz(files, r.date)
	if err != nil {
		return err
	}
	return r.write("ssegateway-"+version+".tgz", packed)
}

// chartVersion returns the version of the chart: the release's where Helm takes it, that is, where it
// is a semantic version. A commit whose short name is 0123456 is none.
func chartVersion(version, commit string) string {
	if semver.Canonical("v"+version) == "v"+version {
		return version
	}
	return "0.0.0-g" + commit
}
