package server

import (
	"net/http"
	"slices"

	"github.com/rs/cors"
)

// newCORS returns a middleware that adds CORS fields to answers, for pages of these origins. Besides the simple methods,
// which browsers send without asking, so that a page can read why it was refused, it is for these.
func newCORS(origins []string, methods ...string) func(http.HandlerFunc) http.Handler {
	if len(origins) == 0 {
		return func(h http.HandlerFunc) http.Handler { return h }
	}
	anyOrigin := slices.Contains(origins, "*")
	c := cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: append([]string{http.MethodGet, http.MethodHead, http.MethodPost}, methods...),
		AllowedHeaders: []string{"*"}, // clients that use fetch may authenticate by any header
		ExposedHeaders: []string{"Retry-After"},
		// Cookies, if the page asks for it (withCredentials); browsers refuse that together with *.
		AllowCredentials: !anyOrigin,
	})
	return func(h http.HandlerFunc) http.Handler { return c.Handler(h) }
}
