// resuming is a fetch whose event stream goes on after a cut, for clients that do not resume by themselves. It gives
// on whole blocks, so that a block that was cut off comes once.
export async function resuming(url, init) {
  const first = await fetch(url, init);
  if (!first.headers.has("Sse-Gateway-Resume")) return first;
  const { readable, writable } = new TransformStream();
  follow(first, url, init, writable.getWriter());
  return new Response(readable, first);
}

async function follow(answer, url, init, writer) {
  let id = answer.headers.get("Sse-Gateway-Resume");
  try {
    while (answer.status !== 204) { // 204: id is the last one of a complete answer
      if (!answer.ok) throw new Error(`the answer cannot be resumed: ${answer.status}`);
      try {
        for await (const block of blocks(answer.body)) {
          id = /^id: ?(.*)$/m.exec(block)?.[1] ?? id;
          await writer.write(new TextEncoder().encode(block));
        }
        break;
      } catch (error) {
        init.signal?.throwIfAborted();
      }
      answer = await again(url, { ...init, headers: { ...init.headers, "Last-Event-ID": id } });
    }
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(() => {});
  }
}

async function again(url, init) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 50 + 50 * Math.random()));
    init.signal?.throwIfAborted();
    try {
      return await fetch(url, init);
    } catch {} // the network is away
  }
}

async function* blocks(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n\n");
    rest = parts.pop();
    for (const part of parts) yield part + "\n\n";
  }
}
