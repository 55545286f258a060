package firewalldcmd

import (
	"runtime/debug"
	"sync"
	"time"

	"richwall/internal/daemon"
)

// A start or a reload needs several times the memory that its result takes: files as a whole, trees of their elements, a
// batch of messages. The runtime would keep it for minutes.

const (
	// collectAt is how much garbage there may be, in percent of what is in use, before it is collected: a daemon that
	// mostly waits can spend that time.
	collectAt = 50
	// rest is how long nothing must have happened before memory is given back.
	rest = 200 * time.Millisecond
)

// lean gives back memory some time after whatever needs much of it.
type lean struct {
	mu    sync.Mutex
	timer *time.Timer
}

// watch listens to a daemon, which has started.
func (l *lean) watch(d *daemon.Daemon) {
	debug.SetGCPercent(collectAt)
	d.Subscribe(func(e daemon.Event) {
		switch e.(type) {
		case daemon.Reloaded, daemon.PermanentChanged:
			l.soon()
		}
	})
	l.soon()
}

func (l *lean) soon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil {
		l.timer = time.AfterFunc(rest, debug.FreeOSMemory)
		return
	}
	l.timer.Reset(rest)
}
