package api

import (
	"testing"

	"ssegateway/internal/gateway"
)

// BenchmarkPublish publishes to one connection, by the whole path outside net/http.
func BenchmarkPublish(b *testing.B) {
	a, gw := newAPI(b)
	openWith(b, gw, &sink{}, gateway.Grant{Topics: []string{"room.7"}})
	benchmarkPost(b, a, "/internal/publish", []byte(typicalPublish))
}
