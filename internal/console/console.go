// Package console has the operator's console: the files of a page that is a client of the internal API. The files hold
// no data and no secret.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"sync"
	"time"
)

//go:embed static
var static embed.FS

type file struct {
	kind string
	tag  string // for ETag
	body []byte
}

// kinds are the media types, by the extension.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", "": "text/plain; charset=utf-8",
}

// files returns all files, by their path below the console's. The page itself is "". They are read when the first is asked for.
var files = sync.OnceValue(func() map[string]file {
	all := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := static.ReadFile(name)
		sum := sha256.Sum256(body)
		all[name[len("static/"):]] = file{kinds[path.Ext(name)], `"` + hex.EncodeToString(sum[:8]) + `"`, body}
		return err
	})
	if err != nil {
		panic(err) // it is embedded
	}
	all[""] = all["index.html"]
	delete(all, "index.html")
	return all
})

// policy lets the page load its own files only, and ask only where it came from. Nobody may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve answers a GET or HEAD for the file with that path below the console's. It returns false, and writes nothing, if there is none.
func Serve(w http.ResponseWriter, r *http.Request, name string) bool {
	f, ok := files()[name]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.tag)
	h.Set("Content-Type", f.kind)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	return true
}
