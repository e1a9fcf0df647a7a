// Package bench is the load generator behind `ssegateway bench`: it opens event
// streams with raw sockets, has events published to them, checks every byte that
// comes back, and says what that cost. See docs/bench.md.
package bench
