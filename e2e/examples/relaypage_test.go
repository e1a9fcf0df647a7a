package examples

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
	"ssegateway/web"
)

// node runs a program beside an application of docs/relay.md, and returns what it prints. The path /chat is that of the gateway.
func (s *site) node(t *testing.T, program string) string {
	t.Helper()
	return s.run(t, []string{"node", "--input-type=module", "-e", strings.ReplaceAll(program, `"/chat"`, `"STREAMS/chat"`)})
}

// expressSite is that of Express, with the modules beside it.
func expressSite(t *testing.T) *site {
	t.Helper()
	s := relaySite(t, "express.mjs", "nodejs", []string{"node", "express.mjs"})
	if err := os.CopyFS(s.files, web.Files); err != nil {
		t.Fatal(err)
	}
	s.write(t, "package.json", `{"type":"module"}`)
	return s
}

// The page's part of docs/relay.md, with an application that it describes.
func TestRelayPage(t *testing.T) {
	t.Parallel()
	s := expressSite(t)
	const prelude = "globalThis.sessionStorage = {};\nconst show = (text) => console.log(text);\n"
	if got, want := s.node(t, prelude+text(t, "relay.md", "page.js")), strings.ReplaceAll(verse, " ", "\n")+"\n"; got != want {
		t.Errorf("page.js prints %q, want %q", got, want)
	}

	// A page that is loaded again in the middle of an answer.
	asked := s.request(t, harness.Request{Method: "POST", Target: "/chat"}, 200)
	id := asked.want(t, "", "To")
	asked.Leave()
	got := s.node(t, `import { ask } from "./relay.js";
const read = async (answer) => { for await (const { data } of answer) console.log(data); console.log(`+"`kept \"${sessionStorage.chat}\"`"+`); };
globalThis.sessionStorage = { chat: "`+id+`" };
`+text(t, "relay.md", "reload.js"))
	if want := strings.ReplaceAll(verse, " ", "\n") + "\nkept \"\"\n"; got != want {
		t.Errorf("reload.js prints %q, want %q", got, want)
	}
	if !regexp.MustCompile(`^[\da-f]{32}\.1$`).MatchString(id) {
		t.Errorf("the id of the first event is %q", id)
	}
}
