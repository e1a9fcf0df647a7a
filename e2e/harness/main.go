package harness

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// BuildWithCertificate is Build, and makes a certificate in the same folder.
func BuildWithCertificate(dir string) (binary string, cert *Certificate, err error) {
	if binary, err = Build(dir); err != nil {
		return "", nil, err
	}
	cert, err = NewCertificate(dir)
	return binary, cert, err
}

// Main prepares the tests of a package in a folder of their own, runs them, cleans up, and sees to it that no
// goroutine is left. It returns the exit code.
func Main(m *testing.M, prepare func(dir string) error, cleanUp ...func() error) int {
	dir, err := os.MkdirTemp("", "e2e")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, f := range cleanUp {
		err = errors.Join(err, f())
	}
	if err := errors.Join(err, goleak.Find()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
