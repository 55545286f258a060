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
	var maker ir.Maker
	room := make([]ir.Part, fields)
	for i := from; i < to; i++ {
		var text string
		var until *time.Time
		if i < len(def.Entries) {
			text = def.Entries[i]
		} else {
			timed := &def.Timed[i-len(def.Entries)]
			text, until = timed.Text, &timed.Until
		}
		clear(room)
		if low, high, ok := def.PlainEntry(text); ok {
			room[0].Low, room[0].High = low, high
			list = append(list, maker.Element(text, until, room))
			continue
		}
		entry, err := zones.ParseEntry(def, text)
		if err != nil {
			b.fail(zones.InvalidEntry, "%s", message(err))
			continue
		}
		fillParts(room, entry)
		if !isText(room, text) {
			text = partsText(room)
		}
		list = append(list, maker.Element(text, until, room))
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
	if list[0].Fields() == 1 && b.def.Timed == nil {
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
	case !overlap && list[0].Fields() > 1:
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
		e.Text = partsText(e.Parts())
	}
	return e
}

// boxesOf are elements as boxes; those that end later rank higher.
func boxesOf(list []ir.Element) []boxes.Box {
	result := make([]boxes.Box, len(list))
	for i := range list {
		result[i] = list[i].Box()
		result[i].Of = i
		if until := list[i].Until(); until != nil {
			result[i].Rank = until.UnixMilli()
		}
	}
	return result
}

// The most entries that are worth being put into a list one by one.
const (
	fewEntries     = 1000
	fewWideEntries = 16 // of several fields: each is compared with all others
	nearEntries    = 64 // how many are looked at to find where two lists go on alike
)

// hunk is a place where two lists of entries differ: those of the one from begin to end have gone, and those of the other one have come.
type hunk struct{ begin, end, newBegin, newEnd int }

// hunks are the places where the entries of two ipsets of one kind differ. ok is false if more than a few came or went.
func hunks(before, now *zones.IPSet) (list []hunk, ok bool) {
	n, m := length(before), length(now)
	for i, j := 0, 0; ; {
		for i < min(len(before.Entries), n) && j < len(now.Entries) && before.Entries[i] == now.Entries[j] {
			i, j = i+1, j+1
		}
		for i < n && j < m && sameEntry(before, i, now, j) {
			i, j = i+1, j+1
		}
		if i == n && j == m {
			return list, true
		}
		h := hunk{begin: i, newBegin: j}
		if h.end, h.newEnd, ok = together(before, i, now, j); !ok || changes(list)+h.size() > fewEntries {
			return nil, false
		}
		list = append(list, h)
		i, j = h.end, h.newEnd
	}
}

func (h hunk) size() int { return h.end - h.begin + h.newEnd - h.newBegin }

// changes is how many entries came or went.
func changes(list []hunk) (n int) {
	for _, h := range list {
		n += h.size()
	}
	return n
}

// together is where two lists that differ at two places have an entry in common again, or are at their end. ok is false if that is not
// near.
func together(a *zones.IPSet, i int, b *zones.IPSet, j int) (end, newEnd int, ok bool) {
	n, m := length(a)-i, length(b)-j
	for skipped := 1; skipped <= min(n+m, nearEntries); skipped++ {
		for k := max(0, skipped-m); k <= min(skipped, n); k++ {
			switch x, y := i+k, j+skipped-k; {
			case k == n && skipped-k == m, k < n && skipped-k < m && sameEntry(a, x, b, y):
				return x, y, true
			}
		}
	}
	return rest(a, i, b, j)
}

// rest is together for lists of which all that is left is another one, but for what they have in common at their end.
func rest(a *zones.IPSet, i int, b *zones.IPSet, j int) (end, newEnd int, ok bool) {
	end, newEnd = length(a), length(b)
	for end > i && newEnd > j && sameEntry(a, end-1, b, newEnd-1) {
		end, newEnd = end-1, newEnd-1
	}
	return end, newEnd, end-i+newEnd-j <= fewEntries
}

// MadeAnew is how many entries of an ipset are looked at when it is compiled after another one, nil for none.
func MadeAnew(before, now *zones.IPSet) int {
	if before == now {
		return 0
	}
	if before != nil && before.Type == now.Type && before.Family() == now.Family() {
		if list, ok := hunks(before, now); ok {
			return changes(list)
		}
	}
	return length(now)
}

// change makes the elements of those there were before, when few entries came or went. ok is false if all must be looked at.
func (b *setBuilder) change(before *zones.IPSet, was *ir.Set) (ok bool) {
	list, ok := hunks(before, b.def)
	if !ok {
		return false
	}
	if len(list) == 0 {
		b.set.Elements = was.Elements
		return true
	}
	added := make([][]ir.Element, len(list))
	for i, h := range list {
		added[i] = b.elements(b.def, h.newBegin, h.newEnd)
	}
	if b.errs != nil {
		return true
	}
	all := slices.Concat(added...)
	if several := len(was.Elements) > 0 && was.Elements[0].Fields() > 1; b.merge && !several {
		var gone []ir.Element
		for _, h := range list {
			gone = append(gone, b.elements(before, h.begin, h.end)...)
		}
		return b.splice(was.Elements, length(before), gone, all)
	}
	if len(was.Elements) != length(before) {
		return false
	}
	if b.merge {
		if !entered(before, was) {
			return false
		}
		if kept, ok := uncovered(withHunks(was.Elements, list, nil), all); !ok || len(kept) != len(all) {
			return false
		}
	}
	b.set.Elements = withHunks(was.Elements, list, added)
	return true
}

// withHunks is a list of elements with others at the places where entries differ; nil for none.
func withHunks(was []ir.Element, list []hunk, added [][]ir.Element) []ir.Element {
	next := make([]ir.Element, 0, len(was)+changes(list))
	at := 0
	for i, h := range list {
		next = append(next, was[at:h.begin]...)
		if added != nil {
			next = append(next, added[i]...)
		}
		at = h.end
	}
	return append(next, was[at:]...)
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
	several := added[0].Fields() > 1
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
		if !other.Covers(&box) || e.Until() != nil {
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
