package richwall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"richwall/compile"
	"richwall/grammar"
	"richwall/internal/lab"
	"richwall/zones"
)

// bench is the firewall's configuration in the lab, without and with the rules that are tried.
type bench struct {
	before, after *zones.Config
	links         []compile.Link // of the firewall
	bound         string         // what is where, for people
	towardsHost   bool           // the rules go to a policy whose egress zone is the firewall itself
	fromHost      bool           // the same of its ingress zone
}

// bench binds the lab's interfaces to zones, and adds the rules.
func (o *labOptions) bench(cfg *zones.Config, rules []*grammar.Rule) (*bench, error) {
	b := &bench{}
	client, server, err := o.zonesOf(cfg, b)
	if err != nil {
		return nil, err
	}
	conf := *cfg.Conf
	conf.NftablesFlowtable = "off" // its interfaces are not in the lab
	cfg = bindLab(cfg.WithConf(&conf), client, server)
	place := "zone " + o.zoneName(cfg)
	if o.policy != "" {
		place = "policy " + o.policy
	}
	b.bound = fmt.Sprintf("rules in %s; client (%s) in zone %s, server (%s) in zone %s", place, lab.ClientLink, client, lab.ServerLink, server)
	if o.open {
		cfg = openLab(cfg)
		b.bound += "; what no rule decides about passes"
	}
	if b.before, err = o.with(cfg, nil); err != nil {
		return nil, err
	}
	b.after, err = o.with(cfg, rules)
	return b, err
}

// zonesOf are the zones of client and server: those of the flags, of the policy, or the zone that the rules go to.
func (o *labOptions) zonesOf(cfg *zones.Config, b *bench) (client, server string, err error) {
	client, server = o.zoneName(cfg), "trusted"
	if o.config != "" {
		server = cfg.Conf.DefaultZone
	}
	if p := cfg.Policies[o.policy]; p != nil {
		b.towardsHost = slices.Contains(p.EgressZones, zones.ZoneHost)
		b.fromHost = slices.Contains(p.IngressZones, zones.ZoneHost)
		client = firstZone(p.IngressZones, cfg.Conf.DefaultZone)
		server = firstZone(p.EgressZones, server)
	}
	if o.clientZone != "" {
		client = o.clientZone
	}
	if o.serverZone != "" {
		server = o.serverZone
	}
	for _, name := range []string{client, server} {
		if cfg.Zones[name] == nil {
			return "", "", statusOf(zones.Problems{{Code: zones.InvalidZone, Msg: notThere("zone", name, zones.Names(cfg.Zones))}})
		}
	}
	return client, server, nil
}

// firstZone is the first of a policy's zones that is none of the symbolic ones.
func firstZone(names []string, otherwise string) string {
	if len(names) == 0 || names[0] == zones.ZoneAny || names[0] == zones.ZoneHost {
		return otherwise
	}
	return names[0]
}

// bindLab binds the lab's interfaces to two zones, and to no others.
func bindLab(cfg *zones.Config, client, server string) *zones.Config {
	links := []string{lab.ClientLink, lab.ServerLink}
	for _, name := range zones.Names(cfg.Zones) {
		z := *cfg.Zones[name]
		z.Interfaces = slices.DeleteFunc(slices.Clone(z.Interfaces), func(i string) bool { return slices.Contains(links, i) })
		if name == client {
			z.Interfaces = append(z.Interfaces, lab.ClientLink)
		}
		if name == server {
			z.Interfaces = append(z.Interfaces, lab.ServerLink)
		}
		if len(z.Interfaces) != len(cfg.Zones[name].Interfaces) {
			cfg = cfg.WithZone(&z)
		}
	}
	return cfg
}

// openLab adds policies that let everything pass that neither a rule nor a zone's own content decides about.
func openLab(cfg *zones.Config) *zones.Config {
	for name, egress := range map[string]string{"lab-forward": zones.ZoneAny, "lab-input": zones.ZoneHost} {
		cfg = cfg.WithPolicy(&zones.Policy{
			Meta: zones.Meta{Name: name}, Target: zones.TargetAccept, Priority: 32000, // asked after almost everything
			IngressZones: []string{zones.ZoneAny}, EgressZones: []string{egress},
		})
	}
	return cfg
}

// probes are the packets to send.
func (o *labOptions) probes(b *bench, rules []*grammar.Rule) []lab.Probe {
	ways := [][2]lab.Host{{lab.Client, lab.Server}, {lab.Server, lab.Client}}
	switch {
	case b.fromHost:
		ways = [][2]lab.Host{{lab.FirewallHost, lab.Server}, {lab.FirewallHost, lab.Client}}
	case b.towardsHost:
		ways = [][2]lab.Host{{lab.Client, lab.FirewallHost}, {lab.Server, lab.FirewallHost}}
	case !slices.ContainsFunc(rules, forwardedOnly):
		ways = append(ways, [2]lab.Host{lab.Client, lab.FirewallHost})
	}
	var list []lab.Probe
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		for _, way := range ways {
			for _, p := range o.kinds(b, rules) {
				p.Family, p.From, p.To = family, way[0], way[1]
				address(&p, rules)
				list = append(list, p)
			}
		}
	}
	return list
}

// transfers are the data to carry over a path with a smaller link: down and up, over each family.
func (o *labOptions) transfers(probes []lab.Probe) []lab.Transfer {
	if o.pathMTU == 0 {
		return nil
	}
	port := cmp.Or(o.port, 80)
	if i := slices.IndexFunc(probes, func(p lab.Probe) bool { return p.Protocol == "" && p.Port != 0 }); i >= 0 {
		port = probes[i].Port
	}
	var list []lab.Transfer
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		for _, upload := range []bool{false, true} {
			list = append(list, lab.Transfer{Family: family, Upload: upload, Port: port, Size: int(o.size)})
		}
	}
	return list
}

// forwardedOnly says whether a rule is tried with what is forwarded, wherever it stands: with a clamp, that is the question.
func forwardedOnly(r *grammar.Rule) bool {
	_, ok := r.Element.(*grammar.TCPMSSClamp)
	return ok
}

// kinds are the packets of one way: SYNs, or what the rules are about.
func (o *labOptions) kinds(b *bench, rules []*grammar.Rule) []lab.Probe {
	var list []lab.Probe
	add := func(p lab.Probe) {
		if o.port != 0 && p.Protocol != lab.ICMP {
			p.Port = o.port
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	syns := func(port int) {
		for _, mss := range o.offered {
			add(lab.Probe{Port: port, MSS: mss, ReplyMSS: mss})
		}
	}
	for _, r := range rules {
		for _, port := range rulePorts(b.after, r) {
			low, _, err := grammar.ParsePort(port.Port)
			switch {
			case err != nil:
			case port.Protocol == "tcp":
				syns(low)
			case port.Protocol == "udp":
				add(lab.Probe{Protocol: lab.UDP, Port: low})
			}
		}
		switch r.Element.(type) {
		case *grammar.ICMPBlock, *grammar.ICMPType:
			add(lab.Probe{Protocol: lab.ICMP})
		}
	}
	if len(list) == 0 || slices.ContainsFunc(rules, forwardedOnly) {
		syns(80)
	}
	return list
}

// rulePorts are the destination ports that a rule names.
func rulePorts(cfg *zones.Config, r *grammar.Rule) []zones.Port {
	switch e := r.Element.(type) {
	case *grammar.Port:
		return []zones.Port{zones.Port(*e)}
	case *grammar.ForwardPort:
		return []zones.Port{{Port: e.Port, Protocol: e.Protocol}}
	case *grammar.Service:
		if s := cfg.Services[e.Name]; s != nil {
			return s.Ports
		}
	}
	return nil
}

// address gives a probe from the client the addresses that a rule of its family asks for.
func address(p *lab.Probe, rules []*grammar.Rule) {
	if p.From != lab.Client {
		return
	}
	for _, r := range rules {
		if r.Family != grammar.Family(p.Family) {
			continue
		}
		if s := r.Source; s != nil && s.Address != "" && !s.Invert && !p.Source.IsValid() {
			p.Source = host(r.Family, s.Address)
		}
		if d := r.Destination; d != nil && d.Address != "" && !d.Invert && !p.Destination.IsValid() {
			p.Destination = host(r.Family, d.Address)
		}
	}
}

// host is an address that a host of a prefix can have: the second one where there are several. It is not valid for a
// prefix of all addresses, which the lab's own are in.
func host(family grammar.Family, text string) netip.Addr {
	p, err := grammar.ParseAddress(family, text)
	switch {
	case err != nil || p.Bits() == 0:
		return netip.Addr{}
	case p.IsSingleIP():
		return p.Addr()
	}
	return p.Masked().Addr().Next()
}
