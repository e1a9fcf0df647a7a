// Prints what a client reports, one JSON object a line. n counts the lines.
let n = 0;

export const url = process.argv[2];

export function report(type, event = {}) {
  const { name = "", data = "", id = "" } = event;
  console.log(JSON.stringify({ n: ++n, type, name, data, id }));
}

// The names of the events that the tests send. An EventSource needs a listener for each.
export const names = ["message", "named", "gap"];
