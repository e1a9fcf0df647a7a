export interface Options {
  /** Where the gateway asks and tells your backend: an http or https URL. */
  callbackUrl: string;
  /** The gateway's port. Without it, or with 0, a free one. */
  port?: number;
  /** Further settings of the gateway, by their names as environment variables. */
  env?: Record<string, string>;
  /** Is called with each line that the gateway logs. */
  log?: (line: string) => void;
}

export interface Gateway {
  /** Such as http://127.0.0.1:49152. Streams open below it, and /internal/… is there too. */
  url: string;
  port: number;
  /** Ends the gateway, and resolves when it has ended. May be called again. */
  stop(): Promise<void>;
  /** The same as stop(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts a gateway, and resolves when it is ready for streams. Rejects with the gateway's own
 * message if it does not start.
 */
export function start(options: Options): Promise<Gateway>;
