package bus

import (
	"errors"
	"io"
	"sync"
)

// outbox is the messages that wait for the bus. A bus under a flood takes some 2 KB of each connection in turn, and the answers to the
// flood are on the daemon's one connection. So these wait, one at a time, for everything else that there is to be sent.
type outbox struct {
	mu     sync.Mutex
	filled sync.Cond
	first  []byte   // what goes first, in its order
	late   [][]byte // messages that go when there is nothing else
	bytes  int      // of late
	closed bool
}

const (
	// unsent is how many bytes wait for a bus that takes none, before the connection is given up.
	unsent = 64 << 20
	// unsentLate is how many bytes of answers to strangers wait. What is more is dropped.
	unsentLate = 4 << 20
)

var errFull = errors.New("too much waits to be sent")

// put adds a message that goes first. The error is errFull when too much waits already, or that the outbox is closed.
func (o *outbox) put(message []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return io.ErrClosedPipe
	case len(o.first) > 0 && len(o.first)+len(message) > unsent:
		return errFull
	}
	o.first = append(o.first, message...)
	o.wake()
	return nil
}

// putLate adds a message that goes when there is nothing else. The errors are those of put.
func (o *outbox) putLate(message []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return io.ErrClosedPipe
	case o.bytes > 0 && o.bytes+len(message) > unsentLate:
		return errFull
	}
	o.late = append(o.late, message)
	o.bytes += len(message)
	o.wake()
	return nil
}

func (o *outbox) wake() {
	if o.filled.L != nil {
		o.filled.Broadcast()
	}
}

// take waits for something to send. It is not ok when the outbox is closed and all was taken.
func (o *outbox) take() (b []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.filled.L == nil {
		o.filled.L = &o.mu
	}
	for len(o.first)+len(o.late) == 0 {
		if o.closed {
			return nil, false
		}
		o.filled.Wait()
	}
	if len(o.first) > 0 {
		b, o.first = o.first, nil
		return b, true
	}
	b, o.late[0] = o.late[0], nil
	o.late = o.late[1:]
	o.bytes -= len(b)
	return b, true
}

// close ends the outbox: nothing can be added any more.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake()
}
