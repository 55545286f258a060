package bus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
)

// halfway is a Kernel whose commits fail, and leave something that cannot be taken back.
type halfway struct{ *kernel.Memory }

func (halfway) Commit(context.Context, *kernel.Desired) error { return errors.New("no memory") }
func (halfway) Unfinished() bool                              { return true }
func (halfway) YieldGuard() error                             { return nil }

// A reload that changes the back end fails midway. Its client is not told that nothing has changed, but that nothing new is let in, and where to
// ask whether that is over.
func TestHintOfAReloadThatFailsMidway(t *testing.T) {
	b := &bed{T: t, address: startBus(t, busConfig), dir: t.TempDir()}
	b.tune = func(o *daemon.Options) {
		first := o.Kernel
		o.Kernel = func(backend ir.Backend) (kernel.Kernel, error) {
			if backend == ir.IPTables {
				return halfway{kernel.NewMemory()}, nil
			}
			return first(backend)
		}
	}
	b.start(nil)
	if err := os.WriteFile(filepath.Join(b.dir, "firewalld.conf"), []byte("FirewallBackend=iptables\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.call("", "reload").Err; err == nil || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("the reload gives %v", err)
	}
	var hints []string
	if err := b.call("", "richwall.getHints").Store(&hints); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(hints, "\n")
	if strings.Contains(said, "nothing has changed") || !strings.Contains(said, "nothing new is let in until it is") {
		t.Errorf("the hints are\n%s", said)
	}
	if s := b.daemon.Snapshot(); s.State != daemon.Failed {
		t.Errorf("the state is %s", s.State)
	}
}
