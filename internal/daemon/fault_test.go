package daemon

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/internal/kernel"
	"richwall/zones"
)

// faulty is a kernel whose commits have a fault.
type faulty struct{ fakeKernel }

func (*faulty) Commit(context.Context, *kernel.Desired) error { panic("a fault of the test") }

// A fault in anything that runs by itself is in the log, and the daemon goes on: files can be read again, and the firewall changed.
func TestAFaultEndsNothing(t *testing.T) {
	b := start(t, map[string]string{"zones/work.xml": workZone})
	withFaults := func(set bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.Daemon.kernel = kernel.Kernel(b.kernel); set {
			b.Daemon.kernel = &faulty{}
		}
	}
	was := saveFiles
	defer func() { saveFiles = was }()
	wasLoad := loadRest
	defer func() { loadRest = wasLoad }()
	for name, fault := range map[string]func() error{
		"panic mode": func() error { return b.SetPanic(t.Context(), true) },
		"what has timed out": func() error {
			b.timed.entries["x"] = &timedEntry{there: func(*zones.Config) bool { return true }, remove: func(*zones.Config) (*zones.Config, error) { panic("a fault of the test") }}
			b.expire()
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.timed.timer == nil {
				t.Error("it is not tried again")
			}
			b.timed.stop()
			return nil
		},
		"putting rules back": func() error {
			b.mu.Lock()
			b.repairs.pending = &kernel.Foreign{}
			b.attendIn(0)
			b.mu.Unlock()
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				b.mu.Lock()
				again := b.repairs.pending != nil && b.repairs.timer != nil && strings.Contains(b.log.String(), "putting rules back")
				b.mu.Unlock()
				if again {
					if s := b.Snapshot(); s.State != Failed || !strings.Contains(strings.Join(s.Failures, ""), notPutBack) {
						t.Errorf("the state is %s: %v", s.State, s.Failures)
					}
					b.repairs.timer.Stop()
					return nil
				}
				if time.Now().After(deadline) {
					t.Fatal("it is not tried again")
				}
			}
		},
		"writing files": func() error {
			saveFiles = func(zones.Store, *zones.Config, *zones.Config, func() bool) (*zones.Config, zones.Written, error) {
				panic("a fault of the test")
			}
			return b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("81", "tcp"))})
		},
		"reading " + b.dir: func() error {
			loadRest = func(zones.Dirs, *zones.Config) *zones.Rest { panic("a fault of the test") }
			b.write(t, map[string]string{"firewalld.conf": "NoSuchKey=yes\n"})
			b.FilesTouched([]string{filepath.Join(b.dir, "firewalld.conf")})
			return b.Reload(t.Context())
		},
	} {
		b.log.Reset()
		withFaults(true)
		err := fault()
		withFaults(false)
		saveFiles, loadRest = was, wasLoad
		if log := b.log.String(); !strings.Contains(log, "internal error") || !strings.Contains(log, name) || !strings.Contains(log, "a fault of the test") {
			t.Errorf("%s: the log says\n%s", name, log)
		}
		if err != nil && !strings.Contains(err.Error(), "internal error in "+name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.Reload(t.Context()); err != nil {
			t.Errorf("after a fault in %s a reload gives %v", name, err)
		}
	}
}
