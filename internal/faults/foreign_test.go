package faults

import (
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"richwall/internal/daemon"
	"richwall/internal/lab"
	"richwall/internal/testlog"
)

// guarded starts a daemon with a real kernel. Its table has no owner, so that others can change it.
func guarded(t *testing.T, l *lab.Lab, conf, own string, log io.Writer) *daemon.Daemon {
	t.Helper()
	return guardedWith(t, l, conf, own, log, func(*daemon.Options) {})
}

// guardedWith is guarded with other options.
func guardedWith(t *testing.T, l *lab.Lab, conf, own string, log io.Writer, change func(*daemon.Options)) *daemon.Daemon {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"firewalld.conf": "NftablesTableOwner=no\n" + conf, "richwall.conf": own,
		"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`,
	})
	o := optionsOf(dir, nil, l.Firewall().Do, slog.New(slog.NewTextHandler(log, nil)))
	change(&o)
	d := daemon.New(o)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop(t.Context()) })
	return d
}

// eventually waits until a condition holds; it must within a second or so, unless the machine is busy.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func foreign(t *testing.T, l *lab.Lab, command ...string) {
	t.Helper()
	if _, err := l.Firewall().Run(t.Context(), "", command[0], command[1:]...); err != nil {
		t.Fatal(err)
	}
}

// What another program does to the firewall's rules is undone, and the log says which program it was and what it did.
// Packets do not get through any more after that.
func TestForeignChangesAreRepaired(t *testing.T) {
	for _, c := range []struct{ conf, command, said string }{
		{"", "nft flush ruleset", `table inet firewalld was removed`},
		{"", "nft insert rule inet firewalld filter_INPUT accept", `chain filter_INPUT: 1 rule added`},
		{"", "nft flush chain inet firewalld filter_INPUT", `chain filter_INPUT: \d rules removed`},
		{"", "nft add table inet firewalld { flags dormant; }", `has other flags`},
		{"FirewallBackend=iptables\n", "iptables -F", `iptables, table filter, chain INPUT: \d rules removed`},
		{"FirewallBackend=iptables\n", "iptables -I IN_public -j ACCEPT", `iptables, table filter, chain IN_public: 1 rule added`},
		{"FirewallBackend=iptables\n", "nft add table ip filter { flags dormant; }", `iptables, table filter was made dormant`},
	} {
		t.Run(c.command, func(t *testing.T) {
			l := newLab(t, "nft", "iptables", "ip6tables", "ipset")
			var log testlog.Log
			guarded(t, l, c.conf, "", &log)
			foreign(t, l, strings.Fields(c.command)...)
			eventually(t, "nothing is repaired", func() bool { return strings.Contains(log.String(), "put back") })
			if open := openPorts(t, l, closedPort); open != nil {
				t.Errorf("ports %v are open", open)
			}
			program := strings.Fields(c.command)[0]
			if !regexp.MustCompile(`program="`+program+` \(pid \d+\)"`).MatchString(log.String()) ||
				!regexp.MustCompile(c.said).MatchString(log.String()) {
				t.Errorf("the log says\n%s", log.String())
			}
		})
	}
}

// OnForeignChange=warn leaves things as they are until the next change that is made here.
func TestForeignChangesAreOnlyReported(t *testing.T) {
	l := newLab(t, "nft")
	var log testlog.Log
	d := guarded(t, l, "", "OnForeignChange=warn\n", &log)
	whole := table(t, l.Firewall())
	foreign(t, l, "nft", "insert rule inet firewalld filter_INPUT tcp dport 9 accept")
	eventually(t, "nothing is reported", func() bool { return strings.Contains(log.String(), "stays until") })
	if open := openPorts(t, l, closedPort); len(open) != 2 {
		t.Error("the rule of the other program is not there any more")
	}
	if err := d.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := tableDifference(whole, table(t, l.Firewall())); d != "" {
		t.Errorf("a reload does not put the rules right: %s", d)
	}
}

// A program that flushes the ruleset again and again gets some repairs at once, and then one now and then: the machine is
// not kept busy, and the log says what is going on. The state is running, and beside it stands that new connections are kept out.
func TestFightIsLimited(t *testing.T) {
	l := newLab(t, "nft")
	var log testlog.Log
	d := guarded(t, l, "", "", &log)
	if said := d.Snapshot().Notices(); said != nil {
		t.Errorf("before the fight it is said that %q", said)
	}
	eventually(t, "the fight does not end", func() bool {
		foreign(t, l, "nft", "flush ruleset")
		return strings.Contains(log.String(), "again and again")
	})
	for range 20 {
		foreign(t, l, "nft", "flush ruleset")
	}
	eventually(t, "it is not said that the guard stands", func() bool {
		now := d.Snapshot()
		return now.State == daemon.Running && strings.Contains(strings.Join(now.Notices(), ""), "keeps new connections out") && guards(t, l.Firewall())
	})
	if n := strings.Count(log.String(), "put back"); n < 2 || n > 8 {
		t.Errorf("there were %d repairs:\n%s", n, log.String())
	}
}
