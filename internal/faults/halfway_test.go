package faults

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/internal/daemon"
	"richwall/internal/lab"
	"richwall/internal/testlog"
)

// restoresOnce has iptables-restore change one table, and then fail, until end is called. What is only tried counts for nothing, nor
// does an input with some words in it.
func restoresOnce(t *testing.T, but string) (end func()) {
	t.Helper()
	path, err := exec.LookPath("iptables-restore")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/bash
input=$(cat)
case "$* $input" in
*--test*|*firewalld_guard_trial*|*"%[3]s"*) ;;
*) if [ ! -e %[1]s/ended ]; then
	if [ -e %[1]s/once ]; then echo no memory >&2; exit 3; fi
	touch %[1]s/once
fi ;;
esac
exec -a iptables-restore %[2]s "$@" <<<"$input"
`, dir, path, but)
	if err := os.WriteFile(filepath.Join(dir, "iptables-restore"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() {
		if err := os.WriteFile(filepath.Join(dir, "ended"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A reload that changes from nftables to iptables changes one table and fails at the next, and the first cannot be taken back. Nothing new is
// let in then, and the state is FAILED. Once the tables can be changed again, all is as before the reload.
func TestChangeOfTheBackEndThatFailsHalfway(t *testing.T) {
	l, dir := newLab(t, "nft", "iptables", "ip6tables", "ipset"), t.TempDir()
	write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=nftables\n", "zones/public.xml": `<zone><interface name="c0"/><port port="80" protocol="tcp"/></zone>`})
	var log testlog.Log
	d := newDaemon(dir, nil, l.Firewall().Do, slog.New(slog.NewTextHandler(&log, nil)))
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop(t.Context()) })
	before := table(t, l.Firewall())
	write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n"})
	end := restoresOnce(t, "never")
	if err := d.Reload(t.Context()); err == nil {
		t.Fatal("the reload succeeds")
	}
	now := d.Snapshot()
	if said := strings.Join(now.Failures, "\n"); now.State != daemon.Failed || now.Backend != "nftables" || !strings.Contains(said, "cannot be taken out of the kernel now") {
		t.Errorf("the state is %s with %s: %s", now.State, now.Backend, said)
	}
	const chain = " - " // what the save tools list of a chain that is not the kernel's
	if left := saved(t, l); !strings.Contains(left, chain) {
		t.Fatalf("nothing of the reload is there, but\n%s", left)
	}
	if open := openPorts(t, l, 80, closedPort); open != nil || !guards(t, l.Firewall()) {
		t.Errorf("open are %v; the guard stands: %v; the log says\n%s", open, guards(t, l.Firewall()), log.String())
	}
	end()
	eventually(t, "it is not tried again", func() bool { return d.Snapshot().State == daemon.Running })
	if left := saved(t, l); strings.Contains(left, chain) {
		t.Errorf("iptables has still\n%s", left)
	}
	if difference := tableDifference(before, table(t, l.Firewall())); difference != "" {
		t.Errorf("the rules of nftables are not what they were: %s", difference)
	}
	if open := openPorts(t, l, 80, closedPort); !slices.Equal(open, []int{80, 80}) || guards(t, l.Firewall()) {
		t.Errorf("at last open are %v; the guard stands: %v", open, guards(t, l.Firewall()))
	}
}

// A reload that changes the back end fails midway, and what it has left cannot be taken back for a while. Then another program takes rules of
// those in force out. They are put back as ever, and the log names the program; it does not take a part of the daemon for another program. Nothing new is
// let in until all is as it was before the reload.
func TestForeignChangeBesideAHalfwayChange(t *testing.T) {
	for _, c := range []struct {
		before, after string // firewalld.conf
		command       string // of the other program, whose name is its first word
		but           string // what iptables-restore takes all the same
		inForce       func(t *testing.T, l *lab.Lab) string
	}{
		{"FirewallBackend=nftables\nNftablesTableOwner=no\n", "FirewallBackend=iptables\n", "nft flush chain inet firewalld filter_INPUT", "never",
			func(t *testing.T, l *lab.Lab) string { return table(t, l.Firewall()) }},
		{"FirewallBackend=iptables\n", "FirewallBackend=nftables\n", "ip6tables -F INPUT", "_direct",
			func(t *testing.T, l *lab.Lab) string {
				list, err := l.Firewall().Run(t.Context(), "", "ip6tables-save")
				if err != nil {
					t.Fatal(err)
				}
				return noise.ReplaceAllString(list, "")
			}},
	} {
		program, _, _ := strings.Cut(c.command, " ")
		t.Run(program, func(t *testing.T) {
			l, dir := newLab(t, "nft", "iptables", "ip6tables", "ipset"), t.TempDir()
			write(t, dir, map[string]string{"firewalld.conf": c.before, "zones/public.xml": `<zone><interface name="c0"/><port port="80" protocol="tcp"/></zone>`})
			var log testlog.Log
			d := newDaemon(dir, nil, l.Firewall().Do, slog.New(slog.NewTextHandler(&log, nil)))
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Stop(t.Context()) })
			before := c.inForce(t, l)
			write(t, dir, map[string]string{"firewalld.conf": c.after, "direct.xml": `<direct>` +
				`<rule ipv="ipv4" table="raw" chain="PREROUTING" priority="0">-p tcp --dport 77 -j DROP</rule>` +
				`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 78 -j DROP</rule></direct>`})
			end := restoresOnce(t, c.but)
			if err := d.Reload(t.Context()); !daemon.Midway(err) {
				t.Fatalf("the reload does not fail midway: %v", err)
			}
			foreign(t, l, strings.Fields(c.command)...)
			eventually(t, "the rules are not put back", func() bool { return c.inForce(t, l) == before })
			if s := d.Snapshot(); s.State != daemon.Failed || !guards(t, l.Firewall()) || openPorts(t, l, 80, closedPort) != nil {
				t.Errorf("the state is %s; the guard stands: %v; open are %v", s.State, guards(t, l.Firewall()), openPorts(t, l, 80, closedPort))
			}
			end()
			eventually(t, "all is not as before the reload", func() bool { return d.Snapshot().State == daemon.Running && !guards(t, l.Firewall()) })
			if now := c.inForce(t, l); now != before {
				t.Errorf("the rules are not what they were: %s", difference(before, now))
			}
			if open := openPorts(t, l, 80, closedPort); !slices.Equal(open, []int{80, 80}) {
				t.Errorf("at last open are %v", open)
			}
			said := log.String()
			if !strings.Contains(said, "another program had changed the firewall's rules; they were put back") || !strings.Contains(said, program+" (pid") {
				t.Errorf("the log does not name the program:\n%s", said)
			}
			if strings.Contains(said, "belongs to another program") || strings.Contains(said, "tables-restor (pid") {
				t.Errorf("the log takes a part of the daemon for another program:\n%s", said)
			}
		})
	}
}
