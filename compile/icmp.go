package compile

import (
	_ "embed"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/zones"
)

// icmpTSV has the ICMP type and code behind each name: name, IPv4 type and code, IPv6 type and code; "any" is a code that is
// not looked at, "-" a family that has none (IANA, ICMP and ICMPv6 parameters).
//
//go:embed icmp.tsv
var icmpTSV string

type icmpCode struct{ typ, code int }

// icmpCodes is icmpTSV, for each family.
var icmpCodes = readICMP()

func readICMP() map[ir.Families]map[string]icmpCode {
	codes := map[ir.Families]map[string]icmpCode{ir.V4: {}, ir.V6: {}}
	for line := range strings.Lines(icmpTSV) {
		f := strings.Fields(line)
		for i, family := range []ir.Families{ir.V4, ir.V6} {
			typ, err := strconv.Atoi(f[1+2*i])
			if err != nil {
				continue
			}
			code := ir.AnyCode
			if n, err := strconv.Atoi(f[2+2*i]); err == nil {
				code = n
			}
			codes[family][f[0]] = icmpCode{typ, code}
		}
	}
	return codes
}

// icmpMatches are the matches of an ICMP type by name: one for each family of families that it is defined for.
func (s *state) icmpMatches(origin *ir.Origin, name string, families ir.Families) []ir.ICMP {
	def := s.cfg.ICMPTypes[name]
	if def == nil {
		s.fail(zones.InvalidICMPType, origin, "there is no ICMP type %q", name)
		return nil
	}
	defined := ir.Families(0)
	for _, d := range def.Destinations {
		defined |= familyNamed(d)
	}
	if defined == 0 {
		defined = ir.Both
	}
	var list []ir.ICMP
	for _, f := range []ir.Families{ir.V4, ir.V6} {
		if defined&families&f == 0 {
			continue
		}
		c, ok := icmpCodes[f][name]
		if !ok {
			s.fail(zones.InvalidICMPType, origin, "no ICMP type and code is known for %q with %s", name, f)
			continue
		}
		list = append(list, ir.ICMP{Family: f, Type: c.typ, Code: c.code})
	}
	return list
}

func familyNamed(name string) ir.Families {
	switch name {
	case "ipv4":
		return ir.V4
	case "ipv6":
		return ir.V6
	}
	return 0
}

// icmpBlock compiles an icmp-block: it refuses, or with icmp-block-inversion it lets pass.
func (s *state) icmpBlock(o *owner, name string) {
	origin := o.origin("icmp-block " + name)
	for _, m := range s.icmpMatches(origin, name, ir.Both) {
		if o.zone != nil && o.zone.ICMPBlockInversion {
			s.emit(o, "filter", o.filter, "allow", familyRule(m.Family, origin, ir.Accept, m))
			continue
		}
		for _, r := range s.refusal(origin, s.layout.logPrefix+o.name+"_ICMP_BLOCK", prohibited, m) {
			r.Families = m.Family
			s.emit(o, "filter", o.filter, "deny", r)
		}
	}
}

// icmpDefault is what a zone does with ICMP that no rule decided about: it lets it in, or with inversion refuses it. Zones
// that drop or reject everything have none.
func (s *state) icmpDefault(o *owner, z *zones.Zone) {
	origin := o.origin("icmp-block-inversion")
	chain := s.chain("filter", "IN", o.suffix)
	both := ir.L4Proto{Numbers: []int{1, 58}}
	switch {
	case z.Target == zones.TargetDefault && !z.ICMPBlockInversion:
		s.add("filter", chain, rule(o.origin(""), ir.Accept, both))
	case (z.Target == zones.TargetDefault || z.Target == zones.TargetAccept) && z.ICMPBlockInversion:
		prefix := "filter_zone_" + z.Name + "_HOST_ICMP_BLOCK"
		if !s.layout.oneTable {
			prefix = "IN_" + z.Name + "_ICMP_BLOCK"
		}
		s.add("filter", chain, s.refusal(origin, prefix, prohibited, both)...)
	}
}
