package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzKey: whatever is in a node's key is a node that lives or is lost, and written as it was read, or
// counts as a node that is silent, but not as one that is gone.
func FuzzKey(f *testing.F) {
	f.Add(value{Name: "web-1", Started: time.Unix(1, 2).UTC(), Instance: "i", State: live, Version: 2, LeaseSeconds: 10, Backends: []string{"http://h/"}}.encode())
	f.Add(value{State: lost, By: 7}.encode())
	for _, text := range garbage {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"state":"gone","instance":"i"}`))
	f.Add([]byte(`{"state":"live","instance":"i","lease_seconds":-1,"by":4294967295}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if data == nil {
			data = []byte{}
		}
		v, ok := decode(data)
		if !ok {
			if !cmp.Equal(v, value{State: live}) {
				t.Errorf("%q counts as %+v", data, v)
			}
			return
		}
		if v.State != live && v.State != lost || v.State == live && v.Instance == "" {
			t.Errorf("%q is read as %+v", data, v)
		}
		again, ok := decode(v.encode())
		if diff := cmp.Diff(v, again); !ok || diff != "" || !bytes.Equal(v.encode(), again.encode()) {
			t.Errorf("%q: %v\n%s", data, ok, diff)
		}
	})
}
