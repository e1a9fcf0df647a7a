// Package browser holds no code of its own: its tests have a real EventSource, in a
// page of a real Chromium, as the gateway's client.
package browser
