package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// machine is a kernel in which two back ends have their rules beside each other, as the real one has them. Back ends that are busy refuse.
type machine struct {
	rules map[ir.Backend]*machineKernel // whose rules are there
	busy  map[ir.Backend]error
	open  map[*machineKernel]bool
	stuck error // what RemoveOther answers; nil for that it works

	breaks map[ir.Backend]bool     // back ends whose commits fail, and leave what cannot be taken back
	half   map[*machineKernel]bool // what has left something
	done   []string                // the commits that have succeeded, in order
	opened bool                    // a guard has gone while no other one stood
}

type machineKernel struct {
	fakeKernel
	*machine
	backend ir.Backend
	guard   bool // it keeps out what is new
}

func newMachine() *machine {
	return &machine{rules: map[ir.Backend]*machineKernel{}, busy: map[ir.Backend]error{}, open: map[*machineKernel]bool{},
		breaks: map[ir.Backend]bool{}, half: map[*machineKernel]bool{}}
}

func (m *machine) kernel(backend ir.Backend) (kernel.Kernel, error) {
	k := &machineKernel{machine: m, backend: backend}
	m.open[k] = true
	return k, nil
}

func (k *machineKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	if !k.open[k] {
		return errors.New("it was closed")
	}
	if k.breaks[k.backend] {
		k.half[k] = true
		return errors.New("it fails halfway")
	}
	delete(k.half, k)
	k.refuse = k.busy[k.backend]
	if err := k.fakeKernel.Commit(ctx, next); err != nil {
		return err
	}
	k.guard = next.Guarded
	k.done = append(k.done, fmt.Sprintf("commit of %s%s", k.backend, map[bool]string{true: ", guarded"}[k.guard]))
	k.machine.rules[k.backend] = k
	if next.Rules == nil {
		delete(k.machine.rules, k.backend)
	}
	return nil
}

func (k *machineKernel) Unfinished() bool { return k.half[k] }
func (k *machineKernel) Guarded() bool    { return k.guard }

// YieldGuard notes whether the machine is open behind it.
func (k *machineKernel) YieldGuard() error {
	for other := range k.open {
		if other != k && other.guard {
			return nil
		}
	}
	k.opened = true
	return nil
}

func (k *machineKernel) KeepOut(context.Context, bool) error {
	k.guard = true
	return nil
}

func (k *machineKernel) KeepOutAlone(ctx context.Context, panicked bool) error {
	return k.KeepOut(ctx, panicked)
}

func (k *machineKernel) Close() error {
	delete(k.open, k)
	return nil
}

// removeOther takes out the rules of all back ends but one.
func (m *machine) removeOther(_ context.Context, inForce kernel.Kernel) error {
	if m.stuck != nil {
		return m.stuck
	}
	for backend := range m.rules {
		if backend != inForce.(*machineKernel).backend {
			delete(m.rules, backend)
		}
	}
	return nil
}

// check says what is not as it must be behind any step: the rules that are said to be in force are in the kernel, the back end that is said
// to have them has them, no other Kernel is open, and nothing waits that nobody waits for.
func (m *machine) check(d *Daemon) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.kernel.(*machineKernel)
	switch waits := d.repairs.waiting != ""; {
	case len(m.open) != 1 || !m.open[k]:
		return fmt.Errorf("%d Kernels are open", len(m.open))
	case k.backend != d.backend || k.backend != ir.Backend(d.runtime.Conf.FirewallBackend):
		return fmt.Errorf("the Kernel is one of %s, and %s is in use", k.backend, d.backend)
	case waits && (d.repairs.pending == nil || d.repairs.timer == nil):
		return errors.New("the rules are not tried again")
	case waits:
		return nil
	case m.rules[d.backend] != k || k.installed.Rules == nil:
		return fmt.Errorf("the rules of %s are not in the kernel", d.backend)
	case m.stuck == nil && len(m.rules) != 1 && d.alone:
		return errors.New("the rules of another back end are there")
	case k.guard:
		return errors.New("the guard stands")
	case d.repairs.pending != nil || d.repairs.timer != nil || d.repairs.settling != nil:
		return errors.New("something is to be put back")
	}
	return nil
}

// startMachine starts a daemon with a back end on a machine again.
func startMachine(t *testing.T, m *machine, backend ir.Backend) *bed {
	t.Helper()
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	b.choose(t, backend)
	b.opt.Kernel, b.opt.RemoveOther = m.kernel, m.removeOther
	b.again(t)
	return b
}

func (b *bed) choose(t *testing.T, backend ir.Backend) {
	t.Helper()
	b.write(t, map[string]string{"firewalld.conf": "FirewallBackend=" + string(backend) + "\n"})
}

// A start finds its back end busy, and a reload changes to the other one: what is in force then are the rules of that one, though the
// daemon has only then learned that it need not wait any more.
func TestOtherBackEndWhileWaiting(t *testing.T) {
	for _, backend := range []ir.Backend{ir.IPTables, ir.NFTables} {
		m := newMachine()
		m.busy[backend] = kernel.ErrBusy
		b := startMachine(t, m, backend)
		b.expect(t, Failed, notInKernel, nil, nil)
		other := ir.NFTables
		if backend == ir.NFTables {
			other = ir.IPTables
		}
		b.choose(t, other)
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := b.Snapshot(); s.State != Running || s.Backend != other {
			t.Errorf("the state is %s with %s", s.State, s.Backend)
		}
		if err := m.check(b.Daemon); err != nil {
			t.Error(err)
		}
	}
}

// A start that is made again with another back end, which is busy too, closes the Kernel that has waited until then.
func TestWaitingKernelIsClosed(t *testing.T) {
	m := newMachine()
	m.busy[ir.IPTables], m.busy[ir.NFTables] = kernel.ErrBusy, kernel.ErrBusy
	b := startMachine(t, m, ir.IPTables)
	b.choose(t, ir.NFTables)
	b.startAgain()
	if err := m.check(b.Daemon); err != nil || b.Snapshot().Backend != ir.NFTables {
		t.Errorf("%v; the back end is %s", err, b.Snapshot().Backend)
	}
}

// A daemon is stopped while its first rules still wait for the kernel, where the rules of an earlier process are: those of its own back end and
// those of another one go, unless CleanupOnExit=no has them stay. What cannot be taken out is an error.
func TestStopWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		conf  string
		stuck error
		stay  int
	}{{"", nil, 0}, {"CleanupOnExit=no\n", nil, 2}, {"", errors.New("the lock is held"), 1}} {
		m := newMachine()
		b := startMachine(t, m, ir.NFTables)
		b.write(t, map[string]string{"firewalld.conf": "FirewallBackend=nftables\n" + c.conf})
		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.busy[ir.NFTables] = kernel.ErrBusy
		b.Daemon = New(b.opt)
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.expect(t, Failed, notInKernel, nil, nil)
		m.rules[ir.IPTables], m.rules[ir.NFTables] = &machineKernel{machine: m}, &machineKernel{machine: m}
		delete(m.busy, ir.NFTables)
		m.stuck = c.stuck
		err := b.Stop(t.Context())
		if len(m.rules) != c.stay || !errors.Is(err, c.stuck) {
			t.Errorf("%q, %v: rules of %d back ends stay, want %d; the error is %v", c.conf, c.stuck, len(m.rules), c.stay, err)
		}
	}
}

// A reload that changes the back end fails halfway, and what it has done cannot be taken back. The rules of the former back end are in force, the
// state says that more is in the kernel, and the other back end stays open, so that its guard stands. Taking back is tried again: by itself,
// before another reload, and at a stop. Nothing else that succeeds meanwhile has the state say that all is well.
func TestOtherBackEndThatFailsHalfway(t *testing.T) {
	for name, try := range map[string]func(b *bed) error{
		"by itself": func(b *bed) error { b.settleNow(); return nil },
		"a reload":  func(b *bed) error { return b.Reload(t.Context()) },
		"a stop":    func(b *bed) error { return b.Stop(t.Context()) },
	} {
		for _, backend := range []ir.Backend{ir.IPTables, ir.NFTables} {
			m := newMachine()
			b := startMachine(t, m, backend)
			other := ir.NFTables
			if backend == ir.NFTables {
				other = ir.IPTables
			}
			b.choose(t, other)
			m.breaks[other] = true
			for _, step := range []func() error{
				func() error { return nil },
				func() error { b.settleNow(); return nil },
				func() error {
					b.foreign(b.Daemon.kernel, flushed)
					if log := b.log.String(); !strings.Contains(log, "they were put back") || !strings.Contains(log, "nft (pid 7)") {
						t.Errorf("what another program has changed is not put back; the log is\n%s", log)
					}
					return nil
				},
				func() error {
					return b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("99", "tcp"))})
				},
			} {
				if err := b.Reload(t.Context()); err == nil {
					t.Fatalf("%s: a reload succeeds", name)
				}
				if err := step(); err != nil {
					t.Fatal(err)
				}
				b.expect(t, Failed, notTakenBack, nil, nil)
				b.mu.Lock()
				waits, guard := b.repairs.settling != nil, b.Daemon.kernel.(*machineKernel).guard
				b.mu.Unlock()
				if !guard || m.opened {
					t.Errorf("%s: the guard of %s stands: %v; the machine was open: %v", name, backend, guard, m.opened)
				}
				if len(m.half) != 1 || len(m.open) != 2 || b.Snapshot().Backend != backend || !waits {
					t.Errorf("%s: %d back ends have left something, %d are open, %s is in use, it is tried again: %v", name, len(m.half), len(m.open), b.Snapshot().Backend, waits)
				}
			}
			m.breaks[other], m.done = false, nil
			if err := try(b); err != nil {
				t.Fatal(err)
			}
			if first := fmt.Sprintf("commit of %s, guarded", backend); name == "by itself" && m.done[0] != first {
				t.Errorf("the order is %q, want %s to come first", m.done, first)
			}
			if name == "a stop" {
				if len(m.half)+len(m.open)+len(m.rules) > 0 {
					t.Errorf("%s: %d back ends have left something, %d are open, %d have rules", name, len(m.half), len(m.open), len(m.rules))
				}
				continue
			}
			b.expect(t, Running, "", nil, nil)
			if err := m.check(b.Daemon); err != nil || len(m.half) > 0 {
				t.Errorf("%s: %v; %d back ends have left something", name, err, len(m.half))
			}
		}
	}
}

// When the first rules have come late by a reload, what another program changes next is put back at once.
func TestPromptRepairAfterWaiting(t *testing.T) {
	m := newMachine()
	m.busy[ir.NFTables] = kernel.ErrBusy
	b := startMachine(t, m, ir.NFTables)
	delete(m.busy, ir.NFTables)
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := b.Daemon.kernel.(*machineKernel)
	before := k.commits
	b.foreign(k, flushed)
	if k.commits != before+1 {
		t.Error("the rules are not put back at once")
	}
}

// Whatever is done in whatever order, while back ends are busy or not: the rules that are said to be in force are in the kernel.
func TestRulesInForceAreThere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	backends := []ir.Backend{ir.IPTables, ir.NFTables}
	for range 12 {
		m, said := newMachine(), ""
		shake := func() {
			m.busy, m.stuck = map[ir.Backend]error{}, nil
			for _, backend := range backends {
				if random.IntN(2) == 0 {
					m.busy[backend] = kernel.ErrBusy
				}
			}
			if random.IntN(3) == 0 {
				m.stuck = errors.New("the lock is held")
			}
			said += fmt.Sprintf("; busy %v, stuck %v", m.busy, m.stuck != nil)
		}
		shake()
		b := startMachine(t, m, backends[random.IntN(2)])
		b.opt.DropAll = func(bool) error { return nil }
		steps := []struct {
			name string
			do   func()
		}{
			{"shake", shake},
			{"nftables", func() { b.choose(t, ir.NFTables) }},
			{"iptables", func() { b.choose(t, ir.IPTables) }},
			{"reload", func() { b.Reload(t.Context()) }},
			{"reload", func() { b.Reload(t.Context()) }},
			{"attend", b.attendPending},
			{"start again", b.startAgain},
			{"panic on", func() { b.SetPanic(t.Context(), true) }},
			{"panic off", func() { b.SetPanic(t.Context(), false) }},
			{"add", func() {
				b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp"))})
			}},
			{"remove", func() {
				b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, public, port("8080", "tcp"))})
			}},
		}
		for range 30 {
			step := steps[random.IntN(len(steps))]
			said += "; " + step.name
			step.do()
			if err := m.check(b.Daemon); err != nil {
				t.Fatalf("seed %d: %v, after%s", seed, err, said)
			}
		}
		m.busy, m.stuck = nil, nil
		b.attendPending()
	}
}

// refusesFirst refuses some commits that take all rules out, one after the other.
type refusesFirst struct {
	fakeKernel
	reasons []error
}

func (k *refusesFirst) Commit(ctx context.Context, next *kernel.Desired) error {
	if next.Rules == nil && len(k.reasons) > 0 {
		reason := k.reasons[0]
		k.reasons = k.reasons[1:]
		return reason
	}
	return k.fakeKernel.Commit(ctx, next)
}

// A stop that fails because another program takes a table away at the same time looks again, and all goes. What fails each time is an error,
// and so is what can only stay, which is not tried again.
func TestStopLooksAgain(t *testing.T) {
	vanished, stays := errors.New("no such chain"), &kernel.StayError{}
	for _, c := range []struct {
		reasons []error
		left    int
		fails   bool
	}{
		{[]error{vanished}, 0, false},
		{[]error{vanished, vanished}, 0, false},
		{[]error{vanished, vanished, vanished, vanished}, 1, true},
		{[]error{stays, vanished}, 1, true},
	} {
		b := start(t, nil)
		k := &refusesFirst{reasons: c.reasons}
		b.on(k, &k.fakeKernel)
		b.Daemon = New(b.opt)
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Stop(t.Context()); (err != nil) != c.fails || len(k.reasons) != c.left {
			t.Errorf("after %v a stop gives %v, and %d refusals are left", c.reasons, err, len(k.reasons))
		}
	}
}
