package faults

import (
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"richwall/internal/daemon"
	"richwall/internal/lab"
	"richwall/internal/statedir"
	"richwall/internal/testlog"
)

// owns has another program make a table of nftables its own, behind other commands in the same transaction. The function ends that program,
// and the table goes with it.
func owns(t *testing.T, l *lab.Lab, table string, before ...string) (end func()) {
	t.Helper()
	cmd := exec.Command("nft", "-i")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = l.Firewall().Do(cmd.Start)
	}
	if err == nil {
		_, err = io.WriteString(in, strings.Join(append(before, "add table "+table+" { flags owner ; }\n"), "; "))
	}
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		in.Close()
		cmd.Wait()
	}
	t.Cleanup(end)
	eventually(t, "the other program does not make its table", func() bool {
		text, err := l.Firewall().Run(t.Context(), "", "nft", "list", "table", table)
		return err == nil && strings.Contains(text, "owner")
	})
	return end
}

// stands tells whether a table is there.
func stands(t *testing.T, l *lab.Lab, table string) bool {
	t.Helper()
	text, err := l.Firewall().Run(t.Context(), "", "nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(text, "table "+table+"\n")
}

// whole says what is not as it is while the rules alone decide what passes: one port is open, and neither the guard nor panic mode is up.
func whole(t *testing.T, l *lab.Lab, d *daemon.Daemon) {
	t.Helper()
	if open := openPorts(t, l, openPort, closedPort); len(open) != 2 {
		t.Errorf("ports %v are open", open)
	}
	for _, name := range []string{"inet firewalld_guard", "inet firewalld_drop_all"} {
		if stands(t, l, name) {
			t.Errorf("table %s stands", name)
		}
	}
	if s := d.Snapshot(); s.Panic || s.State != daemon.Running {
		t.Errorf("panic mode is on: %v, and the state is %s: %v", s.Panic, s.State, s.Failures)
	}
}

// Another program keeps panic mode from being committed, in one way or another. It comes on all the same, by a table of its own, the log
// says why, and it goes again although the other program stays. Where that has taken rules of ours out, nothing new is let in until it has
// gone; then the rules come back by themselves. No line of the log says that a program of ours was another one.
func TestPanicThatAnotherProgramKeepsOff(t *testing.T) {
	for _, c := range []struct {
		name, conf, said string
		other            func(t *testing.T, l *lab.Lab) (end func())
		broken           bool // the other program has taken rules of ours out, too
	}{
		{"our table", "", "table inet firewalld_policy_drop: it belongs to another program",
			func(t *testing.T, l *lab.Lab) func() { return owns(t, l, "inet firewalld_policy_drop") }, false},
		{"a table of iptables", "FirewallBackend=iptables\n", "table ip security: it belongs to another program",
			func(t *testing.T, l *lab.Lab) func() { return owns(t, l, "ip security", "delete table ip security") }, true},
		{"a chain of iptables", "FirewallBackend=iptables\n", "chain OUTPUT of table ip security: it is another program's",
			func(t *testing.T, l *lab.Lab) func() {
				foreign(t, l, "nft", "delete table ip security; add table ip security; add chain ip security OUTPUT")
				return func() { foreign(t, l, "nft", "delete table ip security") }
			}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, "nft", "iptables", "ip6tables", "ipset")
			var log testlog.Log
			d := guarded(t, l, c.conf, "", &log)
			end := c.other(t, l)
			if err := d.SetPanic(t.Context(), true); err != nil || !d.Snapshot().Panic {
				t.Fatalf("panic mode does not come on: %v", err)
			}
			if open := openPorts(t, l, openPort); open != nil {
				t.Errorf("ports %v are open in panic mode", open)
			}
			eventually(t, "the log does not say "+c.said, func() bool { return strings.Contains(log.String(), c.said) })
			if err := d.SetPanic(t.Context(), false); err != nil || d.Snapshot().Panic || stands(t, l, "inet firewalld_drop_all") {
				t.Errorf("panic mode does not end: %v", err)
			}
			if c.broken {
				if open := openPorts(t, l, openPort); open != nil || d.Snapshot().State != daemon.Failed {
					t.Errorf("behind panic mode ports %v are open, and the state is %s", open, d.Snapshot().State)
				}
				end()
				eventually(t, "the rules do not come back", func() bool { return d.Snapshot().State == daemon.Running && !stands(t, l, "inet firewalld_guard") })
			}
			whole(t, l, d)
			if strings.Contains(log.String(), "tables-restor") {
				t.Errorf("the log takes our own program for another one:\n%s", log.String())
			}
		})
	}
}

// A change that is refused because a table of a name of ours belongs to another program, while the rules in force are whole, leaves nothing
// that keeps new connections out: neither panic mode, without the table that it has for that, nor a reload that changes the back end.
func TestRefusedChangeLeavesNoGuard(t *testing.T) {
	t.Run("panic", func(t *testing.T) {
		l := newLab(t, "nft")
		var log testlog.Log
		d := guardedWith(t, l, "", "", &log, func(o *daemon.Options) { o.DropAll = nil })
		owns(t, l, "inet firewalld_policy_drop")
		if err := d.SetPanic(t.Context(), true); err == nil {
			t.Error("panic mode comes on")
		}
		whole(t, l, d)
	})
	t.Run("back end", func(t *testing.T) {
		l := newLab(t, "nft", "iptables", "ip6tables", "ipset")
		var log testlog.Log
		var dir string
		d := guardedWith(t, l, "FirewallBackend=iptables\n", "", &log, func(o *daemon.Options) { dir = o.Dirs.System })
		owns(t, l, "inet firewalld")
		write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=nftables\n"})
		if err := d.Reload(t.Context()); err == nil {
			t.Error("the reload succeeds")
		}
		whole(t, l, d)
	})
}

// Another program takes the place of our table, and keeps it. Nothing new is let in, and the state says so until a commit succeeds.
func TestRulesThatCannotBePutBack(t *testing.T) {
	l := newLab(t, "nft")
	var log testlog.Log
	d := guarded(t, l, "", "", &log)
	end := owns(t, l, "inet firewalld", "delete table inet firewalld")
	eventually(t, "the state does not say that the rules cannot be put back", func() bool {
		s := d.Snapshot()
		return s.State == daemon.Failed && strings.Contains(strings.Join(s.Failures, "\n"), "cannot be put back")
	})
	if open := openPorts(t, l, openPort, closedPort); open != nil {
		t.Errorf("ports %v are open", open)
	}
	end()
	if err := d.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := d.Snapshot(); s.State != daemon.Running || s.Failures != nil {
		t.Errorf("the state is %s: %v", s.State, s.Failures)
	}
}

// Panic mode was on when the last process ended, by the policies of iptables, and another program has made a chain that keeps the next process
// from committing. Panic mode cannot end then: it is refused, with what drops every packet, and stays on. Once the other program's chain has
// gone, it ends whole: no policy and no table of panic mode is left.
func TestPanicThatStaysByPolicies(t *testing.T) {
	l, dir := newLab(t, "nft", "iptables", "ip6tables", "ipset"), t.TempDir()
	state, err := statedir.For(t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n", "zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`})
	start := func() *daemon.Daemon {
		d := newDaemon(dir, state, l.Firewall().Do, slog.New(slog.DiscardHandler))
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := start()
	if err := d.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign(t, l, "nft", "delete chain ip filter FORWARD; add chain ip filter FORWARD { type filter hook forward priority 300; }")
	d = start()
	t.Cleanup(func() { d.Stop(t.Context()) })
	err = d.SetPanic(t.Context(), false)
	if err == nil || !d.Snapshot().Panic || !strings.Contains(err.Error(), "panic mode stays on: ") || !strings.Contains(err.Error(), "the policies of table raw of iptables-nft") {
		t.Errorf("panic mode ends although every packet is dropped: %v", err)
	}
	if noted, err := state.Panic(); !noted || err != nil {
		t.Errorf("panic mode is not noted any more: %v", err)
	}
	foreign(t, l, "nft", "delete chain ip filter FORWARD")
	if err := d.SetPanic(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	whole(t, l, d)
	for _, name := range []string{"bridge firewalld_policy_drop", "bridge firewalld_drop_all", "inet firewalld_drop_all"} {
		if stands(t, l, name) {
			t.Errorf("table %s is there", name)
		}
	}
	if left := saved(t, l); strings.Contains(left, " DROP ") {
		t.Errorf("policies drop what comes to them:\n%s", left)
	}
}

// Another program keeps the first rules out. Panic mode comes on by a table of its own, and ends with nothing left of it, that for bridges
// neither; nothing new is let in until the rules are in the kernel.
func TestPanicBeforeTheFirstRulesEndsWhole(t *testing.T) {
	for name, c := range map[string]struct {
		conf  string
		other func(t *testing.T, l *lab.Lab)
	}{
		"nftables": {"", func(t *testing.T, l *lab.Lab) { owns(t, l, "inet firewalld") }},
		"iptables": {"FirewallBackend=iptables\n", func(t *testing.T, l *lab.Lab) {
			foreign(t, l, "nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 300; }")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "nft", "iptables", "ip6tables", "ipset")
			c.other(t, l)
			var log testlog.Log
			d := guarded(t, l, c.conf, "", &log)
			if err := d.SetPanic(t.Context(), true); err != nil || !stands(t, l, "bridge firewalld_drop_all") {
				t.Fatalf("panic mode does not come on: %v", err)
			}
			if err := d.SetPanic(t.Context(), false); err != nil || d.Snapshot().Panic {
				t.Errorf("panic mode does not end: %v", err)
			}
			for _, table := range []string{"bridge firewalld_policy_drop", "bridge firewalld_drop_all", "inet firewalld_policy_drop", "inet firewalld_drop_all"} {
				if stands(t, l, table) {
					t.Errorf("table %s is there", table)
				}
			}
			if left := saved(t, l); strings.Contains(left, " DROP ") {
				t.Errorf("policies drop what comes to them:\n%s", left)
			}
			if open := openPorts(t, l, openPort); open != nil || !guards(t, l.Firewall()) {
				t.Errorf("open are %v; the guard stands: %v; the log says\n%s", open, guards(t, l.Firewall()), log.String())
			}
		})
	}
}
