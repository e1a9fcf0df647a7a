// Package h2spec tests the gateway with h2spec, the conformance suite for HTTP/2
// (https://github.com/summerwind/h2spec), without and with TLS.
package h2spec
