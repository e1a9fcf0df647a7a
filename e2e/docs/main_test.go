package docs

import (
	"os"
	"testing"

	"ssegateway/e2e/harness"
)

var binary string // the gateway

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, err = harness.Build(dir)
	return err
}
