package kernel

import (
	"time"
)

// SetEventBuffer changes the room for events of monitors that are made from now on, and returns what puts it back.
func SetEventBuffer(size int) (restore func()) {
	was := eventBuffer
	eventBuffer = size
	return func() { eventBuffer = was }
}

// SetLockWait changes for how many seconds the tools wait for the lock of iptables-legacy, and returns what puts it back.
func SetLockWait(seconds int) (restore func()) {
	was := lockSeconds
	lockSeconds = seconds
	return func() { lockSeconds = was }
}

// SetQuiet changes how long a guard stands that was raised twice, and returns what puts it back.
func SetQuiet(d time.Duration) (restore func()) {
	was := quiet
	quiet = d
	return func() { quiet = was }
}

// HasTableOwner says whether the kernel can give a table an owner, and keep it when that ends.
func HasTableOwner(o Options) bool {
	s, err := openSocket(o.withDefaults().Enter)
	if err != nil {
		return false
	}
	defer s.conn.Close()
	owner, err := s.canOwn()
	return owner && err == nil
}
