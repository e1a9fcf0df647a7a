// Package bench is the load generator behind `ssegateway bench`: it opens event
// streams with raw sockets, publishes events to them, checks every byte that it
// receives, and reports what that cost. See docs/bench.md.
package bench
