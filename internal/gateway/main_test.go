package gateway_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "400") // unless the command line says otherwise
	goleak.VerifyTestMain(m)
}
