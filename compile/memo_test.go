package compile

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/irgen"
	"richwall/zones"
)

// After any number of edits, what is compiled with what is remembered of the compilations before is what is compiled from
// nothing. RICHWALL_SEED repeats a run.
func TestCompilingAgainIsCompiling(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, own := range []zones.OwnConf{
			{TCPMSSClamp: "both", RuleFolding: "auto"}, {TCPMSSClamp: "initiator", RuleFolding: "no"}, {TCPMSSClamp: "both", RuleFolding: "yes"},
		} {
			t.Run(fmt.Sprintf("%s, folding %s", backend, own.RuleFolding), func(t *testing.T) {
				random := rand.New(rand.NewPCG(irgen.Seed(t), 0))
				cfg := startOfEdits(t, own)
				var h History
				for step := range 150 {
					edit, what := randomEdit(random, step)
					next, err := edit(cfg)
					if err == nil && zones.Check(next).Err() == nil {
						cfg = next
					}
					remembered, after, err := h.Compile(cfg, backend)
					if err != nil {
						continue // such as a MAC address in a policy from HOST
					}
					scratch, _, err := History{applied: h.applied, names: h.names}.Compile(cfg, backend)
					if err != nil {
						t.Fatal(err)
					}
					h = after
					if got, want := dumped(t, remembered), dumped(t, scratch); got != want {
						t.Fatalf("after step %d, %s:\n%s", step, what, firstDifference(got, want))
					}
					if random.IntN(40) == 0 {
						h = h.Reloaded()
					}
				}
			})
		}
	}
}

// What did not change is not compiled: the ruleset is the same value, and of a zone that changed all other rules are.
func TestWhatDidNotChangeIsTheSame(t *testing.T) {
	cfg := startOfEdits(t, zones.OwnConf{TCPMSSClamp: "both", RuleFolding: "no"})
	public := zones.Object{Kind: zones.KindZone, Name: "public"}
	for i := range 20 {
		cfg = edited(t, cfg, zones.Add(zones.Runtime, public, zones.Item{Key: zones.KeyRule, Args: []string{
			fmt.Sprintf(`rule family="ipv4" source address="192.0.2.%d" service name="ftp" accept`, i)}}))
	}
	first, h, err := History{}.Compile(cfg, ir.NFTables)
	if err != nil {
		t.Fatal(err)
	}
	again, h, err := h.Compile(cfg, ir.NFTables)
	if err != nil {
		t.Fatal(err)
	}
	if again != first {
		t.Error("compiling the same configuration again makes another ruleset")
	}
	cfg = edited(t, cfg, zones.Add(zones.Runtime, public, zones.Item{Key: zones.KeyPort, Args: []string{"80", "tcp"}}))
	next, _, err := h.Compile(cfg, ir.NFTables)
	if err != nil {
		t.Fatal(err)
	}
	was := map[*ir.Rule]bool{}
	for _, c := range first.Chains {
		for _, r := range c.Rules {
			was[r] = true
		}
	}
	var fresh []string
	for _, c := range next.Chains {
		for _, r := range c.Rules {
			if !was[r] {
				fresh = append(fresh, c.Name+" "+r.Effect())
			}
		}
	}
	if len(fresh) != 1 || !strings.Contains(fresh[0], "low=80") {
		t.Errorf("with one port more, these rules are others than before:\n%s", strings.Join(fresh, "\n"))
	}
}

// startOfEdits is the shipped configuration with a policy, an ipset and a second zone in use.
func startOfEdits(t *testing.T, own zones.OwnConf) *zones.Config {
	t.Helper()
	cfg, problems := zones.Load(zones.Dirs{})
	if cfg == nil {
		t.Fatal(problems)
	}
	next := *cfg
	next.Own = &own
	cfg = next.WithIPSet(&zones.IPSet{Meta: zones.Meta{Name: "blocked"}, Type: "hash:net"})
	cfg = cfg.WithPolicy(&zones.Policy{Meta: zones.Meta{Name: "out"}, Target: zones.TargetContinue, Priority: -1,
		IngressZones: []string{zones.ZoneAny}, EgressZones: []string{zones.ZoneAny}})
	return edited(t, cfg, zones.Add(zones.Runtime, zones.Object{Kind: zones.KindZone, Name: "work"}, zones.Item{Key: zones.KeyInterface, Args: []string{"eth1"}}))
}

func edited(t *testing.T, cfg *zones.Config, edit zones.Edit) *zones.Config {
	t.Helper()
	next, err := edit(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// randomEdit adds something to a zone, policy or ipset, or takes it out.
func randomEdit(random *rand.Rand, step int) (zones.Edit, string) {
	object := zones.Object{Kind: zones.KindZone, Name: []string{"public", "work", "home"}[random.IntN(3)]}
	if random.IntN(4) == 0 {
		object = zones.Object{Kind: zones.KindPolicy, Name: "out"}
	}
	n := random.IntN(6)
	items := []zones.Item{
		{Key: zones.KeyPort, Args: []string{fmt.Sprint(8000 + n), "tcp"}},
		{Key: zones.KeySourcePort, Args: []string{fmt.Sprint(9000 + n), "udp"}},
		{Key: zones.KeyService, Args: []string{[]string{"ftp", "http", "ssh", "tftp", "samba", "dns"}[n]}},
		{Key: zones.KeyProtocol, Args: []string{[]string{"gre", "esp", "ah", "ospf", "igmp", "sctp"}[n]}},
		{Key: zones.KeyICMPBlock, Args: []string{[]string{"echo-request", "redirect", "parameter-problem"}[n%3]}},
		{Key: zones.KeyForwardPort, Args: []string{fmt.Sprint(7000 + n), "tcp", "80", "192.0.2.7"}},
	}
	for range 8 {
		items = append(items, zones.Item{Key: zones.KeyRule, Args: []string{randomRule(random, n)}})
	}
	item := items[random.IntN(len(items))]
	if random.IntN(8) == 0 {
		object, item = zones.Object{Kind: zones.KindIPSet, Name: "blocked"}, zones.Item{Key: zones.KeyEntry, Args: []string{fmt.Sprintf("198.51.100.%d", n)}}
	}
	if object.Kind == zones.KindZone && random.IntN(10) == 0 {
		item = zones.Item{Key: zones.KeySource, Args: []string{fmt.Sprintf("203.0.113.%d", n)}}
	}
	if step%3 == 0 {
		return zones.Remove(zones.Runtime, object, item), fmt.Sprintf("%v less %v", object, item)
	}
	return zones.Add(zones.Runtime, object, item), fmt.Sprintf("%v and %v", object, item)
}

func randomRule(random *rand.Rand, n int) string {
	return []string{
		fmt.Sprintf(`rule family="ipv4" source address="10.0.%d.0/24" port port="%d" protocol="tcp" accept`, n, 80+random.IntN(3)),
		fmt.Sprintf(`rule family="ipv4" source address="10.0.%d.0/24" drop`, n),
		fmt.Sprintf(`rule priority="%d" family="ipv6" source address="2001:db8:%d::/48" reject`, random.IntN(5)-2, n),
		fmt.Sprintf(`rule priority="%d" source ipset="blocked" drop`, random.IntN(3)-1),
		fmt.Sprintf(`rule service name="%s" log prefix="s%d " accept`, []string{"ftp", "http", "ssh"}[n%3], n),
		fmt.Sprintf(`rule tcp-mss-clamp value="%d"`, 1300+n),
		fmt.Sprintf(`rule family="ipv4" forward-port port="%d" protocol="udp" to-port="53" to-addr="192.0.2.1"`, 5300+n),
		`rule family="ipv4" masquerade`,
		fmt.Sprintf(`rule port port="%d" protocol="tcp" accept`, 8000+n), // what a plain port says too
	}[random.IntN(9)]
}

func dumped(t *testing.T, rs *ir.Ruleset) string {
	t.Helper()
	var b strings.Builder
	if err := rs.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: remembered %q, from nothing %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines remembered, %d from nothing", len(a), len(b))
}

// With nftables, direct rules can look up the ipsets, which are in the kernel's ipset too for their sake.
func TestDirectHasSets(t *testing.T) {
	cfg := startOfEdits(t, zones.OwnConf{TCPMSSClamp: "both", RuleFolding: "auto"})
	cfg = edited(t, cfg, zones.Add(zones.Runtime, zones.Object{Kind: zones.KindIPSet, Name: "blocked"}, zones.Item{Key: zones.KeyEntry, Args: []string{"192.0.2.0/24"}}))
	var h History
	if rs, _, err := h.Direct(cfg); rs != nil || err != nil {
		t.Errorf("without direct rules there is %v; %v", rs, err)
	}
	cfg = cfg.WithDirect(&zones.Direct{Rules: []zones.DirectRule{{IPV: "ipv4", Table: "filter", Chain: "INPUT",
		Args: strings.Fields("-m set --match-set blocked src -j DROP")}}})
	first, h, err := h.Direct(cfg)
	if err != nil || len(first.Sets) != 1 || len(first.Sets[0].Elements) != 1 {
		t.Fatalf("got %v; %v", first, err)
	}
	if again, _, _ := h.Direct(cfg); again != first {
		t.Error("what did not change was compiled again")
	}
	cfg = edited(t, cfg, zones.Add(zones.Runtime, zones.Object{Kind: zones.KindIPSet, Name: "blocked"}, zones.Item{Key: zones.KeyEntry, Args: []string{"198.51.100.0/24"}}))
	if next, _, _ := h.Direct(cfg); len(next.Sets[0].Elements) != 2 || len(first.Sets[0].Elements) != 1 {
		t.Error("an entry more is not in the set")
	}
}
