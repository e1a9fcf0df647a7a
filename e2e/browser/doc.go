// Package browser has only tests. Their client of the gateway is a real EventSource in a page
// of a real Chromium.
package browser
