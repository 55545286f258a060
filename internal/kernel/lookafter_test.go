package kernel

import (
	"strings"
	"sync"
	"testing"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/lab"
	"richwall/zones"
)

// What another program changes behind a commit is noticed at once, however long the commit has taken, of which what looks for such changes
// waits for the end. Here the lock is held for some seconds as a commit holds it; the bound is the liveness that docs/security.md promises,
// with a multiple of slack.
func TestLookingDoesNotRestForTheTimeOfACommit(t *testing.T) {
	const commitTime, bound = 3 * time.Second, 7 * time.Second
	if missing := lab.Missing("nft", "iptables", "ip6tables", "ipset"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		t.Run(string(backend), func(t *testing.T) {
			ns, err := lab.NewNamespace()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(ns.Close)
			opened, err := New(Options{Backend: backend, Enter: ns.Do})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { opened.Close() })
			lock, w, chain := heldBy(opened)
			cfg, problems := zones.Load(zones.Dirs{System: t.TempDir()})
			if cfg == nil {
				t.Fatal(problems)
			}
			rules, err := compile.Compile(cfg, backend)
			if err != nil {
				t.Fatal(err)
			}
			rules.Owner = false // others may change the table
			if err := opened.Commit(t.Context(), &Desired{Rules: rules}); err != nil {
				t.Fatal(err)
			}
			reports := make(chan Foreign, 10)
			opened.(Watcher).Watch(func(f Foreign) { reports <- f })
			lock.Lock()
			w.monitor.wakeUp()
			time.Sleep(commitTime)
			lock.Unlock()
			time.Sleep(200 * time.Millisecond) // it has looked, and found nothing
			if _, err := ns.Run(t.Context(), "", "nft", strings.Fields("flush chain "+chain)...); err != nil {
				t.Fatal(err)
			}
			select {
			case <-reports:
			case <-time.After(bound):
				t.Errorf("a flush of %s was not noticed within %v", chain, bound)
			}
		})
	}
}

// What a look waits for the kernel to tell of other programs' commits does not count as looking either.
func TestWaitingForTheKernelIsNoLooking(t *testing.T) {
	m := &monitor{advanced: make(chan struct{})}
	w := &watch{monitor: m}
	end := w.looking()
	if m.reached(1) {
		t.Fatal("nothing was heard, and all was")
	}
	end()
	if m.waitedFor() < patience || w.took >= patience {
		t.Errorf("it has waited %v and looked %v", m.waitedFor(), w.took)
	}
}

// heldBy is the lock of a Kernel, what it knows of other programs, and a chain of its own as nft names it.
func heldBy(k Kernel) (lock sync.Locker, w *watch, chain string) {
	if n, ok := k.(*nftables); ok {
		return &n.mu, &n.watch, "inet firewalld filter_INPUT"
	}
	i := k.(*iptablesKernel)
	return &i.mu, &i.watch, "ip filter INPUT"
}
