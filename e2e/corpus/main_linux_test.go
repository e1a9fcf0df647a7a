package corpus

import (
	"os"
	"testing"

	"ssegateway/e2e/harness"
)

var (
	binary string // the gateway
	cert   *harness.Certificate
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, cert, err = harness.BuildWithCertificate(dir)
	return err
}
