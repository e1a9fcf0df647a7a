// Package contract has only tests. They check the contract of the gateway, line by line,
// against a real process over real sockets. See README.md.
package contract
