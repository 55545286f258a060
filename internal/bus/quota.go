package bus

import (
	"context"
	"sync"
	"time"
)

// What strangers can make the daemon keep or do is bounded: for each client, for each user, and for all of them together. The
// superuser has bounds of his own, and so nothing that others do takes anything away from him.

// load is calls that wait or are being answered, and the bytes of them.
type load struct{ calls, bytes int }

// overhead is the bytes that a call needs beside its message, more or less.
const overhead = 1 << 10

// fits reports whether one more call of so many bytes stays within a limit.
func (l load) fits(bytes int, limit load) bool {
	return l.calls < limit.calls && l.bytes+bytes <= limit.bytes
}

func (l load) plus(calls, bytes int) load { return load{l.calls + calls, l.bytes + bytes} }

// limits are the bounds of a user who is not the superuser, and of the superuser.
type limits struct{ client, user, all load }

var (
	// The bus by itself lets a client wait for 128 answers (dbus-daemon(1), max_replies_per_connection).
	strangers = limits{client: load{128, 4 << 20}, user: load{512, 4 << 20}, all: load{1024, 8 << 20}}
	rootsOwn  = limits{client: load{1 << 16, 1 << 27}, user: load{1 << 17, 1 << 28}, all: load{1 << 17, 1 << 28}}
)

func limitsOf(uid uint32) limits {
	if uid == superuser {
		return rootsOwn
	}
	return strangers
}

// budget is the work that users other than the superuser can have done: what they are answered, in bytes, and what is asked
// about them, in bytes that are about as much work.
type budget struct {
	mu    sync.Mutex
	spent map[uint32]spending // by user
}

// spending is what a user has spent at a time. It decreases as time goes on.
type spending struct {
	bytes int
	at    time.Time
}

const (
	allowance = 8 << 20   // bytes that a user can spend at once
	income    = 256 << 10 // bytes that a user can spend in a second after that
	asking    = 4 << 10   // bytes that a question to polkit is worth
	refusal   = 256       // bytes that a call costs at least: those of an error, more or less
	spenders  = 1000      // users that are remembered
)

func (s spending) now() int {
	return max(0, s.bytes-int(time.Since(s.at).Seconds()*income))
}

// spend takes from what a user may spend, and reports whether there was something left.
func (b *budget) spend(uid uint32, bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if uid != superuser && (b.spent[uid].now() > allowance || !b.room(uid)) {
		return false
	}
	b.take(uid, bytes)
	return true
}

// charge takes from what a user may spend, whether or not there is something left.
func (b *budget) charge(uid uint32, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(uid, bytes)
}

func (b *budget) take(uid uint32, bytes int) {
	if uid != superuser {
		b.spent[uid] = spending{b.spent[uid].now() + bytes, time.Now()}
	}
}

// room reports whether a user can be remembered, and forgets those who have all of their allowance again.
func (b *budget) room(uid uint32) bool {
	if _, known := b.spent[uid]; known || len(b.spent) < spenders {
		return true
	}
	for user, s := range b.spent {
		if s.now() == 0 {
			delete(b.spent, user)
		}
	}
	return len(b.spent) < spenders
}

// wait blocks until a user can spend something, and takes that.
func (b *budget) wait(ctx context.Context, uid uint32, bytes int) error {
	for !b.spend(uid, bytes) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// pause is how long is waited until a user who has spent all is looked at again.
const pause = 100 * time.Millisecond
