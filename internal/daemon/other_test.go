package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/statedir"
)

// others is a bed whose RemoveOther notes what it is called for, and fails when it is told to.
type others struct {
	*bed
	calls   []ir.Backend
	fails   error
	dropped bool // by dropAll
}

func (o *others) dropAll(on bool) error {
	o.dropped = on
	return nil
}

// startBeside starts a daemon again, beside what an earlier process has left.
func startBeside(t *testing.T, fails error) *others {
	t.Helper()
	o := &others{bed: start(t, nil), fails: fails}
	var err error
	if o.opt.State, err = statedir.For(t.TempDir(), o.dir); err != nil {
		t.Fatal(err)
	}
	o.opt.RemoveOther = func(_ context.Context, inForce kernel.Kernel) error {
		k := inForce.(*fakeKernel)
		if k != o.kernel || k.rules() == "" {
			t.Error("the rules of the other back end go before those of this one are there")
		}
		o.calls = append(o.calls, k.installed.Rules.Backend)
		return o.fails
	}
	o.opt.DropAll = func(bool) error { return nil }
	o.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) {
		o.kernel = &fakeKernel{}
		return o.kernel, nil
	}
	o.again(t)
	return o
}

// What other back ends have in the kernel since an earlier process goes at the start, when the rules are there, and after a reload
// that changes the back end. Nothing is looked for after that.
func TestRulesOfOtherBackEndsGo(t *testing.T) {
	o := startBeside(t, nil)
	o.write(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n"})
	for range 2 {
		if err := o.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.calls) != 2 || o.calls[0] != ir.NFTables || o.calls[1] != ir.IPTables {
		t.Errorf("the rules of other back ends than %v are taken out", o.calls)
	}
}

// When they cannot be taken out the firewall runs, the log says so, and the next reload tries it again.
func TestRulesOfOtherBackEndsStay(t *testing.T) {
	o := startBeside(t, errors.New("the lock is held"))
	if o.Snapshot().State != Running || !strings.Contains(o.log.String(), "the lock is held") {
		t.Errorf("the state is %s, and the log says\n%s", o.Snapshot().State, o.log.String())
	}
	o.fails = nil
	for range 2 {
		if err := o.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.calls) != 2 {
		t.Errorf("it was tried %d times", len(o.calls))
	}
}

// Panic mode is off when that of other back ends is off, too: until then the answer is an error, and it can be switched off again.
func TestPanicOfOtherBackEnds(t *testing.T) {
	o := startBeside(t, errors.New("the lock is held"))
	if err := o.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := o.SetPanic(t.Context(), false); err == nil || !o.Snapshot().Panic {
		t.Errorf("switching it off gives %v; it is on: %v", err, o.Snapshot().Panic)
	}
	o.fails = nil
	if err := o.SetPanic(t.Context(), false); err != nil || o.Snapshot().Panic {
		t.Errorf("switching it off gives %v; it is on: %v", err, o.Snapshot().Panic)
	}
}

// Panic mode that cannot be switched off, whatever stands in the way, stays on: in the kernel, in memory and on disk, also after a reload.
// It can be switched off when nothing stands in the way any more.
func TestPanicThatCannotEnd(t *testing.T) {
	busy := errors.New("the lock is held")
	for name, fail := range map[string]func(o *others, err error){
		"other back ends": func(o *others, err error) { o.fails = err },
		"its own table": func(o *others, err error) {
			drop := o.dropAll
			o.Daemon.opt.DropAll = func(on bool) error {
				if !on && err != nil {
					return err
				}
				return drop(on)
			}
		},
		"the rules": func(o *others, err error) { o.kernel.refuse = err },
	} {
		for _, alone := range []bool{false, true} {
			o := startBeside(t, errors.New("not yet"))
			o.Daemon.opt.DropAll = o.dropAll
			if alone { // by its own table, because the kernel does not take the rules
				o.Daemon.opt.State.SetPanic(true)
				o.dropAll(true)
				o.emergency.Store(true)
			} else if err := o.SetPanic(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			o.fails = nil
			fail(o, busy)
			if err := o.SetPanic(t.Context(), false); !refusedFor(err, "panic mode stays on: ") || !strings.Contains(err.Error(), busy.Error()) {
				t.Errorf("%s: switching it off gives %v", name, err)
			}
			o.expectPanic(t, name, true)
			fail(o, nil)
			if err := o.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			o.expectPanic(t, name+", after a reload", true)
			if err := o.SetPanic(t.Context(), false); err != nil {
				t.Errorf("%s: switching it off again gives %v", name, err)
			}
			o.expectPanic(t, name+", at the end", false)
			if o.kernel.installed.Panic || o.dropped {
				t.Errorf("%s: at the end packets are dropped by the rules: %v, and by the table: %v", name, o.kernel.installed.Panic, o.dropped)
			}
		}
	}
}

// expectPanic looks whether panic mode is on in the kernel, in memory and on disk.
func (o *others) expectPanic(t *testing.T, when string, want bool) {
	t.Helper()
	noted, err := o.Daemon.opt.State.Panic()
	if inKernel := o.kernel.installed.Panic || o.dropped; inKernel != want || o.Snapshot().Panic != want || noted != want || err != nil {
		t.Errorf("%s: panic mode is on in the kernel: %v, in memory: %v, on disk: %v, %v; want %v", when, inKernel, o.Snapshot().Panic, noted, err, want)
	}
}
