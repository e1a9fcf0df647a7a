package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// file is a file of an archive.
type file struct {
	name string // with slashes
	mode int64
	data []byte
}

// documents are the files that every archive has beside the program.
var documents = []string{"LICENSE", "README.md", "CHANGELOG.md", "docs/configuration.md"}

// archive writes the archive of a target: a zip for Windows, and else a tar.gz.
func (r *release) archive(binary string, t target) error {
	name := fmt.Sprintf("ssegateway_%s_%s_%s", r.version, t.os, t.arch)
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	files := []file{{name + "/" + filepath.Base(binary), 0o755, program}}
	for _, document := range documents {
		text, err := os.ReadFile(filepath.Join(r.root, document))
		if err != nil {
			return err
		}
		files = append(files, file{name + "/" + filepath.Base(document), 0o644, text})
	}
	var packed []byte
	if t.os == "windows" {
		name += ".zip"
		packed, err = zipped(files, r.date)
	} else {
		name += ".tar.gz"
		packed, err = tarGz(files, r.date)
	}
	if err != nil {
		return err
	}
	return r.write(name, packed)
}

// write writes a file of the release.
func (r *release) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), data, 0o644) //nolint:gosec // it is to be published
}

// tarred returns a tar of the files. All belong to root, and have the same time.
func tarred(files []file, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: date, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func tarGz(files []file, date time.Time) ([]byte, error) {
	packed, err := tarred(files, date)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(packed); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

func zipped(files []file, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: date}
		h.SetMode(os.FileMode(f.mode)) //nolint:gosec // one of two constants
		part, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := part.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// checksums writes SHA256SUMS of all files, as sha256sum -c takes it.
func (r *release) checksums() error {
	var sums bytes.Buffer
	dist := os.DirFS(r.out)
	err := fs.WalkDir(dist, ".", func(name string, e fs.DirEntry, err error) error { // sorted
		if err != nil || e.IsDir() {
			return err
		}
		f, err := dist.Open(name)
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		_ = f.Close()
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), name)
		return err
	})
	if err != nil {
		return err
	}
	return r.write("SHA256SUMS", sums.Bytes())
}
