package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// When a start is broken off the guard goes, whether no Kernel was opened yet, or one was and has committed nothing. After
// that this start commits nothing more; another one may.
func TestLowerGuard(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, use := range []string{"no Kernel", "a Kernel", "a Kernel that failed", "a Kernel that was closed"} {
			t.Run(string(backend)+", "+use, func(t *testing.T) {
				l := newLab(t)
				ns := l.Firewall()
				options := kernel.Options{Backend: backend, Enter: ns.Do}
				guard := base(t, options, false)
				options.Guard = guard
				var late []kernel.Kernel
				if use != "no Kernel" {
					k := start(t, options)
					late = append(late, k)
					if strings.HasSuffix(use, "failed") {
						refused(t, k, backend)
					} else if strings.HasSuffix(use, "closed") {
						k.Close()
					}
				}
				for range 2 {
					if err := guard.Lower(); err != nil {
						t.Fatal(err)
					}
				}
				if guardStands(t, ns) {
					t.Fatal("the guard stands")
				}
				if k, err := kernel.New(options); err == nil {
					defer k.Close()
					late = append(late, k)
				}
				desired := &kernel.Desired{Rules: letsIn(t, backend, "")}
				for _, k := range late {
					if k.Commit(t.Context(), desired) == nil {
						t.Error("a start that was broken off commits")
					}
				}
				if got := arrive(t, l, 9); !got["in"] || !got["through"] || guardStands(t, ns) {
					t.Errorf("packets come %v", got)
				}
				commit(t, open(t, ns, backend), desired)
				if got := arrive(t, l, 80); !got["in"] || got["through"] {
					t.Errorf("with the rules of the next start packets come %v", got)
				}
			})
		}
	}
}

// A commit that is under way when the start is broken off has ended when the guard is gone, and leaves no guard behind: the
// rules are there, or they are not and it has failed.
func TestLowerGuardDuringACommit(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	rules := letsIn(t, ir.NFTables, "")
	for range 20 {
		ns := namespace(t)
		options := kernel.Options{Backend: ir.NFTables, Enter: ns.Do}
		options.Guard = base(t, options, false)
		k := start(t, options)
		var committed error
		var group sync.WaitGroup
		group.Go(func() { committed = k.Commit(t.Context(), &kernel.Desired{Rules: rules}) })
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond)
		if err := options.Guard.Lower(); err != nil {
			t.Fatal(err)
		}
		before := run(t, ns, "", "nft", "list", "tables")
		group.Wait()
		after := run(t, ns, "", "nft", "list", "tables")
		if before != after || strings.Contains(after, "guard") || committed == nil && after == "" {
			t.Errorf("the commit ends with %v, and the tables were %q, and are %q", committed, before, after)
		}
		k.Close()
	}
}

// The tools of iptables may be at work when the start is broken off. Their rules are there then, and nothing is said of a guard that
// has not gone: it has.
func TestLowerGuardDuringACommitOfIPTables(t *testing.T) {
	ns := namespace(t)
	useVariant(t, "nft")
	dir := t.TempDir()
	afterRestore(t, "filter", 1, fmt.Sprintf("touch %[1]s/begun; until [ -e %[1]s/lowered ]; do sleep 0.01; done", dir))
	logger, log := kernel.Logged()
	options := kernel.Options{Backend: ir.IPTables, Enter: ns.Do, Log: logger}
	options.Guard = base(t, options, false)
	k := start(t, options)
	k.(kernel.Watcher).Watch(func(f kernel.Foreign) { t.Errorf("%v is reported", f) })
	rules := letsIn(t, ir.IPTables, "")
	var group sync.WaitGroup
	group.Go(func() { _ = k.Commit(t.Context(), &kernel.Desired{Rules: rules}) }) // what it says matters to nobody any more
	eventually(t, "the commit does not begin", func() bool { _, err := os.Stat(filepath.Join(dir, "begun")); return err == nil })
	if err := options.Guard.Lower(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "lowered"), "")
	group.Wait()
	time.Sleep(300 * time.Millisecond) // another look is taken by then
	if err := k.Close(); err != nil {
		t.Log(err) // the socket is closed
	}
	if guardStands(t, ns) || log.String() != "" {
		t.Errorf("the guard stands: %v; the log says\n%s", guardStands(t, ns), log)
	}
}

// The end of a start that has committed, or that had nothing to guard against, takes nothing away.
func TestLowerGuardThatIsGone(t *testing.T) {
	ns := namespace(t)
	options := kernel.Options{Backend: ir.NFTables, Enter: ns.Do}
	options.Guard = base(t, options, false)
	k := start(t, options)
	commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
	tables := run(t, ns, "", "nft", "list", "tables")
	for range 2 {
		if err := options.Guard.Lower(); err != nil || run(t, ns, "", "nft", "list", "tables") != tables {
			t.Errorf("with %v the tables are %q", err, run(t, ns, "", "nft", "list", "tables"))
		}
		k.Close()
		options.Guard = base(t, options, false) // the rules of an earlier process guard
	}
}
