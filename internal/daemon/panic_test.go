package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"richwall/compile/ir"
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

// held is a daemon with a change under way that does not end until the function is called, which ends all commits from then on. It drops
// everything by a table where dropped says so.
func held(t *testing.T) (b *bed, k *heldKernel, dropped *atomic.Bool, release func()) {
	t.Helper()
	var never error
	b, _ = startDropping(t, &never)
	t.Cleanup(func() { // a note that is being written is not torn
		b.noting.Lock()
		defer b.noting.Unlock()
	})
	dropped = &atomic.Bool{}
	b.Daemon.opt.DropAll = func(on bool) error { dropped.Store(on); return nil }
	k = &heldKernel{held: make(chan struct{}, 100), free: make(chan struct{})}
	return b, k, dropped, func() { close(k.free) }
}

// begin begins a change that k holds up.
func (b *bed) begin(t *testing.T, k *heldKernel) (changed <-chan error) {
	b.mu.Lock()
	b.Daemon.kernel = k
	b.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		done <- b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp")), InPanic: true})
	}()
	<-k.held
	return done
}

// until waits for something to come about.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// switched waits until no end of panic mode is under way.
func (b *bed) switched(t *testing.T) {
	t.Helper()
	until(t, "panic mode is still being switched", func() bool { return b.ending.Load() == 0 })
}

// noted says whether panic mode is noted on disk.
func (b *bed) noted() bool {
	on, err := b.Daemon.opt.State.Panic()
	return on && err == nil
}

// While a change is under way that does not end, several administrators switch panic mode on, one after the other: the first one's order drops
// everything, and nobody is refused. So it is when they switch it off again.
func TestSeveralSwitchPanicModeAlike(t *testing.T) {
	b, k, dropped, release := held(t)
	changed := b.begin(t, k)
	for _, on := range []bool{true, false} {
		answers := make(chan error, 5)
		for range cap(answers) {
			go func() { answers <- b.SetPanic(t.Context(), on) }()
			time.Sleep(panicPatience / 3)
		}
		for range cap(answers) {
			var refused *Error
			if err := <-answers; err != nil && !(errors.As(err, &refused) && (refused.Code == zones.AlreadyEnabled || refused.Code == NotEnabled)) {
				t.Errorf("who switches panic mode to %v is refused: %v", on, err)
			}
		}
		if dropped.Load() != on || b.Snapshot().Panic != on {
			t.Errorf("asked for is %v; everything is dropped: %v, and panic mode is %v", on, dropped.Load(), b.Snapshot().Panic)
		}
	}
	release()
	<-changed
	b.switched(t)
}

// While a change is under way that does not end, panic mode comes on by a table of its own, and ends as that table goes: the kernel has what it
// would have without any panic mode. No commit follows.
func TestPanicEndsBesideAChange(t *testing.T) {
	b, k, dropped, release := held(t)
	changed := b.begin(t, k)
	for range 2 {
		if err := b.SetPanic(t.Context(), true); err != nil || !dropped.Load() || !b.noted() {
			t.Fatalf("panic mode does not come on: %v", err)
		}
		if err := b.SetPanic(t.Context(), false); err != nil || dropped.Load() || b.Snapshot().Panic || b.noted() {
			t.Fatalf("panic mode does not end: %v", err)
		}
	}
	release()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	b.switched(t)
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.installed.Panic || len(k.held) > 0 || dropped.Load() || b.Snapshot().Panic {
		t.Errorf("panic mode is on again, behind %d commits", len(k.held))
	}
}

// Panic mode that was committed is accepted to end while a change is under way that does not end, and stays on until that is over. Then it ends
// by itself, in the kernel, in memory and on disk; but not where it was switched on again before.
func TestPanicEndsBehindAChange(t *testing.T) {
	for _, again := range []bool{false, true} {
		b, k, dropped, release := held(t)
		if err := b.SetPanic(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		changed := b.begin(t, k)
		err := b.SetPanic(t.Context(), false)
		if !errors.Is(err, errLater) || !strings.HasPrefix(err.Error(), "COMMAND_FAILED: accepted, and not done yet: ") || !b.Snapshot().Panic || !b.noted() {
			t.Fatalf("the answer is %v, and panic mode is on: %v", err, b.Snapshot().Panic)
		}
		if again {
			if err := b.SetPanic(t.Context(), true); err != nil || !b.Snapshot().Panic {
				t.Fatalf("panic mode cannot be kept on: %v", err)
			}
			if err := b.SetPanic(t.Context(), true); err != nil {
				t.Fatalf("panic mode cannot be kept on once more: %v", err)
			}
		}
		release()
		if err := <-changed; err != nil {
			t.Fatal(err)
		}
		b.switched(t)
		if !again {
			until(t, "panic mode stays noted", func() bool { return !b.noted() })
		}
		b.mu.Lock()
		if k.installed.Panic != again || b.Snapshot().Panic != again || b.noted() != again || !again && dropped.Load() {
			t.Errorf("switched on again: %v; panic mode is on in the kernel: %v, in memory: %v, on disk: %v", again, k.installed.Panic, b.Snapshot().Panic, b.noted())
		}
		b.mu.Unlock()
	}
}

// Panic mode that an earlier process has left is accepted to end before the first rules are in the kernel, which does not answer. It ends once
// they are, and not before: what drops everything stays until then.
func TestPanicEndsBehindAStart(t *testing.T) {
	b, k, dropped, release := held(t)
	if err := b.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	b.Stop(t.Context())
	dropped.Store(true)
	b.opt.DropAll = b.Daemon.opt.DropAll
	b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
	b.Daemon = New(b.opt)
	b.recallPanic()
	if err := b.SetPanic(t.Context(), false); !errors.Is(err, errLater) {
		t.Fatalf("before the start the answer is %v", err)
	}
	started := make(chan error, 1)
	go func() { started <- b.Start(t.Context()) }()
	<-k.held
	if err := b.SetPanic(t.Context(), false); !errors.Is(err, errLater) || !dropped.Load() || !b.Snapshot().Panic || !b.noted() {
		t.Fatalf("in the start the answer is %v", err)
	}
	release()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	until(t, "panic mode stays on", func() bool { return !b.Snapshot().Panic && !b.noted() })
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.installed.Panic || dropped.Load() {
		t.Error("panic mode stays on in the kernel")
	}
}

// An iptables that does not end keeps nobody waiting for an answer, also where it is the end of panic mode itself that waits for it.
func TestPanicWhoseEndDoesNotEnd(t *testing.T) {
	b, k, _, release := held(t)
	if err := b.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.Daemon.kernel = k
	b.mu.Unlock()
	if err := b.SetPanic(t.Context(), false); !errors.Is(err, errLater) || !b.Snapshot().Panic {
		t.Errorf("the answer is %v", err)
	}
	release()
	until(t, "panic mode stays on", func() bool { return !b.Snapshot().Panic && !b.noted() })
}

// A commit with panic mode has failed, and it is not known what it has left in the kernel; nor could the table be put up. When panic mode is then on
// beside a change, it does not end as that table goes: a commit ends it, behind the change.
func TestPanicEndsWithWhatItHasLeft(t *testing.T) {
	b, k, dropped, release := held(t)
	drop := b.Daemon.opt.DropAll
	b.Daemon.opt.DropAll = func(bool) error { return errors.New("no memory for a table") }
	b.kernel.refuse = errors.New("it is not known what is in the kernel")
	if err := b.SetPanic(t.Context(), true); err == nil || b.Snapshot().Panic {
		t.Fatalf("panic mode comes on: %v", err)
	}
	b.Daemon.opt.DropAll = drop
	changed := b.begin(t, k)
	if err := b.SetPanic(t.Context(), true); err != nil || !dropped.Load() {
		t.Fatalf("panic mode does not come on: %v", err)
	}
	if err := b.SetPanic(t.Context(), false); !errors.Is(err, errLater) || !dropped.Load() || !b.Snapshot().Panic {
		t.Errorf("the answer is %v; everything is dropped: %v", err, dropped.Load())
	}
	release()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	b.switched(t)
	until(t, "panic mode stays on", func() bool { return !b.Snapshot().Panic && !dropped.Load() && !b.noted() })
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.commits != 2 || k.installed.Panic {
		t.Errorf("there are %d commits, the last with panic mode: %v", k.commits, k.installed.Panic)
	}
}

// Panic mode that is asked for behind a change that holds everybody up, and cannot be had beside it, does not come on any more when it is switched
// off meanwhile.
func TestPanicThatIsTakenBack(t *testing.T) {
	b, k, _, release := held(t)
	b.Daemon.opt.DropAll = func(on bool) error {
		if on {
			return errors.New("no memory for a table")
		}
		return nil
	}
	changed := b.begin(t, k)
	if err := b.SetPanic(t.Context(), true); !errors.Is(err, errLater) {
		t.Fatalf("the answer is %v", err)
	}
	if err := b.SetPanic(t.Context(), false); err != nil {
		t.Errorf("switching it off gives %v", err)
	}
	release()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	b.switched(t)
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.installed.Panic || b.Snapshot().Panic {
		t.Error("panic mode comes on")
	}
}

// The first rules cannot be put into the kernel, in panic mode of an earlier process. Its end opens the guard for what is there already, and takes
// the table of bridges away: until the end is whole another table drops everything. That stays where the end fails, or panic mode is switched on
// again meanwhile.
func TestPanicEndThatFailsMidwayDropsAll(t *testing.T) {
	broken := errors.New("it is broken")
	for name, fail := range map[string]func(b *bed, stuck *atomic.Bool) error{
		"the frames of bridges": func(*bed, *atomic.Bool) error { return broken },
		"the table": func(_ *bed, stuck *atomic.Bool) error {
			stuck.Store(true)
			return nil
		},
		"switched on again": func(b *bed, _ *atomic.Bool) error { return b.SetPanic(context.Background(), true) },
	} {
		b, _, dropped, _ := held(t)
		var stuck atomic.Bool
		drop := b.Daemon.opt.DropAll
		b.Daemon.opt.DropAll = func(on bool) error {
			if !on && stuck.Load() {
				return broken
			}
			return drop(on)
		}
		if err := b.SetPanic(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		b.opt = b.Daemon.opt
		k := &keptOut{fakeKernel: b.kernel}
		k.refuse = kernel.ErrBusy
		b.on(k, b.kernel)
		midway, opened := 0, false
		b.opt.PassFrames = func() error {
			midway++
			opened = !dropped.Load()
			return fail(b, &stuck)
		}
		b.again(t)
		err := b.SetPanic(t.Context(), false)
		b.switched(t)
		if midway != 1 || opened || !dropped.Load() || !b.Snapshot().Panic {
			t.Errorf("%s: the end, begun %d times, gives %v; something passes midway: %v, and at the end: %v", name, midway, err, opened, !dropped.Load())
		}
	}
}
