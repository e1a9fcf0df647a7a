// Package examples has only tests. They run each program under examples/ as the backend of a
// real gateway.
package examples
