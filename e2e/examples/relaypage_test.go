package examples

import (
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

// expressSite is that of Express, with relay.js beside it.
func expressSite(t *testing.T) *site {
	t.Helper()
	s := relaySite(t, "express.mjs", "nodejs", []string{"node", "express.mjs"})
	module, err := web.Files.ReadFile("relay.js")
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "relay.js", string(module))
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

// aiServer is a route of AI SDK without resuming, and with a model that is a text.
const aiServer = `
import { createServer } from "node:http";
import { createUIMessageStream, pipeUIMessageStreamToResponse } from "ai";

createServer((req, res) => {
  const stream = createUIMessageStream({ execute: async ({ writer }) => {
    writer.write({ type: "start", messageId: "m" });
    writer.write({ type: "text-start", id: "t" });
    for (const delta of "abcdefghij") {
      writer.write({ type: "text-delta", id: "t", delta });
      await new Promise((done) => setTimeout(done, 100));
    }
    writer.write({ type: "text-end", id: "t" });
    writer.write({ type: "finish" });
  } });
  pipeUIMessageStreamToResponse({ response: res, stream });
}).listen(process.env.PORT, "127.0.0.1", () => console.log("listening"));
`

// AI SDK's transport comes back to the whole of an answer, with the lines of docs/relay.md.
func TestRelayAISDK(t *testing.T) {
	t.Parallel()
	e := example{name: "ai", command: []string{"node", "server.mjs"}, started: "listening", install: "nodejs"}
	s := e.prepare(t, "RELAY_URL=APP", "RELAY_PATHS=/api", "RELAY_RESUME_SECONDS=60")
	s.linkPackages(t)
	s.write(t, "server.mjs", aiServer)
	s.startExample(t)
	lines := strings.Replace(text(t, "relay.md", "ai-sdk.js"), `"/api/chat"`, `"STREAMS/api/chat"`, 1)
	got := s.node(t, `import { DefaultChatTransport } from "ai";
globalThis.sessionStorage = {};
`+lines+`
const read = async (stream, until) => {
  let text = "";
  for await (const chunk of stream) {
    text += chunk.type === "text-delta" ? chunk.delta : `+"`<${chunk.type}>`"+`;
    if (text.endsWith(until)) break;
  }
  return text;
};
const abort = new AbortController();
const first = await transport.sendMessages({ trigger: "submit-message", chatId: "c", messages: [], abortSignal: abort.signal });
console.log(await read(first, "c"));
abort.abort();
console.log(await read(await transport.reconnectToStream({ chatId: "c" })));
sessionStorage.answer = "00000000000000000000000000000000.0";
console.log(await transport.reconnectToStream({ chatId: "c" }));
`)
	if want := "<start><text-start>abc\n<start><text-start>abcdefghij<text-end><finish>\nnull\n"; got != want {
		t.Errorf("AI SDK reads %q, want %q", got, want)
	}
}

// mcpServer is a server of MCP without an event store, which tells its progress while it works.
const mcpServer = `
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

const server = new McpServer({ name: "work", version: "1.0.0" });
server.registerTool("work", { description: "works for a while" }, async (extra) => {
  for (let progress = 1; progress <= 10; progress++) {
    await extra.sendNotification({ method: "notifications/progress", params: { progressToken: extra._meta.progressToken, progress, total: 10 } });
    await new Promise((done) => setTimeout(done, 100));
  }
  return { content: [{ type: "text", text: "done" }] };
});
const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID });
await server.connect(transport);
createServer((req, res) => transport.handleRequest(req, res)).listen(process.env.PORT, "127.0.0.1", () => console.log("listening"));
`

// A call of MCP whose connection is cut goes on behind the cut, with a server that keeps nothing.
func TestRelayMCP(t *testing.T) {
	t.Parallel()
	e := example{name: "mcp", command: []string{"node", "server.mjs"}, started: "listening", install: "nodejs"}
	s := e.prepare(t, "RELAY_URL=APP", "RELAY_PATHS=/mcp", "RELAY_RESUME_SECONDS=60")
	s.linkPackages(t)
	s.write(t, "server.mjs", mcpServer)
	s.startExample(t)
	network := harness.NewNetwork(t, strings.TrimPrefix(s.streams, "http://"))
	client := s.command(t, []string{"node", "--input-type=module", "-e", `
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const client = new Client({ name: "test", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL("http://` + network.Addr + `/mcp")));
const seen = [];
const result = await client.callTool({ name: "work" }, undefined, { onprogress: ({ progress }) => { seen.push(progress); console.log("progress " + progress); } });
console.log("result " + result.content[0].text + " after " + seen);
await client.close();
`})
	defer client.Kill()
	if _, ok := client.Log.Find(harness.Patience, regexp.MustCompile("^progress 3$")); !ok {
		t.Fatalf("no progress:\n%s", client.Log.Text())
	}
	network.Cut()
	if _, ok := client.Log.Find(harness.Patience, regexp.MustCompile("^result done after 1,2,3,4,5,6,7,8,9,10$")); !ok {
		t.Errorf("the call has no whole result:\n%s", client.Log.Text())
	}
}
