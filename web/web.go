// Package web has what pages load: relay.js, which reads answers through the relay, over cuts and reloads. See docs/relay.md.
package web

import "embed"

// Files has relay.js, an ES module.
//
//go:embed relay.js
var Files embed.FS
