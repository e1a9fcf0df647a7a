package cluster

import (
	"context"
	"testing"
	"time"
)

// Who asks a node knows the version of messages that it understands best: by its key, in which a
// node of the time before versions has none. What a later version adds to a key is ignored.
func TestVersionInKey(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		versioned := s.start(func(m *member) {
			m.node.cfg.Version = 7
			m.node.Serve(func(context.Context, []byte) []byte { return []byte("!") })
		})
		before := s.start(func(m *member) { m.node.Serve(func(context.Context, []byte) []byte { return []byte("!") }) })
		sleep(lease)
		if peers := before.node.Peers(); len(peers) != 1 || peers[0].Version != 7 {
			t.Errorf("peers %+v", peers)
		}
		if peers := versioned.node.Peers(); len(peers) != 1 || peers[0].Version != 0 {
			t.Errorf("peers %+v", peers)
		}
		token := versioned.mustConnect()
		asked := 0
		message := func(version int) ([]byte, error) {
			if asked++; version != 7 {
				t.Errorf("asked in version %d", version)
			}
			return []byte("?"), nil
		}
		ctx, cancel := deadline(time.Second)
		defer cancel()
		for range 2 {
			if _, err := before.node.Ask(ctx, token, message); err != nil {
				t.Error(err)
			}
			before.node.mu.Lock()
			delete(before.node.keys, token.Node()) // as if it had just come
			before.node.mu.Unlock()
		}
		if asked != 2 {
			t.Errorf("%d messages", asked)
		}
	})
	if v, ok := decode([]byte(`{"name":"n","started":"2026-01-02T03:04:05Z","instance":"i","state":"live","version":9,"later":{"x":1}}`)); !ok || v.State != live || v.Version != 9 {
		t.Errorf("%+v", v)
	}
}
