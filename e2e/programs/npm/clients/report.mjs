// Prints what a client reports, one JSON object a line. n counts the lines.
let n = 0;

export const url = process.argv[2];

export const tell = (kind, value) => console.log(JSON.stringify({ n: ++n, kind, value }));
