//go:build !unix

package embedded

import "os"

// lockFile only opens the file: there are no such locks here.
func lockFile(name string) (*os.File, error) { return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) }
