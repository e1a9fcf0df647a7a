// Reads lines of {"wire": base64, "pieces": true for byte by byte}; for each writes a line of {"events", "retry"}
// as the npm package eventsource-parser sees that stream.
import { createInterface } from 'node:readline'
import { createParser } from 'eventsource-parser'

for await (const line of createInterface({ input: process.stdin })) {
  const result = { events: [] }
  const parser = createParser({
    onEvent: ({ event, id, data }) => result.events.push({ name: event, id, data }),
    onRetry: (ms) => { result.retry = ms },
  })
  const { wire, pieces } = JSON.parse(line)
  const bytes = Buffer.from(wire, 'base64')
  const decoder = new TextDecoder()
  for (let at = 0; pieces && at < bytes.length; at++) parser.feed(decoder.decode(bytes.subarray(at, at + 1), { stream: true }))
  parser.feed(decoder.decode(pieces ? undefined : bytes))
  process.stdout.write(JSON.stringify(result) + '\n')
}
