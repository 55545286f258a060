package bus

import "io"

// pipe is bytes on the way from one goroutine to another.
type pipe struct {
	mailbox
	data []byte
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

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wait(func() bool { return len(p.data) > 0 }) {
		return 0, io.EOF
	}
	n := copy(b, p.data)
	if p.data = p.data[n:]; len(p.data) == 0 && cap(p.data) > keep {
		p.data = nil
	}
	return n, nil
}
