package kernel_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// spareTable is a table with a name of ours in place of one that another program owns.
var spareTable = regexp.MustCompile(`(?m)^table (\w+ firewalld_(?:guard|drop_all)_[0-9a-f]{8})$`)

// spares are the tables with such names, in order.
func spares(t *testing.T, ns *lab.Namespace) (names []string) {
	t.Helper()
	for _, m := range spareTable.FindAllStringSubmatch(run(t, ns, "", "nft", "list", "tables"), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// theirGuards are tables with the guard's name that another program may own: an empty one, and one that drops what is sent to one port alone.
var theirGuards = map[string]string{
	"empty": "",
	"a few packets": "add chain inet firewalld_guard out { type filter hook output priority 0 ; policy drop ; }; " +
		"add rule inet firewalld_guard out tcp dport != 9 accept; add rule inet firewalld_guard out meta l4proto != tcp accept",
}

// Another program owns a table with the guard's name. A start is guarded all the same, by a table with another name. With the first rules that
// table goes, and with the start when that is broken off; the other program's table stays. A guard that a killed process has left is found.
func TestBaseBesideAnotherProgramsGuard(t *testing.T) {
	for what, commands := range theirGuards {
		bothBackends(t, func(t *testing.T, backend ir.Backend) {
			l := newLab(t)
			ns := l.Firewall()
			owned(t, ns, "inet firewalld_guard", "", commands)
			is := func(want bool, when string) {
				t.Helper()
				if got := len(spares(t, ns)); (got == 1) != want || got > 1 {
					t.Errorf("%s, %s: %d guards stand", what, when, got)
				}
				if got := arrive(t, l, 80); got["in"] == want {
					t.Errorf("%s, %s: packets come: %v", what, when, got)
				}
				if !hasTable(t, ns, "inet firewalld_guard") {
					t.Errorf("%s, %s: the other program's table has gone", what, when)
				}
			}
			o := kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog}
			guard := base(t, o, false)
			is(true, "at a start")
			run(t, ns, "", "nft", "flush", "ruleset")
			is(true, "behind a flush of all tables")
			if err := guard.Close(); err != nil {
				t.Fatal(err)
			}
			guard = base(t, o, true)
			is(true, "at the next start, in panic mode")
			if err := guard.Lower(); err != nil {
				t.Fatal(err)
			}
			is(false, "when it was broken off")
			o.Guard = base(t, o, false)
			is(true, "at the third start")
			k := start(t, o)
			refused(t, k, backend)
			is(true, "when nothing can be committed")
			commit(t, k, &kernel.Desired{Rules: letsIn(t, backend, "")})
			is(false, "with the rules")
			if k.(kernel.Sentinel).Guarded() {
				t.Error("the guard stands, it says")
			}
			for _, on := range []bool{true, false} {
				commit(t, k, &kernel.Desired{Rules: letsIn(t, backend, ""), Panic: on})
			}
			is(false, "behind panic mode")
		})
	}
}

// Another program owns the guard's table, and our rules are flushed again and again. They are put back each time, and new connections wait
// behind a table of another name until that has not happened for a while.
func TestRepairBehindAGuardOfAnotherName(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		l := newLab(t)
		ns := l.Firewall()
		o := kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog}
		k := start(t, o)
		rules := letsIn(t, backend, "NftablesTableOwner=no\n")
		commit(t, k, &kernel.Desired{Rules: rules})
		owned(t, ns, "inet firewalld_guard", "", "")
		if err := k.(kernel.Guarder).KeepOut(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if got := spares(t, ns); len(got) != 1 || !k.(kernel.Sentinel).Guarded() {
			t.Errorf("guards stand: %v", got)
		}
		if got := arrive(t, l, 80, 81); len(got) > 0 {
			t.Errorf("packets come: %v", got)
		}
		commit(t, k, &kernel.Desired{Rules: rules})
		if got := spares(t, ns); len(got) != 0 || k.(kernel.Sentinel).Guarded() {
			t.Errorf("guards stand: %v", got)
		}
		if got := arrive(t, l, 80); !got["in"] {
			t.Errorf("packets come: %v", got)
		}
	})
}

// A table with a name like that of a guard, which no process of ours gives one, is another program's, and stays.
func TestNamesThatAreNoGuards(t *testing.T) {
	ns := namespace(t)
	for _, name := range []string{"firewalld_guard_mine", "firewalld_guard_0123456g", "firewalld_guard_123456789", "my_firewalld_guard"} {
		run(t, ns, "", "nft", "add", "table", "inet", name)
	}
	run(t, ns, "", "nft", "add", "table", "inet", "firewalld_guard_0123abcd")
	run(t, ns, "", "nft", "add", "table", "inet", "firewalld_guard_0123abce")
	guard := base(t, kernel.Options{Enter: ns.Do, Log: quietLog}, false)
	if err := guard.Lower(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(run(t, ns, "", "nft", "list", "tables"), "\n"); got != 4 {
		t.Errorf("there are\n%s", run(t, ns, "", "nft", "list", "tables"))
	}
}

// Another program owns tables of all names that panic mode's tables have in turn. Panic mode comes on all the same, is found again, and ends.
func TestPanicWhereAllNamesAreTaken(t *testing.T) {
	l := newLab(t)
	ns := l.Firewall()
	o := kernel.Options{Enter: ns.Do, Log: quietLog}
	commit(t, open(t, ns, ir.NFTables), &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
	names := []string{"inet firewalld_policy_drop"}
	for _, family := range []string{"inet", "bridge"} {
		for _, end := range []string{"", "_2", "_3", "_4"} {
			names = append(names, family+" firewalld_drop_all"+end)
		}
	}
	for _, name := range names {
		owned(t, ns, name, "", "")
	}
	dropped := func(want bool) {
		t.Helper()
		if on, err := kernel.Dropping(o); on != want || err != nil {
			t.Errorf("everything is dropped: %v, %v; want %v", on, err, want)
		}
		if got := arrive(t, l, 80); got["in"] == want {
			t.Errorf("packets come: %v", got)
		}
	}
	for range 2 {
		dropped(false)
		var first []string
		for range 2 { // the second time the same tables are made anew
			if err := kernel.DropAll(o, true); err != nil {
				t.Fatal(err)
			}
			dropped(true)
			got := spares(t, ns)
			if len(got) != 2 || first != nil && !slices.Equal(got, first) {
				t.Errorf("what drops everything is %v, and was %v", got, first)
			}
			first = got
		}
		if err := kernel.DropAll(o, false); err != nil {
			t.Fatal(err)
		}
		dropped(false)
		if got := spares(t, ns); len(got) != 0 {
			t.Errorf("there is still %v", got)
		}
	}
	for _, name := range names {
		if !hasTable(t, ns, name) {
			t.Errorf("the other program's table %s has gone", name)
		}
	}
	run(t, ns, "", "nft", "add", "table", "inet", "firewalld_drop_all_0123abcd")
	if err := kernel.DropAll(o, false); err != nil && !errors.Is(err, kernel.ErrForeignOwner) {
		t.Fatal(err)
	}
	if got := spares(t, ns); len(got) != 0 {
		t.Errorf("what an earlier process has left stays: %v", got)
	}
}
