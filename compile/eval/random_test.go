package eval_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"richwall/grammar"
	"richwall/internal/lab"
	"richwall/zones"
)

// randomConfig is a configuration of three zones at the lab's links, three for sources, and policies between them, each with
// runs of rules that are alike: the same words, with other addresses, ports and verdicts. The same seed gives the same one.
func randomConfig(t *testing.T, seed uint64, runs, longest int) *zones.Config {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(seed, 1))}
	config := parse(t, "")
	config = config.WithIPSet(&zones.IPSet{Meta: zones.Meta{Name: "nets"}, Type: "hash:net", Entries: g.several(6, func() string { return g.prefix("ipv4") })})
	config = config.WithIPSet(&zones.IPSet{Meta: zones.Meta{Name: "six"}, Type: "hash:net", Options: map[string]string{"family": "inet6"},
		Entries: g.several(6, func() string { return g.prefix("ipv6") })})
	config = config.WithIPSet(&zones.IPSet{Meta: zones.Meta{Name: "pairs"}, Type: "hash:ip,port", Entries: g.several(9, func() string {
		return g.address("ipv4") + "," + pick(g.r, "tcp", "udp") + ":" + g.port()
	})})
	bound := map[string]bool{"192.0.2.0/25": true, "2001:db8::/126": true, "192.0.2.64/26": true}
	for _, z := range []*zones.Zone{
		{Meta: zones.Meta{Name: "inside"}, Interfaces: []string{lab.ClientLink}, Forward: g.r.IntN(2) == 0},
		{Meta: zones.Meta{Name: "outside"}, Interfaces: []string{lab.ServerLink}},
		{Meta: zones.Meta{Name: "dmz"}, Interfaces: []string{lab.DMZLink}},
		{Meta: zones.Meta{Name: "some"}, Sources: []string{"192.0.2.0/25", "2001:db8::/126"}},
		{Meta: zones.Meta{Name: "others"}, Sources: []string{"ipset:nets", "192.0.2.64/26"}},
		{Meta: zones.Meta{Name: "more"}},
	} {
		for _, source := range g.several(g.r.IntN(longest), func() string { return g.prefix(pick(g.r, "ipv4", "ipv6")) }) {
			if !bound[source] {
				bound[source], z.Sources = true, append(z.Sources, source)
			}
		}
		z.Target = pick(g.r, zones.TargetDefault, zones.TargetDefault, zones.TargetAccept, zones.TargetDrop, zones.TargetReject)
		z.IngressPriority, z.EgressPriority = pick(g.r, 0, 0, 0, -5, 5), pick(g.r, 0, 0, 0, -5, 5)
		z.ICMPBlockInversion = g.r.IntN(6) == 0
		z.Services, z.Ports = []string{"ssh"}, []zones.Port{{Port: "8000-8010", Protocol: "tcp"}}
		z.ICMPBlocks = pick(g.r, nil, nil, []string{"echo-request"})
		z.Masquerade = g.r.IntN(3) == 0
		z.ForwardPorts = pick(g.r, nil, []zones.ForwardPort{{Port: "1010-1015", Protocol: "tcp", ToPort: "80", ToAddr: "10.2.0.2"}, {Port: "1020", Protocol: "udp", ToPort: "1025"}})
		z.Rules = g.rules(t, runs, longest, "zone")
		config = config.WithZone(z)
	}
	for _, p := range []*zones.Policy{
		{Meta: zones.Meta{Name: "out"}, IngressZones: []string{"inside", "some"}, EgressZones: []string{"outside"}},
		{Meta: zones.Meta{Name: "any"}, IngressZones: []string{"ANY"}, EgressZones: []string{"ANY"}},
		{Meta: zones.Meta{Name: "in"}, IngressZones: []string{"outside"}, EgressZones: []string{"HOST"}},
		{Meta: zones.Meta{Name: "own"}, IngressZones: []string{"HOST"}, EgressZones: []string{"outside", "inside"}},
	} {
		kind := "policy"
		if p.Name == "own" || p.Name == "out" {
			kind = p.Name
		}
		p.Target = pick(g.r, zones.TargetContinue, zones.TargetContinue, zones.TargetAccept, zones.PolicyReject)
		p.Priority = pick(g.r, -10, -1, 1, 10)
		p.Rules = g.rules(t, runs, longest, kind)
		config = config.WithPolicy(p)
	}
	if problems := zones.Check(config); problems.Err() != nil {
		t.Fatalf("seed %d: %v", seed, problems)
	}
	return config
}

// folding is a configuration with RuleFolding as given.
func folding(config *zones.Config, how string) *zones.Config {
	own, next := *config.Own, *config
	own.RuleFolding = how
	next.Own = &own
	return &next
}

type generator struct{ r *rand.Rand }

// several is a list of different texts.
func (g *generator) several(n int, text func() string) []string {
	var list []string
	for range n {
		if s := text(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// address is one of few, so that rules overlap.
func (g *generator) address(family string) string {
	if family == "ipv4" {
		return pick(g.r, fmt.Sprintf("192.0.2.%d", g.r.IntN(256)), fmt.Sprintf("198.51.100.%d", g.r.IntN(16)), "10.1.0.2", "10.2.0.2")
	}
	return pick(g.r, fmt.Sprintf("2001:db8::%x", g.r.IntN(64)), fmt.Sprintf("2001:db8:1::%x", g.r.IntN(16)), "fd00:1::2", "fd00:2::2")
}

// prefix is an address or, as often, more of them.
func (g *generator) prefix(family string) string {
	long := map[string]int{"ipv4": 32, "ipv6": 128}[family]
	rule, err := grammar.ParseAddress(grammar.Family(family), fmt.Sprintf("%s/%d", g.address(family), pick(g.r, long, long, long-1, long-3, long-5, long-8)))
	if err != nil {
		panic(err)
	}
	return rule.Masked().String()
}

func (g *generator) port() string {
	p := pick(g.r, 22, 80, 443, 1000+g.r.IntN(40))
	return pick(g.r, fmt.Sprint(p), fmt.Sprint(p), fmt.Sprintf("%d-%d", p, p+1+g.r.IntN(6)))
}

// rules is runs of rules for a zone, a policy, or the policies "own" and "out", which cannot have all kinds.
func (g *generator) rules(t *testing.T, runs, longest int, kind string) []zones.RichRule {
	t.Helper()
	texts := map[string]bool{}
	var list []zones.RichRule
	for range runs {
		shape := g.shape(kind)
		for range 1 + g.r.IntN(longest) {
			r, err := grammar.Parse(shape())
			if err != nil {
				t.Fatal(err)
			}
			if !texts[r.String()] {
				texts[r.String()] = true
				list = append(list, zones.RichRule{Rule: r})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b zones.RichRule) int { return grammar.Compare(a.Rule, b.Rule) })
	return list
}

// shape makes rules that are alike.
func (g *generator) shape(kind string) func() string {
	r := g.r
	family := pick(r, "ipv4", "ipv6")
	constant := func(s string) func() string { return func() string { return s } }
	none := constant("")
	end := func(side string) func() string {
		invert := pick(r, "", "", "", ` invert="yes"`)
		return func() string { return fmt.Sprintf(` %s address="%s"%s`, side, g.prefix(family), invert) }
	}
	source, destination, element := none, none, none
	about := r.IntN(8)
	switch r.IntN(9) {
	case 0:
		source = constant(fmt.Sprintf(` source ipset="%s"`, map[string]string{"ipv4": pick(r, "nets", "pairs"), "ipv6": "six"}[family]))
	case 1:
		if source = end("source"); kind == "zone" {
			source = func() string { return fmt.Sprintf(` source mac="02:00:00:00:01:%02x"`, r.IntN(5)) }
		}
	case 2:
		destination = end("destination")
	case 3:
		source, destination = end("source"), constant(end("destination")())
	case 4: // ports alone
		about = 7
	default:
		source = end("source")
	}
	protocol := pick(r, "tcp", "tcp", "tcp", "udp", "udp", "udp", "sctp", "dccp")
	action := g.action(kind, "tcp")
	switch about {
	case 0: // addresses alone
		action = g.action(kind, "")
	case 1:
		element = constant(fmt.Sprintf(` service name="%s"`, pick(r, "http", "dns", "ssh")))
		action = g.action(kind, "")
	case 2:
		// The source port of real packets is not chosen: it is a high one.
		element = constant(fmt.Sprintf(` source-port port="%s" protocol="%s"`, pick(r, "1024-65535", "1-1023"), protocol))
		action = g.action(kind, "")
	case 3:
		element = constant(fmt.Sprintf(` protocol value="%s"`, protocol))
		action = g.action(kind, protocol)
	case 4:
		types := map[string][]string{"ipv4": {"echo-request", "redirect"}, "ipv6": {"echo-request", "redirect"}}[family]
		element = constant(fmt.Sprintf(` icmp-type name="%s"`, pick(r, types...)))
		action = g.action(kind, "")
	default:
		element = func() string { return fmt.Sprintf(` port port="%s" protocol="%s"`, g.port(), protocol) }
		action = g.action(kind, protocol)
	}
	priority := pick(r, none, none, none, constant(` priority="-5"`), constant(` priority="5"`),
		func() string { return fmt.Sprintf(` priority="%d"`, r.IntN(7)-3) })
	log := pick(r, none, none, none, none, constant(fmt.Sprintf(` log prefix="run%d "`, r.IntN(100))))
	head := fmt.Sprintf(` family="%s"`, family)
	if source() == "" && destination() == "" {
		head = pick(r, "", head)
		if head == "" {
			action = g.action(kind, "") // tcp-reset needs the family
		}
	}
	return func() string {
		return strings.Join([]string{"rule", priority(), head, source(), destination(), element(), log(), action()}, "")
	}
}

// action makes verdicts: one for all of a run, or any. protocol is the one that the run is about, empty for any.
func (g *generator) action(kind, protocol string) func() string {
	list := []string{" accept", " drop", " reject", " accept", " drop"}
	if protocol == "tcp" {
		list = append(list, ` reject type="tcp-reset"`)
	}
	if kind != "own" && kind != "out" { // marks are set before it is known where a packet goes
		list = append(list, ` mark set="5"`, ` mark set="6/7"`)
	}
	if n := len(list); kind != "own" && kind != "out" && g.r.IntN(6) == 0 {
		list = list[n-2:] // a packet is marked by all that it meets
	}
	if g.r.IntN(3) > 0 {
		one := pick(g.r, list...)
		return func() string { return one }
	}
	return func() string { return pick(g.r, list...) }
}
