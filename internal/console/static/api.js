// The internal API, and event streams by fetch: an EventSource could send no Authorization.

const root = new URL("../", document.baseURI);
const key = "ssegateway-token";

// Problem is an answer that is not a success, or none at all (status 0).
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  // refused says that a token is missing or wrong, or that the gateway does not answer this host: the page says so by itself.
  get refused() { return this.status === 401 || this.status === 403; }
}

export const setToken = (token) => (token ? sessionStorage.setItem(key, token) : sessionStorage.removeItem(key));
export const hasToken = () => sessionStorage.getItem(key) != null;

function headers(more) {
  const token = sessionStorage.getItem(key);
  return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

async function ask(url, options) {
  let r;
  try {
    r = await fetch(url, { cache: "no-store", credentials: "omit", redirect: "error", ...options });
  } catch (e) {
    if (options.signal?.aborted) throw e;
    throw new Problem(0, "The gateway does not answer.");
  }
  if (r.ok) return r;
  const body = await r.json().catch(() => ({}));
  const p = new Problem(r.status, body.error?.message ?? `The answer is ${r.status}.`);
  if (p.refused) document.dispatchEvent(new CustomEvent("refused", { detail: p }));
  throw p;
}

// call makes a request of the API and returns the JSON of its answer.
export async function call(method, path, body, signal) {
  const options = { method, signal, headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }) };
  if (body !== undefined) options.body = JSON.stringify(body);
  return (await ask(new URL(path, root), options)).json();
}

// follow gives the events of a stream of the API.
export async function* follow(path, signal, lastEventID) {
  const more = { Accept: "text/event-stream", ...(lastEventID ? { "Last-Event-ID": lastEventID } : {}) };
  const r = await ask(new URL(path, root), { signal, headers: headers(more) });
  const parser = new Parser();
  for await (const piece of text(r)) yield* parser.push(piece);
}

// text gives the body of a response as it comes.
export async function* text(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// all gives the pages of a list.
export async function* all(path, name, signal) {
  let cursor = "";
  do {
    const page = await call("GET", `${path}${path.includes("?") ? "&" : "?"}limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, undefined, signal);
    yield page[name];
    cursor = page.next_cursor ?? "";
  } while (cursor);
}

// Parser reads an event stream as the HTML standard says (section 9.2.6).
export class Parser {
  #rest = "";
  #data = [];
  #name = "";
  #id = "";

  push(piece) {
    const events = [];
    this.#rest += piece;
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) events.push({ name: this.#name || "message", id: this.#id, data: this.#data.join("\n") });
        this.#data = [];
        this.#name = "";
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") this.#data.push(value);
      else if (field === "event") this.#name = value;
      else if (field === "id" && !value.includes("\0")) this.#id = value;
    }
    return events;
  }
}
