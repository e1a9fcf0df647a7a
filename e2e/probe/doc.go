// Package probe has only tests. They run `ssegateway probe` through real proxies: with the configurations in deploy/, and
// with one line of these spoilt.
package probe
