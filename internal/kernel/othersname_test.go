package kernel_test

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// owned has another program make a table its own, with other flags than that and what else its commands say. The program, and the table with it, is there until end is
// called.
func owned(t *testing.T, ns *lab.Namespace, table, flags, commands string) (end func()) {
	t.Helper()
	cmd := exec.Command("nft", "-i")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = ns.Do(cmd.Start)
	}
	if err == nil {
		_, err = io.WriteString(in, "add table "+table+" { flags owner ; "+flags+"}; "+commands+"\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		in.Close()
		cmd.Wait()
	}
	t.Cleanup(end)
	for deadline := time.Now().Add(time.Minute); !hasTable(t, ns, table); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the other program does not make its table")
		}
	}
	return end
}

func hasTable(t *testing.T, ns *lab.Namespace, table string) bool {
	t.Helper()
	return strings.Contains(run(t, ns, "", "nft", "list", "tables"), "table "+table+"\n")
}

// Another program owns a table with the name of one by which panic mode drops everything, and the table is empty. It is not panic mode that
// is on: nothing is dropped, and a start does not take it for that. Panic mode comes on all the same, and ends although the table stays.
func TestPanicBesideAnotherProgramsEmptyTable(t *testing.T) {
	for _, table := range []string{"inet firewalld_drop_all", "bridge firewalld_drop_all", "inet firewalld_drop_all_2", "inet firewalld_policy_drop"} {
		t.Run(table, func(t *testing.T) {
			l := newLab(t)
			ns := l.Firewall()
			o := kernel.Options{Enter: ns.Do}
			commit(t, open(t, ns, ir.NFTables), &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
			owned(t, ns, table, "", "")
			dropped := func(want bool) {
				t.Helper()
				if on, err := kernel.Dropping(o); on != want || err != nil {
					t.Errorf("everything is dropped: %v, %v; want %v", on, err, want)
				}
				if got := arrive(t, l, 80); got["in"] == want {
					t.Errorf("packets come: %v", got)
				}
			}
			dropped(false)
			if err := kernel.DropAll(o, true); err != nil {
				t.Fatal(err)
			}
			dropped(true)
			if err := kernel.DropAll(o, false); err != nil {
				t.Fatal(err)
			}
			dropped(false)
			if !hasTable(t, ns, table) {
				t.Error("the other program's table has gone")
			}
		})
	}
}

// Another program owns a table with the name of one of panic mode's, with a chain that drops everything: panic mode cannot end, and the
// error names the table and the program. Where no packet comes to that chain, it can.
func TestPanicThatAnotherProgramsTableKeepsOn(t *testing.T) {
	for _, family := range []string{"inet", "bridge"} {
		ns := namespace(t)
		o := kernel.Options{Enter: ns.Do}
		table := family + " firewalld_drop_all"
		chain := "add chain " + table + " mine { type filter hook prerouting priority 0 ; policy drop ; }"
		end := owned(t, ns, table, "", chain)
		err := kernel.DropAll(o, false)
		if !errors.Is(err, kernel.ErrForeignOwner) || !strings.Contains(err.Error(), "table "+table+": ") || !strings.Contains(err.Error(), "nft (pid ") {
			t.Errorf("the error is %v", err)
		}
		if on, err := kernel.Dropping(o); on != (family == "inet") || err != nil {
			t.Errorf("every packet is dropped: %v, %v", on, err)
		}
		end()
		owned(t, ns, table, "flags dormant ; ", chain)
		if err := kernel.DropAll(o, false); err != nil {
			t.Errorf("beside a dormant table: %v", err)
		}
	}
}

// Another program owns an empty table with the name of one of ours, that the rules do not need. They are committed all the same, with both
// back ends, and what the other back end has left is taken out beside it.
func TestCommitBesideAnotherProgramsEmptyTable(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, table := range []string{"inet firewalld_policy_drop", "bridge firewalld_policy_drop", "inet firewalld_guard", "inet firewalld"} {
			if backend == ir.NFTables && table == "inet firewalld" {
				continue
			}
			t.Run(string(backend)+" "+table, func(t *testing.T) {
				l := newLab(t)
				ns := l.Firewall()
				owned(t, ns, table, "", "")
				k := open(t, ns, backend)
				commit(t, k, &kernel.Desired{Rules: letsIn(t, backend, "")})
				if got := arrive(t, l, 80); !got["in"] {
					t.Errorf("packets come: %v", got)
				}
				if err := kernel.RemoveOther(t.Context(), kernel.Options{Backend: backend, Enter: ns.Do}, k); err != nil {
					t.Errorf("what another back end has left stays: %v", err)
				}
			})
		}
	}
}

// Another program owns the guard's table, while our rules are flushed again and again. They are put back each time. From the second time on new
// connections wait for a while, behind a guard with another name.
func TestRepairBesideAnotherProgramsGuard(t *testing.T) {
	l := newLab(t)
	ns := l.Firewall()
	k := open(t, ns, ir.NFTables)
	rules := letsIn(t, ir.NFTables, "NftablesTableOwner=no\n")
	commit(t, k, &kernel.Desired{Rules: rules})
	owned(t, ns, "inet firewalld_guard", "", "")
	for n := range 3 {
		run(t, ns, "", "nft", "flush", "table", "inet", "firewalld")
		commit(t, k, &kernel.Desired{Rules: rules})
		if !strings.Contains(run(t, ns, "", "nft", "list", "table", "inet", "firewalld"), "dport 80 ") {
			t.Error("the rules are not put back")
		}
		if got := arrive(t, l, 80, 81); got["in"] != (n == 0) || len(spares(t, ns)) != min(n, 1) {
			t.Errorf("behind repair %d packets come: %v; other guards stand: %v", n, got, spares(t, ns))
		}
	}
}
