// Package state tests the gateway's binary with STATE_DIR: it is killed, and started again on what
// it has left.
package state
