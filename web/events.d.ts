/** An event of a stream. */
export interface Message {
  /** Its name; `message` if it has none. */
  event: string;
  data: string;
  /** The id of the newest event that had one; `""` if none had. */
  id: string;
}

/** What a reader knows besides the events. */
export interface State {
  /** The newest id, that of a block without data too. What is here at first is the id until the stream says another one. */
  id?: string;
  /** The newest `retry:`, in milliseconds. */
  retry?: number;
  /** Is called for each piece that comes, heartbeats too. */
  onbytes?(): void;
}

/** Reads a body to its end. A block without data is no event. */
export function events(body: ReadableStream<Uint8Array>, state?: State): AsyncGenerator<Message, void, undefined>;

/** Returns a function that takes the bytes of a stream, piece by piece, and yields the events that they complete. */
export function parser(state: State): (bytes: Uint8Array) => Generator<Message, void, undefined>;
