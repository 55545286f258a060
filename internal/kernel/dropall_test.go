package kernel_test

import (
	"errors"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// What drops every packet beside the rules stands until it is taken away: no commit of a Kernel ends it, be it the first
// one, one that ends panic mode, or one that stops the firewall. To put it up or take it away twice is no error.
func TestDropAllPanicOutlivesCommits(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		l := newLab(t)
		ns := l.Firewall()
		drop := func(on bool) {
			t.Helper()
			for range 2 {
				if err := kernel.DropAll(kernel.Options{Enter: ns.Do}, on); err != nil {
					t.Fatal(err)
				}
			}
		}
		is := func(want bool) {
			t.Helper()
			if on, err := kernel.Dropping(kernel.Options{Enter: ns.Do}); on != want || err != nil {
				t.Errorf("everything is dropped: %v, %v; want %v", on, err, want)
			}
		}
		is(false)
		drop(false)
		is(false)
		drop(true)
		is(true)
		rules := letsIn(t, backend, "")
		k := open(t, ns, backend)
		for i, next := range []*kernel.Desired{{Rules: rules}, {Rules: rules, Panic: true}, {Rules: rules}, {}, {Rules: rules}} {
			commit(t, k, next)
			if got := arrive(t, l, 80); len(got) > 0 {
				t.Errorf("behind commit %d packets come %v", i, got)
			}
		}
		if err := kernel.Remove(t.Context(), kernel.Options{Backend: ir.NFTables, Enter: ns.Do}); err != nil && !errors.Is(err, kernel.ErrForeignOwner) {
			t.Fatal(err)
		}
		if got := arrive(t, l, 80); len(got) > 0 {
			t.Errorf("without the rules packets come %v", got)
		}
		commit(t, k, &kernel.Desired{Rules: rules})
		drop(false)
		is(false)
		commit(t, k, &kernel.Desired{Rules: rules, Panic: true})
		is(backend == ir.NFTables) // with iptables, its own tables drop
		commit(t, k, &kernel.Desired{Rules: rules})
		is(false)
		if got := arrive(t, l, 80); !got["in"] {
			t.Error("port 80 stays closed")
		}
	})
}

// It drops where panic mode drops.
func TestDropAllPanicChains(t *testing.T) {
	ns := namespace(t)
	commit(t, open(t, ns, ir.NFTables), &kernel.Desired{Panic: true})
	if err := kernel.DropAll(kernel.Options{Enter: ns.Do}, true); err != nil {
		t.Fatal(err)
	}
	chains := func(table string) string {
		t.Helper()
		_, text, _ := strings.Cut(run(t, ns, "", "nft", "list", "table", "inet", table), "chain")
		return text
	}
	sameLines(t, chains("firewalld_policy_drop"), chains("firewalld_drop_all"))
}

// Where what drops every frame of a bridge cannot be taken away, every packet is dropped still, and the error is true.
func TestDropAllPanicThatCannotEnd(t *testing.T) {
	ns := namespace(t)
	o := kernel.Options{Enter: ns.Do}
	if !kernel.HasTableOwner(o) {
		t.Skip("the kernel gives no table an owner")
	}
	if err := kernel.DropAll(o, true); err != nil {
		t.Fatal(err)
	}
	release, err := kernel.KeepDropped(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.DropAll(o, false); err == nil {
		t.Error("a table of another owner is taken away")
	}
	if on, err := kernel.Dropping(o); !on || err != nil {
		t.Errorf("everything is dropped: %v, %v", on, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := kernel.DropAll(o, false); err != nil {
		t.Error(err)
	}
	if tables := run(t, ns, "", "nft", "list", "tables"); tables != "" {
		t.Errorf("there are\n%s", tables)
	}
}

// Another program owns the table by which panic mode drops what is bridged. Then that of DropAll does, for as long as panic mode is on: it
// goes with what DropAll has put up, and at once where panic mode is refused for another reason.
func TestPanicForBridgesOfForeignOwner(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		ns := namespace(t)
		o := kernel.Options{Enter: ns.Do}
		k := open(t, ns, backend)
		rules := letsIn(t, backend, "")
		commit(t, k, &kernel.Desired{Rules: rules})
		release, err := kernel.KeepPanic(o, true)
		if err != nil {
			t.Fatal(err)
		}
		dropped := func(want bool) {
			t.Helper()
			tables := run(t, ns, "", "nft", "list", "tables")
			if is := strings.Contains(tables, "table bridge firewalld_drop_all\n"); is != want {
				t.Errorf("%s: what is bridged is dropped: %v, want %v", backend, is, want)
			}
		}
		commit(t, k, &kernel.Desired{Rules: rules, Panic: true})
		dropped(true)
		if err := kernel.DropAll(o, false); err != nil {
			t.Fatal(err)
		}
		commit(t, k, &kernel.Desired{Rules: rules})
		dropped(false)
		if backend == ir.NFTables {
			other, err := kernel.KeepPanic(o, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Commit(t.Context(), &kernel.Desired{Rules: rules, Panic: true}); !errors.Is(err, kernel.ErrForeignOwner) {
				t.Errorf("got %v", err)
			}
			dropped(false)
			other()
		}
		release()
	}
}
