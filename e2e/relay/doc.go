// Package relay tests requests that are relayed to an application, on each kind of stream: what HTTP allows and clients
// rarely do, what strangers forge, and who is held up by whom. The application speaks over raw sockets, so that each byte
// that it gets can be looked at.
package relay
