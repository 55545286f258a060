package kernel_test

import (
	"slices"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// Every table by which the machine stays closed behind a daemon that has ended is named, and none but these: without them packets pass.
func TestTablesThatCloseTheMachine(t *testing.T) {
	ns := namespace(t)
	o := kernel.Options{Backend: ir.NFTables, Enter: ns.Do}
	is := func(want ...string) {
		t.Helper()
		if got := kernel.ClosedBy(o); !slices.Equal(got, want) {
			t.Errorf("the machine is closed by %q, want %q", got, want)
		}
	}
	run(t, ns, "", "nft", "add", "table", "inet", "others")
	is()
	guard, err := kernel.Base(t.Context(), o, true)
	if err != nil {
		t.Fatal(err)
	}
	is("inet firewalld_guard")
	if err := kernel.DropAll(o, true); err != nil {
		t.Fatal(err)
	}
	is("inet firewalld_drop_all", "inet firewalld_guard", "bridge firewalld_drop_all")
	if err := guard.Lower(); err != nil {
		t.Fatal(err)
	}
	k := open(t, ns, ir.NFTables)
	commit(t, k, &kernel.Desired{Panic: true})
	is("inet firewalld_drop_all", "inet firewalld_policy_drop", "bridge firewalld_drop_all", "bridge firewalld_policy_drop")
	k.Close()
	for _, table := range kernel.ClosedBy(o) {
		run(t, ns, "", "sh", "-c", "nft delete table "+table)
	}
	is()
}
