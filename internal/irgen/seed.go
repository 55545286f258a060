package irgen

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed is what a test's random values begin with: another one each time, which the test's output says. RICHWALL_SEED repeats a run.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := Setting(t, "RICHWALL_SEED", uint64(time.Now().UnixNano()))
	t.Logf("RICHWALL_SEED=%d", seed)
	return seed
}

// Setting is the number that a variable of the environment has, or the usual one.
func Setting(t testing.TB, name string, usual uint64) uint64 {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return usual
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
