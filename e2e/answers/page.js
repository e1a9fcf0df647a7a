// The page of these tests, and what Node runs of them. `report` is the binding by which the page tells the test.
import { ask, events } from "./relay.js";

const answers = {};

// start reads an answer, and tells all that comes.
export async function start(name, url, init, first = Infinity) {
  const tell = (type, more) => report(JSON.stringify({ name, type, ...more }));
  const answer = answers[name] = ask(url, { ...init, onwait: (ms) => tell("wait", { ms }) });
  try {
    for await (const message of answer) {
      tell("message", message);
      if (--first === 0) break;
    }
    tell("end", { id: answer.id });
  } catch (problem) {
    tell("problem", { status: problem.status ?? 0, data: String(problem.message) });
  }
}

export const stop = async (name) => (await answers[name].stop())?.status ?? 0;

// check reads all vectors, in pieces of several sizes, and returns what was read wrongly.
export async function check({ decode }) {
  const wrong = [];
  for (const v of decode) {
    const all = v.wire_base64 ? Uint8Array.from(atob(v.wire_base64), (c) => c.charCodeAt(0)) : new TextEncoder().encode(v.wire);
    const want = {
      messages: v.events.map(({ name, data, id }) => ({ event: name || "message", data, id: id ?? "" })),
      id: v.last_event_id ?? "", retry: v.retry ?? -1,
    };
    for (const size of [1, 2, 3, 5, 1e9]) {
      const pieces = function* () {
        for (let i = 0; i < all.length; i += size) yield all.slice(i, i + size);
      }();
      const body = new ReadableStream({
        pull(c) {
          const { done, value } = pieces.next();
          if (done) c.close();
          else c.enqueue(value);
        },
      });
      const state = {}, messages = [];
      for await (const message of events(body, state)) messages.push(message);
      // Numbers of JavaScript end at 64 bits, too, if not exactly there.
      const got = { messages, id: state.id ?? "", retry: Math.min(state.retry ?? -1, 2 ** 64) };
      if (JSON.stringify(got) !== JSON.stringify(want)) wrong.push({ vector: v.name, size, got, want });
    }
  }
  return { vectors: decode.length, wrong };
}

Object.assign(globalThis, { start, stop, check });
