package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	imageUID = 65532
	// imageUser is who runs the program in a container. It is a number, so that Kubernetes can see that
	// it is not root (runAsNonRoot).
	imageUser = "65532:65532"
)

// stateDir is an empty directory of that user's: a new volume that is mounted there is given its
// owner and mode, so the program may write to it (STATE_DIR).
const stateDir = "var/lib/ssegateway"

type builtImage struct {
	target target
	binary string
}

// images writes an OCI archive with an image for each target: nothing but the program, the
// certificates of the public authorities, which https callbacks are checked with, and stateDir.
func (r *release) images(built []builtImage) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range built {
		image, err := r.image(b)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: b.target.os, Architecture: b.target.arch},
		}})
	}
	dir := filepath.Join(r.out, "image")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// The name by which podman and docker know the image after they have loaded it.
	name := map[string]string{"org.opencontainers.image.ref.name": "ssegateway:" + r.version, "io.containerd.image.name": "docker.io/library/ssegateway:" + r.version}
	if err := path.AppendIndex(index, layout.WithAnnotations(name)); err != nil {
		return err
	}
	files, err := filesIn(dir)
	if err != nil {
		return err
	}
	packed, err := tarred(files, r.date)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return r.write("ssegateway_"+r.version+"_image.oci.tar", packed)
}

// image returns the image of a binary.
func (r *release) image(b builtImage) (v1.Image, error) {
	program, err := os.ReadFile(b.binary)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	state, err := tarredDir(stateDir, r.date)
	if err != nil {
		return nil, err
	}
	certificates, err := tarred([]file{{"etc/ssl/certs/ca-certificates.crt", 0o644, authorities()}}, r.date)
	if err != nil {
		return nil, err
	}
	binary, err := tarred([]file{{"ssegateway", 0o755, program}}, r.date)
	if err != nil {
		return nil, err
	}
	// What rarely changes comes first, so that it is kept from one version to the next.
	for _, packed := range [][]byte{state, certificates, binary} {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil },
			tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = b.target.os, b.target.arch, v1.Time{Time: r.date}
	config.Config = v1.Config{
		User:         imageUser,
		Entrypoint:   []string{"/ssegateway"},
		ExposedPorts: map[string]struct{}{"3000/tcp": {}},
		Healthcheck:  &v1.HealthConfig{Test: []string{"CMD", "/ssegateway", "health"}, Interval: 10 * time.Second, Timeout: 3 * time.Second},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "ssegateway",
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.revision": r.commit,
			"org.opencontainers.image.licenses": "MIT",
		},
	}
	return mutate.ConfigFile(image, config)
}

// tarredDir returns a tar of an empty directory of imageUser's.
func tarredDir(name string, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{
		Name: name + "/", Mode: 0o700, Uid: imageUID, Gid: imageUID, ModTime: date, Typeflag: tar.TypeDir, Format: tar.FormatUSTAR,
	})
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

// authorities returns the certificates that Mozilla trusts for any name, in PEM. Those that it
// trusts with further conditions are left out: a file cannot say them.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes all
		}
	}
	return b.Bytes()
}

// filesIn returns the files below a directory, sorted by name.
func filesIn(dir string) (files []file, err error) {
	root := os.DirFS(dir)
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, name)
		files = append(files, file{name, 0o644, data})
		return err
	})
	return files, err
}
