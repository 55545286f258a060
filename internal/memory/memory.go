// Package memory knows how much data memory the system lets the process have (ulimit -d, LimitDATA= of systemd.exec(5)), and how much
// of it is left. Go ends a process that gets no more. So whoever needs much asks first whether it is there, and does without what it
// is for if not.
//
// The daemon, its bus and its program import it. It imports nothing of the project. Where there is no limit, all of it does nothing.
package memory

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// unlimited is the lowest limit that is none: more than any machine's memory that a configuration could fill.
	unlimited = 1 << 40 // bytes
	// overhead is what a limit counts and Go's heap cannot have: 32 MiB of the table of arenas (runtime, mheap.arenas), which Linux counts
	// although it is never touched, tables of the collector, stacks, the program's variables; and what the heap has no use for in
	// pieces.
	overhead = 60 << 20 // bytes
	// reserve is what is never given away: for what is small, and for pieces of the heap that are too short for what is needed.
	reserve = 6 << 20 // bytes
	// tight is a limit below which the heap grows by a tenth between two collections, instead of to twice its size.
	tight = 256 << 20 // bytes
	// small is what nobody needs to ask for.
	small = 64 << 10 // bytes
	// untidy is how much has to be allocated since the last collection to make another one worth its time.
	untidy = 1 << 20 // bytes
)

// Limit is the most data memory that the process may have. A nil Limit is none.
type Limit struct{ bytes int64 }

// OfProcess is the limit of this process, nil if it has none.
func OfProcess() *Limit {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &limit); err != nil || limit.Cur > unlimited {
		return nil
	}
	return &Limit{int64(limit.Cur)}
}

// Tune makes the garbage collector work harder the nearer the process comes to its limit. Near it, that takes up to half of the time. Where
// the limit is tight, it works harder from the first: what the heap has had once counts for good, although it is given back. There the
// program also has one thread for Go's code: on a busy machine the system may run the thread that needs memory and not the one that finds
// what is not in use any more, and the heap grows beyond its limit meanwhile.
func (l *Limit) Tune() {
	if l == nil {
		return
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(l.bytes-overhead, overhead/2))
	}
	if l.bytes >= tight {
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(10)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// Tidy makes room for what comes: where memory is limited, what is not in use any more is found now rather than later, if it may be
// much.
func (l *Limit) Tidy() {
	if l == nil {
		return
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	if samples[0].Value.Uint64() > samples[1].Value.Uint64()+untidy {
		runtime.GC()
	}
}

// Room is an error if there is no room for so many bytes more, and says so for people. What is asked for is an estimate of
// all that is needed until the end of what it is for. Where that is much, there is order first (Tidy).
func (l *Limit) Room(need int64) error {
	if l == nil || need < small {
		return nil
	}
	if need >= untidy {
		l.Tidy()
	}
	if need <= l.left() {
		return nil
	}
	runtime.GC()
	left := l.left()
	if need <= left {
		return nil
	}
	return fmt.Errorf("it takes about %d MiB of memory, and of the %d MiB of data memory that the daemon may have (ulimit -d), %d are left",
		(need+1<<20-1)>>20, l.bytes>>20, max(left, 0)>>20)
}

// left is how many bytes more can be in use: those that the system still gives, and those of the heap that are not in use, of which
// some stand in pieces that are too short for a large list.
func (l *Limit) left() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return l.bytes - taken() + int64(m.HeapIdle)/4*3 - reserve
}

// taken is how many bytes of data memory the process has: data and stack of proc(5), /proc/self/statm. Without /proc it is what Go has.
func taken() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if fields := bytes.Fields(text); err == nil && len(fields) > 5 {
		if pages, err := strconv.ParseInt(string(fields[5]), 10, 64); err == nil {
			return pages * int64(os.Getpagesize())
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys) + overhead/2
}
