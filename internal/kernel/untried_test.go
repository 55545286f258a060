package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// resolver has the programs of iptables find the host two.example with two addresses, until it is called: then they refuse each rule with it, as where no
// name server answers. It counts in a file how often they are given the name behind that.
func resolver(t *testing.T) (silence func(), asked func() int) {
	t.Helper()
	dir, silent := t.TempDir(), filepath.Join(t.TempDir(), "silent")
	for _, program := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore"} {
		path, err := findProgram(program)
		if err != nil {
			t.Skip(err)
		}
		script := `#!/bin/sh
case $* in *"-C firewalld_guard_trial"*two.example*)
	if test -e %[2]s; then echo >> %[2]s; echo "host/network two.example not found" >&2; exit 2; fi
	exit 1;;
esac
exec %[1]s "$@"
`
		if strings.HasSuffix(program, "-restore") {
			script = `#!/bin/sh
in=$(cat; echo .); in=${in%%.}
case $in in *two.example*)
	if test -e %[2]s; then echo >> %[2]s; echo "host/network two.example not found" >&2
		echo "Error occurred at line: $(printf %%s "$in" | grep -n two.example | head -n 1 | cut -d: -f1)" >&2; exit 2; fi;;
esac
printf %%s "$in" | sed 's/two\.example/10.9.9.8,10.9.9.9/g' | %[1]s "$@"
`
		}
		write(t, filepath.Join(dir, program), fmt.Sprintf(script, path, silent))
		if err := os.Chmod(filepath.Join(dir, program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() { write(t, silent, "") }, func() int { return linesOf(t, silent) }
}

// Direct rules name hosts of several addresses, in a chain of iptables and in a chain of their own, and lists of addresses. Then no name server
// answers any more. Other direct rules come and go, what another program has taken out comes back, the firewall is started again without the rules,
// panic mode goes on and off, and the firewall ends: nobody is asked for a host again, and no rule stays. It is so beside a rule of nftables that
// iptables cannot list, and without one.
func TestRulesOfHostsNeedNoNameServer(t *testing.T) {
	const (
		hosts = `<chain ipv="ipv4" table="filter" chain="mine"/>
			<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s two.example -j ACCEPT</rule>
			<rule ipv="ipv4" table="filter" chain="INPUT" priority="1">-p tcp -d two.example -j mine</rule>
			<rule ipv="ipv4" table="filter" chain="mine" priority="0">-s two.example -g mine2</rule>
			<chain ipv="ipv4" table="filter" chain="mine2"/>
			<rule ipv="ipv4" table="filter" chain="INPUT" priority="2">-s 10.9.9.6,10.9.9.7 -p udp -j DROP</rule>`
		theirs = "10.9.9."
	)
	for _, rule := range []string{"", nativeRules["incompatible"], nativeRules["unreadable"]} {
		for _, backend := range eitherBackend {
			for _, early := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s early %v", rule, backend, early), func(t *testing.T) {
					useVariant(t, "nft")
					silence, asked := resolver(t)
					ns, store := namespace(t), &disk{}
					run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
					put := func() {
						if rule != "" {
							native(t, ns, rule, "ip filter INPUT")
						}
					}
					if early {
						put()
					}
					k, _, killed := process(t, ns, backend, store)
					defer func() { killed() }()
					commit(t, k, directly(t, backend, hosts+dports(77)))
					with := func(more string) {
						t.Helper()
						// nft 1.1 lists what -p asks for behind an address, and 1.0 does not.
						text := strings.ReplaceAll(run(t, ns, "", "nft", "list", "table", "ip", "filter"), " ip protocol tcp", "")
						once(t, text, "ip saddr 10.9.9.8 counter packets 0 bytes 0 accept", "ip saddr 10.9.9.9 counter packets 0 bytes 0 accept",
							"ip daddr 10.9.9.8 counter packets 0 bytes 0 jump mine", "ip saddr 10.9.9.9 counter packets 0 bytes 0 goto mine2", "10.9.9.6", "10.9.9.7", more)
					}
					with("dport 77")
					if !early {
						put()
					}
					silence()
					commit(t, k, directly(t, backend, hosts+dports(78)))
					with("dport 78")
					chain := map[ir.Backend]string{ir.NFTables: "INPUT", ir.IPTables: "INPUT_direct"}[backend]
					run(t, ns, "", "nft", "flush", "chain", "ip", "filter", chain)
					commit(t, k, directly(t, backend, hosts+dports(78)))
					with("dport 78")
					panicked := directly(t, backend, hosts+dports(78))
					panicked.Panic = true
					commit(t, k, panicked)
					commit(t, k, directly(t, backend, hosts+dports(78)))
					with("dport 78")
					killed()
					k, _, killed = process(t, ns, backend, store)
					var refused *kernel.RuleError
					if err := k.Commit(t.Context(), directly(t, backend, hosts+dports(78))); !errors.As(err, &refused) || refused.Origin == nil {
						t.Errorf("a start with a host that is not found gives %v", err)
					}
					silence() // nobody asks from here on
					commit(t, k, directly(t, backend, dports(78)))
					if text := run(t, ns, "", "nft", "list", "table", "ip", "filter"); strings.Contains(text, theirs) {
						t.Errorf("behind a start without the rules there is\n%s", text)
					}
					commit(t, k, &kernel.Desired{})
					if n := asked(); n > 0 {
						t.Errorf("the host was asked for %d times", n)
					}
				})
			}
		}
	}
}

// A direct rule cannot be told from others', as another program keeps emptying the chain in which rules are tried, beside a rule that iptables
// cannot list. An ordinary change of its chain names the rule, and changes nothing. One of another chain is made. Panic mode ends, and so does the
// firewall: all else is taken out, the error of the end and the log name the rule, and it stays noted. The next start takes it out.
func TestEndBesideARuleThatCannotBeTried(t *testing.T) {
	unlisted(t, []ir.Backend{ir.NFTables}, func(t *testing.T, backend ir.Backend, rule string) {
		for _, panics := range []bool{false, true} {
			disturb := disturbed(t, "ip", "iptables-restore")
			ns := namespace(t)
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
			store := &disk{}
			k, _, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, store)
			forward := `<rule ipv="ipv4" table="filter" chain="FORWARD" priority="0">-p tcp --dport %d -j ACCEPT</rule>`
			commit(t, k, directly(t, backend, dports(71)+fmt.Sprintf(forward, 81)))
			native(t, ns, rule, "ip filter INPUT")
			kernel.ForgetOwn(k)
			disturb(true)
			before := chainOf(t, ns, "ip filter INPUT")
			if err := k.Commit(t.Context(), directly(t, backend, dports(72)+fmt.Sprintf(forward, 81))); err == nil || !strings.Contains(err.Error(), "dport 71") {
				t.Errorf("the change gives %v", err)
			}
			sameLines(t, before, chainOf(t, ns, "ip filter INPUT"))
			commit(t, k, directly(t, backend, dports(71)+fmt.Sprintf(forward, 82)))
			kernel.ForgetOwn(k)
			if panics {
				panicked := directly(t, backend, dports(71))
				panicked.Panic = true
				commit(t, k, panicked)
				run(t, ns, "", "nft", "flush", "chain", "ip", "filter", "INPUT") // whether it is there is not known at all
				run(t, ns, "", "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "71", "-j", "ACCEPT")
				native(t, ns, rule, "ip filter INPUT")
				kernel.ForgetOwn(k)
				commit(t, k, directly(t, backend, dports(71)))
				if text := run(t, ns, "", "nft", "list", "tables"); strings.Contains(text, "policy_drop") {
					t.Errorf("panic mode goes on:\n%s", text)
				}
				kernel.ForgetOwn(k)
			}
			err := k.Commit(context.Background(), &kernel.Desired{})
			var stays *kernel.StayError
			if !errors.As(err, &stays) || !strings.Contains(err.Error(), "dport 71") || !strings.Contains(log.String(), "dport 71") {
				t.Errorf("the end gives %v, and the log says\n%s", err, log)
			}
			if text := run(t, ns, "", "nft", "list", "ruleset"); strings.Contains(text, "inet firewalld") || strings.Contains(text, "dport 8") {
				t.Errorf("behind the end there is\n%s", text)
			}
			once(t, chainOf(t, ns, "ip filter INPUT"), "dport 71")
			k.Close()
			disturb(false)
			k, _, killed := process(t, ns, backend, store)
			commit(t, k, directly(t, backend, dports(73)))
			if text := chainOf(t, ns, "ip filter INPUT"); strings.Contains(text, "dport 71") {
				t.Errorf("behind the next start there is\n%s", text)
			}
			killed()
		}
	})
}

// Where the direct rules cannot be taken out at the end, as the programs fail, the tables of nftables go all the same.
func TestTablesGoWhereDirectRulesStay(t *testing.T) {
	useVariant(t, "nft")
	broken := filepath.Join(t.TempDir(), "broken")
	before(t, fmt.Sprintf("test -e %s && exit 4", broken), toolsOfIPTables...)
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	commit(t, k, directly(t, ir.NFTables, dports(71)))
	write(t, broken, "")
	if err := k.Commit(t.Context(), &kernel.Desired{}); err == nil {
		t.Error("the end succeeds")
	}
	if text := run(t, ns, "", "nft", "list", "tables"); strings.Contains(text, "firewalld") {
		t.Errorf("behind the end there is\n%s", text)
	}
}
