// A client of MCP, which calls a tool, and listens beside that. It leaves on SIGTERM.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { tell, url } from "./report.mjs";

const transport = new StreamableHTTPClientTransport(new URL(url), {
  reconnectionOptions: { initialReconnectionDelay: 50, maxReconnectionDelay: 50, reconnectionDelayGrowFactor: 1, maxRetries: 400 },
  async fetch(url, init) {
    const answer = await fetch(url, init);
    if (init.method === "GET") tell(answer.ok ? "listening" : "refused", String(answer.status));
    return answer;
  },
});
const client = new Client({ name: "client", version: "1" });

let heard = "";
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => tell("heard", (heard += params.data)));
await client.connect(transport);
tell("session", transport.sessionId);
process.on("SIGTERM", () => client.close());

const { tools } = await client.listTools();
let text = "";
try {
  const result = await client.callTool({ name: "say", arguments: {} }, undefined, {
    onprogress: ({ message }) => tell("text", (text += message)),
    onresumptiontoken: (id) => tell("id", id),
  });
  await transport.terminateSession();
  tell("end", JSON.stringify({ server: client.getServerVersion(), tools, result, session: transport.sessionId ?? "ended" }));
} catch (error) {
  tell("cut", String(error));
}
