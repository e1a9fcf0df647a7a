package gateway_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "400") // the default; the command line may set another number
	goleak.VerifyTestMain(m)
}
