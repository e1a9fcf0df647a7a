package contract

import (
	"io"
	"net/http"
	"strings"
	"unicode/utf16"

	"ssegateway/e2e/harness"
)

// bodies has the cases about the body of a send as a whole.
var bodies = section{title: "4 the request of a send", core: true, cases: []contractCase{
	{name: "INVALID_JSON: not one JSON object", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_JSON", "",
			``, ` `, "\n", `null`, `true`, `1`, `"token"`, `[]`, `[{"token":"T"}]`, `{`, `}`, `{"token"}`, `{"token":"T"`, `{"token":"T",}`, `{token:"T"}`,
			`{'token':'T'}`, `{"token":"T" "event":{}}`, `{"token":undefined}`, `{"token":NaN}`, `{"token":01}`, `{"token":+1}`, `{"token":.5}`, `{"token":"T"//x`+"\n}",
			`{"token":"T"/**/}`, `token=T`, "{\"token\":\"a\nb\"}", "{\"token\":\"a\tb\"}", "{\"token\":\"a\x00b\"}", `{"token":"\x41"}`, `{"token":"\u12"}`, "\x00", "\x1f\x8b\x08")
	}},
	{name: "INVALID_JSON: trailing data", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_JSON", "",
			`{"token":"T"}{}`, `{"token":"T"} {"token":"T"}`, `{"token":"T"}x`, `{"token":"T"},`, `{"token":"T"}]`, `{"token":"T"}}`, "{\"token\":\"T\"}\x00", `{"token":"T"} null`)
	}},
	{name: "white space around the object is no trailing data", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Send(" \r\n\t{ \"token\" :\n\""+x.token+"\" , \"event\":{\"data\":\"x\"}}\n\n \t"), "ok")
		x.Want("data: x\n\n")
	}},
	{name: "INVALID_JSON: duplicate keys", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_JSON", "",
			`{"token":"T","token":"T"}`, `{"token":"a","event":{"data":"x"},"token":"T"}`, `{"token":"T","event":{"data":"x","data":"y"}}`,
			`{"token":"T","event":{"data":"x"},"event":{"data":"y"}}`, `{"token":"T","close":true,"close":false}`, `{"token":"T","\u0074oken":"x"}`,
			`{"token":"T","unknown":1,"unknown":1}`, `{"token":"T","unknown":{"a":1,"a":2}}`, `{"token":"T","event":{"data":"x","u":[{"a":1,"a":2}]}}`)
	}},
	{name: "INVALID_JSON: not valid UTF-8", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_JSON", "",
			"{\"token\":\"T\",\"event\":{\"data\":\"\xff\"}}", "{\"token\":\"T\",\"event\":{\"data\":\"caf\xe9\"}}", "{\"token\":\"T\",\"event\":{\"data\":\"\xc0\xaf\"}}",
			"{\"token\":\"T\",\"event\":{\"data\":\"\xed\xa0\x80\"}}", "{\"token\":\"T\",\"event\":{\"data\":\"\xf4\x90\x80\x80\"}}", "{\"token\":\"T\",\"event\":{\"data\":\"\xe2\x82\"}}",
			"{\"token\":\"T\",\"\xff\":1}", "{\"token\":\"T\",\"unknown\":\"\xfe\"}", "\xff{\"token\":\"T\"}", utf16Text(`{"token":"T"}`))
	}},
	{name: "INVALID_JSON: a surrogate alone is no character", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_JSON", "",
			`{"token":"T","event":{"data":"\ud800"}}`, `{"token":"T","event":{"data":"\udc00\ud800"}}`, `{"token":"T","event":{"data":"x\ud83dx"}}`, `{"token":"T","event":{"data":"x","name":"\udead"}}`)
	}},
	{name: "a surrogate pair is one character", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Send(`{"token":"`+x.token+`","event":{"data":"\ud83d\ude00 \u00e9 😀"}}`), "ok")
		x.Want("data: 😀 é 😀\n\n")
	}},
	{name: "INVALID_JSON: a byte order mark", run: func(t *T) {
		t.Shared().wantInvalid("INVALID_JSON", "", "\xef\xbb\xbf{\"token\":\"T\"}")
	}},
	{name: "INVALID_JSON: excessive depth", run: func(t *T) {
		deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + strings.Repeat(shut, n) }
		t.Shared().wantInvalid("INVALID_JSON", "",
			`{"token":"T","deep":`+deep("[", "]", 100_000)+`}`, `{"token":"T","event":{"data":`+deep("[", "]", 100_000)+`}}`,
			`{"token":"T","deep":`+deep(`{"a":`, "}", 100_000)+`}`, strings.Repeat("[", 200_000))
	}},
	{name: "a depth that anybody has a use for is fine", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Send(`{"token":"`+x.token+`","deep":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,"event":{"data":"x"}}`), "ok")
		x.Want("data: x\n\n")
	}},

	{name: "413 PAYLOAD_TOO_LARGE: a body over 1 MiB, however it is framed", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, body := range []string{
			padded(x.token, 1<<20+1), padded(x.token, 5<<20), strings.Repeat("x", 1<<20+1), strings.Repeat(" ", 1<<20) + padded(x.token, 100),
		} {
			for _, framed := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
				got, err := s.call(http.MethodPost, sendPath, framed, "Content-Type", "application/json")
				if err != nil {
					t.Fatal(err)
				}
				s.WantError(got, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "")
			}
		}
		s.Event(x.token, "only this")
		x.Want("data: only this\n\n")
	}},
	{name: "a body of 1 MiB is not over the limit", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, framed := range []io.Reader{strings.NewReader(padded(x.token, 1<<20)), io.MultiReader(strings.NewReader(padded(x.token, 1<<20)))} {
			got, err := s.call(http.MethodPost, sendPath, framed, "Content-Type", "application/json")
			if err != nil {
				t.Fatal(err)
			}
			s.WantStatusOK(got, "ok")
			x.Want("data: padded\n\n")
		}
	}},
	{name: "415 UNSUPPORTED_MEDIA_TYPE: not JSON by its content type", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, contentType := range []string{
			"text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/octet-stream",
			"text/html", "application/jsonx", "application/json-seq", "json", "text/event-stream", "*/*", "application/xml; x=application/json",
		} {
			got := s.Call(http.MethodPost, sendPath, `{"token":"`+x.token+`","event":{"data":"wrong"}}`, "Content-Type", contentType)
			if problem := got.notError(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", ""); problem != "" {
				t.Errorf("Content-Type %s: %s", contentType, problem)
			}
		}
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "415 UNSUPPORTED_MEDIA_TYPE: no content type at all", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantError(s.Call(http.MethodPost, sendPath, `{"token":"`+x.token+`"}`), http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "")
	}},
	{name: "application/json with parameters and in any case is JSON", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON", "application/json ; charset=\"utf-8\""} {
			s.WantStatusOK(s.Call(http.MethodPost, sendPath, `{"token":"`+x.token+`","event":{"data":"x"}}`, "Content-Type", contentType), "ok")
			x.Want("data: x\n\n")
		}
	}},
	{name: "405 for another method, with Allow", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			got := s.Call(method, sendPath, "", "Content-Type", "application/json")
			if allow := got.Header.Values("Allow"); len(allow) != 1 || allow[0] != "POST" {
				t.Errorf("%s: Allow %q", method, allow)
			}
			if method == http.MethodHead {
				if got.Status != http.StatusMethodNotAllowed {
					t.Errorf("HEAD: status %d", got.Status)
				}
				continue
			}
			s.WantError(got, http.StatusMethodNotAllowed, "", "")
		}
		s.Event(x.token, "unharmed")
		x.Want("data: unharmed\n\n")
	}},
	{name: "a chunked request is as good as one with a Content-Length", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		got, err := s.call(http.MethodPost, sendPath, io.MultiReader(jsonBody(object{"token": x.token, "event": object{"data": "x"}})), "Content-Type", "application/json")
		if err != nil {
			t.Fatal(err)
		}
		s.WantStatusOK(got, "ok")
		x.Want("data: x\n\n")
	}},
	{name: "an answer is JSON by its content type, and nothing a browser may sniff into", run: func(t *T) {
		s := t.Shared()
		for _, got := range []Reply{s.Send(`{"token":"x"}`), s.Send(`x`), s.Call(http.MethodGet, "/healthz", ""), s.Call(http.MethodPost, "/stream", "")} {
			if problem := got.notJSON(); problem != "" {
				t.Error(problem)
			}
		}
		x := s.Begin(harness.Request{Target: "/"}, connectAnswer(500))
		if problem := x.Reply().notJSON(); problem != "" {
			t.Error(problem)
		}
	}},
}}

// padded returns a send of exactly that many bytes.
func padded(token string, size int) string {
	body := `{"token":"` + token + `","event":{"data":"padded"},"padding":""}`
	return strings.TrimSuffix(body, `"}`) + strings.Repeat("p", size-len(body)) + `"}`
}

func utf16Text(s string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(s)) {
		b.WriteByte(byte(unit >> 8))
		b.WriteByte(byte(unit))
	}
	return b.String()
}
