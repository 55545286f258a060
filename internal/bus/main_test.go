package bus

import (
	"os"
	"testing"
)

// hostileVariable makes a process that the tests start one that floods a bus: see flood.
const hostileVariable = "RICHWALL_BUS_HOSTILE"

func TestMain(m *testing.M) {
	if order := os.Getenv(hostileVariable); order != "" {
		os.Exit(flood(order))
	}
	superuser = uint32(os.Getuid()) // whoever runs the tests
	os.Exit(m.Run())
}
