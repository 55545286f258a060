package compile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/boxes"
	"richwall/zones"
)

// compileSets makes a set of each ipset.
func (s *state) compileSets() {
	for _, name := range zones.Names(s.cfg.IPSets) {
		def, before := s.cfg.IPSets[name], s.before.sets[name]
		if before == nil {
			before = &setMemo{}
		}
		set, errs := compileSet(def, before.def, before.set, s.layout.oneTable)
		s.errs = append(s.errs, errs...)
		s.next.sets[name] = &setMemo{def: def, set: set}
		s.sets[name] = set
		s.out.Sets = append(s.out.Sets, set)
	}
}

// compileSet makes a set of an ipset. before is the ipset of that name that was compiled last, and was the set it gave; nil
// for none. Elements of entries that both have are taken from there, so that an entry more costs no new look at the others;
// the result is the same as without.
//
// With merge, for nftables, no two elements have an address in common: the kernel refuses a set of intervals that has two
// for one. Elements stand as the entries do, or sorted where some were merged and in sets of one field.
func compileSet(def, before *zones.IPSet, was *ir.Set, merge bool) (*ir.Set, Errors) {
	if def == before {
		return was, nil
	}
	b := &setBuilder{def: def, merge: merge, set: &ir.Set{
		Name: def.Name, Type: def.Type, Family: ir.V4,
		Timeout: def.Options["timeout"], MaxElem: def.Options["maxelem"], HashSize: def.Options["hashsize"],
		Origin: &ir.Origin{Object: "ipset " + def.Name, Path: def.Origin.Path},
	}}
	switch {
	case def.Type == "hash:mac":
		b.set.Family = ir.Both
	case def.Options["family"] == "inet6":
		b.set.Family = ir.V6
	}
	if before == nil || before.Type != def.Type || before.Family() != def.Family() || !b.change(before, was) {
		b.make()
	}
	return b.set, b.errs
}

// setBuilder makes the elements of a set.
type setBuilder struct {
	def   *zones.IPSet
	merge bool
	set   *ir.Set
	errs  Errors
}

// fail records what is wrong with an entry.
func (b *setBuilder) fail(code grammar.Code, format string, args ...any) {
	s := &state{}
	s.fail(code, b.set.Origin, format, args...)
	b.errs = append(b.errs, s.errs...)
}

// length is how many entries an ipset has. There are timed ones or others.
func length(def *zones.IPSet) int { return len(def.Entries) + len(def.Timed) }

// sameEntry says whether the entries of two ipsets at two places are the same.
func sameEntry(a *zones.IPSet, i int, b *zones.IPSet, j int) bool {
	if i < len(a.Entries) || j < len(b.Entries) {
		return i < len(a.Entries) && j < len(b.Entries) && a.Entries[i] == b.Entries[j]
	}
	p, q := &a.Timed[i-len(a.Entries)], &b.Timed[j-len(b.Entries)]
	return p.Text == q.Text && p.Until.Equal(q.Until)
}

// elements are those of some of the entries of an ipset, in their order.
func (b *setBuilder) elements(def *zones.IPSet, from, to int) []ir.Element {
	list := make([]ir.Element, 0, to-from)
	fields := strings.Count(def.Type, ",") + 1
	const atOnce = 256 // elements whose parts are one piece of memory
	var parts []ir.Part
	for i := from; i < to; i++ {
		var text string
		var until *time.Time
		if i < len(def.Entries) {
			text = def.Entries[i]
		} else {
			timed := &def.Timed[i-len(def.Entries)]
			text, until = timed.Text, &timed.Until
		}
		if len(parts) == 0 {
			parts = make([]ir.Part, min(to-i, atOnce)*fields)
		}
		e := ir.Element{Parts: parts[:fields:fields], Until: until}
		parts = parts[fields:]
		if addr, ok := def.HostEntry(text); ok {
			e.Parts[0].Low, e.Parts[0].High, e.Text = addr, addr, text
			list = append(list, e)
			continue
		}
		entry, err := zones.ParseEntry(def, text)
		if err != nil {
			b.fail(zones.InvalidEntry, "%s", message(err))
			continue
		}
		fillParts(e.Parts, entry)
		if e.Text = text; !isText(e.Parts, text) {
			e.Text = partsText(e.Parts)
		}
		list = append(list, e)
	}
	return list
}

// make compiles all entries.
func (b *setBuilder) make() {
	list := b.elements(b.def, 0, length(b.def))
	if !b.merge || len(list) < 2 {
		b.set.Elements = list
		return
	}
	if len(list[0].Parts) == 1 && b.def.Timed == nil {
		b.join(list)
		return
	}
	overlap := false
	merged, ok := boxes.Disjoint(boxesOf(list), func(boxes.Box, boxes.Box) { overlap = true })
	switch {
	case !ok:
		p, q, _ := boxes.Overlap(boxesOf(list))
		b.fail(zones.InvalidEntry, "entries overlap in too many ways, such as %s and %s, and nftables wants each address once: split them",
			list[p.Of].Text, list[q.Of].Text)
		return
	case !overlap && len(list[0].Parts) > 1:
		b.set.Elements = list
		return
	}
	b.set.Elements = make([]ir.Element, len(merged))
	for i, box := range merged {
		b.set.Elements[i] = within(list[box.Of], box)
	}
}

// join makes elements of one field those of the set, sorted, and one of those that overlap.
func (b *setBuilder) join(list []ir.Element) {
	spans := make([]boxes.Span, len(list))
	for i := range list {
		box := list[i].Box()
		spans[i] = boxes.Span{First: box.First[0], Last: box.Last[0], Of: int32(i)}
	}
	spans = boxes.Join(spans, nil)
	b.set.Elements = list
	if len(spans) == len(list) && slices.IsSortedFunc(spans, func(s, t boxes.Span) int { return cmp.Compare(s.Of, t.Of) }) {
		return // as they were
	}
	b.set.Elements = make([]ir.Element, len(spans))
	for i, s := range spans {
		b.set.Elements[i] = within(list[s.Of], boxes.Box{
			First: [boxes.Fields]boxes.Point{s.First}, Last: [boxes.Fields]boxes.Point{s.Last}, Changed: s.Changed,
		})
	}
}

// within is an element in the bounds of a box that was made of it.
func within(e ir.Element, box boxes.Box) ir.Element {
	if box.Changed {
		e = e.Within(box)
		e.Text = partsText(e.Parts)
	}
	return e
}

// boxesOf are elements as boxes; those that end later rank higher.
func boxesOf(list []ir.Element) []boxes.Box {
	result := make([]boxes.Box, len(list))
	for i := range list {
		result[i] = list[i].Box()
		result[i].Of = i
		if list[i].Until != nil {
			result[i].Rank = list[i].Until.UnixMilli()
		}
	}
	return result
}

// The most entries that are worth being put into a list one by one.
const (
	fewEntries     = 1000
	fewWideEntries = 16 // of several fields: each is compared with all others
)

// change makes the elements of those there were before, when few entries came or went. ok is false if all must be looked at.
func (b *setBuilder) change(before *zones.IPSet, was *ir.Set) (ok bool) {
	n, m := length(before), length(b.def)
	begin, end := 0, 0
	for begin < min(len(before.Entries), len(b.def.Entries)) && before.Entries[begin] == b.def.Entries[begin] {
		begin++
	}
	for begin < min(n, m) && sameEntry(before, begin, b.def, begin) {
		begin++
	}
	for end < min(n, m)-begin && sameEntry(before, n-1-end, b.def, m-1-end) {
		end++
	}
	gone, come := n-begin-end, m-begin-end
	switch {
	case gone == 0 && come == 0:
		b.set.Elements = was.Elements
		return true
	case gone+come > fewEntries:
		return false
	}
	added := b.elements(b.def, begin, m-end)
	if b.errs != nil {
		return true
	}
	if !b.merge {
		if len(was.Elements) != n {
			return false
		}
		b.set.Elements = slices.Concat(was.Elements[:begin], added, was.Elements[n-end:])
		return true
	}
	if len(was.Elements) > 0 && len(was.Elements[0].Parts) > 1 {
		if !entered(before, was) {
			return false
		}
		rest := slices.Concat(was.Elements[:begin], was.Elements[n-end:])
		if kept, ok := uncovered(rest, added); !ok || len(kept) != len(added) {
			return false
		}
		b.set.Elements = slices.Concat(rest[:begin], added, rest[begin:])
		return true
	}
	return b.splice(was.Elements, n, b.elements(before, begin, n-end), added)
}

// entered says whether the elements of a set stand as its entries do, one for each.
func entered(def *zones.IPSet, set *ir.Set) bool {
	if len(set.Elements) != length(def) || def.Timed != nil {
		return false
	}
	for i := range set.Elements {
		if text := set.Elements[i].Text; text != def.Entries[i] {
			entry, err := zones.ParseEntry(def, def.Entries[i]) // it may be spelled in another way
			if err != nil {
				return false
			}
			parts := make([]ir.Part, len(entry))
			if fillParts(parts, entry); partsText(parts) != text {
				return false
			}
		}
	}
	return true
}

// splice takes elements out of a sorted list and puts others in, unless that touches others in the list: was is made of n
// entries, and when it has fewer elements, some may hold more than their own entry.
func (b *setBuilder) splice(was []ir.Element, n int, gone, added []ir.Element) (ok bool) {
	if len(gone) > 0 && len(was) != n {
		return false
	}
	byBox := func(e ir.Element, box boxes.Box) int {
		own := e.Box()
		return own.Compare(&box)
	}
	next := was
	if len(gone) > 0 {
		slices.SortFunc(gone, compareBoxes)
		next = make([]ir.Element, 0, len(was)+len(added))
		rest := was
		for i := range gone {
			at, found := slices.BinarySearchFunc(rest, gone[i].Box(), byBox)
			if !found || rest[at].Text != gone[i].Text {
				return false
			}
			next = append(next, rest[:at]...)
			rest = rest[at+1:]
		}
		next = append(next, rest...)
	}
	added, ok = uncovered(next, added)
	if !ok {
		return false
	}
	if len(added) == 0 {
		b.set.Elements = next
		return true
	}
	slices.SortFunc(added, compareBoxes)
	all := make([]ir.Element, 0, len(next)+len(added))
	for i := range added {
		at, _ := slices.BinarySearchFunc(next, added[i].Box(), byBox)
		all = append(append(all, next[:at]...), added[i])
		next = next[at:]
	}
	b.set.Elements = append(all, next...)
	return true
}

func compareBoxes(a, b ir.Element) int {
	p, q := a.Box(), b.Box()
	return p.Compare(&q)
}

// uncovered is the elements that no element of a sorted list covers. ok is false if any of them overlaps in another way, with
// those or with one another.
func uncovered(list, added []ir.Element) (rest []ir.Element, ok bool) {
	if len(added) == 0 {
		return nil, true
	}
	several := len(added[0].Parts) > 1
	if several && len(added) > fewWideEntries {
		return nil, false
	}
	for _, e := range added {
		box := e.Box()
		from, to := 0, len(list)
		if !several { // of intervals that do not overlap, only the neighbours can overlap with another one
			at, _ := slices.BinarySearchFunc(list, box, func(e ir.Element, box boxes.Box) int { return e.Box().First[0].Compare(box.First[0]) })
			from, to = max(at-1, 0), min(at+1, len(list))
		}
		overlapping := slices.IndexFunc(list[from:to], e.Overlaps)
		if overlapping < 0 {
			rest = append(rest, e)
			continue
		}
		other := list[from+overlapping].Box()
		if !other.Covers(&box) || e.Until != nil {
			return nil, false
		}
	}
	if len(rest) > 1 {
		merged, _ := boxes.Disjoint(boxesOf(rest), nil)
		ok = len(merged) == len(rest) && !slices.ContainsFunc(merged, func(b boxes.Box) bool { return b.Changed })
		return rest, ok
	}
	return rest, true
}

// fillParts makes the fields of an element.
func fillParts(parts []ir.Part, entry zones.Entry) {
	for i, part := range entry {
		p := &parts[i]
		switch part := part.(type) {
		case zones.AddrPart:
			p.Kind, p.Low, p.High = ir.AddrPart, part.Low, part.High
		case zones.PortPart:
			p.Kind, p.First, p.Last, p.Name = ir.PortPart, part.Low, part.High, protocolName(part.Protocol)
		case zones.MarkPart:
			p.Kind, p.First = ir.MarkPart, int(part)
		case zones.MACPart:
			p.Kind, p.Name = ir.MACPart, part.String()
		case zones.IfacePart:
			p.Kind, p.Name = ir.IfacePart, string(part)
		}
	}
}

// protocolName is a protocol by its name, or its number where it has none.
func protocolName(number int) string {
	return cmp.Or(grammar.ProtocolName(number), strconv.Itoa(number))
}

// partsText is an element as ipset takes it.
func partsText(parts []ir.Part) string { return string(appendParts(nil, parts)) }

// isText says whether a text is that of an element, without making another one.
func isText(parts []ir.Part, text string) bool {
	var room [128]byte
	return string(appendParts(room[:0], parts)) == text
}

func appendParts(b []byte, parts []ir.Part) []byte {
	for i := range parts {
		p := &parts[i]
		if i > 0 {
			b = append(b, ',')
		}
		switch p.Kind {
		case ir.AddrPart:
			b = appendAddr(b, p)
		case ir.PortPart:
			b = strconv.AppendInt(append(append(b, p.Name...), ':'), int64(p.First), 10)
			if p.Last != p.First {
				b = strconv.AppendInt(append(b, '-'), int64(p.Last), 10)
			}
		case ir.MarkPart:
			b = strconv.AppendUint(append(b, "0x"...), uint64(p.First), 16)
		case ir.MACPart, ir.IfacePart:
			b = append(b, p.Name...)
		}
	}
	return b
}

// appendAddr writes an address, a prefix or, of what is neither, a range.
func appendAddr(b []byte, p *ir.Part) []byte {
	if p.Low == p.High {
		return p.Low.AppendTo(b)
	}
	if prefix, ok := p.Prefix(); ok {
		return prefix.AppendTo(b)
	}
	return p.High.AppendTo(append(p.Low.AppendTo(b), '-'))
}

// covered says whether all that inner stands for, outer stands for too.
func covered(inner, outer ir.Element) bool {
	p, q := inner.Box(), outer.Box()
	return q.Covers(&p)
}
