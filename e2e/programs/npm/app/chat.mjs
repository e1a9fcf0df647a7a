// Routes of the AI SDK, with a model that says the pieces.
import { convertToModelMessages, pipeTextStreamToResponse, pipeUIMessageStreamToResponse, streamText, toTextStream, toUIMessageStream, UI_MESSAGE_STREAM_HEADERS } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { json } from "node:stream/consumers";
import { createResumableStreamContext } from "resumable-stream/generic";
import { pieces } from "./run.mjs";

const model = (run) =>
  new MockLanguageModelV4({
    doStream: async ({ abortSignal }) => ({ stream: ReadableStream.from(say(run, abortSignal)) }),
  });

async function* say(run, signal) {
  yield { type: "stream-start", warnings: [] };
  yield { type: "text-start", id: "text" };
  for (const delta of pieces) {
    await run.step(signal);
    yield { type: "text-delta", id: "text", delta };
  }
  await run.step(signal);
  yield { type: "text-end", id: "text" };
  yield {
    type: "finish", finishReason: { unified: "stop", raw: undefined },
    usage: { inputTokens: { total: 3, noCache: 3 }, outputTokens: { total: 5, text: 5 } },
  };
}

async function answer(req, res, run, abortSignal, consumeSseStream) {
  const { messages } = await json(req);
  const result = streamText({ model: model(run), messages: await convertToModelMessages(messages), abortSignal, onError() {} });
  await pipeUIMessageStreamToResponse({
    response: res, consumeSseStream,
    stream: toUIMessageStream({ stream: result.stream, generateMessageId: () => "answer" }),
  });
}

// chat is the plain route: it stops when its reader leaves. It has nothing to resume.
export async function chat(req, res, run) {
  if (req.method === "GET") res.writeHead(204).end();
  else await answer(req, res, run, run.leaving(res));
}

// textChat is the plain route with an answer that is no event stream.
export async function textChat(req, res, run) {
  const { messages } = await json(req);
  const result = streamText({ model: model(run), messages: await convertToModelMessages(messages), abortSignal: run.leaving(res), onError() {} });
  await pipeTextStreamToResponse({ response: res, stream: toTextStream({ stream: result.stream }) });
}

// chatThatResumes is the route with the SDK's own way to resume: it goes on without a reader.
const running = new Map(); // names of streams, by run

export async function chatThatResumes(req, res, run) {
  const context = createResumableStreamContext({ waitUntil: null, publisher: memory, subscriber: memory });
  if (req.method === "POST") {
    await answer(req, res, run, undefined, ({ stream }) => {
      running.set(run, crypto.randomUUID());
      return context.createNewResumableStream(running.get(run), () => stream);
    });
    return;
  }
  const stream = running.has(run) ? await context.resumeExistingStream(running.get(run)) : null;
  if (!stream) {
    res.writeHead(204).end();
    return;
  }
  res.writeHead(200, UI_MESSAGE_STREAM_HEADERS);
  for await (const text of stream) res.write(text);
  res.end();
}

// memory stands for Redis.
const values = new Map();
const listeners = new Map(); // sets, by channel
const memory = {
  connect: async () => {},
  set: async (key, value) => void values.set(key, value),
  get: async (key) => values.get(key) ?? null,
  incr: async (key) => {
    values.set(key, Number(values.get(key) ?? 0) + 1);
    return values.get(key);
  },
  publish: async (channel, message) => listeners.get(channel)?.forEach((listen) => listen(message)),
  subscribe: async (channel, listen) => void listeners.set(channel, (listeners.get(channel) ?? new Set()).add(listen)),
  unsubscribe: async (channel) => void listeners.delete(channel),
};
