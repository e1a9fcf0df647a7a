// Package examples holds no code of its own: its tests run each program under
// examples/ as the backend of a real gateway.
package examples
