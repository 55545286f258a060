package compile

import (
	"slices"

	"richwall/compile/ir"
	"richwall/zones"
)

// ownerMemo is what was made of the content of a zone or policy.
type ownerMemo struct {
	as     ownerTraits
	places []*place
	items  map[string]*made // by text such as "port 80/tcp"
	rules  []zones.RichRule
	made   []made  // of each of rules
	groups []group // what they make, by place
	extras []int   // those of rules that make something else too
}

// ownerTraits are what rules of an owner depend on beside their own text.
type ownerTraits struct {
	name, path, suffix                          string
	filter, through, nat, post, mangle, helpers string
	inverted                                    bool
}

func (o *owner) traits() ownerTraits {
	return ownerTraits{o.name, o.path, o.suffix, o.filter, o.through, o.nat, o.post, o.mangle, o.helpers,
		o.zone != nil && o.zone.ICMPBlockInversion}
}

// place is one of an owner's sub-chains.
type place struct{ table, hook, sub string }

// placed is a rule and the sub-chain that it is for.
type placed struct {
	at   *place
	rule *ir.Rule
}

// group is rules for one sub-chain.
type group struct {
	at    *place
	rules []*ir.Rule
}

// made is what an item of a zone or policy was compiled to.
type made struct {
	rules []placed
	extra *extra // nil for most
}

// extra is what few items make beside rules of their owner, or depend on.
type extra struct {
	helpers []ir.Helper
	sets    []*ir.Set // looked up: if one is another now, the item must be compiled again
	clamp   *clamp
	links   ir.Families // of a clamp to what links carry
	strict  []strictRule
}

// strictRule lets translated packets pass, in a chain that the last one is put at the beginning of.
type strictRule struct {
	hook string
	rule *ir.Rule
}

// begin prepares the memo of an owner.
func (s *state) begin(o *owner) {
	before := s.before.owners[o.object]
	if before == nil || before.as != o.traits() {
		before = &ownerMemo{}
	}
	o.before = before
	o.next = &ownerMemo{as: o.traits(), places: before.places, items: map[string]*made{}}
	s.next.owners[o.object] = o.next
}

// place is the place of an owner's sub-chain: the same pointer each time.
func (o *owner) place(table, hook, sub string) *place {
	p := place{table, hook, sub}
	for _, known := range o.next.places {
		if *known == p {
			return known
		}
	}
	o.next.places = append(slices.Clip(o.next.places), &p)
	return &p
}

// emit adds a rule to one of an owner's sub-chains, as part of the item that is compiled.
func (s *state) emit(o *owner, table, hook, sub string, r *ir.Rule) {
	s.tape.rules = append(s.tape.rules, placed{o.place(table, hook, sub), r})
}

// more is what the item that is compiled makes beside rules.
func (s *state) more() *extra {
	if s.tape.extra == nil {
		s.tape.extra = &extra{}
	}
	return s.tape.extra
}

// record compiles an item.
func (s *state) record(compile func()) made {
	s.tape = made{}
	compile()
	return s.tape
}

// item adds what an item of a zone or policy makes; key is its text.
func (s *state) item(o *owner, key string, compile func()) {
	m := o.before.items[key]
	if m == nil {
		recorded := s.record(compile)
		m = &recorded
	}
	o.next.items[key] = m
	for _, p := range m.rules {
		s.add(p.at.table, s.sub(o, p.at.table, p.at.hook, p.at.sub), p.rule)
	}
	s.addExtra(o, m.extra)
}

// addExtra adds what an item made beside rules.
func (s *state) addExtra(o *owner, e *extra) {
	if e == nil {
		return
	}
	for _, h := range e.helpers {
		s.helperObject(h)
	}
	s.links |= e.links
	if e.clamp != nil {
		c := *e.clamp
		c.owner = o
		s.clamps = append(s.clamps, &c)
	}
	for _, r := range e.strict {
		s.strict--
		again := *r.rule
		s.add("filter", s.chain("filter", r.hook, ir.ChainDNAT), ordered(s.strict, &again))
	}
}

// stale says whether something was compiled with a set that is another one now.
func (s *state) stale(m *made) bool {
	return m.extra != nil && slices.ContainsFunc(m.extra.sets, func(set *ir.Set) bool { return s.sets[set.Name] != set })
}

// richRules adds what the rich rules of an owner make.
func (s *state) richRules(o *owner, rules []zones.RichRule) {
	before, next := o.before, o.next
	next.rules = rules
	if sameSlice(before.rules, rules) && !slices.ContainsFunc(before.extras, func(i int) bool { return s.stale(&before.made[i]) }) {
		next.made, next.groups, next.extras = before.made, before.groups, before.extras
	} else {
		s.compileRules(o)
	}
	for _, g := range next.groups {
		s.add(g.at.table, s.sub(o, g.at.table, g.at.hook, g.at.sub), g.rules...)
	}
	for _, i := range next.extras {
		s.addExtra(o, next.made[i].extra)
	}
}

// compileRules compiles the rich rules that were not there the last time.
func (s *state) compileRules(o *owner) {
	before, next := o.before, o.next
	begin, end := aligned(before.rules, next.rules)
	next.made = make([]made, len(next.rules))
	copy(next.made, before.made[:begin])
	copy(next.made[len(next.made)-end:], before.made[len(before.made)-end:])
	counts := make([]int, len(next.places), len(next.places)+4)
	for _, g := range before.groups {
		counts[slices.Index(next.places, g.at)] = len(g.rules)
	}
	for i, r := range next.rules {
		m := &next.made[i]
		if i >= begin && i < len(next.rules)-end || s.stale(m) {
			*m = s.record(func() { s.rich(o, r) })
		}
		if m.extra != nil {
			next.extras = append(next.extras, i)
		}
		for _, p := range m.rules {
			next.put(p, counts)
		}
	}
}

// put adds a rule to the group of its place. counts is about how many rules the groups will have, by place.
func (o *ownerMemo) put(p placed, counts []int) {
	for i := range o.groups {
		if o.groups[i].at == p.at {
			o.groups[i].rules = append(o.groups[i].rules, p.rule)
			return
		}
	}
	room := 1
	if i := slices.Index(o.places, p.at); i < len(counts) {
		room = counts[i] + 1
	}
	o.groups = append(o.groups, group{p.at, append(make([]*ir.Rule, 0, room), p.rule)})
}
