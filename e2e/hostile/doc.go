// Package hostile tests the gateway against peers that open connections and leave them idle or
// attack with them, while few descriptors are left. Requests of all others must be answered as
// if those peers did not exist.
//
// By default it runs with few peers. The full run:
//
//	make hostile
package hostile
