package kernel_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// sleep makes tables dormant, as another program does: they stay with all that is in them, and no packet comes to that.
func sleep(t *testing.T, ns *lab.Namespace, tables ...string) {
	t.Helper()
	for _, table := range tables {
		run(t, ns, "", "nft", "add table "+table+" { flags dormant ; }")
		if !strings.Contains(run(t, ns, "", "nft", "list table "+table), "dormant") {
			t.Fatalf("table %s is not dormant", table)
		}
	}
}

// awake checks that no table is dormant.
func awake(t *testing.T, ns *lab.Namespace) {
	t.Helper()
	if text := run(t, ns, "", "nft", "list", "ruleset"); strings.Contains(text, "dormant") {
		t.Errorf("a table is dormant:\n%s", text)
	}
}

// closesPort80 is rules of each back end that let in no packet to port 9, and with which a packet to port 80 comes in by IPv4 and IPv6 as long
// as the tables of iptables do their work with iptables; with nftables it does not come in, because of direct rules in these.
func closesPort80(t *testing.T, backend ir.Backend) (d *kernel.Desired, comesIn bool) {
	t.Helper()
	if backend == ir.IPTables {
		return &kernel.Desired{Rules: letsIn(t, backend, "")}, true
	}
	return &kernel.Desired{Rules: letsIn(t, backend, ""), Direct: directRules(t, "-p tcp --dport 80 -j DROP")}, false
}

// Another program makes a table of iptables dormant in which rules of ours are, of the back end or of the direct interface. That is told of,
// with the program; the guard keeps out what is new until the next commit, of the same rules, has made packets come to the table again.
// The other program's rules in the table stay.
func TestDormantTableIsPutBack(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, table := range []string{"ip filter", "ip6 filter"} {
			t.Run(table, func(t *testing.T) {
				l := newLab(t)
				ns := l.Firewall()
				run(t, ns, "", "iptables", "-A", "INPUT", "-s", "192.0.2.77", "-j", "ACCEPT")
				w := watch(t, ns, backend)
				d, comesIn := closesPort80(t, backend)
				commit(t, w, d)
				want := run(t, ns, "", "nft", "--stateless", "list", "ruleset")
				sleep(t, ns, table)
				f := w.next(t)
				family, name, _ := strings.Cut(table, " ")
				program := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[family]
				if !slices.Contains(f.Changes, program+", table "+name+" was made dormant: no packet comes to its rules") {
					t.Errorf("reported is %q", f.Changes)
				}
				if len(f.By) != 1 || f.By[0].Name != "nft" {
					t.Errorf("it is said to be by %v", f.By)
				}
				eventually(t, "no guard stands", func() bool { return guardStands(t, ns) })
				if got := arrive(t, l, 80, 9); len(got) > 0 {
					t.Errorf("while the table is dormant packets come %v", got)
				}
				commit(t, w, d)
				sameLines(t, want, run(t, ns, "", "nft", "--stateless", "list", "ruleset"))
				if got := arrive(t, l, 80); got["in"] != comesIn || got["through"] {
					t.Errorf("packets to port 80 come %v", got)
				}
				if got := arrive(t, l, 9); len(got) > 0 {
					t.Errorf("packets to port 9 come %v", got)
				}
				w.none(t)
			})
		}
	})
}

// Each table of iptables that rules of ours are in is made to do its work again, whichever it is, by a change as by the commit of what is there.
func TestEachDormantTableIsPutBack(t *testing.T) {
	ns := namespace(t)
	w := watch(t, ns, ir.IPTables)
	rules := scenario(t, "static-mixed.txt", ir.IPTables)
	for _, next := range []*kernel.Desired{{Rules: rules}, {Rules: letsIn(t, ir.IPTables, "")}, {Rules: rules}} {
		commit(t, w, &kernel.Desired{Rules: rules})
		for _, family := range []string{"ip", "ip6"} {
			for _, table := range []string{"raw", "mangle", "nat", "filter"} {
				sleep(t, ns, family+" "+table)
			}
		}
		commit(t, w, next)
		awake(t, ns)
	}
}

// A start finds tables of iptables dormant: those of the process before it, or another program's that ours come into. Until its first commit
// the guard stands, and behind it the rules are in force.
func TestStartWithDormantTables(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, earlier := range []bool{true, false} {
			l := newLab(t)
			ns := l.Firewall()
			d, comesIn := closesPort80(t, backend)
			if earlier {
				k := open(t, ns, backend)
				commit(t, k, d)
				if err := k.Close(); err != nil {
					t.Fatal(err)
				}
			}
			sleep(t, ns, "ip filter", "ip6 filter")
			o := kernel.Options{Backend: backend, Enter: ns.Do}
			o.Guard = base(t, o, false)
			if got := arrive(t, l, 80, 9); len(got) > 0 || o.Guard.Earlier() != "" {
				t.Errorf("earlier %v: before the first commit packets come %v; rules of %q count as whole", earlier, got, o.Guard.Earlier())
			}
			k, _, log := hearing(t, o, &disk{})
			commit(t, k, d)
			awake(t, ns)
			if got := arrive(t, l, 80); got["in"] != comesIn || got["through"] {
				t.Errorf("earlier %v: packets to port 80 come %v", earlier, got)
			}
			if got := arrive(t, l, 9); len(got) > 0 || guardStands(t, ns) {
				t.Errorf("earlier %v: packets to port 9 come %v; the guard stands: %v", earlier, got, guardStands(t, ns))
			}
			if n := strings.Count(log.String(), "was dormant"); n != 2 {
				t.Errorf("the log names %d tables:\n%s", n, log.String())
			}
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// In panic mode no packet passes, although another program makes dormant what drops them: tables of iptables, or the table that DropAll has put up.
func TestPanicWithDormantTables(t *testing.T) {
	defer kernel.SetQuiet(0)()
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		l := newLab(t)
		ns := l.Firewall()
		w := watch(t, ns, backend)
		rules := letsIn(t, backend, "NftablesTableOwner=no\n")
		d := &kernel.Desired{Rules: rules, Panic: true}
		var tables []string
		if backend == ir.NFTables {
			tables = []string{"inet firewalld_policy_drop"}
		} else {
			for _, table := range []string{"raw", "mangle", "filter", "security"} {
				tables = append(tables, "ip "+table, "ip6 "+table)
			}
		}
		commit(t, w, d)
		sleep(t, ns, append(tables, "bridge firewalld_policy_drop")...)
		w.next(t)
		eventually(t, "no guard stands", func() bool { return guardStands(t, ns) })
		if got := arrive(t, l, 80); len(got) > 0 {
			t.Errorf("before the repair packets come %v", got)
		}
		commit(t, w, d)
		awake(t, ns)
		if got := arrive(t, l, 80); len(got) > 0 {
			t.Errorf("behind the repair packets come %v", got)
		}
		commit(t, w, &kernel.Desired{Rules: rules})

		drop := func(on bool) {
			t.Helper()
			if err := kernel.DropAll(kernel.Options{Enter: ns.Do}, on); err != nil {
				t.Fatal(err)
			}
		}
		for _, table := range []string{"inet firewalld_drop_all", "bridge firewalld_drop_all"} {
			drop(true)
			sleep(t, ns, table)
			for !slices.Contains(w.next(t).Changes, "table "+table+" was made dormant: no packet comes to its rules") { // there may be some of before
			}
			commit(t, w, &kernel.Desired{Rules: rules})
			awake(t, ns)
			if got := arrive(t, l, 80); len(got) > 0 {
				t.Errorf("behind the repair of %s packets come %v", table, got)
			}
			sleep(t, ns, table)
			drop(true) // once more
			awake(t, ns)
			drop(false)
		}
		// The table was dormant once more: whoever has been told of that has the guard stand until the next commit.
		eventually(t, "port 80 stays closed", func() bool {
			commit(t, w, &kernel.Desired{Rules: rules})
			return arrive(t, l, 80)["in"]
		})
	})
}

// Another program makes a table of ebtables dormant that rules of ours are in. That is told of, and the next commit of the same rules has the frames
// dropped again. A table with none of ours stays dormant.
func TestDormantTableOfBridges(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		b := newBridge(t)
		b.open()
		left := kernel.NewLeft(&disk{}, quietLog)
		o := kernel.Options{Backend: backend, Enter: b.ns.Do, Log: quietLog, Left: left}
		w := watched(start(t, o))
		run(t, b.ns, "", "ebtables", "-t", "nat", "-L")
		run(t, b.ns, "", "nft", "add table bridge nat")
		mine := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-s 02:00:00:00:00:01 -j DROP")}}
		if _, err := commitBridges(t, b.ns, left, &kernel.Bridge{}, mine); err != nil {
			t.Fatal(err)
		}
		d := &kernel.Desired{Rules: letsIn(t, backend, "")}
		commit(t, w, d)
		sleep(t, b.ns, "bridge nat", "bridge filter")
		if f := w.next(t); !slices.Contains(f.Changes, "table bridge filter was made dormant: no packet comes to its rules") {
			t.Errorf("reported is %q", f.Changes)
		}
		commit(t, w, d)
		b.send() // is dropped
		if _, err := commitBridges(t, b.ns, left, mine, &kernel.Bridge{}); err != nil {
			t.Fatal(err)
		}
		if last := b.send(); b.next(10*time.Second) != last {
			t.Error("what is sent behind the repair comes over the bridge, or nothing does when the rule is gone")
		}
		if text := run(t, b.ns, "", "nft", "list table bridge nat"); !strings.Contains(text, "dormant") {
			t.Errorf("the table of the other program was changed:\n%s", text)
		}
		w.none(t)
	})
}

// A table that nothing of ours is in stays dormant, and nobody is told of it: a table of iptables beside nftables, and one of the other program's own.
func TestDormantTablesOfOthersStay(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		w := watch(t, ns, backend)
		theirs := []string{"inet theirs", "ip theirs", "bridge filter"}
		if backend == ir.NFTables {
			theirs = append(theirs, "ip filter")
		}
		d := &kernel.Desired{Rules: letsIn(t, backend, "")}
		commit(t, w, d)
		sleep(t, ns, theirs...)
		for range 2 {
			commit(t, w, d)
			for _, table := range theirs {
				if text := run(t, ns, "", "nft", "list table "+table); !strings.Contains(text, "dormant") {
					t.Errorf("table %s is not dormant any more:\n%s", table, text)
				}
			}
		}
		w.none(t)
	})
}
