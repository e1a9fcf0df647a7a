// Relayed answers: docs/relay.md of SSE Gateway.

import { events } from "./events.js";

export { events };

export function ask(url, { id = "", keep, store = keep && sessionStorage, onwait, stopOnClose, ...init } = {}) {
  const own = new AbortController();
  const signal = AbortSignal.any([own.signal, init.signal ?? own.signal]);
  const back = (method) => ({ ...init, method, body: null, signal: null, headers: [...new Headers(init.headers), ["Last-Event-ID", answer.id]] });
  const note = (id) => {
    answer.id = id;
    if (keep) store[keep] = id;
  };
  async function* read() {
    if (stopOnClose) addEventListener("pagehide", answer.stop);
    try {
      for (let retry = 500, failures = 0; ; failures++) {
        let problem, state = {};
        try {
          const { status, headers, body } = problem = await fetch(url, { ...(answer.id ? back("GET") : init), signal });
          if (status == 204) return note("");
          if (status == 200 && /^text\/event-stream/.test(headers.get("Content-Type"))) {
            if (!answer.id) note(headers.get("Sse-Gateway-Resume") ?? "");
            for await (const message of events(body, state)) {
              failures = -1;
              if (/^[\da-f]{32}\./.test(message.id)) note(message.id);
              yield message;
            }
            if (failures < 0 || !state.retry) return note(""); // else: come back later
          } else if (status > 499 || status == 429) {
            state.retry = headers.get("Retry-After") * 1000 || retry;
          } else {
            note("");
          }
        } catch (error) {
          problem = error;
        }
        if (signal.aborted) return;
        if (!answer.id) throw problem;
        retry = state.retry ?? retry;
        const ms = Math.min(36e5, Math.max(retry, Math.min(8e3, 100 * 2 ** failures)) * (1 + Math.random()));
        onwait?.(ms);
        await new Promise((done) => {
          setTimeout(done, ms);
          signal.onabort = done;
        });
      }
    } finally {
      if (stopOnClose) removeEventListener("pagehide", answer.stop);
    }
  }
  const answer = Object.assign(read(), {
    id,
    stop: () => answer.id ? fetch(url, { ...back("DELETE"), keepalive: true }) : own.abort(),
  });
  return answer;
}
