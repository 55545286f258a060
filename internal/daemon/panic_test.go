package daemon

import (
	"errors"
	"strings"
	"testing"

	"richwall/internal/kernel"
	"richwall/zones"
)

// startDropping is startKept with a table of DropAll, and refusals of it.
func startDropping(t *testing.T, refuse *error) (b *bed, dropped *bool) {
	b, dropped = startKept(t, nil), new(bool)
	b.Daemon.opt.DropAll = func(on bool) error {
		if *refuse == nil {
			*dropped = on
		}
		return *refuse
	}
	b.Subscribe(func(e Event) { b.events = append(b.events, e) })
	return b, dropped
}

// switches counts the events that tell of panic mode, on and off.
func (b *bed) switches() (on, off int) {
	for _, e := range b.events {
		switch e {
		case PanicChanged{On: true}:
			on++
		case PanicChanged{On: false}:
			off++
		}
	}
	return on, off
}

// Whatever keeps panic mode from being committed, it comes on by a table of its own: in memory, on disk and for the listeners. The log says
// why. It goes once the rules can be committed.
func TestPanicThatIsRefused(t *testing.T) {
	for _, reason := range []error{
		kernel.ErrBusy, kernel.ErrForeignOwner, kernel.ErrForeignChain, errors.New("cannot run iptables: it is not installed"),
		&kernel.RuleError{Err: errors.New("no such target")}, nil,
	} {
		var never error
		b, dropped := startDropping(t, &never)
		said := "a fault of the test"
		if reason == nil {
			b.mu.Lock()
			b.Daemon.kernel = &faulty{}
			b.mu.Unlock()
		} else {
			b.kernel.refuse, said = reason, reason.Error()
		}
		if err := b.SetPanic(t.Context(), true); err != nil || !*dropped || !b.Snapshot().Panic {
			t.Errorf("%s: panic mode does not come on: %v", said, err)
		}
		if noted, err := b.Daemon.opt.State.Panic(); !noted || err != nil {
			t.Errorf("%s: it is not noted: %v", said, err)
		}
		if on, off := b.switches(); on != 1 || off != 0 {
			t.Errorf("%s: the listeners are told %d times that it is on and %d times that it is off", said, on, off)
		}
		if !strings.Contains(b.log.String(), said) {
			t.Errorf("the log does not say %q:\n%s", said, b.log.String())
		}
		b.mu.Lock()
		b.kernel.refuse, b.Daemon.kernel = nil, b.kernel
		b.mu.Unlock()
		if err := b.SetPanic(t.Context(), false); err != nil || *dropped || b.Snapshot().Panic {
			t.Errorf("%s: panic mode does not end: %v", said, err)
		}
		if noted, err := b.Daemon.opt.State.Panic(); noted || err != nil {
			t.Errorf("%s: it is noted still: %v", said, err)
		}
	}
}

// Panic mode that can be had in neither way is off: in memory, on disk and for the listeners. The answer names both reasons.
func TestPanicThatCannotComeOn(t *testing.T) {
	refuse := errors.New("no memory for a table")
	b, _ := startDropping(t, &refuse)
	b.kernel.refuse = kernel.ErrBusy
	err := b.SetPanic(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), kernel.ErrBusy.Error()) || !strings.Contains(err.Error(), refuse.Error()) {
		t.Errorf("switching it on gives %v", err)
	}
	noted, err := b.Daemon.opt.State.Panic()
	if on, off := b.switches(); b.Snapshot().Panic || noted || err != nil || on+off > 0 {
		t.Errorf("panic mode is on in memory: %v, on disk: %v, %v; the listeners are told %d times", b.Snapshot().Panic, noted, err, on+off)
	}
}

// While another change is under way the table of DropAll cannot be put up, and then panic mode is committed: it is on, and that is no error.
func TestPanicThatIsCommittedLate(t *testing.T) {
	refuse := errors.New("no memory for a table")
	b, _ := startDropping(t, &refuse)
	k := &heldKernel{held: make(chan struct{}), free: make(chan struct{})}
	b.mu.Lock()
	b.Daemon.kernel = k
	b.mu.Unlock()
	changed, tried := make(chan error), make(chan struct{}, 2)
	b.Daemon.opt.DropAll = func(bool) error {
		tried <- struct{}{}
		return refuse
	}
	go func() {
		changed <- b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp"))})
	}()
	<-k.held
	go func() { // the change, and then panic mode
		<-tried
		k.free <- struct{}{}
		<-k.held
		k.free <- struct{}{}
	}()
	if err := b.SetPanic(t.Context(), true); err != nil || !b.Snapshot().Panic {
		t.Errorf("panic mode does not come on: %v", err)
	}
	if err := <-changed; err != nil {
		t.Error(err)
	}
	b.mu.Lock()
	b.Daemon.kernel = b.kernel
	b.mu.Unlock()
}
