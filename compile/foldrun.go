package compile

import (
	"slices"

	"richwall/compile/ir"
)

// lane is what the rules of a run that can match packets of one IP version have in common.
type lane struct {
	first     *class // nil as long as there is none
	oneAction bool   // they do the same, and a packet that meets one does not come to another
	oneKin    bool   // they are of one shape, or of shapes that fit into one set
	oneShape  bool
}

// with is the lane with another rule; ok is false if its place among the others may matter.
func (l lane) with(c *class) (next lane, ok bool) {
	if l.first == nil {
		return lane{c, terminal(c.action), c.kin != nil, true}, true
	}
	l.oneAction = l.oneAction && l.first.action == c.action
	l.oneKin = l.oneKin && l.first.kin == c.kin
	l.oneShape = l.oneShape && l.first.shape == c.shape
	return l, l.oneAction || l.oneKin
}

// lanes are those of IPv4 and of IPv6: what matches one of them alone has no order with what matches the other.
type lanes [2]lane

var laneFamilies = [2]ir.Families{ir.V4, ir.V6}

func (l lanes) with(c *class) (next lanes, ok bool) {
	for i, f := range laneFamilies {
		if c.packets&f == 0 {
			continue
		}
		if l[i], ok = l[i].with(c); !ok {
			return l, false
		}
	}
	return l, true
}

// of is the lane that rules of the class are in; where they are in both, both say the same about them.
func (l lanes) of(c *class) lane {
	if c.packets&ir.V4 != 0 {
		return l[0]
	}
	return l[1]
}

// split finds the runs of at least so many rules, each as long as possible, from the first rule on. Their stretches are empty.
func split(list []*class, least int) []run {
	var runs []run
	var now lanes
	from := 0
	end := func(at int) {
		if at-from >= least {
			runs = append(runs, run{from: from, to: at})
		}
		now = lanes{}
	}
	for i, c := range list {
		switch {
		case c == nil:
			end(i)
			from = i + 1
			continue
		case i > from && c == list[i-1]:
			continue
		}
		next, ok := now.with(c)
		if !ok {
			end(i)
			from = i
			next, _ = lanes{}.with(c)
		}
		now = next
	}
	end(len(list))
	return runs
}

// stretch is a run, or a part of one, of which no two rules have an order any more.
type stretch struct {
	rules int              // how many
	folds []*fold          // in the order of their first rules
	of    map[*class]*fold // nil for a class whose rules stay
	cut   bool             // what several rules claimed was given to the first
}

// fold is the rules of a stretch that become one, or would become one if they were more.
type fold struct {
	foldKey
	rules    int          // how many
	object   string       // of the rules' origin
	path     string       //
	gathered bool         // members are known
	members  []ir.Element // the values of each rule, in the order of compareElements
	apart    *shape       // of which no two members have anything in common; nil if that is not known
	parts    []withPort   // members by their ports, where there is a set for each
	folded   bool         // its rules are replaced by those made, which are none if others claimed all
	made     []madeOne
	fault    string // why its rules stay although they are enough; empty if none is known
}

type foldKey struct {
	shape   *shape
	action  ir.Action // nil for a map
	ordered bool      // of rules that do different things
}

// madeOne is a rule with its set.
type madeOne struct {
	name string // that the set would have if it were the only one, and names could be long
	set  *ir.Set
	rule *ir.Rule
}

// saved is about how many rules fewer come out than went in.
func (st *stretch) saved() int {
	n := 0
	for _, f := range st.folds {
		if f.folded {
			n += f.rules - len(f.made)
		}
	}
	return n
}

// plan finds the folds of neighbours, without members.
func (f *folding) plan(list []*class) *stretch {
	st := &stretch{rules: len(list), of: map[*class]*fold{}}
	var all lanes
	var tally []*class // each class once, by its first rule
	count := map[*class]*int{}
	var last *class
	var n *int
	for _, c := range list {
		if c != last {
			last, n = c, count[c]
			if n == nil {
				n = new(int)
				count[c] = n
				tally = append(tally, c)
				all, _ = all.with(c)
			}
		}
		*n++
	}
	several := f.severalVerdicts(all, tally)
	folds := map[foldKey]*fold{}
	for _, c := range tally {
		if c.still {
			continue
		}
		key := all.of(c).key(c)
		if key.ordered && several[key.shape] && mappable(c.action) {
			key.action = nil
		}
		into := folds[key]
		if into == nil {
			into = &fold{foldKey: key, object: c.object, path: c.path}
			folds[key] = into
			st.folds = append(st.folds, into)
		}
		if into.object != c.object || into.path != c.path {
			into.object, into.path = "zones and policies", ""
		}
		into.rules += *count[c]
		st.of[c] = into
	}
	f.choose(st)
	return st
}

// key is the fold that rules of the class belong to.
func (l lane) key(c *class) foldKey {
	switch {
	case l.oneAction:
		return foldKey{shape: c.shape, action: c.action}
	case l.oneShape:
		return foldKey{shape: c.shape, action: c.action, ordered: true}
	}
	return foldKey{shape: c.kin, action: c.action, ordered: true}
}

// mappable says whether an action can be an element's of a verdict map.
func mappable(a ir.Action) bool {
	_, reject := a.(ir.Reject)
	return !reject
}

// severalVerdicts are the shapes of ordered folds that do different things, which a map can hold.
func (f *folding) severalVerdicts(all lanes, tally []*class) map[*shape]bool {
	several := map[*shape]bool{}
	if f.classes.backend != ir.NFTables {
		return several
	}
	first := map[*shape]ir.Action{}
	for _, c := range tally {
		key := all.of(c).key(c)
		if c.still || !key.ordered || !mappable(c.action) {
			continue
		}
		if a, ok := first[key.shape]; ok && a != c.action {
			several[key.shape] = true
		}
		first[key.shape] = c.action
	}
	return several
}

// choose says of which folds the members must be known: of those that are large enough, and of others where they may claim
// what those do.
func (f *folding) choose(st *stretch) {
	large := map[*shape]bool{}
	for _, into := range st.folds {
		if into.rules >= f.least {
			into.gathered = true
			large[into.shape] = large[into.shape] || into.ordered
		}
	}
	for _, into := range st.folds {
		into.gathered = into.gathered || into.ordered && large[into.shape]
	}
}

// stretches folds neighbours that split found to be a run.
func (f *folding) stretches(rules []*ir.Rule, list []*class) []*stretch {
	if len(rules) < f.least {
		return []*stretch{{rules: len(rules)}}
	}
	st := f.plan(list)
	claims := map[*shape][]claim{}
	parts := make([]ir.Part, st.parts())
	for i, r := range rules {
		into := st.of[list[i]]
		if into == nil || !into.gathered {
			continue
		}
		n := len(into.shape.slots)
		e := into.shape.element(r, nil, parts[:n:n])
		parts = parts[n:]
		if into.ordered {
			claims[into.shape] = append(claims[into.shape], claim{Element: e, at: i, fold: into, action: list[i].action})
			continue
		}
		if into.members == nil {
			into.members = make([]ir.Element, 0, into.rules)
		}
		into.members = append(into.members, e)
	}
	var ends []conflict
	for s, list := range claims {
		kept, cut, conflicts := f.settle(s, list)
		ends = append(ends, conflicts...)
		st.cut = st.cut || cut
		for _, c := range kept {
			c.fold.members = append(c.fold.members, c.element())
		}
	}
	if at := breaks(ends); len(at) > 0 {
		return f.pieces(rules, list, at)
	}
	for _, into := range st.folds {
		if !into.ordered {
			slices.SortFunc(into.members, compareElements)
		}
		f.makeSets(into, change{})
	}
	return []*stretch{st}
}

// parts is how many parts the members of a stretch's folds will have.
func (st *stretch) parts() int {
	n := 0
	for _, into := range st.folds {
		if into.gathered {
			n += into.rules * len(into.shape.slots)
		}
	}
	return n
}

// pieces folds what is between places where order matters.
func (f *folding) pieces(rules []*ir.Rule, list []*class, at []int) []*stretch {
	var all []*stretch
	from := 0
	for _, to := range append(at, len(rules)) {
		all = append(all, f.stretches(rules[from:to], list[from:to])...)
		from = to
	}
	return all
}
