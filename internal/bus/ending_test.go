package bus

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
)

// patientKernel commits, once it is told to, only when the context ends.
type patientKernel struct {
	kernel.Kernel
	waits atomic.Bool
	begun chan struct{}
}

func (k *patientKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	if k.waits.Load() {
		k.begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	return k.Kernel.Commit(ctx, next)
}

// The daemon is told to end while it carries something out. Whoever has asked for that is told so, with the code of a firewall that does not
// run.
func TestCallsThatTheEndCutsOff(t *testing.T) {
	k := &patientKernel{Kernel: kernel.NewMemory(), begun: make(chan struct{})}
	tune := func(o *daemon.Options) {
		o.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
		o.Passthrough = func(ctx context.Context, _ string, _ []string, _ func(int)) (string, error) {
			k.begun <- struct{}{}
			<-ctx.Done()
			return "", ctx.Err()
		}
	}
	for name, args := range map[string][]any{
		"reload":             nil,
		"zone.addPort":       {"", "8080", "tcp", int32(0)},
		"direct.passthrough": {"ipv4", []string{"-L"}},
	} {
		k.waits.Store(false)
		b := &bed{T: t, address: startBus(t, busConfig), dir: t.TempDir(), tune: tune}
		b.start(nil)
		k.waits.Store(true)
		if name == "reload" { // of the same files nothing would be committed
			if err := os.WriteFile(filepath.Join(b.dir, "firewalld.conf"), []byte("LogDenied=all\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		call := b.client.Object(base, root).Go(base+"."+name, 0, nil, args...)
		<-k.begun
		b.server.cancel()
		expectEnding(t, name, (<-call.Done).Err)
		k.waits.Store(false)
		b.daemon.Stop(t.Context())
	}
}

// The same of a call that waits for the end of a start.
func TestCallsThatWaitForAStart(t *testing.T) {
	address := startBus(t, busConfig)
	server, err := Connect(address, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	call := connect(t, address).Object(base, root).Go(base+".getDefaultZone", 0, nil)
	server.cancel()
	expectEnding(t, "a call before the start", (<-call.Done).Err)
}

func expectEnding(t *testing.T, name string, err error) {
	t.Helper()
	answer, ok := err.(dbus.Error)
	if !ok || answer.Name != exception || !strings.HasPrefix(err.Error(), "NOT_RUNNING: the firewall is ending") {
		t.Errorf("%s is answered with %v", name, err)
	}
}
