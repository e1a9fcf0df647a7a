package server

import (
	"net/http"

	"github.com/rs/cors"
)

// newCORS makes what adds CORS fields to the answers of a handler, for pages of these origins.
func newCORS(origins []string) func(http.HandlerFunc) http.Handler {
	if len(origins) == 0 {
		return func(h http.HandlerFunc) http.Handler { return h }
	}
	c := cors.New(cors.Options{
		AllowedOrigins:   origins,
		AllowedMethods:   []string{http.MethodGet},
		AllowedHeaders:   []string{"*"}, // clients that use fetch may authenticate by any header
		AllowCredentials: true,          // cookies, if the page asks for it (withCredentials)
	})
	return func(h http.HandlerFunc) http.Handler { return c.Handler(h) }
}
