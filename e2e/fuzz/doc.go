// Package fuzz has only tests. They run the fuzz targets of all packages, and write and read many events
// of the format.
package fuzz
