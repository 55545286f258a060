package kernel_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/compile"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/internal/irgen"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// loaded is the configuration of some files, by their paths.
func loaded(t *testing.T, files map[string]string) *zones.Config {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		write(t, filepath.Join(dir, path), text)
	}
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatalf("the configuration is refused: %v", problems)
	}
	return cfg
}

// pieces are what anyFiles makes zones and policies of.
var pieces = []string{`<service name="ssh"/>`, `<service name="ftp"/>`, `<port port="80" protocol="tcp"/>`, `<protocol value="esp"/>`, `<icmp-block name="echo-request"/>`,
	`<source-port port="53" protocol="udp"/>`, `<forward-port port="81" protocol="tcp" to-port="80"/>`, `<forward-port port="82" protocol="tcp" to-addr="192.0.2.9"/>`,
	`<rule><tcp-mss-clamp value="1300"/></rule>`, `<rule><tcp-mss-clamp/></rule>`, `<rule family="ipv6"><source address="2001:db8::/64"/><tcp-mss-clamp value="1200"/></rule>`,
	`<rule><source mac="00:11:22:33:44:55"/><tcp-mss-clamp value="1100"/></rule>`, `<rule family="ipv4"><source address="192.0.2.7"/><log prefix="x "/><drop/></rule>`,
	`<rule><tcp-mss value="0-500"/><log prefix="m "/><drop/></rule>`, `<rule><tcp-mss value="600"/><audit/><reject/></rule>`, `<rule priority="3"><tcp-mss value="700"/><accept/></rule>`,
	`<rule><tcp-mss-clamp value="1350"/><log prefix="c "/></rule>`, `<rule><tcp-mss-clamp value="link"/></rule>`,
	`<rule priority="-5"><port port="99" protocol="udp"/><mark set="5"/></rule>`, `<rule priority="7"><port port="98" protocol="tcp"/><audit/><reject/></rule>`}

// anyFiles are the files of a random configuration for iptables, with names of any length and clamps more often than not.
func anyFiles(r *rand.Rand) map[string]string {
	choose := func(list ...string) string { return list[r.IntN(len(list))] }
	content := func() (text string) {
		for range r.IntN(6) {
			if piece := choose(pieces...); !strings.Contains(text, piece) {
				text += piece
			}
		}
		return text
	}
	files := map[string]string{
		"firewalld.conf": strings.Join([]string{"FirewallBackend=iptables", "LogDenied=" + choose("off", "all", "unicast", "multicast"), "IPv6_rpfilter=" + choose("no", "strict", "loose"),
			"RFC3964_IPv4=" + choose("no", "yes"), "StrictForwardPorts=" + choose("no", "yes"), ""}, "\n"),
		"richwall.conf": "TCPMSSClamp=" + choose("both", "both", "initiator") + "\nRuleFolding=" + choose("auto", "yes", "no") + "\n",
	}
	names := []string{"public", "work", "SYN", "direct", "dmz-mss", "averyveryverylong"}
	for i, name := range names {
		bound := fmt.Sprintf(`<interface name="eth%d"/>`, i)
		if r.IntN(3) == 0 {
			bound = fmt.Sprintf(`<source address="198.51.100.%d"/>`, i) + choose("", fmt.Sprintf(`<source address="02:00:00:00:00:%02d"/>`, i))
		}
		if r.IntN(2) == 0 {
			files["zones/"+name+".xml"] = fmt.Sprintf("<zone%s>%s%s</zone>", choose("", ` target="DROP"`, ` target="ACCEPT"`), bound, content()+choose("", "<masquerade/>", "<forward/>"))
		}
	}
	for _, name := range []string{"out", "SYNACK_dispatch", "alongpolicyname1"} {
		if r.IntN(2) == 0 {
			from, to := choose("ANY", "public", "HOST"), choose("ANY", "public")
			if from != "HOST" {
				to = choose("ANY", "HOST", "public")
			}
			files["policies/"+name+".xml"] = fmt.Sprintf(`<policy target="%s"><ingress-zone name="%s"/><egress-zone name="%s"/><rule><tcp-mss-clamp value="1250"/></rule></policy>`,
				choose("CONTINUE", "ACCEPT", "DROP", "REJECT"), from, to)
		}
	}
	return files
}

// strangers are chains of other programs: of Docker, libvirt, Kubernetes, ufw and fail2ban, of firewalld before version 2.3, and what
// administrators write.
var strangers = []string{"DOCKER", "DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "LIBVIRT_INP", "LIBVIRT_FWI", "LIBVIRT_PRT", "KUBE-FORWARD", "KUBE-SVC-NPX46M4PTMTKRN6Y", "cali-FORWARD",
	"ufw-before-input", "ufw-user-forward", "f2b-sshd", "fail2ban-ssh", "INPUT_ZONES", "INPUT_POLICIES_pre", "FORWARD_IN_ZONES", "FORWARD_OUT_ZONES_SOURCE", "PREROUTING_ZONES",
	"INPUT_LOG", "SYN_FLOOD", "syn_flood", "FORWARD_mss2", "INPUT_", "_direct", "SYN", "SYNACK", "mss", "NETAVARK_FORWARD", "CNI-FORWARD"}

// theirRules are rules of other programs in one of the kernel's chains: one to each of the strangers, and such as say in a comment or a prefix for the
// log what leads to chains of ours in another rule.
func theirRules() (text string) {
	for _, name := range strangers {
		text += fmt.Sprintf("-A CHAIN -p udp -j %s\n", name)
	}
	for _, word := range []string{`"see -j INPUT_dispatch or so"`, `"-g FORWARD_dispatch"`, `"a \" -j CHAIN_direct"`, "-j", "-g"} {
		text += "-A CHAIN -p tcp -m comment --comment " + word + " -j DROP\n-A CHAIN -p tcp -j LOG --log-prefix " + word + "\n"
	}
	return text
}

// orphans are chains of other programs that nothing leads to, in part with names that chains of ours have.
var orphans = map[string][]string{
	"IN_here_to_b":                 {"-p tcp -m tcp --dport 9 -j ACCEPT"},
	"FWD_there_to_here":            {"-j ACCEPT"},
	"POST_here_to_d":               {"-j SNAT --to-source 192.0.2.1"},
	"OUT_HOST_to_here":             {"-p tcp -j IN_public", "-j ACCEPT"},
	"IN_mine":                      {},
	"SYN_here_to_b":                {"-p tcp -j TCPMSS --set-mss 1300"},
	"SYN_web":                      {"-p tcp -j TCPMSS --set-mss 1300"},
	"abcdefghijklmnopqrstuvwxyzAB": {"-p tcp -m tcp --dport 9 -j ACCEPT"},
	"abcdefghijklmnopqrstuvwxyzAC": {"-m comment --comment \"-j IN_public\" -j ACCEPT"},
	"IN_web":                       {"-j IN_public"},
	"FWD_web":                      {"-m comment --comment \"-j FWD_web_pre -j FWD_web_log -j FWD_web_deny -j FWD_web_post\" -j ACCEPT"},
}

// withOrphans is what iptables-save prints of a table that has the orphans, too.
func withOrphans(text string) string {
	for _, name := range slices.Sorted(maps.Keys(orphans)) {
		text += fmt.Sprintf(":%s - [0:0]\n", name)
		for _, rule := range orphans[name] {
			text += fmt.Sprintf("-A %s %s\n", name, rule)
		}
	}
	return text
}

// Whatever the configuration, a start knows all that an earlier process has left in the tables of iptables: every chain, and every rule in
// the kernel's chains, also among the rules of other programs, which it leaves alone.
func TestEveryChainAndRuleIsKnownAsOurs(t *testing.T) {
	seed := irgen.Seed(t)
	seen := map[string]bool{}
	for n := range irgen.Setting(t, "RICHWALL_CONFIGURATIONS", 60) {
		files := anyFiles(rand.New(rand.NewPCG(seed, n)))
		rs, err := compile.Compile(loaded(t, files), ir.IPTables)
		rs = compile.WithLinks(rs, someLinks)
		if err != nil || !sayable(rs) {
			continue // a clamp that a policy cannot have, or a prefix for the log that is too long
		}
		for _, c := range rs.Chains {
			seen[c.Table+" "+c.Name] = true
		}
		if lost := notKnown(rs); len(lost) > 0 {
			t.Errorf("RICHWALL_SEED=%d, configuration %d: a start does not know\n%s\nof\n%v", seed, n, strings.Join(lost, "\n"), files)
		}
	}
	for _, some := range []string{"mangle FORWARD_mss", "mangle INPUT_mss", "mangle OUTPUT_mss", "mangle FORWARD_SYNACK", "filter FORWARD_dnat", "filter " + ir.ChainRFC3964, "security INPUT_direct"} {
		if !seen[some] {
			t.Errorf("RICHWALL_SEED=%d: no configuration had chain %s", seed, some)
		}
	}
	for _, c := range configurations(t) {
		if rs := c.compiled(t, ir.IPTables); rs != nil {
			if lost := notKnown(withoutDirect(rs)); len(lost) > 0 {
				t.Errorf("%s: a start does not know\n%s", c.name, strings.Join(lost, "\n"))
			}
		}
	}
}

// sayable says whether the tools take all rules of a ruleset.
func sayable(rs *ir.Ruleset) bool {
	return !slices.ContainsFunc(rs.Chains, func(c *ir.Chain) bool {
		return slices.ContainsFunc(c.Rules, func(r *ir.Rule) bool {
			_, err := iptables.Spec(nil, r, r.Families&-r.Families)
			return err != nil
		})
	})
}

// notKnown is which chains and rules of a ruleset a start would not take for ours, and which of others' it would, among those of others.
func notKnown(rs *ir.Ruleset) (lost []string) {
	theirs := theirRules()
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		for _, table := range iptables.Tables {
			rules, chains := kernel.Remains(table, withOrphans(kernel.Printed(rs, family, table, theirs, theirs)))
			got := slices.Sorted(slices.Values(slices.Concat(rules, chains)))
			var want []string
			used := ""
			for _, c := range rs.Chains {
				if c.Table == table && c.Families&family != 0 && (!c.Builtin || len(c.Rules) > 0) {
					want = append(want, c.Name)
				}
			}
			for line := range strings.Lines(kernel.Printed(rs, family, table, "", "")) {
				if rule, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-A "); ok {
					if chain, _, _ := strings.Cut(rule, " "); strings.ToUpper(chain) == chain && !strings.Contains(chain, "_") && len(chain) < ir.MaxChainName {
						want = append(want, rule)
					}
					used += rule + "\n"
				}
			}
			slices.Sort(want)
			lost = append(lost, missingFrom(want, got, fmt.Sprint("ours of ", family, " ", table, ": "))...)
			lost = append(lost, missingFrom(got, want, fmt.Sprint("not ours of ", family, " ", table, ": "))...)
		}
	}
	return lost
}

// missingFrom is what of a list is not in another one as often, with some text before it.
func missingFrom(list, other []string, text string) (lost []string) {
	count := map[string]int{}
	for _, line := range other {
		count[line]++
	}
	for _, line := range list {
		if count[line]--; count[line] < 0 {
			lost = append(lost, text+line)
		}
	}
	return lost
}

// withoutDirect is a ruleset without the direct interface, of which a note says what is left.
func withoutDirect(rs *ir.Ruleset) *ir.Ruleset {
	less := *rs
	less.Chains = nil
	for _, c := range rs.Chains {
		if !c.Shared {
			some := *c
			some.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r *ir.Rule) bool { return r.Direct })
			less.Chains = append(less.Chains, &some)
		}
	}
	return &less
}

// Chains of other programs are not taken for ours, even if they are called like ours and nothing leads to them; nor are rules of others because of
// what they say in a comment.
func TestChainsOfOthersAreNotKnownAsOurs(t *testing.T) {
	for _, table := range slices.Sorted(maps.Keys(map[string]bool{"filter": true, "nat": true, "mangle": true, "raw": true, "security": true})) {
		for _, name := range strangers {
			if ir.IsEntryChain(table, name) {
				t.Errorf("chain %s of table %s is taken for one that our rules in the kernel's chains lead to", name, table)
			}
			if ir.IsChain(table, name) && !(name == "SYN_FLOOD" && table == "mangle") { // it is ours where a chain of ours leads to it
				t.Errorf("chain %s of table %s is taken for ours", name, table)
			}
		}
		const ours = ":INPUT ACCEPT [0:0]\n:INPUT_direct - [0:0]\n-A INPUT -j INPUT_direct\n"
		rules, chains := kernel.Remains(table, withOrphans(ours+strings.ReplaceAll(theirRules(), "CHAIN", "INPUT")))
		if !slices.Equal(rules, []string{"INPUT -j INPUT_direct"}) || !slices.Equal(chains, []string{"INPUT", "INPUT_direct"}) {
			t.Errorf("of table %s a start takes rules %q and chains %q for ours", table, rules, chains)
		}
	}
}

// Where a rule leads is what its words say, and not what is in a comment.
func TestTargetOfARule(t *testing.T) {
	for rule, want := range map[string]string{
		`-p tcp -j DROP`: "DROP", `-g mine`: "mine", `--jump mine -p tcp`: "mine", `-s 192.0.2.1 --goto mine`: "mine", `-p tcp`: "", ``: "", `-j`: "",
		`-m comment --comment "see -j foo or so" -j ACCEPT`: "ACCEPT", `-m comment --comment "a \" -j foo" -j ACCEPT`: "ACCEPT", `-m comment --comment "-j foo"`: "",
		`-m comment --comment -j -p tcp -j ACCEPT`: "ACCEPT", `-m comment --comment -g ! -i eth0 -j ACCEPT`: "ACCEPT", `-m comment --comment -j -j ACCEPT`: "ACCEPT",
		`-j LOG --log-prefix "-j foo "`: "LOG", `-j "mine"`: "mine",
	} {
		if got := kernel.TargetOf(rule); got != want {
			t.Errorf("%s leads to %q, not to %q", rule, got, want)
		}
	}
}

// A direct rule may lead to a chain of another program that is called like one of ours. The chain stays when the direct rule goes.
func TestChainThatADirectRuleLeadsToStays(t *testing.T) {
	const text = ":FORWARD ACCEPT [0:0]\n:FORWARD_direct - [0:0]\n:SYN_FLOOD - [0:0]\n-A FORWARD -j FORWARD_direct\n-A FORWARD_direct -j SYN_FLOOD\n-A SYN_FLOOD -j DROP\n"
	if _, chains := kernel.Remains("mangle", text); !slices.Equal(chains, []string{"FORWARD", "FORWARD_direct"}) {
		t.Errorf("a start takes chains %v for ours", chains)
	}
}

// everything is the files of a configuration that has something of all that becomes rules, for a back end.
func everything(backend ir.Backend) map[string]string {
	return map[string]string{
		"firewalld.conf": "FirewallBackend=" + string(backend) + "\nLogDenied=all\nIPv6_rpfilter=strict\nRFC3964_IPv4=yes\nStrictForwardPorts=yes\n",
		"richwall.conf":  "RuleFolding=yes\n",
		"zones/work.xml": `<zone><interface name="eth0"/><service name="ftp"/><port port="80" protocol="tcp"/><protocol value="esp"/><icmp-block name="echo-request"/>` +
			`<source-port port="53" protocol="udp"/><masquerade/><forward/><forward-port port="81" protocol="tcp" to-addr="192.0.2.9"/>` +
			`<rule><tcp-mss-clamp value="1300"/></rule><rule family="ipv4"><source address="192.0.2.7"/><log prefix="x "/><drop/></rule>` +
			`<rule priority="-5"><port port="99" protocol="udp"/><mark set="5"/></rule>` + manyPorts() + `</zone>`,
		"zones/dmz.xml":                  `<zone target="DROP"><source address="198.51.100.0/24"/><rule><source mac="00:11:22:33:44:55"/><tcp-mss-clamp value="1100"/></rule></zone>`,
		"zones/bad.xml":                  `<zone target="DROP"><source ipset="listed"/></zone>`,
		"ipsets/listed.xml":              `<ipset type="hash:ip"><entry>203.0.113.1</entry></ipset>`,
		"policies/alongpolicyname1.xml":  `<policy target="REJECT"><ingress-zone name="ANY"/><egress-zone name="HOST"/><rule><tcp-mss-clamp value="1250"/></rule></policy>`,
		"policies/through.xml":           `<policy target="CONTINUE"><ingress-zone name="work"/><egress-zone name="ANY"/><rule><tcp-mss-clamp/></rule></policy>`,
		"policies/averyverylongname.xml": `<policy target="ACCEPT"><ingress-zone name="HOST"/><egress-zone name="ANY"/><rule><tcp-mss-clamp value="1240"/></rule></policy>`,
		"direct.xml":                     "<direct>" + directEverywhere + directForLater + "</direct>",
	}
}

// manyPorts are rules that folding makes a set of.
func manyPorts() (text string) {
	for i := range 5 {
		text += fmt.Sprintf(`<rule family="ipv4"><source address="192.0.2.%d"/><port port="22" protocol="tcp"/><accept/></rule>`, 20+i)
	}
	return text
}

// desired is what a configuration of some files wants of a back end.
func desired(t *testing.T, files map[string]string, backend ir.Backend, panicked bool) *kernel.Desired {
	t.Helper()
	cfg := loaded(t, files)
	rs, err := compile.Compile(cfg, backend)
	if err != nil {
		t.Fatal(err)
	}
	d := &kernel.Desired{Rules: rs, Panic: panicked}
	if backend == ir.NFTables {
		if d.Direct, err = compile.Direct(cfg); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// inTables is all of a namespace that the tools list. The sets are in order, as those that were there before stay where they are, and so are
// the tables, which iptables-legacy lists as they were first used.
func inTables(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	tables, sets, _ := strings.Cut(all(t, ns), "\ncreate ")
	lines := strings.Split("create "+sets, "\n")
	slices.Sort(lines)
	head, rest, _ := strings.Cut(tables, "*")
	byName := strings.Split(rest, "\n*")
	slices.SortStableFunc(byName, func(a, b string) int {
		return strings.Compare(strings.SplitN(a, "\n", 2)[0], strings.SplitN(b, "\n", 2)[0])
	})
	tables = head + "*" + strings.Join(byName, "\n*")
	if strings.Contains(tables, "table inet firewalld\n") {
		tables += listTable(t, ns)
	}
	return tables + strings.Join(lines, "\n")
}

// started is a process that has started as the daemon does: behind a guard it has put its rules into the kernel, and then taken out
// what an earlier process had there elsewhere. killed ends it.
func started(t *testing.T, ns *lab.Namespace, store kernel.Store, backend ir.Backend, d *kernel.Desired) (killed func()) {
	t.Helper()
	o := kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
	guard := base(t, o, d.Panic)
	o.Guard = guard
	k := start(t, o)
	commit(t, k, d)
	if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(k.Close(), guard.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A process that was killed is followed by one with the same configuration or with less, with its back end or the other one, in panic mode,
// too. Then all tables are, byte for byte, as the second one alone would have made them.
func TestStartAfterAnyOther(t *testing.T) {
	variants(t, func(t *testing.T) {
		bothBackends(t, func(t *testing.T, next ir.Backend) {
			less := everything(next)
			less["zones/work.xml"], less["direct.xml"] = `<zone><interface name="eth0"/></zone>`, "<direct/>"
			delete(less, "zones/dmz.xml")
			delete(less, "policies/alongpolicyname1.xml")
			startAfter(t, next, everything(next), false)
			startAfter(t, next, everything(next), true)
			startAfter(t, next, less, false)
		})
	})
}

// startAfter starts a back end with some files in an empty namespace, and twice behind a process of each back end that has everything.
func startAfter(t *testing.T, next ir.Backend, files map[string]string, panicked bool) {
	t.Helper()
	second, fresh := desired(t, files, next, panicked), namespace(t)
	started(t, fresh, &disk{}, next, second)()
	want := inTables(t, fresh)
	for _, former := range []ir.Backend{ir.NFTables, ir.IPTables} {
		ns, store := namespace(t), &disk{}
		started(t, ns, store, former, desired(t, everything(former), former, panicked))()
		for range 2 {
			started(t, ns, store, next, second)()
			sameLines(t, want, inTables(t, ns))
		}
	}
}

// Another program's rule in one of the kernel's chains that leads to a chain with a name of ours, under a condition that ours never has, is
// not ours, nor is the chain.
func TestRulesOfOthersThatLeadToChainsNamedLikeOurs(t *testing.T) {
	for table, rules := range map[string][]string{
		"mangle": {"-o ppp0 -j FORWARD_mss", "-j FORWARD_mss", "-p tcp -m tcp --tcp-flags SYN,RST SYN -g FORWARD_mss", "-o ppp0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j FORWARD_mss",
			"-s 10.0.0.0/8 -j FORWARD_direct", "-g FORWARD_direct"},
		"filter": {"-s 10.4.0.0/16 -j FORWARD_direct", "-m conntrack --ctstate RELATED,DNAT -j FORWARD_dnat", "-j FORWARD_dnat", "-i br0 -j FORWARD_dispatch", "-o eth0 -j RFC3964_IPv4",
			"-j FORWARD_direct -m comment --comment x"},
	} {
		for _, rule := range rules {
			to := strings.Fields(rule[strings.LastIndex(rule[:strings.Index(rule, "_")], " ")+1:])[0]
			text := fmt.Sprintf(":FORWARD ACCEPT [0:0]\n-A FORWARD %s\n-A FORWARD -i lo -j ACCEPT\n:%s - [0:0]\n-A %s -j DROP\n", rule, to, to)
			if _, chains := kernel.Remains(table, text); len(chains) > 0 {
				t.Errorf("with the rule %q of table %s a start takes chains %v for ours", rule, table, chains)
			}
		}
	}
}
