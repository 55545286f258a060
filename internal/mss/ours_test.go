package mss

import (
	"bytes"
	"fmt"
	"testing"

	"richwall/compile"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/grammar"
	"richwall/zones"
)

// A firewall of 241 interfaces has a clamp in the zone of its uplink, or in that of all the others. Its rules are in maps and sets that have names
// then. All segments are clamped, and so it is said, of the rules in the kernel and of the configuration alone.
func TestManyInterfaces(t *testing.T) {
	var many []string
	for i := range 240 {
		many = append(many, fmt.Sprint("vlan", i))
	}
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, place := range []string{"external", "internal"} {
			t.Run(fmt.Sprint(backend, ", ", place), func(t *testing.T) {
				rules := rulesOf(t, backend, place, "rule tcp-mss-clamp mtu=1400", "w1", append(many, "lan"))
				script := "plug lan 1 1500\nip route add 10.1.0.0/16 via 10.200.1.2\nip -6 route add fd01::/16 via fd00:200:1::2\n" +
					"plug w1 2 1400\nip route add default via 10.200.2.2\nip -6 route add default via fd00:200:2::2\n"
				w := newWorld(t, script+load(t, rules), map[string]string{"lan": "lan", "w1": "w1"})
				p := pathNamed(t, w.advise(), "w1")
				if p.Clamped != Clamped {
					t.Errorf("of the kernel's rules it says %s: %+v", p.Clamped, p.Segments)
				}
				w.mustAgree(p)
				configured := &Machine{Forward4: true, Forward6: true, Links: []Link{{Index: 1, Name: "lan", MTU: 1500, Up: true}, {Index: 2, Name: "w1", MTU: 1400, Up: true}},
					Routes: []Route{{To: to("10.0.0.0/8"), Link: 1}, {To: to("0.0.0.0/0"), Link: 2}, {To: to("fd01::/16"), Link: 1}, {To: to("::/0"), Link: 2}}}
				if p := pathNamed(t, Advise(configured, Options{Rules: []*Rules{FromIR(rules)}}), "w1"); p.Clamped != Clamped {
					t.Errorf("of the configuration it says %s: %+v", p.Clamped, p.Segments)
				}
			})
		}
	}
}

// rulesOf are the rules of a configuration whose zone external has one interface, and internal the others; that of the name place has a clamp.
func rulesOf(t *testing.T, backend ir.Backend, place, rule, one string, others []string) *ir.Ruleset {
	t.Helper()
	cfg, problems := zones.Load(zones.Dirs{})
	if cfg == nil {
		t.Fatal(problems)
	}
	for name, interfaces := range map[string][]string{"external": {one}, "internal": others} {
		z := *cfg.Zones[name]
		z.Interfaces, z.Target, z.Masquerade = interfaces, "ACCEPT", false
		if name == place {
			clamp, err := grammar.Parse(rule)
			if err != nil {
				t.Fatal(err)
			}
			z.Rules = []zones.RichRule{{Rule: clamp}}
		}
		cfg = cfg.WithZone(&z)
	}
	rules, err := compile.Compile(cfg, backend)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// load is the commands that load rules.
func load(t *testing.T, rules *ir.Ruleset) string {
	t.Helper()
	var script bytes.Buffer
	add := func(command string, write func(b *bytes.Buffer) error) {
		script.WriteString(command + " <<'END'\n")
		if err := write(&script); err != nil {
			t.Fatal(err)
		}
		script.WriteString("END\n")
	}
	if rules.Backend == ir.NFTables {
		add("nft -f -", func(b *bytes.Buffer) error {
			_, err := nft.Write(b, rules, nft.Options{})
			return err
		})
		return script.String()
	}
	for command, family := range map[string]ir.Families{"iptables-restore": ir.V4, "ip6tables-restore": ir.V6} {
		add(command, func(b *bytes.Buffer) error { return iptables.Write(b, rules, family, iptables.Options{}) })
	}
	return script.String()
}
