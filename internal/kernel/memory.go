package kernel

import (
	"context"
	"errors"
	"strings"
	"sync"

	"richwall/compile/ir"
)

// Memory is a Kernel without a kernel. It refuses what a kernel refuses, and keeps what was committed.
type Memory struct {
	mu        sync.Mutex
	installed *Desired
	closed    bool
}

// NewMemory returns one with nothing in it.
func NewMemory() *Memory { return &Memory{installed: &Desired{}} }

// Commit keeps next if a kernel would take it.
func (m *Memory) Commit(ctx context.Context, next *Desired) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("cannot commit: the kernel was closed")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.Check(next); err != nil {
		return err
	}
	m.installed = next
	return nil
}

// Check says what a kernel would refuse.
func (m *Memory) Check(next *Desired) error {
	backend := ir.NFTables
	if next.Rules != nil {
		backend = next.Rules.Backend
	}
	if _, err := verify(next, backend, nil); err != nil {
		return err
	}
	if backend == ir.IPTables {
		return nil
	}
	_, err := newPlan(nil, next, planned{canOwn: true})
	return err
}

// Close makes later commits fail. What was committed stays.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Listing is what was committed last, as text: "panic" if every packet is dropped, then the ruleset as ir.Ruleset.Dump
// writes it, and that of the direct interface. It is empty if there is nothing.
func (m *Memory) Listing() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	if m.installed.Panic {
		b.WriteString("panic\n")
	}
	for _, rs := range []*ir.Ruleset{m.installed.Rules, m.installed.Direct} {
		if rs == nil {
			continue
		}
		if err := rs.Dump(&b); err != nil {
			panic("internal error: " + err.Error()) // a strings.Builder takes everything
		}
	}
	return b.String()
}
