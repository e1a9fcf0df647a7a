// A stream that comes back, and knows what it has: docs/pages.md of SSE Gateway.
//
// It reads by fetch. An EventSource hides what a page has to know: the status of a refusal, and the heartbeats, by which a
// dead connection is told from a quiet one. Nor can it send fields, and a new one cannot say where it goes on.
// The request has no Accept: by one the gateway would take it for an EventSource, and EVENTSOURCE_ERRORS would hide statuses.

import { events } from "./events.js";

// All in milliseconds.
const RETRY = 1000; // until the stream says another one
const HOUR = 36e5; // no wait is longer
const HEAD = 6e4; // for the head of an answer: a connect may wait for its turn
const BEGIN = 100; // from the first bytes to open: a proxy says "later" by a stream that has only a retry: and ends
const SAVE = 1000; // from an event to its place in the storage

export function follow(url, { onevent, load, onstatus, keep, id = "", heartbeat = 15, fetch = globalThis.fetch }) {
  const silence = heartbeat * 2000;
  const position = { id }; // its id: behind all that the page has taken
  let status = "away";
  let stale = false; // what the page shows does not belong to the position
  let request = new AbortController();
  let failures = 0, after = 0, asleep = false, soon = false;
  let from, wake, heard, watch, saving;

  async function run() {
    while (status != "closed") {
      if (asleep || status == "refused") {
        await woken();
        continue;
      }
      soon = false;
      after = 0;
      position.id = from ?? position.id;
      from = undefined;
      request = new AbortController();
      const problem = await connect(request.signal).catch((error) => ({ status: 0, code: "", message: String(error?.message ?? error) }));
      listen(0);
      if (status == "closed") return;
      if (problem && !temporary(problem.status)) {
        request.abort();
        position.retry = undefined; // that of a refusal is an hour
        set("refused", problem);
      } else if (soon || asleep) {
        set("away");
      } else {
        set("away", problem);
        const least = Math.max(after || (position.retry ?? RETRY), failures ? Math.min(15e3, 500 * 2 ** failures) : 100);
        failures++;
        await woken(Math.min(HOUR, least * (1 + Math.random())));
      }
    }
  }

  // connect reads a stream to its end. It returns what is wrong, if the server says so.
  async function connect(signal) {
    const headers = new Headers();
    if (position.id) headers.set("Last-Event-ID", String.fromCharCode(...new TextEncoder().encode(position.id)));
    listen(HEAD);
    const answer = await fetch(url, { headers, signal, cache: "no-store" });
    if (answer.status != 200 || !/^text\/event-stream/.test(answer.headers.get("Content-Type"))) {
      const wait = answer.headers.get("Retry-After");
      after = Math.max(0, wait * 1000 || Date.parse(wait) - Date.now() || 0);
      const body = await answer.json().catch(() => {});
      return { code: "", message: answer.statusText, ...body?.error, status: answer.status };
    }
    stale ||= !position.id;
    const begun = new Promise((done) => {
      position.onbytes = () => {
        if (!stale) listen();
        setTimeout(done, BEGIN);
      };
    });
    const messages = events(answer.body, position);
    let next = messages.next();
    next.catch(() => {}); // is looked at below
    const first = await Promise.race([next, begun]);
    if (first?.done) return;
    if (first?.value.event == "rejected" && position.retry == HOUR) return JSON.parse(first.value.data);
    const gap = first?.value.event == "gap";
    if (load && (stale || gap)) {
      await take(load);
      stale = signal.aborted; // then an event may have been read that the page never took
      if (stale) return;
      if (gap) next = messages.next();
    }
    stale = false;
    set("open");
    failures = 0;
    listen();
    for (let one; !(one = await next).done; next = messages.next()) {
      await take(one.value.event == "gap" && load || onevent, one.value);
      if (signal.aborted) return;
    }
  }

  // take has the page take an event, or load its state. What fails in it makes the state stale until it is loaded.
  async function take(hook, message) {
    listen(0);
    stale = true;
    try {
      await hook(message);
    } catch (error) {
      reportError(error);
      if (load) {
        request.abort();
        throw error;
      }
    }
    stale = false;
    if (keep && status != "closed") saving ??= setTimeout(save, SAVE);
    listen();
  }

  // listen takes the connection for dead when no byte comes within that time; 0: never.
  function listen(ms = silence) {
    clearTimeout(watch);
    heard = ms ? Date.now() : Infinity;
    if (ms) watch = setTimeout(() => request.abort(Error(`no byte for ${ms / 1000} s`)), ms);
  }

  const woken = (ms) => new Promise((done) => {
    wake = done;
    if (ms) setTimeout(done, ms);
  });

  function set(next, problem) {
    if (status == next && !problem) return;
    status = next;
    reported(() => onstatus?.(next, problem));
  }

  // stored does something with the storage, which may be full or forbidden: then what is there still belongs together.
  function stored(act) {
    try {
      return act(keep.storage ?? sessionStorage);
    } catch {}
  }

  function save() {
    clearTimeout(saving);
    saving = undefined;
    if (!keep || stale || !position.id) return;
    reported(() => {
      const text = JSON.stringify({ id: position.id, state: keep.save() });
      stored((storage) => storage.setItem(keep.name, text));
    });
  }

  function restore() {
    const kept = stored((storage) => JSON.parse(storage.getItem(keep.name)));
    if (kept?.id) reported(() => {
      keep.restore(kept.state);
      position.id = kept.id;
    });
  }

  function again() {
    failures = 0;
    soon = true;
    request.abort();
    wake?.();
  }

  // A page that the browser freezes, or keeps for the way back, has no connection.
  function sleep() {
    save();
    asleep = true;
    request.abort();
  }

  function rouse() {
    if (asleep) again();
    asleep = false;
  }

  // Somebody looks, or the network is back.
  function hurry() {
    if (Date.now() - heard > silence) again(); // timers may have stood still
    else if (!after) wake?.();
  }

  const ended = new AbortController();
  for (const [target, type, act] of [
    [window, "pagehide", sleep], [window, "pageshow", rouse], [document, "freeze", sleep], [document, "resume", rouse],
    [window, "online", hurry], [document, "visibilitychange", () => document.hidden ? save() : hurry()],
  ]) target.addEventListener(type, act, ended);

  if (keep && !id) restore();
  run();
  return {
    get status() {
      return status;
    },
    reconnect(id) {
      if (status == "closed") return;
      from = id;
      set("away");
      again();
    },
    close() {
      if (status == "closed") return;
      save();
      ended.abort();
      set("closed");
      again();
    },
  };
}

function reported(hook) {
  try {
    hook();
  } catch (error) {
    reportError(error);
  }
}

// temporary reports whether the same request may succeed later. 0: no answer; 200: no stream, as from a network with a login.
const temporary = (status) => [0, 200, 408, 425, 429].includes(status) || status > 499;
