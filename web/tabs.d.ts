import type { Options } from "./stream.js";

/**
 * Returns a `fetch` for one `follow`. All tabs of the origin that use the same name have one stream; it must be a stream of
 * the same URL and the same user.
 */
export function share(name: string, fetch?: Options["fetch"]): NonNullable<Options["fetch"]>;
