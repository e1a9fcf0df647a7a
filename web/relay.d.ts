import type { Message } from "./events.js";

export { events } from "./events.js";
export type { Message } from "./events.js";

export interface Init extends RequestInit {
  /** Goes back behind this event of an answer, and does not ask. */
  id?: string;
  /** The name under which the id of the newest event is kept. */
  keep?: string;
  /** Where it is kept: `sessionStorage`, unless another object is given. */
  store?: object;
  /** Stops the application when the page is closed or left while the answer is read. */
  stopOnClose?: boolean;
  /** Is called when the answer was cut, with the milliseconds until the page comes back. */
  onwait?(ms: number): void;
}

export interface Answer extends AsyncGenerator<Message, void, undefined> {
  /** The id of the newest event; `""` as long as there is none. */
  id: string;
  /** Stops the application. */
  stop(): Promise<Response> | void;
}

/** Asks when it is first read. Throws the `Response` that is no answer. */
export function ask(url: string | URL, init?: Init): Answer;
