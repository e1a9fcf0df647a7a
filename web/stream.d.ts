import type { Message } from "./events.js";

/** `open`: the page has its state, and gets what comes. `away`: the stream comes back by itself. `refused`: only `reconnect()` tries again. */
export type Status = "open" | "away" | "refused" | "closed";

/** Why there is no stream. */
export interface Problem {
  /** The status of the answer; 0: there was none. */
  status: number;
  /** The gateway's, such as `BACKEND_FORBIDDEN`; `""` if there is none. */
  code: string;
  message: string;
}

/** Where the state of the page is kept, together with the position that belongs to it. */
export interface Keep<T> {
  /** The key in the storage. */
  name: string;
  /** Returns the state behind the event that `onevent` has taken last: what JSON can hold. */
  save(): T;
  /** Takes the state that `save` returned. Is called before `follow` returns, if there is one. */
  restore(state: T): void;
  /** `sessionStorage`, unless another one is given. */
  storage?: Pick<Storage, "getItem" | "setItem">;
}

export interface Options<T = unknown> {
  /** Takes an event. The next one waits until a promise that it returns is settled. */
  onevent(message: Message): unknown;
  /**
   * Loads the state of the page afresh. Is called when a stream begins without a position, on `gap`, and after `onevent` or
   * `load` has failed. Events wait until a promise that it returns is settled. Without it `gap` is an event like any other.
   */
  load?(): unknown;
  /** Is called when the status changes, and for each problem. */
  onstatus?(status: Status, problem?: Problem): void;
  /** Has the page go on after a reload. */
  keep?: Keep<T>;
  /** Where the stream begins, if the page comes with its state: a position. What is kept does not count then. */
  id?: string;
  /** Seconds, as in the gateway's HEARTBEAT_INTERVAL_SECONDS; 15 by default. A connection that is silent for twice as long is dead. */
  heartbeat?: number;
  /** Makes the request, in place of the browser's `fetch`. */
  fetch?(url: string | URL, init: Init): Promise<Response>;
}

/** What `fetch` is given. */
export interface Init extends RequestInit {
  headers: Headers;
  signal: AbortSignal;
}

export interface Stream {
  readonly status: Status;
  /** Opens a new connection now, after a refusal too; with an id behind that one, with `""` without a position. */
  reconnect(id?: string): void;
  /** Ends the stream for good. */
  close(): void;
}

/** Follows a stream. It comes back until it is closed or refused. */
export function follow<T = unknown>(url: string | URL, options: Options<T>): Stream;
