// Package compose runs what the files in deploy/compose name, without containers: each service's
// command with its environment and its files, on a host of its own with its address, where the names
// of the others are known. It needs network namespaces, so Linux and root.
package compose
