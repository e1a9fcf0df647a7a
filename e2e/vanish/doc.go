// Package vanish has clients that vanish, or leave in odd ways. The tests check how soon, and
// with which reason, the backend is notified.
//
// Clients vanish without a packet to either end, as when a laptop is closed. So the package needs
// network namespaces, that is Linux and root.
package vanish
