// One stream for all tabs of a site: docs/pages.md of SSE Gateway.
//
// share returns a fetch for follow. Of the tabs with one name the one that holds the lock of that name leads. The leader's
// fetch asks the server, and passes on what comes over a channel. The fetch of another tab says hello with its position. It
// answers with a stream of what is behind that: what the leader still has of it, or else a gap. A tab takes part until the
// signal of its request is aborted. When the leader leaves, the lock is another tab's, whose stream goes on by itself.

import { parser } from "./events.js";

const RECENT = 1e6; // characters that the leader keeps for tabs that come, of
const RECENT_EVENTS = 10_000; // events at most
const BEHIND = 4e6; // bytes that a tab may be behind
const PATIENCE = 10_000; // milliseconds; a leader that does not answer hangs, or its system has suspended it

export function share(name, fetch = globalThis.fetch) {
  if (!navigator.locks) return fetch; // the page is not secure: each tab has a stream of its own
  let part;
  return (url, init) => {
    if (!part || part.left.aborted) part = takePart(`sse ${name}`, fetch);
    const mine = part;
    init.signal.addEventListener("abort", () => mine.leave());
    return mine.open(url, init);
  };
}

function takePart(name, fetch) {
  const channel = new BroadcastChannel(name);
  const leaving = new AbortController();
  const left = leaving.signal;
  let leads = false, elected, hear; // the last two are of the request that follows a leader
  let position, recent; // of the leader's stream, while it is open

  const say = (message) => left.aborted || channel.postMessage(message);
  const me = Math.random();

  channel.onmessage = ({ data }) => {
    if (!leads) hear?.(data);
    else if (data.call) say({ by: me, to: data.call, ...(position && behind(data.id)) });
  };

  function leave(reason) {
    leaving.abort(reason);
    channel.close();
  }

  // The lock is held until this tab leaves, or another one steals it. Where there may be no locks each tab leads.
  function ask(options) {
    const hold = () => new Promise((done) => {
      left.addEventListener("abort", done);
      leads = true;
      elected?.();
    });
    navigator.locks.request(name, options, hold).catch(() => leads ? leave() : left.aborted || hold());
  }
  ask({ signal: left });

  // lead asks the server, and passes on what comes.
  async function lead(url, init) {
    const answer = await fetch(url, { ...init, signal: AbortSignal.any([init.signal, left]) });
    if (answer.status != 200 || !/^text\/event-stream/.test(answer.headers.get("Content-Type"))) return answer;
    position = { id: init.headers.get("Last-Event-ID") ?? "" };
    recent = [{ id: position.id, text: "" }];
    let length = 0, retry;
    const read = parser(position);
    const newRetry = () => position.retry == retry ? "" : `retry: ${retry = position.retry}\n`;

    function pass(bytes) {
      let all = "";
      for (const message of read(bytes)) {
        const text = write(message);
        all += newRetry() + text;
        recent.push({ id: message.id, text });
        length += text.length;
      }
      all += newRetry();
      if (position.id != recent.at(-1).id) recent.push({ id: position.id, text: "" });
      while (recent.length > RECENT_EVENTS || length > RECENT && recent.length > 1) length -= recent.shift().text.length;
      say({ by: me, text: all || ":\n", id: position.id });
    }

    function end() {
      position = undefined;
      say({ by: me, end: true });
    }

    const reader = answer.body.getReader();
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await reader.read().catch((error) => {
          end();
          throw error;
        });
        if (!done) {
          pass(value);
          return controller.enqueue(value);
        }
        end();
        controller.close();
      },
      cancel(reason) {
        end();
        return reader.cancel(reason);
      },
    }, { highWaterMark: 100 });
    say({ begin: true });
    return new Response(body, answer);
  }

  // behind returns what a tab with that id lacks.
  function behind(id) {
    const at = id ? recent.findLastIndex((one) => one.id == id) : -1;
    const text = at < 0 ? `${id && "event: gap\ndata:\n"}id: ${position.id}\n\n` : recent.slice(at + 1).map((one) => one.text).join("");
    return { text: text || ":\n", id: position.id };
  }

  // join answers with what the leader passes on, and with the stream itself as soon as this tab leads.
  function join(url, init) {
    let id = init.headers.get("Last-Event-ID") ?? "";
    let call, leader, pipe, writer;
    const hello = () => say({ call: call = Math.random(), id });

    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => ask({ steal: true }), PATIENCE);
      const fail = (error) => {
        reject(error);
        writer?.abort(error).catch(() => {});
      };
      left.addEventListener("abort", () => {
        clearTimeout(patience);
        fail(left.reason);
      });

      function push(data) {
        if (!writer) {
          pipe = new TransformStream({}, new ByteLengthQueuingStrategy({ highWaterMark: BEHIND }));
          writer = pipe.writable.getWriter();
          resolve(new Response(pipe.readable, { headers: { "Content-Type": "text/event-stream" } }));
        }
        id = data.id;
        writer.write(new TextEncoder().encode(data.text)).catch(() => {});
        if (writer.desiredSize <= 0) leave(Error("this tab is too far behind"));
      }

      hear = (data) => {
        if (data.begin) {
          leader = undefined;
          hello();
        } else if (data.to && data.to == call) {
          clearTimeout(patience);
          if (!data.text) return; // the leader has no stream itself
          call = undefined;
          leader = data.by;
          push(data);
        } else if (!data.to && leader && data.by == leader) {
          if (!data.end) return push(data);
          writer.close().catch(() => {});
          writer = undefined;
          leave();
        }
      };

      elected = async () => {
        hear = elected = undefined;
        clearTimeout(patience);
        try {
          const headers = new Headers(init.headers);
          if (id) headers.set("Last-Event-ID", id);
          const answer = await lead(url, { ...init, headers });
          if (!writer) return resolve(answer);
          if (!position) throw Error("the server gives no stream"); // the next request sees why
          writer.releaseLock();
          await answer.body.pipeTo(pipe.writable);
        } catch (error) {
          fail(error);
        }
      };

      hello();
    });
  }

  return { left, leave, open: (url, init) => leads ? lead(url, init) : join(url, init) };
}

const write = ({ event, data, id }) => `event: ${event}\nid: ${id}\n${data.split("\n").map((line) => `data: ${line}\n`).join("")}\n`;
