package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/testlog"
	"richwall/zones"
)

// watchedKernel tells of other programs when a test says so.
type watchedKernel struct {
	fakeKernel
	told    func(kernel.Foreign)
	allowed []int // the processes that were
}

func (k *watchedKernel) Watch(f func(kernel.Foreign)) { k.told = f }
func (k *watchedKernel) Allow(f func(started func(pid int)) error) error {
	return f(func(pid int) { k.allowed = append(k.allowed, pid) })
}

var flushed = kernel.Foreign{By: []kernel.Writer{{PID: 7, Name: "nft"}}, Changes: []string{"chain filter_INPUT: 6 rules removed"}}

// startWatched starts a daemon with a richwall.conf, and returns its log.
func startWatched(t *testing.T, conf string) (*Daemon, *watchedKernel, *testlog.Log) {
	t.Helper()
	b := &bed{dir: t.TempDir()}
	b.write(t, map[string]string{"richwall.conf": conf})
	k, log := &watchedKernel{}, &testlog.Log{}
	d := New(Options{
		Dirs:   zones.Dirs{System: b.dir},
		Kernel: func(ir.Backend) (kernel.Kernel, error) { return k, nil },
		Passthrough: func(_ context.Context, _ string, _ []string, started func(pid int)) (string, error) {
			started(4711)
			return "", nil
		},
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop(context.Background()) })
	return d, k, log
}

// What another program has changed is put back, and the log says who it was and what it did.
func TestForeignChangeIsRepaired(t *testing.T) {
	_, k, log := startWatched(t, "")
	before := k.commits
	k.told(flushed)
	if k.commits != before+1 {
		t.Errorf("there were %d commits, want one", k.commits-before)
	}
	for _, want := range []string{"put back", "nft (pid 7)", "chain filter_INPUT: 6 rules removed"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}

// OnForeignChange=warn leaves what another program has changed, and says so.
func TestForeignChangeIsOnlyReported(t *testing.T) {
	_, k, log := startWatched(t, "OnForeignChange=warn\n")
	before := k.commits
	k.told(flushed)
	if k.commits != before || !strings.Contains(log.String(), "nft (pid 7)") {
		t.Errorf("there were %d commits, want none, and the log\n%s", k.commits-before, log)
	}
}

// What a refused change has left in the kernel is taken back, whatever other programs' changes may do, and is not called one of those.
// As long as that fails it is tried again, also when another program's change is told of meanwhile.
func TestUnfinishedChange(t *testing.T) {
	d, k, log := startWatched(t, "OnForeignChange=warn\n")
	before := k.commits
	k.refuse = errors.New("the tables are locked")
	k.told(kernel.Foreign{Changes: []string{"table filter of iptables"}, Unfinished: true})
	k.told(flushed)
	d.mu.Lock()
	if d.repairs.pending == nil || !d.repairs.pending.Unfinished || d.repairs.timer == nil {
		t.Error("it is not tried again")
	}
	k.refuse = nil
	d.repairs.timer.Stop()
	d.repairs.timer = nil
	d.attend()
	d.mu.Unlock()
	if got := log.String(); k.commits != before+1 || !strings.Contains(got, "table filter of iptables") || !strings.Contains(got, "was taken back") || strings.Contains(got, "another program") {
		t.Errorf("there were %d commits, want one, and the log\n%s", k.commits-before, got)
	}
}

// A repair that fails is said, and tried again later; a change that has come by then is attended to with it.
func TestRepairThatFails(t *testing.T) {
	d, k, log := startWatched(t, "")
	k.refuse = errors.New("no memory")
	k.told(flushed)
	k.told(flushed)
	if got := log.String(); strings.Count(got, "cannot be put back") != 1 || !strings.Contains(got, "no memory") {
		t.Errorf("the log is\n%s", got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.repairs.pending == nil || d.repairs.timer == nil {
		t.Error("it is not tried again")
	}
}

// While rules cannot be put back, be it that another program has changed them or that a refused change has left something, the state says
// so, and it is tried again. What is to become of the files can be changed meanwhile, also where they could not be read at the start.
// Whichever commit succeeds first ends that.
func TestStateSaysThatRulesCannotBePutBack(t *testing.T) {
	for _, told := range []kernel.Foreign{flushed, {Changes: []string{"table filter of iptables"}, Unfinished: true}} {
		for end, commit := range map[string]func(b *bed) error{
			"putting back": func(b *bed) error { b.attendPending(); return nil },
			"change": func(b *bed) error {
				return b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp"))})
			},
			"reload": func(b *bed) error { return b.Reload(t.Context()) },
			"panic mode": func(b *bed) error {
				return errors.Join(b.SetPanic(t.Context(), true), b.SetPanic(t.Context(), false))
			},
		} {
			b := startKept(t, nil)
			b.Daemon.opt.DropAll = func(bool) error { return nil }
			b.readable = false
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.kernel.refuse = errors.New("the tables are locked")
			b.foreign(b.kernel, told)
			b.expect(t, Failed, notPutBack, nil, nil)
			b.mu.Lock()
			if b.repairs.pending == nil || b.repairs.timer == nil {
				t.Errorf("%s: it is not tried again", end)
			}
			b.mu.Unlock()
			err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("8081", "tcp"))})
			if err := errors.Join(err, b.RuntimeToPermanent(t.Context())); err != nil {
				t.Errorf("%s: the files cannot be changed: %v", end, err)
			}
			b.kernel.refuse = nil
			if err := commit(b); err != nil {
				t.Errorf("%s: %v", end, err)
			}
			b.expect(t, Running, "", nil, nil)
			b.mu.Lock()
			if b.repairs.pending != nil || b.repairs.timer != nil {
				t.Errorf("%s: it is tried again although it is done", end)
			}
			b.mu.Unlock()
		}
	}
}

// Two programs that want different rules do not keep the machine busy: some repairs are made at once, then one every ten
// seconds, and at once again after a quiet time.
func TestRepairsAreLimited(t *testing.T) {
	var r repairs
	begin := time.Unix(1000, 0)
	at := begin
	for range promptRepairs {
		if wait := r.wait(at); wait != 0 {
			t.Fatalf("after %s the wait is %s, want none", at.Sub(begin), wait)
		}
		r.note(at)
		at = at.Add(time.Millisecond)
	}
	for range 20 {
		wait := r.wait(at)
		if wait < repairInterval-time.Second || wait > repairInterval {
			t.Fatalf("after %s the wait is %s, want about %s", at.Sub(begin), wait, repairInterval)
		}
		at = at.Add(wait)
		r.note(at)
		at = at.Add(time.Millisecond)
	}
	if wait := r.wait(at.Add(promptRepairs * repairInterval)); wait != 0 {
		t.Errorf("after a quiet time the wait is %s", wait)
	}
}

// Changes that wait for their turn, or come after the end, change nothing.
func TestManyForeignChanges(t *testing.T) {
	d, k, log := startWatched(t, "")
	before := k.commits
	for range 50 {
		k.told(flushed)
	}
	if k.commits != before+promptRepairs || strings.Count(log.String(), "again and again") != 1 {
		t.Errorf("there were %d commits, want %d, and the log\n%s", k.commits-before, promptRepairs, log)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := k.commits
	k.told(flushed)
	if k.commits != after {
		t.Error("the rules were put back after the end")
	}
}

// What the user does by a passthrough is not another program's change.
func TestPassthroughIsAllowed(t *testing.T) {
	d, k, _ := startWatched(t, "")
	if _, err := d.Passthrough(t.Context(), "ipv4", []string{"-F", "INPUT_direct"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(k.allowed, []int{4711}) {
		t.Errorf("the kernel was told of the processes %v", k.allowed)
	}
}
