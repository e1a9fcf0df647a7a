// Package vanish cuts clients off from a gateway without a word to either, as a laptop
// that is closed does: it needs network namespaces, and so Linux and root. The tests say
// how soon, and as what, the backend is told.
package vanish
