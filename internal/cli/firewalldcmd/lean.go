package firewalldcmd

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"richwall/internal/daemon"
)

// A start, a reload or a change among very many rules needs several times the memory that its result takes: files as a whole,
// trees of their elements, lists that are a little different from the ones before. The runtime would keep it for minutes.

const (
	// rest is how long nothing must have happened before memory is given back.
	rest = 200 * time.Millisecond
	// Memory is given back once so much of it was needed since the last time, in bytes and beside that in percent of what
	// is in use: less is not worth to look through all of it.
	neededBytes, neededPercent = 8 << 20, 20
)

// lean gives back memory some time after whatever needs much of it.
type lean struct {
	mu     sync.Mutex
	timer  *time.Timer
	needed uint64 // bytes, until memory was given back last
}

// watch listens to a daemon, which has started.
func (l *lean) watch(d *daemon.Daemon) {
	d.Subscribe(func(e daemon.Event) {
		switch e.(type) {
		case daemon.Reloaded, daemon.PermanentChanged, daemon.RuntimeChanged:
			l.soon()
		}
	})
	l.soon()
}

func (l *lean) soon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil {
		l.timer = time.AfterFunc(rest, l.giveBack)
		return
	}
	l.timer.Reset(rest)
}

// giveBack gives back what is not in use, if that is worth it.
func (l *lean) giveBack() {
	if l.worthIt() {
		debug.FreeOSMemory()
	}
}

func (l *lean) worthIt() bool {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	needed, live := samples[0].Value.Uint64(), samples[1].Value.Uint64()
	l.mu.Lock()
	defer l.mu.Unlock()
	if needed-l.needed < neededBytes+live/100*neededPercent {
		return false
	}
	l.needed = needed
	return true
}
