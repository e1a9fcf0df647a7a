// A server of MCP with one tool, which says the pieces as its progress, and each as a log message on the listen stream.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { pieces } from "./run.mjs";

// mcp returns a handler. With a store, clients can resume by the server's own ids.
export function mcp({ store = false } = {}) {
  const sessions = new Map();
  return async (req, res, run, query) => {
    run.leaving(res);
    let session = sessions.get(req.headers["mcp-session-id"]);
    if (!session) {
      session = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => crypto.randomUUID(),
        eventStore: store ? new Store() : undefined, retryInterval: 50,
        onsessioninitialized: (id) => void sessions.set(id, session),
      });
      await server(run).connect(session);
    }
    // A listen stream may have no event for long, and then its client has no id to come back with: its next request
    // would find the stream still open. So only a test that sends events on it has it kept.
    if (req.method === "GET" && !query.has("listen")) res.setHeader("Sse-Gateway-Resume", "0");
    await session.handleRequest(req, res);
  };
}

function server(run) {
  const server = new McpServer({ name: "pieces", version: "1" }, { capabilities: { logging: {} } });
  server.registerTool("say", { description: "says the pieces" }, async (extra) => {
    const { progressToken } = extra._meta;
    for (const [i, message] of pieces.entries()) {
      await run.step();
      await extra.sendNotification({
        method: "notifications/progress", params: { progressToken, progress: i + 1, total: pieces.length, message },
      });
      await server.server.sendLoggingMessage({ level: "info", data: message });
    }
    await run.step();
    return { content: [{ type: "text", text: pieces.join("") }] };
  });
  return server;
}

// Store keeps what was sent. Its ids are numbers behind the name of the stream.
class Store {
  #events = [];

  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return `${stream}/${this.#events.length}`;
  }

  async getStreamIdForEventId(id) {
    return id.split("/")[0];
  }

  async replayEventsAfter(last, { send }) {
    const [stream, n] = last.split("/");
    for (const [i, event] of this.#events.entries()) {
      if (event.stream === stream && i >= Number(n)) await send(`${stream}/${i + 1}`, event.message);
    }
    return stream;
  }
}
