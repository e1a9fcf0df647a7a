// Package clients holds no code of its own: its tests have the clients that others
// wrote receive, come back and catch up.
package clients
