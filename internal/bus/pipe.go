package bus

import (
	"io"
	"sync"
)

// pipe is bytes on the way from one goroutine to another. Writing never waits.
type pipe struct {
	mu     sync.Mutex
	filled sync.Cond
	data   []byte
	closed bool
}

// keep is the capacity that a pipe keeps when it is empty, in bytes.
const keep = 1 << 16

// put appends bytes.
func (p *pipe) put(parts ...[]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return io.ErrClosedPipe
	}
	for _, part := range parts {
		p.data = append(p.data, part...)
	}
	p.wake()
	return nil
}

// wait blocks until there are bytes, and reports whether there are: if not, the pipe was closed. The lock is held.
func (p *pipe) wait() bool {
	if p.filled.L == nil {
		p.filled.L = &p.mu
	}
	for len(p.data) == 0 && !p.closed {
		p.filled.Wait()
	}
	return len(p.data) > 0
}

func (p *pipe) wake() {
	if p.filled.L != nil {
		p.filled.Broadcast()
	}
}

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wait() {
		return 0, io.EOF
	}
	n := copy(b, p.data)
	if p.data = p.data[n:]; len(p.data) == 0 && cap(p.data) > keep {
		p.data = nil
	}
	return n, nil
}

// close ends the pipe: nothing can be written any more.
func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.wake()
}
