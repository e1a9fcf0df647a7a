// The format of event streams, as the HTML standard reads it: docs/pages.md of SSE Gateway.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

// events reads a body to its end. In the state it keeps the newest `id` and `retry`, and calls `onbytes` for each piece.
export async function* events(body, state = {}) {
  const reader = body.getReader();
  const read = parser(state);
  try {
    for (let piece; !(piece = await reader.read()).done; ) {
      state.onbytes?.();
      yield* read(piece.value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// parser returns a function that takes the bytes of a stream, piece by piece, and yields the events that they complete.
export function parser(state) {
  const decoder = new TextDecoder();
  let cr, rest = "", id = state.id ?? "", event = "", data = "";
  return function* (bytes) {
    const text = decoder.decode(bytes, { stream: true });
    if (!text) return;
    const lines = text.slice(cr && text[0] == "\n" ? 1 : 0).split(/\r\n?|\n/);
    cr = text.endsWith("\r");
    lines[0] = rest + lines[0];
    rest = lines.pop();
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)/s.exec(line);
      if (!line) {
        state.id = id;
        if (data) yield { event: event || "message", data: data.slice(0, -1), id };
        data = event = "";
      } else if (field == "data") data += value + "\n";
      else if (field == "event") event = value;
      else if (field == "id" && !value.includes("\0")) id = value;
      else if (field == "retry" && /^\d+$/.test(value)) state.retry = +value;
    }
  };
}
