// Reads lines of {"wire": base64}; for each writes a line of {"events", "retry"}
// as the npm package eventsource-parser sees that stream.
import { createInterface } from 'node:readline'
import { createParser } from 'eventsource-parser'

for await (const line of createInterface({ input: process.stdin })) {
  const result = { events: [] }
  const parser = createParser({
    onEvent: ({ event, id, data }) => result.events.push({ name: event, id, data }),
    onRetry: (ms) => { result.retry = ms },
  })
  parser.feed(new TextDecoder().decode(Buffer.from(JSON.parse(line).wire, 'base64')))
  process.stdout.write(JSON.stringify(result) + '\n')
}
