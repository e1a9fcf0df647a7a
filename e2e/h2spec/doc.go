// Package h2spec holds the gateway against the conformance suite for HTTP/2 of that name
// (https://github.com/summerwind/h2spec), without and with TLS.
package h2spec
