// Package vanish cuts clients off from a gateway so that neither end is notified, as when a
// laptop is closed. It needs network namespaces, so Linux and root. The tests check how soon,
// and with which reason, the backend is notified.
package vanish
