package firewalldcmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/bus"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/zones"
)

// stopWithin makes the time for a stop another one, until the test ends.
func stopWithin(t *testing.T, limit time.Duration) {
	was := StopTime
	t.Cleanup(func() { StopTime = was })
	StopTime = limit
}

// What must end before the program does is waited for as long as the kernel is busy, and else for a bounded time. What has come of it is the
// error, also where that is a fault.
func TestWhatIsWaitedForAtTheEnd(t *testing.T) {
	stopWithin(t, 20*time.Millisecond)
	idle := func() bool { return false }
	broken := errors.New("it is broken")
	for want, f := range map[string]func() error{
		"":                                 func() error { return nil },
		"it is broken":                     func() error { return broken },
		"internal error in a step: a flaw": func() error { panic("a flaw") },
	} {
		done := begin("a step", f)
		err := <-done
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("begin hands over %v, want %q", err, want)
		}
	}
	if err := awaitEnd(begin("a step", func() error { return broken }), idle); err != broken {
		t.Errorf("the error is %v", err)
	}
	if err := awaitEnd(make(chan error), idle); err != errTooLong {
		t.Errorf("of what never ends, the error is %v", err)
	}
	done, asked := make(chan error, 1), 0
	busy := func() bool { // for five times as long as a stop may take, at least
		if asked++; asked == 100 {
			done <- broken
		}
		return asked <= 100
	}
	if err := awaitEnd(done, busy); err != broken {
		t.Errorf("while the kernel is busy, the error is %v", err)
	}
}

// A start that was broken off ends by lowering the guard. Only then rules go: those for bridges and the others beside each other, so that one
// that cannot be taken out keeps no other in. The exit status is that of a failure unless all has gone.
func TestStepsOfAStop(t *testing.T) {
	broken := errors.New("it is broken")
	for _, c := range []struct {
		lower, bridges, rules error
		status                int
	}{
		{nil, nil, nil, 0},
		{broken, nil, nil, statusFailed},
		{nil, broken, nil, statusFailed},
		{nil, nil, broken, statusFailed},
		{nil, errTooLong, nil, statusFailed},
		{nil, nil, errTooLong, statusFailed},
	} {
		stopWithin(t, time.Hour)
		if c.bridges == errTooLong || c.rules == errTooLong {
			stopWithin(t, 20*time.Millisecond)
		}
		var lowered, begun atomic.Int32
		both := make(chan struct{})
		step := func(comes error) func(context.Context) error {
			return func(context.Context) error {
				if lowered.Load() != 1 {
					t.Error("rules go before the guard does")
				}
				if begun.Add(1) == 2 {
					close(both)
				}
				<-both // each waits for the other to have begun
				if comes == errTooLong {
					<-t.Context().Done()
				}
				return comes
			}
		}
		status, err := takeOut(func() error { lowered.Add(1); return c.lower }, step(c.bridges), step(c.rules))
		want := errors.Join(c.lower, c.bridges, c.rules)
		if status != c.status || (err == nil) != (want == nil) || want != nil && !strings.HasSuffix(err.Error(), want.Error()) {
			t.Errorf("%v: status %d, %v", c, status, err)
		}
		if n := begun.Load(); (n == 0) != (c.lower != nil) || n == 1 {
			t.Errorf("%v: %d steps have begun", c, n)
		}
	}
}

// stopping is a program whose start has not ended, over a folder with files.
func stopping(t *testing.T, files map[string]string, k kernel.Kernel) *program {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	return &program{
		options: options{system: dir}, log: log, bus: &bus.Server{}, reloads: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		daemon: daemon.New(daemon.Options{
			Dirs: zones.Dirs{System: dir}, Log: log, DropAll: func(bool) error { return nil },
			Kernel: func(ir.Backend) (kernel.Kernel, error) { return k, nil },
		}),
	}
}

// lowered tells whether a guard was lowered: it cannot stand again then.
func lowered(g *kernel.Guard) bool {
	err := g.KeepOut(context.Background(), false)
	return err != nil && strings.Contains(err.Error(), "broken off")
}

// A start that is broken off in panic mode, or with CleanupOnExit=no, or whose firewalld.conf cannot be read, leaves the guard where it is: the
// exit status is that of a stop.
func TestStopThatLeavesTheGuard(t *testing.T) {
	for name, c := range map[string]struct {
		conf  string
		panic bool
	}{
		"panic mode":       {"CleanupOnExit=yes\n", true},
		"CleanupOnExit=no": {"CleanupOnExit=no\n", false},
	} {
		p, guard := stopping(t, map[string]string{"firewalld.conf": c.conf}, nil), &kernel.Guard{}
		if c.panic {
			if err := p.daemon.SetPanic(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		if status, err := p.stopStarting(guard); status != 0 || err != nil || lowered(guard) {
			t.Errorf("%s: status %d, %v; the guard is lowered: %v", name, status, err, lowered(guard))
		}
	}
	p, guard := stopping(t, nil, nil), &kernel.Guard{}
	p.system = filepath.Join(p.system, "gone")
	if status, err := p.stopStarting(guard); status != 0 || err != nil || lowered(guard) {
		t.Errorf("a folder that is gone: status %d, %v; the guard is lowered: %v", status, err, lowered(guard))
	}
}

// endless is a kernel whose commit ends with its context.
type endless struct {
	kernel.Kernel
	begun, ended atomic.Bool
	signal       func()
}

func (k *endless) Commit(ctx context.Context, _ *kernel.Desired) error {
	if !k.begun.Swap(true) {
		k.signal()
	}
	<-ctx.Done()
	k.ended.Store(true)
	return ctx.Err()
}

func (k *endless) Close() error { return nil }

// SIGTERM breaks a start off, which has ended before anything else is done. SIGHUP does not: it asks for a reload behind the start.
func TestSignalsDuringAStart(t *testing.T) {
	signals := make(chan os.Signal, 2)
	k := &endless{signal: func() { signals <- syscall.SIGHUP; signals <- syscall.SIGTERM }}
	p := stopping(t, map[string]string{"firewalld.conf": "CleanupOnExit=no\n"}, k)
	end, err := p.start(signals)
	if err != nil || end == nil || !k.ended.Load() {
		t.Fatalf("the start gives %v, and a way to end: %v; its commit has ended: %v", err, end != nil, k.ended.Load())
	}
	if len(p.reloads) != 1 {
		t.Error("no reload was asked for")
	}
	guard := &kernel.Guard{}
	if status, err := end(guard); status != 0 || err != nil || lowered(guard) {
		t.Errorf("status %d, %v; the guard is lowered: %v", status, err, lowered(guard))
	}
	if s := p.daemon.Snapshot(); s.Runtime != nil {
		t.Error("a configuration is in force")
	}
}
