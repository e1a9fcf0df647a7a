// A run is one case of a test: the test allows it step by step, so that it can look at what the client has of an
// answer that is not complete, and asks what has happened to it.
export const pieces = ["Grüße ", "an ", "die ", "Welt ", "👋"];

const runs = new Map();

export function named(name) {
  if (!runs.has(name)) runs.set(name, new Run());
  return runs.get(name);
}

class Run {
  counts = { asked: 0, taken: 0, gone: 0 };
  goneAt = 0; // Unix time in milliseconds
  #allowed = 0;
  #waiting = new Set();

  count(what) {
    this.counts[what]++;
    this.#wake();
  }

  #wake() {
    for (const wake of this.#waiting) wake();
  }

  async #change(signal) {
    const { promise, resolve, reject } = deferred();
    const stop = () => reject(signal.reason);
    this.#waiting.add(resolve);
    signal?.addEventListener("abort", stop);
    try {
      await promise;
    } finally {
      this.#waiting.delete(resolve);
      signal?.removeEventListener("abort", stop);
    }
  }

  allow(n) {
    this.#allowed += n;
    this.#wake();
  }

  // step waits until the test allows one more step.
  async step(signal) {
    for (signal?.throwIfAborted(); this.counts.taken >= this.#allowed; ) await this.#change(signal);
    this.count("taken");
  }

  async until(what, n, signal) {
    while (this.counts[what] < n) await this.#change(signal);
  }

  // leaving returns a signal that is aborted when the answer's reader leaves before its end.
  leaving(res) {
    const leaving = new AbortController();
    res.on("close", () => {
      if (res.writableFinished) return;
      this.goneAt = Date.now();
      this.count("gone");
      leaving.abort(new Error("the reader left"));
    });
    return leaving.signal;
  }
}

function deferred() {
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  return d;
}

// control answers the test: allow=n allows n steps; until=what:n waits until that was counted.
export async function control(req, res, run, query) {
  run.allow(Number(query.get("allow") ?? 0));
  const [what, n] = (query.get("until") ?? "").split(":");
  try {
    if (what) await run.until(what, Number(n), AbortSignal.timeout(20_000));
  } catch {
    res.statusCode = 504;
  }
  res.end(JSON.stringify({ ...run.counts, goneAt: run.goneAt }));
}
