package relay

// pull is a reader on another node.
type pull struct{}
