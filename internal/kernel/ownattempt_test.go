package kernel_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// reports are what a Kernel tells of other programs' changes.
type reports struct {
	mu   sync.Mutex
	list []kernel.Foreign
}

func (r *reports) add(f kernel.Foreign) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, f)
}

// all are the reports once one of them has a change with some text.
func (r *reports) all(t *testing.T, text string) []kernel.Foreign {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		list := append([]kernel.Foreign(nil), r.list...)
		r.mu.Unlock()
		for _, f := range list {
			if strings.Contains(strings.Join(f.Changes, "\n"), text) {
				return list
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no report says %q: %v", text, list)
		}
	}
}

// Another program has taken a table out and keeps it from being put back, so that panic mode cannot be committed: what the attempt has
// changed is taken back. The reports name the other program, and never our own, which has made the attempt and taken it back.
func TestFailedCommitIsNotAnotherProgramsChange(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	rules := letsIn(t, ir.IPTables, "")
	commit(t, k, &kernel.Desired{Rules: rules})
	var told reports
	k.(kernel.Watcher).Watch(told.add)
	run(t, ns, "", "nft", "delete table ip security; add table ip security; add chain ip security OUTPUT")
	told.all(t, "table security, chain INPUT was removed")
	for range 2 {
		if err := k.Commit(t.Context(), &kernel.Desired{Rules: rules, Panic: true}); err == nil {
			t.Fatal("panic mode is committed")
		}
	}
	run(t, ns, "", "nft", "delete table ip security")
	commit(t, k, &kernel.Desired{Rules: rules})
	run(t, ns, "", "nft", "delete table ip6 security")
	for _, f := range told.all(t, "ip6tables, table security, chain INPUT was removed") {
		for _, by := range f.By {
			if by.Name != "nft" {
				t.Errorf("a report names %v: %v", by, f.Changes)
			}
		}
		if changes := strings.Join(f.Changes, "\n"); strings.Contains(changes, "mangle") {
			t.Errorf("what was taken back is reported:\n%s", changes)
		}
	}
}
