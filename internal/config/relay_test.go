package config

import (
	"strings"
	"testing"
)

func TestRelay(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    string // the beginning of the error; "": none
	}{
		{[]string{"RELAY_URL=http://h"}, "RELAY_URL and RELAY_PATHS: one is set"},
		{[]string{"RELAY_PATHS=/a"}, "RELAY_URL and RELAY_PATHS: one is set"},
		{[]string{"RELAY_URL=http://h/a", "RELAY_PATHS=/a"}, `RELAY_URL: "http://h/a" is not valid`},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/internal/x"}, `RELAY_PATHS: "/internal/x" is not valid`},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/a", "CALLBACK_URL=http://H:80/a/callback"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/", "CALLBACK_URL=http://h"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://127.0.0.1:8000", "RELAY_PATHS=/a", "CALLBACK_URL=http://localhost:8000/a/b"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://[::1]", "RELAY_PATHS=/a", "CALLBACK_URL=http://LOCALHOST./a"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/a", "CALLBACK_URL=http://h/b", "CALLBACK_URL_BEFORE=http://h/a/b"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/chat", "CALLBACK_URL=http://h/%63hat/callback"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/%63hat", "CALLBACK_URL=http://h/chat"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/chat", "CALLBACK_URL=http://h/chat%2Fcallback"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/chat", "CALLBACK_URL=http://h//x/../chat//callback"}, "RELAY_PATHS: covers the path of CALLBACK_URL"},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/", "CALLBACK_URL=http://h", "CALLBACK_TOKEN=x"}, ""},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/a", "CALLBACK_URL=http://h/ab"}, ""},
		{[]string{"RELAY_URL=http://h", "RELAY_PATHS=/a", "CALLBACK_URL=http://h:81/a"}, ""},
	} {
		_, _, err := Load(nil, test.environ, 0)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%q: %v, want %s", test.environ, err, test.want)
		}
	}
	if c, _, err := Load(nil, []string{"RELAY_URL=http://h", "RELAY_PATHS=/,/a/,/b"}, 0); err != nil || strings.Join(c.RelayPaths, ",") != ",/a,/b" {
		t.Error(c.RelayPaths, err)
	}
}
