package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// npmNames are the systems' names in Go, and where Node has another one, that.
var npmNames = strings.NewReplacer("amd64", "x64", "windows", "win32")

// npmVersion returns the version of all npm packages, which has to be a semantic version. A commit
// whose short name is 0123456 would be none.
func (r *release) npmVersion() string {
	if commit, untagged := strings.CutPrefix(r.version, "0.0.0-"); untagged {
		return "0.0.0-dev.g" + commit
	}
	return r.version
}

// npm packs the packages that are the same for all systems: ssegateway, which asks for the program of its system, and the
// modules for pages.
func (r *release) npm() error {
	if err := r.npmScripts("ssegateway", "ssegateway"); err != nil {
		return err
	}
	return r.npmScripts("web", "ssegateway-web")
}

// npmScripts packs the package whose manifest is in a folder of npm. The files that it names are beside that, or in web.
func (r *release) npmScripts(folder, name string) error {
	source := filepath.Join(r.root, "npm", folder)
	manifest, err := os.ReadFile(filepath.Join(source, "package.json"))
	if err != nil {
		return err
	}
	var content struct{ Files []string }
	if err := json.Unmarshal(manifest, &content); err != nil {
		return fmt.Errorf("package.json: %w", err)
	}
	manifest = bytes.ReplaceAll(manifest, []byte(`"0.0.0"`), []byte(`"`+r.npmVersion()+`"`))
	files := []file{{"package.json", 0o644, manifest}}
	for _, name := range append(content.Files, "README.md") {
		text, err := os.ReadFile(filepath.Join(source, name))
		if errors.Is(err, fs.ErrNotExist) {
			text, err = os.ReadFile(filepath.Join(r.root, "web", name))
		}
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		files = append(files, file{name, mode, text})
	}
	return r.npmPack(name, files)
}

// npmProgram packs the npm package of a target, which has nothing but the program.
func (r *release) npmProgram(binary string, t target) error {
	system, arch := npmNames.Replace(t.os), npmNames.Replace(t.arch)
	name := system + "-" + arch
	manifest, err := json.MarshalIndent(struct {
		Name        string   `json:"name"`
		Version     string   `json:"version"`
		Description string   `json:"description"`
		License     string   `json:"license"`
		OS          []string `json:"os"`
		CPU         []string `json:"cpu"`
		Files       []string `json:"files"`
	}{
		"@ssegateway/" + name, r.npmVersion(), "The program of the package ssegateway for " + name, "MIT",
		[]string{system},
		[]string{arch},
		[]string{"bin"},
	}, "", "  ")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	return r.npmPack("ssegateway-"+name, []file{
		{"package.json", 0o644, append(manifest, '\n')},
		{"bin/" + filepath.Base(binary), 0o755, program},
	})
}

// npmPack writes a package, as npm pack does, with the licence.
func (r *release) npmPack(name string, files []file) error {
	licence, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return err
	}
	files = append(files, file{"LICENSE", 0o644, licence})
	for i := range files {
		files[i].name = "package/" + files[i].name
	}
	packed, err := tarGz(files, r.date)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.out, "npm"), 0o755); err != nil { //nolint:gosec // it is to be published
		return err
	}
	return r.write(filepath.Join("npm", name+"-"+r.npmVersion()+".tgz"), packed)
}
