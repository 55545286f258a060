package firewalldcmd

import (
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// overhead is the data memory, in bytes, that a limit of the system counts and that Go does not give to its heap: tables of
// its runtime and of libraries, and what the heap has given back.
const overhead = 62 << 20

// limitMemory makes the garbage collector work harder where the process may have little data memory (ulimit -d), and
// leaves it alone elsewhere: near its limit it takes up to half of the time.
func limitMemory() {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_DATA, &limit)
	if err != nil || limit.Cur > 1<<40 || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(max(int64(limit.Cur)-overhead, overhead/2))
}
