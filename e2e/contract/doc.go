// Package contract holds no code of its own: its tests are the contract of the
// gateway, line by line, against a real process over real sockets. See README.md.
package contract
