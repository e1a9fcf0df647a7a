package nats

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// FuzzMessage: whatever is in the stream is an event that is written, and read, as the same one, or
// an error.
func FuzzMessage(f *testing.F) {
	name, _ := sse.NewName("n")
	for _, p := range []broker.Publication{
		{Topics: []string{"a", "b"}, Event: sse.Event{Name: name, Data: "x\r\ny", Retry: sse.RetryMillis(0)}, Store: true, Retain: true, Key: "k", Ref: 9},
		{Topics: []string{"a"}, Remove: true},
		{Topics: []string{"\u2028"}, Event: sse.Event{Data: "\x00"}},
	} {
		b, err := encode(p, author{"O", 7})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"origin":"O","number":1,"topics":["t"],"data":"x","name":"a\nid: 9","of_tomorrow":1}`))
	f.Add([]byte(`{"topics":["t"],"topics":["u"],"DATA":"x","data":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, by, err := decode(data)
		if err != nil {
			if !cmp.Equal(p, broker.Publication{}, cmp.AllowUnexported(sse.Name{}, sse.ID{}, sse.Retry{})) {
				t.Errorf("%v, but %+v", err, p)
			}
			return
		}
		b, err := encode(p, by)
		if err != nil {
			t.Fatalf("%q is read as %+v, which cannot be written: %v", data, p, err)
		}
		again, by2, err := decode(b)
		if diff := cmp.Diff(p, again, cmpopts.EquateEmpty(), cmp.AllowUnexported(sse.Name{}, sse.ID{}, sse.Retry{})); diff != "" || by != by2 || err != nil {
			t.Errorf("%q: %v, %v %v\n%s", data, err, by, by2, diff)
		}
		if p.Event.ID.IsSet() {
			t.Errorf("%q has an id of its own", data)
		}
		wire := p.Event.AppendTo(nil)
		if n := bytes.Count(wire, []byte("\n\n")); n != 1 || bytes.ContainsRune(wire, '\r') {
			t.Errorf("%q is %q on the wire", data, wire)
		}
	})
}

// FuzzSource: where a copy is from is read only of a header that names this installation's log.
func FuzzSource(f *testing.F) {
	f.Add("p_log 17 p.log.K7WQ2M4XHD.x")
	f.Add("a 1 p.log. >")
	f.Add("a 18446744073709551616 p.log.E")
	f.Fuzz(func(t *testing.T, header string) {
		at, ok := (&session{prefix: "p"}).source(header)
		if !ok {
			return
		}
		fields := strings.Fields(header)
		if len(fields) < 3 || !strings.HasPrefix(fields[2]+".", "p.log."+at.Epoch+".") || strings.Contains(at.Epoch, ".") || strings.TrimLeft(fields[1], "0") != strings.TrimLeft(broker.Position{Offset: at.Offset}.String()[1:], "0") {
			t.Errorf("%q is read as %+v", header, at)
		}
	})
}

// FuzzNames: the numbers and tokens of subjects have one text each.
func FuzzNames(f *testing.F) {
	f.Add("0b8a2f7e")
	f.Add("0B8A2F7E")
	f.Add("+b8a2f7e")
	f.Add("0b8a2f7e6d0c4c539a572f1e3f0f8f11")
	f.Fuzz(func(t *testing.T, name string) {
		if node, ok := parseHex(name); ok && hexOf(node) != name {
			t.Errorf("%q is the number of %q", name, hexOf(node))
		}
		if token, ok := parseToken(name); ok && !strings.HasSuffix((&Nodes{}).recordSubject(0, token), "."+name) {
			t.Errorf("%q is the token %x", name, token)
		}
	})
}
