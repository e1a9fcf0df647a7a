// Package hostile holds the gateway against peers that take connections and do nothing with
// them, or nothing but harm, while few descriptors are left: what everybody else asks for has to
// be answered as if they were not there.
//
// By itself it is small. The whole run, with a gateway built without the race detector:
//
//	make hostile
package hostile
