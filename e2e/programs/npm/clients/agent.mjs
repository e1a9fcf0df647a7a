// A client of AG-UI. It leaves on SIGTERM.
import { HttpAgent } from "@ag-ui/client";
import { resuming } from "./resuming.mjs";
import { tell, url } from "./report.mjs";

const agent = new HttpAgent({
  url, threadId: "thread",
  async fetch(url, init) {
    const answer = await resuming(url, init);
    const key = answer.headers.get("Sse-Gateway-Resume");
    if (key) tell("key", key);
    return answer;
  },
  initialMessages: [{ id: "question", role: "user", content: "Say it." }],
});
process.on("SIGTERM", () => agent.abortRun());

let text = "";
try {
  await agent.runAgent({ runId: "run" }, {
    onTextMessageContentEvent: ({ event }) => tell("text", (text += event.delta)),
    onRunFinishedEvent: () => tell("last", ""),
  });
  tell("end", JSON.stringify(agent.messages));
} catch (error) {
  tell("cut", String(error));
}
