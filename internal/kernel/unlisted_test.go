package kernel_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// nativeRules are rules of nftables in a table of iptables that iptables has no words for: of the first kind, iptables-save prints nothing of
// the table, and says that all is well; at the second it fails.
var nativeRules = map[string]string{"incompatible": "ct state established,related counter", "unreadable": "meta skuid 4711 counter"}

// ruleMade is what nft says of a rule that it has made: its chain, and its handle.
var ruleMade = regexp.MustCompile(`(?m)^(?:insert|add) rule (\S+ \S+ \S+) .*# handle (\d+)$`)

// native puts a rule of nftables before and behind all rules of some chains, such as "ip filter INPUT", and returns what takes them out.
func native(t *testing.T, ns *lab.Namespace, rule string, chains ...string) (remove func()) {
	t.Helper()
	var script strings.Builder
	for _, chain := range chains {
		fmt.Fprintf(&script, "insert rule %[1]s %[2]s\nadd rule %[1]s %[2]s\n", chain, rule)
	}
	made := ruleMade.FindAllStringSubmatch(run(t, ns, script.String(), "nft", "--echo", "--handle", "-f", "-"), -1)
	if len(made) != 2*len(chains) {
		t.Fatalf("of %d rules, nft names %q", 2*len(chains), made)
	}
	return func() {
		t.Helper()
		script.Reset()
		for _, m := range made {
			fmt.Fprintf(&script, "delete rule %s handle %s\n", m[1], m[2])
		}
		run(t, ns, script.String(), "nft", "-f", "-")
		if text := run(t, ns, "", "nft", "list", "ruleset"); strings.Contains(text, "firewalld_guard_trial") {
			t.Errorf("rules that were tried stay:\n%s", text)
		}
	}
}

// unlisted runs a test with each kind of such a rule on some back ends.
func unlisted(t *testing.T, backends []ir.Backend, test func(t *testing.T, backend ir.Backend, rule string)) {
	for kind, rule := range nativeRules {
		for _, backend := range backends {
			t.Run(kind+"/"+string(backend), func(t *testing.T) {
				useVariant(t, "nft")
				test(t, backend, rule)
			})
		}
	}
}

var eitherBackend = []ir.Backend{ir.NFTables, ir.IPTables}

const shopRules = `<rule ipv="ipv4" table="filter" chain="shop" priority="0">-s 10.9.0.2 -p tcp --dport 81 -j ACCEPT</rule>
	<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.9.0.3 -m comment --comment "two words" -j ACCEPT</rule>
	<passthrough ipv="ipv4">-A FORWARD -s 10.9.0.2 -j ACCEPT</passthrough>`

// shop makes another program's chain with a rule of its own.
func shop(t *testing.T, ns *lab.Namespace) {
	t.Helper()
	run(t, ns, "*filter\n:shop - [0:0]\n-A INPUT -j shop\n-A shop -s 10.9.0.7/32 -j DROP\nCOMMIT\n", "iptables-restore", "--noflush")
}

// Direct rules that accept go from a chain when they are taken out, and come back, although another program has put a rule of nftables
// there that iptables cannot list. That rule stays where it is.
func TestDirectRulesBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		ns := namespace(t)
		shop(t, ns)
		k := open(t, ns, backend)
		commit(t, k, directly(t, backend, ""))
		without := saved(t, ns)
		commit(t, k, directly(t, backend, shopRules))
		with := saved(t, ns)
		remove := native(t, ns, rule, "ip filter INPUT", "ip filter shop", "ip filter FORWARD")
		commit(t, k, directly(t, backend, ""))
		remove()
		sameLines(t, sortedLines(without), sortedLines(saved(t, ns)))
		remove = native(t, ns, rule, "ip filter INPUT", "ip filter shop")
		commit(t, k, directly(t, backend, shopRules))
		remove()
		sameLines(t, sortedLines(with), sortedLines(saved(t, ns)))
	})
}

// A chain of another program, of the name of a direct chain, is left alone at a start, and the line is named, although a table with a rule of
// nftables is not printed by iptables-save.
func TestChainOfAnotherProgramBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		for _, chain := range []string{"ip filter INPUT", "ip filter f2b"} {
			ns := namespace(t)
			run(t, ns, "*filter\n:f2b - [0:0]\n-A INPUT -j f2b\n-A f2b -s 10.9.0.2/32 -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n", "iptables-restore", "--noflush")
			before := saved(t, ns)
			remove := native(t, ns, rule, chain)
			k, _, killed := process(t, ns, backend, &disk{})
			defer killed()
			err := k.Commit(t.Context(), directly(t, backend, `<chain ipv="ipv4" table="filter" chain="f2b"/>
				<rule ipv="ipv4" table="filter" chain="f2b" priority="0">-s 10.9.0.7 -j DROP</rule>`))
			var taken *kernel.TakenError
			if !errors.As(err, &taken) || taken.Chain != "f2b" {
				t.Errorf("with a rule in %s it gives %v", chain, err)
			}
			remove()
			sameLines(t, before, saved(t, ns))
		}
	})
}

// Direct rules that a killed process has noted, and that are taken out of the configuration meanwhile, go at the next start, whether there
// is a note or the configuration still has them; and those that stay stand once.
func TestStartBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		ns, store := namespace(t), &disk{}
		shop(t, ns)
		k, _, killed := process(t, ns, backend, store)
		commit(t, k, directly(t, backend, ""))
		without := saved(t, ns)
		commit(t, k, directly(t, backend, shopRules))
		with := saved(t, ns)
		killed()
		remove := native(t, ns, rule, "ip filter INPUT", "ip filter shop", "ip filter FORWARD")
		for _, c := range []struct {
			store    kernel.Store
			elements string
		}{{store, shopRules}, {&disk{}, shopRules}, {store, ""}} {
			k, _, killed = process(t, ns, backend, c.store)
			commit(t, k, directly(t, backend, c.elements))
			killed()
			remove()
			want := with
			if c.elements == "" {
				want = without
			}
			sameLines(t, sortedLines(want), sortedLines(saved(t, ns)))
			remove = native(t, ns, rule, "ip filter INPUT", "ip filter shop", "ip filter FORWARD")
		}
	})
}

// The rules of a killed process stand once at the next start, and none is left when the firewall ends, nor when the next start is one of the
// other back end.
func TestRulesOfIPTablesBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, []ir.Backend{ir.IPTables}, func(t *testing.T, backend ir.Backend, rule string) {
		ns := namespace(t)
		run(t, ns, foreign, "iptables-restore")
		before := saved(t, ns)
		first, second := scenario(t, "static-services.txt", ir.IPTables), scenario(t, "static-log-denied.txt", ir.IPTables)
		k, _, killed := process(t, ns, ir.IPTables, &disk{})
		commit(t, k, &kernel.Desired{Rules: second})
		want := saved(t, ns)
		commit(t, k, &kernel.Desired{Rules: first})
		killed()
		chains := []string{"ip filter INPUT", "ip filter FORWARD", "ip6 filter OUTPUT", "ip6 filter INPUT", "ip nat POSTROUTING", "ip mangle PREROUTING"}
		remove := native(t, ns, rule, chains...)
		k, _, killed = process(t, ns, ir.IPTables, &disk{})
		commit(t, k, &kernel.Desired{Rules: second})
		remove()
		sameLines(t, sortedLines(want), sortedLines(saved(t, ns)))
		remove = native(t, ns, rule, chains...)
		commit(t, k, &kernel.Desired{Rules: first})
		killed()
		k, o, killed := process(t, ns, ir.NFTables, &disk{})
		commit(t, k, &kernel.Desired{Rules: scenario(t, "static-services.txt", ir.NFTables)})
		if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
			t.Fatal(err)
		}
		killed()
		remove()
		sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
		k, _, killed = process(t, ns, ir.IPTables, &disk{})
		defer killed()
		commit(t, k, &kernel.Desired{Rules: first})
		remove = native(t, ns, rule, chains...)
		commit(t, k, &kernel.Desired{})
		remove()
		sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	})
}

// A passthrough that puts a rule before all others goes when it is taken out.
func TestPassthroughGoesBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		ns := namespace(t)
		k := open(t, ns, backend)
		commit(t, k, directly(t, backend, ""))
		before := saved(t, ns)
		commit(t, k, directly(t, backend, `<passthrough ipv="ipv4">-I INPUT -i lo -j ACCEPT</passthrough><passthrough ipv="ipv4">-I INPUT 2 -s 10.9.0.2,10.9.0.3 -j ACCEPT</passthrough>`))
		remove := native(t, ns, rule, "ip filter INPUT")
		commit(t, k, directly(t, backend, ""))
		remove()
		sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	})
}

// What another program has taken out of a chain beside its rule of nftables is put back by the next commit, once.
func TestRepairBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, []ir.Backend{ir.IPTables}, func(t *testing.T, backend ir.Backend, rule string) {
		ns := namespace(t)
		k := open(t, ns, ir.IPTables)
		d := &kernel.Desired{Rules: scenario(t, "static-services.txt", ir.IPTables)}
		commit(t, k, d)
		before := saved(t, ns)
		run(t, ns, "", "iptables", "-D", "INPUT", "-j", "REJECT", "--reject-with", "icmp-host-prohibited")
		remove := native(t, ns, rule, "ip filter INPUT")
		commit(t, k, d)
		remove()
		sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	})
}

// Panic mode goes on and off whatever rules of nftables are in the tables of iptables, also behind rules of another program, and also at a
// start in panic mode.
func TestPanicBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		ns := namespace(t)
		var chains []string
		for _, where := range []string{"raw OUTPUT", "raw PREROUTING", "filter OUTPUT", "mangle FORWARD", "security INPUT"} {
			table, chain, _ := strings.Cut(where, " ")
			run(t, ns, "", "iptables", "-t", table, "-A", chain, "-j", "RETURN")
			run(t, ns, "", "ip6tables", "-t", table, "-A", chain, "-j", "RETURN")
			chains = append(chains, "ip "+where, "ip6 "+where)
		}
		k, _, killed := process(t, ns, backend, &disk{})
		d := &kernel.Desired{Rules: scenario(t, "static-services.txt", backend)}
		commit(t, k, d)
		without := saved(t, ns)
		panicked := &kernel.Desired{Rules: d.Rules, Panic: true}
		commit(t, k, panicked)
		with := saved(t, ns)
		commit(t, k, d)
		remove := native(t, ns, rule, chains...)
		commit(t, k, panicked)
		remove()
		sameLines(t, with, saved(t, ns))
		remove = native(t, ns, rule, chains...)
		killed()
		k, _, killed = process(t, ns, backend, &disk{})
		defer killed()
		commit(t, k, panicked)
		commit(t, k, d)
		remove()
		sameLines(t, sortedLines(without), sortedLines(saved(t, ns)))
	})
}

// A commit that fails at a later table puts the chain with such a rule back to what it was.
func TestFailedCommitBesideARuleOfNFTables(t *testing.T) {
	unlisted(t, []ir.Backend{ir.IPTables}, func(t *testing.T, backend ir.Backend, rule string) {
		fail := faulty6(t)
		ns := namespace(t)
		shop(t, ns)
		k := open(t, ns, ir.IPTables)
		commit(t, k, &kernel.Desired{Rules: scenario(t, "static-log-denied.txt", ir.IPTables)})
		before := saved(t, ns)
		remove := native(t, ns, rule, "ip filter INPUT", "ip filter shop")
		for _, next := range []*kernel.Desired{{Rules: scenario(t, "static-direct-iptables.txt", ir.IPTables)}, directly(t, ir.IPTables, shopRules)} {
			fail(true)
			if k.Commit(t.Context(), next) == nil {
				t.Fatal("locked tables were changed")
			}
			fail(false)
		}
		remove()
		sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	})
}

// A direct chain to which a map of nftables leads stays when it is taken out, and is named; the rest of the change is made.
func TestDirectChainThatAMapLeadsTo(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		useVariant(t, "nft")
		ns := namespace(t)
		logger, log := kernel.Logged()
		k := start(t, kernel.Options{Backend: backend, Enter: ns.Do, Log: logger})
		commit(t, k, directly(t, backend, `<chain ipv="ipv4" table="filter" chain="mine"/>`+
			`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.9.0.2 -j mine</rule>`))
		run(t, ns, "", "nft", "add", "rule", "ip", "filter", "INPUT", "ct", "state", "vmap", "{", "new", ":", "jump", "mine", "}")
		commit(t, k, directly(t, backend, ""))
		got := run(t, ns, "", "nft", "list", "table", "ip", "filter")
		if !strings.Contains(got, "chain mine") || strings.Contains(got, "10.9.0.2") {
			t.Errorf("there is\n%s", got)
		}
		if !strings.Contains(log.String(), "chain=mine") || !strings.Contains(log.String(), "nft list table ip filter") {
			t.Errorf("the log says\n%s", log.String())
		}
	})
}

// kinds are rules of many extensions of iptables, by program and table.
var kinds = map[string][]string{
	"iptables filter": {
		"-s 10.0.0.1/32 -d 10.0.0.0/8 -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT", "! -s 10.0.0.1/32 ! -p tcp -j DROP", "-p udp -m udp --sport 1:5 -j RETURN",
		"-p tcp -m tcp --tcp-flags SYN,RST SYN -j DROP", "-p tcp -m tcp --tcp-option 5 -j DROP", "-p tcp -m multiport --dports 80,443 -j ACCEPT",
		"-p icmp -m icmp --icmp-type 8 -j ACCEPT", "-p sctp -m sctp --dport 5 -j DROP", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with icmp-host-prohibited", `-j LOG --log-prefix "two words: "`,
		`-m comment --comment "two words" -j ACCEPT`, "-m set --match-set bans src -j DROP", "-m limit --limit 5/sec -j ACCEPT", "-m mark --mark 0x1/0xf -j DROP",
		"-m recent --set --name x --mask 255.255.255.255 --rsource -j DROP", "-m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-name y -j ACCEPT",
		"-p tcp -m connlimit --connlimit-above 5 --connlimit-mask 32 --connlimit-saddr -j DROP", "-m pkttype --pkt-type broadcast -j DROP",
		`-m string --string "a b" --algo bm -j DROP`, "-m addrtype --dst-type LOCAL -j ACCEPT", "-m iprange --src-range 10.0.0.1-10.0.0.9 -j ACCEPT",
		"-m statistic --mode nth --every 3 --packet 0 -j DROP", "-p udp -j NFQUEUE --queue-num 3", "-j NFLOG --nflog-group 3", "-m physdev --physdev-in eth0 -j DROP",
		"-m state --state NEW -j ACCEPT", "-m mac --mac-source 00:11:22:33:44:55 -j DROP", "-m dscp --dscp 0x03 -j DROP", "-f -j DROP", "-g other", "-j other",
		"-m ttl --ttl-eq 5 -j DROP", "-m tos --tos 0x10/0x3f -j DROP", "-m length --length 5:9 -j DROP", "-m quota --quota 5 -j ACCEPT", "-m u32 --u32 0x0=0x1 -j DROP"},
	"iptables nat": {"-p tcp -m tcp --dport 81 -j DNAT --to-destination 10.0.0.1:80", "-p tcp -j REDIRECT --to-ports 22", "-j MASQUERADE", "-j SNAT --to-source 10.0.0.1",
		"-d 10.0.0.0/8 -j NETMAP --to 10.1.0.0/16"},
	"iptables mangle": {"-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", "-j MARK --set-xmark 0x1/0xff", "-j CONNMARK --save-mark", "-j DSCP --set-dscp 0x03", "-j TTL --ttl-set 5"},
	"iptables raw":    {"-j CT --notrack", "-p tcp -m tcp --dport 21 -j CT --helper ftp", "-m rpfilter --invert -j DROP"},
	"ip6tables filter": {"-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT", "-s fd00::1/128 -p tcp -m tcp --dport 5 -j DROP", "-j REJECT --reject-with icmp6-adm-prohibited",
		"-p tcp -j REJECT --reject-with tcp-reset", "-m hl --hl-eq 5 -j DROP", "-m rt --rt-type 0 -j DROP", "-p udp -m udp --dport 546 -j ACCEPT", "-m frag --fragmore -j DROP"},
}

// Rules of whatever extension are known beside a rule of nftables, in a chain of another program, as iptables-save prints them without it. What
// differs from them, and what another program has put there by itself, is not.
func TestRulesOfEveryExtensionAreRecognised(t *testing.T) {
	unlisted(t, []ir.Backend{ir.IPTables}, func(t *testing.T, _ ir.Backend, rule string) {
		for where, specs := range kinds {
			program, table, _ := strings.Cut(where, " ")
			family, name := ir.V4, "ip"
			if program == "ip6tables" {
				family, name = ir.V6, "ip6"
			}
			ns := namespace(t)
			run(t, ns, "create bans hash:ip\n", "ipset", "restore")
			run(t, ns, "", program, "-t", table, "-N", "some")
			run(t, ns, "", program, "-t", table, "-N", "other")
			var taken []string
			for _, spec := range specs { // the kernel need not have all extensions
				if _, err := ns.Run(t.Context(), "*"+table+"\n-A some "+spec+"\nCOMMIT\n", program+"-restore", "--noflush"); err == nil {
					taken = append(taken, spec)
				} else {
					t.Logf("not in this kernel: %s", spec)
				}
			}
			theirs := "-p tcp -m tcp --dport 4711 -j ACCEPT"
			run(t, ns, "*"+table+"\n-A some "+theirs+"\nCOMMIT\n", program+"-restore", "--noflush")
			o := kernel.Options{Backend: ir.IPTables, Enter: ns.Do}
			listed, err := kernel.ReadTable(o, family, table)
			if want := listed["some"]; err != nil || len(want) != len(taken)+1 || len(taken) < 3 || want[len(taken)] != theirs {
				t.Fatalf("%d rules and %v; there are %d", len(want), err, len(taken)+1)
			}
			remove := native(t, ns, rule, name+" "+table+" some")
			got, err := kernel.Recognise(o, family, table, "some", append(taken, "-p tcp -m tcp --dport 4712 -j ACCEPT"))
			remove()
			if err != nil || len(got) != len(taken)+3 {
				t.Fatalf("beside a rule of nftables it reads %q and %v", got, err)
			}
			sameLines(t, strings.Join(listed["some"][:len(taken)], "\n"), strings.Join(got[1:len(taken)+1], "\n"))
			for _, i := range []int{0, len(taken) + 1, len(taken) + 2} {
				if !strings.HasPrefix(got[i], "# handle ") {
					t.Errorf("a rule of another program is taken for %q", got[i])
				}
			}
		}
	})
}
