package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"richwall/compile/ir"
	"richwall/zones"
)

// compileSets makes a set of each ipset. Entries that another entry of the set covers are left out, and ranges that
// overlap are joined: the kernel refuses a set of intervals that has two for one address.
func (s *state) compileSets() {
	for _, name := range zones.Names(s.cfg.IPSets) {
		def := s.cfg.IPSets[name]
		if m := s.before.sets[name]; m != nil && m.def == def {
			s.putSet(m)
			continue
		}
		set := &ir.Set{
			Name: name, Type: def.Type, Family: ir.V4,
			Timeout: def.Options["timeout"], MaxElem: def.Options["maxelem"], HashSize: def.Options["hashsize"],
			Origin: &ir.Origin{Object: "ipset " + name, Path: def.Origin.Path},
		}
		switch {
		case def.Type == "hash:mac":
			set.Family = ir.Both
		case def.Options["family"] == "inet6":
			set.Family = ir.V6
		}
		for _, text := range def.Entries {
			entry, err := zones.ParseEntry(def, text)
			if err != nil {
				s.fail(zones.InvalidEntry, set.Origin, "%s", message(err))
				continue
			}
			set.Elements = append(set.Elements, element(entry))
		}
		if s.layout.oneTable {
			s.mergeElements(set)
		}
		s.putSet(&setMemo{def: def, set: set})
	}
}

// putSet adds the set of an ipset.
func (s *state) putSet(m *setMemo) {
	s.next.sets[m.def.Name] = m
	s.sets[m.def.Name] = m.set
	s.out.Sets = append(s.out.Sets, m.set)
}

// element is an entry in the intermediate form.
func element(entry zones.Entry) ir.Element {
	e := ir.Element{Text: entry.String(), Parts: make([]ir.Part, len(entry))}
	for i, part := range entry {
		p := &e.Parts[i]
		switch part := part.(type) {
		case zones.AddrPart:
			p.Kind, p.Low, p.High = ir.AddrPart, part.Low, part.High
		case zones.PortPart:
			p.Kind, p.First, p.Last = ir.PortPart, part.Low, part.High
			p.Name, _, _ = strings.Cut(part.String(), ":")
		case zones.MarkPart:
			p.Kind, p.First = ir.MarkPart, int(part)
		case zones.MACPart:
			p.Kind, p.Name = ir.MACPart, part.String()
		case zones.IfacePart:
			p.Kind, p.Name = ir.IfacePart, string(part)
		}
	}
	return e
}

// mergeElements leaves out what is covered and joins what overlaps, so that no two elements have an address in common.
func (s *state) mergeElements(set *ir.Set) {
	if set.Type == "hash:ip" || set.Type == "hash:net" {
		set.Elements = mergeRanges(set.Elements)
		return
	}
	var kept []ir.Element
	seen := map[string]bool{}
	for _, e := range set.Elements {
		if !seen[e.Text] {
			seen[e.Text] = true
			kept = append(kept, e)
		}
	}
	if len(set.Elements) > 0 && len(set.Elements[0].Parts) > 1 {
		kept = s.dropCovered(set, kept)
	}
	set.Elements = kept
}

// mergeRanges sorts elements of one address part each and joins those that overlap.
func mergeRanges(list []ir.Element) []ir.Element {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b ir.Element) int {
		return cmp.Or(a.Parts[0].Low.Compare(b.Parts[0].Low), b.Parts[0].High.Compare(a.Parts[0].High))
	})
	var merged []ir.Element
	for _, e := range sorted {
		if len(merged) == 0 || merged[len(merged)-1].Parts[0].High.Less(e.Parts[0].Low) {
			merged = append(merged, e)
			continue
		}
		if last := merged[len(merged)-1].Parts[0]; last.High.Less(e.Parts[0].High) {
			merged[len(merged)-1] = rangeElement(last.Low, e.Parts[0].High)
		}
	}
	return merged
}

func rangeElement(low, high netip.Addr) ir.Element {
	return ir.Element{Text: low.String() + "-" + high.String(), Parts: []ir.Part{{Kind: ir.AddrPart, Low: low, High: high}}}
}

// dropCovered leaves out elements of several parts that another one covers. Those that overlap without either covering
// the other cannot both be in a set, and which to leave out is not ours to say.
func (s *state) dropCovered(set *ir.Set, list []ir.Element) []ir.Element {
	var wides []int
	for i, e := range list {
		if e.Wide() {
			wides = append(wides, i)
		}
	}
	dropped := make([]bool, len(list))
	for _, w := range wides {
		for i := range list {
			if i == w || dropped[i] || dropped[w] || !list[w].Overlaps(list[i]) {
				continue
			}
			switch {
			case covered(list[i], list[w]):
				dropped[i] = true
			case covered(list[w], list[i]):
				dropped[w] = true
			default:
				s.fail(zones.InvalidEntry, set.Origin, "entries %s and %s overlap, and neither covers the other: split one of them", list[i].Text, list[w].Text)
				dropped[i] = true
			}
		}
	}
	var kept []ir.Element
	for i, e := range list {
		if !dropped[i] {
			kept = append(kept, e)
		}
	}
	return kept
}

// covered says whether all that inner stands for, outer stands for too.
func covered(inner, outer ir.Element) bool {
	for i, p := range inner.Parts {
		q := outer.Parts[i]
		switch p.Kind {
		case ir.AddrPart:
			if p.Low.Less(q.Low) || q.High.Less(p.High) {
				return false
			}
		case ir.PortPart:
			if p.Name != q.Name || p.First < q.First || p.Last > q.Last {
				return false
			}
		default:
			if p.First != q.First || p.Name != q.Name {
				return false
			}
		}
	}
	return true
}
