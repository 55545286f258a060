package bus

import "sync"

// mailbox is what one goroutine waits for and others fill. Filling never waits.
type mailbox struct {
	mu     sync.Mutex
	filled sync.Cond
	closed bool
}

// wait blocks until there is something, and reports whether there is: if not, the mailbox was closed. The lock is held.
func (m *mailbox) wait(something func() bool) bool {
	if m.filled.L == nil {
		m.filled.L = &m.mu
	}
	for !something() && !m.closed {
		m.filled.Wait()
	}
	return something()
}

// wake tells who waits that there is something. The lock is held.
func (m *mailbox) wake() {
	if m.filled.L != nil {
		m.filled.Broadcast()
	}
}

// close ends the mailbox: nothing can be put into it any more.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake()
}
