package faults

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/internal/statedir"
	"richwall/internal/testlog"
)

// A line of direct.xml makes a chain, in whichever table and family, and another program has a chain of that name with rules in it.
// A check of the files names the line. A reload is refused with it, and changes nothing. A start leaves the line out and names it; all else is in force, with the
// line behind it. The rules of the other program stay.
func TestChainThatAnotherProgramHas(t *testing.T) {
	for _, backend := range []string{"iptables", "nftables"} {
		for _, c := range []struct{ tool, table, line string }{
			{"iptables", "filter", `<chain ipv="ipv4" table="filter" chain="SHOP"/>`},
			{"iptables", "filter", `<passthrough ipv="ipv4">-N SHOP</passthrough>`},
			{"iptables", "filter", `<chain ipv="ipv4" table="filter" chain="SHOP"/><passthrough ipv="ipv4">-N SHOP</passthrough>`},
			{"iptables", "nat", `<passthrough ipv="ipv4">-t nat -N SHOP</passthrough>`},
			{"iptables", "mangle", `<passthrough ipv="ipv4">--new-chain SHOP -t mangle</passthrough>`},
			{"iptables", "security", `<passthrough ipv="ipv4">-t security -N SHOP</passthrough>`},
			{"ip6tables", "raw", `<passthrough ipv="ipv6">-w -t raw -N SHOP</passthrough>`},
			{"ip6tables", "filter", `<passthrough ipv="ipv6">-N SHOP</passthrough>`},
		} {
			t.Run(backend+" "+c.line, func(t *testing.T) {
				l, dir := newLab(t, "iptables", "ip6tables", "nft"), t.TempDir()
				state, err := statedir.For(t.TempDir(), dir)
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n",
					"zones/public.xml": `<zone><interface name="c0"/><port port="80-82" protocol="tcp"/></zone>`})
				var log testlog.Log
				start := func() *daemon.Daemon {
					d := newDaemon(dir, state, l.Firewall().Do, slog.New(slog.NewTextHandler(&log, nil)))
					if err := d.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					return d
				}
				d := start()
				for _, args := range [][]string{{"-N", "SHOP"}, {"-A", "SHOP", "-p", "tcp", "--dport", "99"}} {
					if _, err := l.Firewall().Run(t.Context(), "", c.tool, append([]string{"-t", c.table}, args...)...); err != nil {
						t.Fatal(err)
					}
				}
				rest := `<passthrough ipv="ipv4">-I INPUT -p tcp --dport 81 -j DROP</passthrough>` // 81 by IPv6 alone
				write(t, dir, map[string]string{"direct.xml": fmt.Sprintf("<direct>\n%s\n%s\n</direct>", c.line, rest)})
				for name, err := range map[string]error{"check": d.CheckPermanent(t.Context()), "reload": d.Reload(t.Context())} {
					if said := strings.Join(daemon.Explain(err), "\n"); err == nil || !strings.Contains(said, "direct.xml:2: ") || strings.Contains(said, "direct.xml:3: ") {
						t.Errorf("the %s says %v:\n%s", name, err, said)
					}
				}
				if got := openPorts(t, l, 79, 80, 81); d.Snapshot().State != daemon.Running || !slices.Equal(got, []int{80, 80, 81, 81}) {
					t.Errorf("after the reload the state is %v, and open are %v", d.Snapshot().State, got)
				}
				for range 2 {
					if err := d.Stop(t.Context()); err != nil {
						t.Fatal(err)
					}
					log.Reset()
					d = start()
					failures := strings.Join(d.Snapshot().Failures, "\n")
					for _, said := range []string{failures, log.String()} {
						if !strings.Contains(said, "direct.xml:2: ") || strings.Contains(said, "direct.xml:3: ") || !strings.Contains(said, "it is left out") {
							t.Errorf("the start says\n%s", said)
						}
					}
					if got := openPorts(t, l, 79, 80, 81); d.Snapshot().State != daemon.Failed || !slices.Equal(got, []int{80, 80, 81}) {
						t.Errorf("after the start the state is %v, and open are %v", d.Snapshot().State, got)
					}
				}
				if err := d.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got, err := l.Firewall().Run(t.Context(), "", c.tool, "-t", c.table, "-S", "SHOP"); err != nil || got != "-N SHOP\n-A SHOP -p tcp -m tcp --dport 99\n" {
					t.Errorf("the other program's chain is %q, %v", got, err)
				}
			})
		}
	}
}

// Another program has made a chain of the name of one that iptables or ebtables has, but of another kind, or owns the table. A start blames
// no line of the configuration for that, and gives none of it up: nothing new is let in, the log names the chain or table, and the rules come
// once the other program has gone, by themselves. A running firewall is told the same at a reload. Panic mode can be switched on and off.
func TestChainOfAnotherKind(t *testing.T) {
	chain := func(family, name, kind string) func(t *testing.T, l *lab.Lab) func() {
		return func(t *testing.T, l *lab.Lab) func() {
			foreign(t, l, "nft", "add table "+family+" filter; add chain "+family+" filter "+name+kind)
			return func() { foreign(t, l, "nft", "delete table "+family+" filter") }
		}
	}
	const iptables, direct, bridge = "FirewallBackend=iptables\n", `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 9 -j DROP</rule>`,
		`<rule ipv="eb" table="filter" chain="INPUT" priority="0">-p ARP -j DROP</rule>`
	for _, c := range []struct {
		name, conf, direct string
		other              func(t *testing.T, l *lab.Lab) (end func())
		said               string
		itself             bool // the rules are waited for; else a reload brings them
	}{
		{"no hook", iptables, "", chain("ip", "INPUT", ""), "no base chain: it has no hook; to take it out, run nft delete chain ip filter INPUT", true},
		{"forward", iptables, "", chain("ip", "FORWARD", ""), "chain FORWARD of table ip filter: it is another program's", false},
		{"IPv6", iptables, "", chain("ip6", "INPUT", ""), "chain INPUT of table ip6 filter: it is another program's", false},
		{"another hook", iptables, "", chain("ip", "INPUT", " { type filter hook output priority 0; }"), "chain INPUT of table ip filter: it is another program's", false},
		{"another priority", iptables, "", chain("ip", "INPUT", " { type filter hook input priority 300; }"), "it is a base chain of type filter, hook input, priority 300; to take it out", false},
		{"another table", iptables, "", func(t *testing.T, l *lab.Lab) func() {
			foreign(t, l, "nft", "add table ip6 mangle; add chain ip6 mangle PREROUTING")
			return func() { foreign(t, l, "nft", "delete chain ip6 mangle PREROUTING") }
		}, "chain PREROUTING of table ip6 mangle: it is another program's", false},
		{"chain of ours with a hook", iptables, "", chain("ip", "IN_public", " { type filter hook input priority 7; }"), "chain IN_public of table ip filter: it is another program's", false},
		{"direct rule", "", direct, chain("ip", "INPUT", ""), "chain INPUT of table ip filter: it is another program's", false},
		{"direct rule, owned table", "", direct, func(t *testing.T, l *lab.Lab) func() { return owns(t, l, "ip filter") }, "table ip filter: it belongs to another program that is running, which seems to be nft", false},
		{"bridge", "", bridge, chain("bridge", "INPUT", ""), "chain INPUT of table bridge filter: it is another program's", false},
		{"bridge, iptables", iptables, bridge, chain("bridge", "INPUT", " { type filter hook input priority 7; }"), "chain INPUT of table bridge filter: it is another program's", false},
		{"bridge, owned table", "", bridge, func(t *testing.T, l *lab.Lab) func() { return owns(t, l, "bridge filter") }, "table bridge filter: it belongs to another program that is running", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, "nft", "iptables", "ip6tables", "ebtables", "ipset")
			end := c.other(t, l)
			var log testlog.Log
			d := guardedWith(t, l, c.conf, "", &log, func(o *daemon.Options) {
				write(t, o.Dirs.System, map[string]string{"direct.xml": "<direct>" + c.direct + "</direct>"})
				o.Bridge = func(ctx context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
					return kernel.CommitBridge(ctx, kernel.Options{Enter: l.Firewall().Do, Log: o.Log}, old, next)
				}
			})
			s := d.Snapshot()
			if failures := strings.Join(s.Failures, "\n"); s.State != daemon.Failed || !strings.Contains(failures, "not in the kernel yet") || strings.Contains(failures, "mend") {
				t.Errorf("the state is %s: %s", s.State, failures)
			}
			if !strings.Contains(log.String(), c.said) || strings.Contains(log.String(), "firewalld.conf") || strings.Contains(log.String(), "direct.xml") {
				t.Errorf("the log is\n%s", log.String())
			}
			if err := d.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), c.said) {
				t.Errorf("a reload gives %v", err)
			}
			for _, on := range []bool{true, false} {
				if err := d.SetPanic(t.Context(), on); err != nil || d.Snapshot().Panic != on {
					t.Errorf("panic mode is %v after it was switched to %v: %v", d.Snapshot().Panic, on, err)
				}
				if open := openPorts(t, l, openPort); open != nil || !on && stands(t, l, "inet firewalld_drop_all") {
					t.Errorf("with panic mode %v, ports %v are open", on, open)
				}
			}
			end()
			if c.itself {
				eventually(t, "the rules do not come", func() bool { return d.Snapshot().State == daemon.Running })
			} else if err := d.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			whole(t, l, d)
		})
	}
}
