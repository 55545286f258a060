package richwall

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/internal/mss"
	"richwall/zones"
)

// router is a machine with PPPoE on one side and Ethernet on the other, changed by the functions.
func router(changes ...func(*mss.Machine)) *mss.Machine {
	m := &mss.Machine{
		Forward4: true, Forward6: true,
		Links: []mss.Link{
			{Index: 1, Name: "lo", MTU: 65536, Up: true, Loopback: true},
			{Index: 2, Name: "ppp0", Type: "ppp", MTU: 1492, Up: true},
			{Index: 3, Name: "lan0", MTU: 1500, Up: true},
		},
		Routes: []mss.Route{
			{To: netip.MustParsePrefix("0.0.0.0/0"), Link: 2}, {To: netip.MustParsePrefix("192.168.1.0/24"), Link: 3},
		},
	}
	for _, change := range changes {
		change(m)
	}
	return m
}

func onlyIPv4(m *mss.Machine) { m.Forward6 = false }
func noRouter(m *mss.Machine) { m.Forward4, m.Forward6 = false, false }

// by200 has connections from 10.1.0.0/24 leave by ppp0, by the table 200, and all others by lan0; the rule is for IPv6 if six is set.
func by200(m *mss.Machine, six bool) {
	from, all := "10.1.0.0/24", "0.0.0.0/0"
	if six {
		from, all = "2001:db8:1::/64", "::/0"
	}
	m.Rules = append(m.Rules, mss.RoutingRule{Six: six, Priority: 100, From: netip.MustParsePrefix(from), Table: 200, SuppressLength: -1, SuppressGroup: -1},
		mss.RoutingRule{Six: six, Priority: 32766, Table: 254, SuppressLength: -1, SuppressGroup: -1})
	m.Routes = []mss.Route{{To: netip.MustParsePrefix(all), Link: 2, Table: 200}, {To: netip.MustParsePrefix(all), Link: 3, Table: 254}}
}
func ipRule(m *mss.Machine)       { by200(m, false) }
func ipRuleOfIPv6(m *mss.Machine) { by200(m, true) }
func sameMTU(m *mss.Machine)      { m.Links[2].MTU = 1492 }
func tunnel(m *mss.Machine) {
	m.Policies = []mss.Policy{{To: netip.MustParsePrefix("10.9.0.0/16"), Remote: netip.MustParseAddr("198.51.100.5")}}
}
func vrf(m *mss.Machine) {
	m.Links = append(m.Links, mss.Link{Index: 9, Name: "blue", Type: "vrf", MTU: 65575, Up: true, Table: 10})
	m.Links[1].Master = 9
	m.Routes = []mss.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Link: 2, Table: 10}, {To: netip.MustParsePrefix("0.0.0.0/0"), Link: 3}}
	m.Rules = []mss.RoutingRule{{Priority: 1000, VRF: true, SuppressLength: -1, SuppressGroup: -1}, {Priority: 32766, Table: 254, SuppressLength: -1, SuppressGroup: -1}}
}
func narrowPort(m *mss.Machine) {
	bridge(m)
	m.Links[4].MTU = 1450
}
func overlay(m *mss.Machine) {
	m.Links = append(m.Links, mss.Link{Index: 9, Name: "tun0", Type: "ipip", MTU: 1480, Up: true, Remote: netip.MustParseAddr("198.51.100.5")})
}
func twoUplinks(m *mss.Machine) {
	m.Routes = append(m.Routes, mss.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Link: 3, Metric: 100})
}
func bridge(m *mss.Machine) {
	m.Links = append(m.Links, mss.Link{Index: 9, Name: "br0", Type: "bridge", MTU: 1500, Up: true},
		mss.Link{Index: 10, Name: "port1", MTU: 1500, Up: true, Master: 9}, mss.Link{Index: 11, Name: "port2", MTU: 1500, Up: true, Master: 9})
}

// Each case is the zone external, bound to an interface, with rules, on a machine, and what is said about them.
func TestOnMachine(t *testing.T) {
	for _, c := range []struct {
		what    string
		bound   string // interfaces, or a source
		rules   string
		machine *mss.Machine
		want    []string // parts of messages
	}{
		{"pmtu", "ppp0", `<rule><tcp-mss-clamp/></rule>`, router(), nil},
		{"what fits", "ppp0", `<rule><tcp-mss-clamp mtu="1492"/></rule>`, router(), nil},
		{"more than fits", "ppp0", `<rule><tcp-mss-clamp mtu="1500"/></rule>`, router(),
			[]string{"IPv4 segments are let through with up to 1460 bytes, which do not fit: the MTU of ppp0, 1492, carries 1452"}},
		{"interfaces by the start of their names", "ppp+", `<rule><tcp-mss-clamp mtu="1500"/></rule>`, router(), []string{"the MTU of ppp0, 1492"}},
		{"one number for two families", "ppp0", `<rule><tcp-mss-clamp value="1452"/></rule>`, router(), []string{"IPv6 segments are let through with up to 1452 bytes, which do not fit: the MTU of ppp0, 1492, carries 1432"}},
		{"one number, and no IPv6", "ppp0", `<rule><tcp-mss-clamp value="1452"/></rule>`, router(onlyIPv4), nil},
		{"a wider interface in the zone", "ppp0 lan0", `<rule family="ipv4"><tcp-mss-clamp value="1460"/></rule>`, router(), nil},
		{"a zone that is known by a source", "10.0.0.0/8", `<rule family="ipv4"><tcp-mss-clamp value="1460"/></rule>`, router(), nil},
		{"nothing is forwarded", "ppp0", `<rule><tcp-mss-clamp mtu="1500"/></rule>`, router(noRouter), nil},
		{"raised on purpose", "ppp0", `<rule><tcp-mss-clamp mtu="1500" raise="yes"/></rule>`, router(ipRule), nil},

		{"a number for what lies beyond", "ppp0", `<rule><tcp-mss-clamp mtu="1400"/></rule><rule><tcp-mss-clamp mtu="1300"/></rule>`, router(),
			[]string{"ppp0 still carries UDP packets (QUIC, DNS, WireGuard) of more than 1300 bytes"}},
		{"a number for what lies beyond, over IPv6", "ppp0", `<rule family="ipv6"><tcp-mss-clamp value="1340"/></rule>`, router(),
			[]string{"of more than 1400 bytes"}},

		{"policy routing", "ppp0", `<rule><tcp-mss-clamp/></rule>`, router(ipRule), []string{"ip rule 100 chooses routes by more than the destination"}},
		{"policy routing of the other family", "ppp0", `<rule family="ipv4"><tcp-mss-clamp/></rule>`, router(ipRuleOfIPv6), nil},
		{"policy routing where all MTUs are the same", "ppp0", `<rule><tcp-mss-clamp/></rule>`, router(ipRule, sameMTU), nil},
		{"policy routing and a number", "ppp0", `<rule><tcp-mss-clamp mtu="1492"/></rule>`, router(ipRule), nil},
		{"a VRF", "ppp0", `<rule><tcp-mss-clamp/></rule>`, router(vrf), []string{"ppp0 is in the VRF blue"}},
		{"a VRF of another interface", "lan0", `<rule><tcp-mss-clamp/></rule>`, router(vrf), nil},
		{"an IPsec tunnel", "ppp0", `<rule><tcp-mss-clamp/></rule>`, router(tunnel), []string{"pmtu does not see the IPsec tunnel to 10.9.0.0/16"}},
		{"an IPsec tunnel by another interface", "lan0", `<rule><tcp-mss-clamp/></rule>`, router(tunnel), nil},
		{"an IPsec tunnel with a number", "ppp0", `<rule><tcp-mss-clamp/></rule><rule family="ipv4"><source address="10.9.0.0/16"/><tcp-mss-clamp value="1452"/></rule>`,
			router(tunnel), nil},
		{"an IPsec tunnel, and a number for others", "ppp0", `<rule><tcp-mss-clamp/></rule><rule family="ipv4"><source address="10.8.0.0/16"/><tcp-mss-clamp value="1452"/></rule>`,
			router(tunnel), []string{"IPsec tunnel to 10.9.0.0/16"}},

		{"a port of a bridge", "port1", `<rule><tcp-mss-clamp/></rule>`, router(bridge), []string{"nothing is clamped by port1: it is a port of the bridge br0"}},
		{"a bridge", "br0", `<rule><tcp-mss-clamp/></rule>`, router(bridge), []string{"what the bridge br0 passes on between its ports port1, port2 is not routed"}},
		{"a bridge with a port that carries less", "br0", `<rule><tcp-mss-clamp/></rule>`, router(narrowPort),
			[]string{"what the bridge br0 passes on", "pmtu is the MTU of br0, 1500, of which only 1450 get through: Its port port1 carries 1450 bytes"}},
		{"a bridge with a port that carries less, and a number", "br0", `<rule><tcp-mss-clamp mtu="1500"/></rule>`, router(narrowPort),
			[]string{"which do not fit: br0 carries 1410 (Its port port1 carries 1450 bytes", "what the bridge br0 passes on"}},
		{"a bridge with a port that carries less, and its own link", "br0", `<rule><tcp-mss-clamp value="link"/></rule>`, router(narrowPort), []string{"what the bridge br0 passes on"}},
		{"the links", "ppp0", `<rule><tcp-mss-clamp value="link"/></rule>`, router(ipRule), nil},
		{"a tunnel that is too large for what it goes over", "tun0", `<rule><tcp-mss-clamp value="link"/></rule>`, router(overlay),
			[]string{"value=link takes tun0 to carry 1480, and only 1472 get through"}},
		{"two uplinks in two zones", "ppp0", `<rule><tcp-mss-clamp value="pmtu"/></rule>`, router(twoUplinks),
			[]string{"there are default routes by ppp0, and by lan0, which is in zone public, that does not clamp"}},
		{"two uplinks in one zone", "ppp0 lan0", `<rule><tcp-mss-clamp value="link"/></rule>`, router(twoUplinks), nil},
		{"a bridge, and no clamp", "br0", ``, router(bridge), nil},
	} {
		problems := onMachine(external(t, c.bound, c.rules, nil), c.machine)
		if len(problems) != len(c.want) {
			t.Errorf("%s: got %d warnings, want %d\n%v", c.what, len(problems), len(c.want), problems)
			continue
		}
		for i, p := range problems {
			if !strings.Contains(p.Msg, c.want[i]) || p.Line == 0 || filepath.Base(p.Path) != "external.xml" || p.Severity != zones.Warning {
				t.Errorf("%s: got %s\nwant %s", c.what, p, c.want[i])
			}
		}
	}
}

// Whoever has decided about IPNoPMTUDisc knows that UDP is another matter.
func TestOnMachineDecided(t *testing.T) {
	cfg := external(t, "ppp0", `<rule><tcp-mss-clamp mtu="1400"/></rule>`, map[string]string{"richwall.conf": "IPNoPMTUDisc=no\n"})
	if problems := onMachine(cfg, router()); len(problems) > 0 {
		t.Error(problems)
	}
}

// What a policy is for has the smaller MTU of its sides; ANY may be any interface, and HOST is none.
func TestOnMachinePolicy(t *testing.T) {
	for sides, want := range map[string]string{
		"internal external": "the MTU of ppp0, 1492",
		"ANY external":      "the MTU of ppp0, 1492",
		"HOST external":     "the MTU of ppp0, 1492",
		"ANY internal":      "",
		"ANY ANY":           "",
	} {
		ingress, egress, _ := strings.Cut(sides, " ")
		cfg := external(t, "ppp0", "", map[string]string{
			"zones/internal.xml": `<zone><interface name="lan0"/></zone>`,
			"policies/out.xml": `<policy target="CONTINUE"><ingress-zone name="` + ingress + `"/><egress-zone name="` + egress + `"/>
				<rule family="ipv4"><tcp-mss-clamp value="1460"/></rule></policy>`,
		})
		problems := onMachine(cfg, router())
		if got := problems.Error(); want == "" && got != "" || !strings.Contains(got, want) || len(problems) > 1 {
			t.Errorf("%s: got %q, want %q", sides, got, want)
		}
	}
}

// external is a configuration whose zone external has rules and is bound to interfaces, or to a source.
func external(t *testing.T, bound, rules string, files map[string]string) *zones.Config {
	t.Helper()
	dir := t.TempDir()
	zone := "<zone>\n"
	for name := range strings.FieldsSeq(bound) {
		if strings.Contains(name, "/") {
			zone += `<source address="` + name + `"/>`
		} else {
			zone += `<interface name="` + name + `"/>`
		}
	}
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("zones/external.xml", zone+rules+"</zone>")
	for name, text := range files {
		write(name, text)
	}
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}
