// Applications that write their event streams themselves, each in the format of its client.
import { EventEncoder } from "@ag-ui/encoder";
import { EventType } from "@ag-ui/client";
import { text } from "node:stream/consumers";
import { pieces } from "./run.mjs";

// write answers with a stream of blocks: one for each piece, and those of the end. Its
// last step is the end of the body.
async function write(req, res, run, { type = "text/event-stream", begin = "", block, end }) {
  const leaving = run.leaving(res);
  await text(req);
  res.writeHead(200, { "Content-Type": type, "Cache-Control": "no-store", "X-App": "own" });
  res.write(begin);
  for (const piece of pieces) {
    await run.step(leaving);
    res.write(block(piece));
  }
  await run.step(leaving);
  res.write(end);
  await run.step(leaving);
  res.end();
}

export const events = (req, res, run) =>
  write(req, res, run, {
    begin: ": welcome\n\n",
    block: (piece) => `event: piece\ndata: ${JSON.stringify(piece)}\n\n`,
    end: "event: end\ndata: end\n\n",
  });

// https://data-star.dev/reference/sse_events, of the client's version
export const datastar = (req, res, run) =>
  write(req, res, run, {
    block: (piece) => `event: datastar-merge-fragments\ndata: selector #answer\ndata: mergeMode append\ndata: fragments <span>${piece}</span>\n\n`,
    end: `event: datastar-merge-signals\ndata: signals {"state": "complete"}\n\n`,
  });

export const htmx = (req, res, run) =>
  write(req, res, run, {
    block: (piece) => `data: <span>${piece}</span>\n\n`,
    end: "event: done\ndata:\n\n",
  });

export const agent = (req, res, run) => {
  const encoder = new EventEncoder({ accept: req.headers.accept });
  const encode = (...events) => events.map((e) => encoder.encodeSSE(e)).join("");
  return write(req, res, run, {
    type: encoder.getContentType(),
    begin: encode(
      { type: EventType.RUN_STARTED, threadId: "thread", runId: "run" },
      { type: EventType.TEXT_MESSAGE_START, messageId: "message", role: "assistant" },
    ),
    block: (piece) => encode({ type: EventType.TEXT_MESSAGE_CONTENT, messageId: "message", delta: piece }),
    end: encode(
      { type: EventType.TEXT_MESSAGE_END, messageId: "message" },
      { type: EventType.RUN_FINISHED, threadId: "thread", runId: "run" },
    ),
  });
};
