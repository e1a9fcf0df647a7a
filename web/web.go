// Package web has what pages load: stream.js, a stream that comes back; tabs.js, one stream for all tabs; relay.js, which
// reads answers through the relay; and events.js, the parser of all three. See docs/pages.md and docs/relay.md.
package web

import "embed"

// Files has the ES modules, and their types.
//
//go:embed *.js *.d.ts
var Files embed.FS
