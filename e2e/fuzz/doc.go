// Package fuzz has only a test. It runs the fuzz targets of all packages.
package fuzz
