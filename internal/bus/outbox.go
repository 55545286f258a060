package bus

import (
	"errors"
	"io"
)

// outbox is the messages that wait for the bus. A bus under a flood takes some 2 KB of each connection in turn, and the answers to the
// flood are on the daemon's one connection. So these wait, one at a time, for everything else that there is to be sent.
type outbox struct {
	mailbox
	first []byte   // what goes first, in its order
	late  [][]byte // messages that go when there is nothing else
	bytes int      // of late
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
	if err := o.room(len(o.first), len(message), unsent); err != nil {
		return err
	}
	o.first = append(o.first, message...)
	o.wake()
	return nil
}

// putLate adds a message that goes when there is nothing else. The errors are those of put.
func (o *outbox) putLate(message []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.room(o.bytes, len(message), unsentLate); err != nil {
		return err
	}
	o.late = append(o.late, message)
	o.bytes += len(message)
	o.wake()
	return nil
}

// room is an error if a message of so many bytes cannot be added to those that wait. The lock is held.
func (o *outbox) room(waiting, more, most int) error {
	switch {
	case o.closed:
		return io.ErrClosedPipe
	case waiting > 0 && waiting+more > most:
		return errFull
	}
	return nil
}

// take waits for something to send. It is not ok when the outbox is closed and all was taken.
func (o *outbox) take() (b []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.wait(func() bool { return len(o.first)+len(o.late) > 0 }) {
		return nil, false
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
