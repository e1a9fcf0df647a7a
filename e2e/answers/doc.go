// Package answers has only tests. They read answers with web/relay.js, in Node and in a real Chromium.
package answers
