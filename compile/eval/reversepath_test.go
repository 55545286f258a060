package eval_test

import (
	"net/netip"
	"strings"
	"testing"

	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/lab"
	"richwall/zones"
)

// IPv6 packets from addresses whose answers would go out elsewhere are dropped with a strict reverse path filter, and those whose
// answers could not be sent at all with a loose one too: the evaluator says so, and the kernel does so.
func TestTheKernelAgreesOnTheReversePath(t *testing.T) {
	if missing := lab.Missing("nft", "ipset", "iptables-restore", "ip6tables-restore", "ip"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	const source = "2001:db8::7"
	ways := map[eval.ReversePath][]string{
		eval.OtherInterface: {"-6", "route", "replace", source, "via", "fd00:2::2"},
		eval.NoRoute:        {"-6", "route", "replace", "unreachable", source},
	}
	for _, filter := range []string{"strict", "loose", "no"} {
		for _, backend := range backends {
			config := withFilter(parse(t, `
-- zones/trusting.xml --
<zone target="ACCEPT"><interface name="c0"/></zone>
`), filter)
			rs := compiled(t, config, backend)
			for path, route := range ways {
				p := eval.Packet{Path: eval.Input, In: "c0", Family: ir.V6, Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr("fd00:1::1"),
					Protocol: 17, SourcePort: 40000, DestPort: 53, EtherSource: clientMAC, ReversePath: path}
				want := eval.Evaluate(rs, p).Verdict
				if dropped := filter == "strict" || filter == "loose" && path == eval.NoRoute; dropped != (want == eval.Drop) {
					t.Errorf("%s, %s, reverse path %d: the evaluator says %s", backend, filter, path, want)
				}
				before, after := arrives(t, rs, p.Source, route)
				if !before || after != (want == eval.Accept) {
					t.Errorf("%s, %s, reverse path %d: the packet arrives: %t, before that route: %t; want %s", backend, filter, path, after, before, want)
				}
			}
		}
	}
}

// arrives says whether the firewall takes a datagram of the client, before and after it has another route to where that comes from.
func arrives(t *testing.T, rs *ir.Ruleset, source netip.Addr, route []string) (before, after bool) {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	loadRuleset(t, l.Firewall(), rs)
	send := func() bool {
		for range 3 { // on a busy machine one may come too late
			got, err := l.Probe(t.Context(), []lab.Probe{{From: lab.Client, To: lab.FirewallHost, Family: lab.IPv6, Protocol: lab.UDP, Port: 53, Source: source}})
			if err != nil {
				t.Fatal(err)
			}
			if got[0].At != "" {
				return true
			}
		}
		return false
	}
	before = send()
	if _, err := l.Firewall().Run(t.Context(), "", "ip", route...); err != nil {
		t.Fatal(err)
	}
	return before, send()
}

// withFilter is a configuration with IPv6_rpfilter as given.
func withFilter(config *zones.Config, how string) *zones.Config {
	conf := *config.Conf
	conf.IPv6RPFilter = how
	return config.WithConf(&conf)
}
