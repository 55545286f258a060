package compile

import (
	"maps"
	"reflect"
	"slices"

	"richwall/compile/ir"
	"richwall/zones"
)

// A firewall is compiled again after each change, and most of it has not changed. The objects of a configuration are immutable:
// the same pointer means the same content, so what was made of it in the same surroundings is taken from the last time. The
// result is that of compiling everything, and the rules and chains that stay are the same pointers, which is how those who
// compare two rulesets pass over them.

// memo is what is kept of one compilation for the next. It is not changed once that is over.
type memo struct {
	in     surroundings
	owners map[string]*ownerMemo // by owner.object
	sets   map[string]*setMemo   // by name
	chains map[chainKey]*chainMemo
	out    *ir.Ruleset
	byName map[chainKey]*ir.Chain // of out
	direct directMemo
}

// surroundings are what the meaning of a zone's or policy's content depends on, beside the sets it names.
type surroundings struct {
	backend   ir.Backend
	conf      zones.Conf
	own       zones.OwnConf
	services  map[string]*zones.Service
	icmpTypes map[string]*zones.ICMPType
	helpers   map[string]*zones.Helper
}

func surroundingsOf(cfg *zones.Config, backend ir.Backend) surroundings {
	return surroundings{backend, *cfg.Conf, *cfg.Own, cfg.Services, cfg.ICMPTypes, cfg.Helpers}
}

func (a *surroundings) same(b *surroundings) bool {
	return a.backend == b.backend && a.conf == b.conf && a.own == b.own &&
		sameMap(a.services, b.services) && sameMap(a.icmpTypes, b.icmpTypes) && sameMap(a.helpers, b.helpers)
}

// sameMap says whether two maps are one and the same, or have the same objects.
func sameMap[T any](a, b map[string]*T) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer() || maps.Equal(a, b)
}

// remember starts a compilation with what is known from the last one.
func (s *state) remember(before *memo) {
	s.next = &memo{in: surroundingsOf(s.cfg, s.layout.backend), owners: map[string]*ownerMemo{}, sets: map[string]*setMemo{},
		chains: map[chainKey]*chainMemo{}}
	if before != nil {
		s.next.direct = before.direct
	}
	if before == nil || !before.in.same(&s.next.in) {
		before = &memo{}
	}
	s.before = before
}

// setMemo is an ipset and the set that was made of it.
type setMemo struct {
	def *zones.IPSet
	set *ir.Set
}

// share takes chains that came out as they were the last time from there, and the whole ruleset if all did.
func (s *state) share() {
	s.next.byName = make(map[chainKey]*ir.Chain, len(s.out.Chains))
	same := s.before.out != nil && s.sameFrame(s.before.out)
	for i, c := range s.out.Chains {
		key := chainKey{c.Table, c.Name}
		if was := s.before.byName[key]; was != nil && sameChain(was, c) {
			s.out.Chains[i], c = was, was
		}
		s.next.byName[key] = c
		same = same && s.before.out.Chains[i] == c
	}
	if same {
		s.out = s.before.out
	}
	s.next.out = s.out
}

// sameFrame says whether a ruleset has all that this one has, but for chains, of which it has as many.
func (s *state) sameFrame(was *ir.Ruleset) bool {
	return len(was.Chains) == len(s.out.Chains) && slices.Equal(was.Sets, s.out.Sets) && slices.Equal(was.Helpers, s.out.Helpers) &&
		slices.Equal(was.Flowtable, s.out.Flowtable) && (was.Flowtable == nil) == (s.out.Flowtable == nil) &&
		was.Owner == s.out.Owner && was.Counters == s.out.Counters && was.Links == s.out.Links && slices.Equal(was.Notes, s.out.Notes)
}

// sameChain says whether two chains of one name are the same.
func sameChain(a, b *ir.Chain) bool {
	return a.Families == b.Families && a.Builtin == b.Builtin && a.Shared == b.Shared && a.Declared == b.Declared && (a.Hook == b.Hook || a.Hook != nil && b.Hook != nil && *a.Hook == *b.Hook) &&
		slices.Equal(a.Rules, b.Rules)
}

// settle takes rules that were made anew, but are as they were the last time, from there. What is made of the content of zones
// and policies is there already.
func (s *state) settle() {
	for _, c := range s.out.Chains {
		before := s.chainBefore(c).added
		begin, end := aligned(before, c.Rules)
		old, fresh := before[begin:len(before)-end], c.Rules[begin:len(c.Rules)-end]
		for i := range min(len(old), len(fresh)) {
			if sameRule(old[i], fresh[i]) {
				fresh[i] = old[i]
			}
		}
	}
}

func sameRule(a, b *ir.Rule) bool {
	return a == b || a.Families == b.Families && a.Order == b.Order && a.Ranked == b.Ranked && a.Direct == b.Direct && a.Place == b.Place &&
		(a.Origin == b.Origin || a.Origin != nil && b.Origin != nil && *a.Origin == *b.Origin) && ir.SameRule(a, b, samePointer)
}

// aligned is how many items two lists have in common at their beginning, and behind that at their end.
func aligned[T comparable](a, b []T) (begin, end int) {
	n := min(len(a), len(b))
	for begin < n && a[begin] == b[begin] {
		begin++
	}
	for end < n-begin && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	return begin, end
}

func samePointer[T any](a, b *T) bool { return a == b }

// sameSlice says whether two slices are one and the same.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
