package kernel

import (
	"context"
	"fmt"
	"slices"

	"richwall/compile/ir"
)

// slot is a place in a shared chain: a rule as the tool lists it, or one of ours of which that is not known yet, by its spec. The text of a
// rule that matches everything and does nothing is empty.
type slot struct {
	text, spec string
	listed     bool // the text is known
	index      int  // in its chain as it was read, from 1; 0 for one that a line has brought
	gone       bool // it goes when all lines are done: until then it counts where a place is meant
}

// name is the text, or the spec where the text is not known.
func (s slot) name() string {
	if s.listed {
		return s.text
	}
	return s.spec
}

// sharedRule is a rule of ours in a shared chain.
type sharedRule struct {
	sharedChain
	spec string
}

type sharedChain struct {
	family      ir.Families
	table, name string
}

// sharedEdit makes the lines that take rules of ours out of a chain that others have rules in too, and put others in. Those
// that stay are not touched, nor is anything that is not ours.
type sharedEdit struct {
	*tableEdit
	name string
	listing
}

// listing is the rules of a shared chain as they are behind some lines. Of rules that were taken out it may not be known which of
// the slots they were, as the tool saves them otherwise than the administrator wrote them: they are still among these.
type listing struct {
	slots []slot
	lost  int // how many those are
}

func (e *tableEdit) sharedEdit(name string) *sharedEdit {
	s := &sharedEdit{tableEdit: e, name: name}
	for i, text := range e.saved.rules[name] {
		s.slots = append(s.slots, slot{text: text, listed: true, index: i + 1})
	}
	return s
}

// editShared makes the difference of all shared chains. Rules that go before those of others, behind them, and to places of
// their own do not know of one another.
func (e *tableEdit) editShared(ctx context.Context) error {
	for _, name := range e.sharedNames() {
		had, want := e.had.chain(name), e.want.chain(name)
		if had != nil && want != nil && had.equal(want) {
			continue
		}
		s := e.sharedEdit(name)
		for _, group := range []func(place int) bool{
			func(place int) bool { return place == 0 }, func(place int) bool { return place > 0 }, func(place int) bool { return place == ir.Behind },
		} {
			if err := s.edit(ctx, had.only(group), want.only(group)); err != nil {
				return err
			}
		}
		s.slots = filter(s.slots, func(has slot) bool { return !has.gone })
		e.listings[name] = s.listing
	}
	return nil
}

// sharedNames are the shared chains in which there is or shall be something of ours.
func (e *tableEdit) sharedNames() []string {
	var names []string
	for _, c := range slices.Concat(e.had.chains, e.want.chains) {
		if c.shared && !slices.Contains(names, c.name) {
			names = append(names, c.name)
		}
	}
	return names
}

// edit makes the difference of one group of rules.
func (s *sharedEdit) edit(ctx context.Context, had, want *chainRules) error {
	there, err := s.find(ctx, had)
	if err != nil {
		return err
	}
	begin, end, first := 0, 0, -1
	if located(there) {
		if len(there) == len(had.specs) && !had.again {
			begin, end = inCommon(had.specs, want.specs, func(a, b string) bool { return a == b })
		}
		first = there[0].index
	}
	for _, p := range there[begin : len(there)-end] {
		if s.saved.isUnlisted(s.name) {
			s.deleteUnlisted(p.spec)
			continue
		}
		i := s.at(p.spec)
		s.line("-D %s %s", s.name, s.deletion(s.name, p.spec))
		if i >= 0 {
			s.slots = slices.Delete(s.slots, i, i+1)
		} else {
			s.lost++
		}
	}
	for i := begin; i < len(want.specs)-end; i++ {
		s.insert(want, i, end, first)
	}
	return nil
}

// deleteUnlisted has a rule go from a chain that is not listed, or the several that the tool makes of it.
func (s *sharedEdit) deleteUnlisted(spec string) {
	mine := [][]string{s.names(spec)}
	if texts := s.asked[spec]; len(texts) > 1 {
		mine = nil
		for _, text := range texts {
			mine = append(mine, []string{text})
		}
	}
	for _, names := range mine {
		i := slices.IndexFunc(s.slots, func(has slot) bool { return has.index > 0 && !has.gone && slices.Contains(names, has.text) })
		if i >= 0 {
			s.slots[i].gone = true
			s.gone = append(s.gone, s.saved.gone(s.name, s.slots[i].index-1))
		}
	}
}

// foundRule is a rule of ours in a chain, by its index; −1 if it is there and not known where.
type foundRule struct {
	spec  string
	index int
}

// located says whether it is known of all rules where they are, and they stand in order.
func located(list []foundRule) bool {
	return len(list) > 0 && list[0].index >= 0 && slices.IsSortedFunc(list, func(a, b foundRule) int { return a.index - b.index })
}

// find looks for rules of ours. Those that are not there any more are left out.
func (s *sharedEdit) find(ctx context.Context, c *chainRules) ([]foundRule, error) {
	var list []foundRule
	for i, index := range s.match(c.specs) {
		spec := c.specs[i]
		if index < 0 {
			there, err := s.thereSomewhere(ctx, spec, c.guessed && slices.ContainsFunc(list, func(f foundRule) bool { return f.spec == spec }))
			if err != nil {
				return nil, err
			}
			if !there {
				continue
			}
		} else if texts := s.asked[spec]; len(texts) == 1 && s.slots[index].listed && texts[0] == s.slots[index].text {
			s.k.texts[sharedRule{s.sharedChain(s.name), spec}] = texts[0]
		}
		list = append(list, foundRule{spec, index})
	}
	return list, nil
}

// thereSomewhere says whether a rule is there that no slot is known to have. One of which the tool makes several is there if those are. A check
// did not ask how the tool lists rules: it asks for this one. Both would find one that was found before.
func (s *sharedEdit) thereSomewhere(ctx context.Context, spec string, before bool) (bool, error) {
	texts, asked := s.asked[spec]
	switch {
	case before || len(s.slots) == 0 || s.absent[sharedRule{s.sharedChain(s.name), spec}]:
		return false, nil
	case asked:
		return len(texts) > 1 && !slices.ContainsFunc(texts, func(text string) bool {
			return !slices.ContainsFunc(s.slots, func(has slot) bool { return has.listed && !has.gone && has.text == text })
		}), nil
	case s.saved.isUnlisted(s.name): // the tool finds no rule there by its words
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return s.k.ruleExists(ctx, s.family, s.table, s.name, words(spec))
}

// match is the slot of each of some rules of ours, no slot for two of them; −1 for a rule that no slot is known to have.
func (s *sharedEdit) match(specs []string) []int {
	free := map[string][]int{} // slots by their texts, or their specs
	for i, has := range s.slots {
		if !has.gone {
			free[has.name()] = append(free[has.name()], i)
		}
	}
	found := make([]int, len(specs))
	for i, spec := range specs {
		key, first := "", -1
		for _, name := range s.names(spec) {
			if at := free[name]; len(at) > 0 && (first < 0 || at[0] < first) {
				key, first = name, at[0]
			}
		}
		if found[i] = first; first >= 0 {
			free[key] = free[key][1:]
		}
	}
	return found
}

// names is what a slot with a rule of ours may have as its text, or as its spec.
func (s *sharedEdit) names(spec string) []string { return s.tableEdit.names(s.name, spec) }

// names is how a rule of ours in a chain may be listed.
func (e *tableEdit) names(chain, spec string) []string {
	names := []string{spec}
	if text, known := e.k.texts[sharedRule{e.sharedChain(chain), spec}]; known {
		names = append(names, text)
	}
	if texts := e.asked[spec]; len(texts) == 1 {
		names = append(names, texts[0])
	}
	return names
}

// at is where a rule of ours is now; −1 if that is not known.
func (s *sharedEdit) at(spec string) int {
	names := s.names(spec)
	return slices.IndexFunc(s.slots, func(has slot) bool {
		return !has.gone && (!has.listed && has.spec == spec || has.listed && slices.Contains(names, has.text))
	})
}

// slotOf is the index of the n-th slot, from 0, that does not go, or behind all.
func (s *sharedEdit) slotOf(n int) int {
	for i, has := range s.slots {
		if !has.gone {
			if n--; n < 0 {
				return i
			}
		}
	}
	return len(s.slots)
}

// insert puts the i-th of some rules, of which so many at the end stay, into the chain: behind the one before it, before the one
// behind it, where the first that went was, or where it wants to go.
func (s *sharedEdit) insert(want *chainRules, i, end, first int) {
	place, spec := want.place(i), want.specs[i]
	index := 0
	switch {
	case place > 0:
		index = min(s.slotOf(place-1), len(s.slots)-s.lost)
	case i > 0:
		index = s.at(want.specs[i-1]) + 1
	case end > 0:
		index = max(s.at(want.specs[len(want.specs)-end]), 0)
	case first >= 0:
		index = first
	case place == ir.Behind:
		index = len(s.slots)
	}
	number := index + 1
	if place == ir.Behind { // what is lost stood before it
		number = max(number-s.lost, 1)
	}
	if index = min(index, len(s.slots)); index == len(s.slots) {
		s.rule(s.name, want.rules[i], "-A %s %s", s.name, spec)
	} else {
		s.rule(s.name, want.rules[i], "-I %s %d %s", s.name, number, spec)
	}
	s.slots = slices.Insert(s.slots, index, slot{spec: spec})
}

// makeShared makes a shared chain that is not there. One of another program's is made at a start, as that program may come
// later, and where it was taken away; a rule for it that is new in a running firewall is refused, as is a chain of one's own
// that another program has made. At a start a chain that an earlier process has left is emptied.
func (e *tableEdit) makeShared(c *chainRules) error {
	was := e.before.chain(c.name)
	mine := e.k.made[e.sharedChain(c.name)] || was != nil && was.declared
	there := slices.Contains(e.saved.order, c.name)
	switch {
	case c.builtin || there && (mine || !c.declared) || !there && !c.declared && len(c.specs) == 0:
		return nil
	case there && !e.emptied(c):
		return &RuleError{Chain: c.name, Err: &TakenError{tool(e.family), e.table, c.name}}
	case !c.declared && was == nil && !(e.k.starting && e.k.awaited(e.table, c.name)):
		return e.missing(c)
	case !c.declared:
		e.k.options.Log.Warn("the chain of a direct rule is not there, and was made: nothing comes to it until another rule leads there",
			"rule", c.rules[0].Origin, "chain", c.name, "table", e.table, "program", tool(e.family))
	}
	e.line(":%s - [0:0]", c.name)
	e.made = append(e.made, c.name)
	e.saved.rules[c.name] = nil
	return nil
}

// TakenError is that another program has made a chain which the direct interface is to make.
type TakenError struct{ Tool, Table, Chain string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("table %s of %s has such a chain already, which another program has made", e.Table, e.Tool)
}

// awaited tells whether a chain of another program may be made for it.
func (k *iptablesKernel) awaited(table, chain string) bool {
	return k.awaits == nil || k.awaits(table, chain, k.direct)
}

// missing is the errors of all rules in a chain that is not there.
func (e *tableEdit) missing(c *chainRules) error {
	var list []*RuleError
	for _, r := range c.rules {
		list = append(list, &RuleError{Origin: r.Origin, Chain: c.name, Err: fmt.Errorf("there is no such chain in table %s of %s", e.table, tool(e.family))})
	}
	return joined(list)
}

// outlived is the errors of the rules beside nftables that are in a chain of a ruleset for iptables, or lead to one: such a chain goes when the
// rules of nftables are there, and with it all that the rule does.
func (e *tableEdit) outlived() error {
	if !e.k.direct || len(e.want.chains) == 0 {
		return nil
	}
	noted, _ := e.k.options.Left.found()
	goes := map[string]bool{}
	for _, c := range e.saved.remains(e.table, noted.in(e.family, e.table)).chains {
		own := e.want.chain(c.name)
		goes[c.name] = !c.builtin && (own == nil || !own.declared)
	}
	var list []*RuleError
	for _, c := range e.want.chains {
		for i, spec := range c.specs {
			for _, name := range []string{c.name, targetOf(spec)} {
				if goes[name] {
					list = append(list, &RuleError{Origin: c.rules[i].Origin, Chain: c.name, Err: fmt.Errorf(
						"there is no chain %s in table %s of %s with the back end nftables: the one that is there now goes with the rules of the back end iptables",
						name, e.table, tool(e.family))})
					break
				}
			}
		}
	}
	return joined(list)
}

func (e *tableEdit) sharedChain(name string) sharedChain { return sharedChain{e.family, e.table, name} }

// removeShared removes shared chains that we made, when nothing is left in them.
func (e *tableEdit) removeShared(stale []string) {
	for _, c := range e.had.chains {
		if !c.shared || c.builtin || e.want.chain(c.name) != nil || !e.k.made[e.sharedChain(c.name)] {
			continue
		}
		if by := e.usedByOthers(c.name, stale); by != "" || e.listings[c.name].length() > 0 {
			e.k.options.Log.Warn("a chain stays, as another program has rules in it or jumps to it", "chain", c.name, "table", e.table)
			continue
		}
		e.line("-X %s", c.name)
		e.unmade = append(e.unmade, c.name)
	}
}

// learn remembers which shared chains a script has made and removed, and how the tool saves the rules that it has put into
// them: administrators write them otherwise.
func (k *iptablesKernel) learn(s *script) {
	for _, name := range s.made {
		k.made[sharedChain{s.family, s.table, name}] = true
	}
	for _, name := range s.unmade {
		delete(k.made, sharedChain{s.family, s.table, name})
	}
	for name, list := range s.listings {
		if !slices.ContainsFunc(list.slots, func(has slot) bool { return !has.listed }) {
			continue
		}
		for spec, text := range list.texts(s.after.rules[name]) {
			k.texts[sharedRule{sharedChain{s.family, s.table, name}, spec}] = text
		}
	}
}

func (l listing) length() int { return len(l.slots) - l.lost }

// texts are how the tool saves rules of ours, by their specs, as far as what it saves is the listing. What another program has
// put there meanwhile makes it another one.
func (l listing) texts(saved []string) map[string]string {
	known := map[string]string{}
	at, lost := 0, l.lost
	for _, has := range l.slots {
		switch {
		case at < len(saved) && !has.listed:
			known[has.spec] = saved[at]
			at++
		case at < len(saved) && has.listed && has.text == saved[at]:
			at++
		case has.listed && lost > 0:
			lost--
		default:
			return nil
		}
	}
	if at < len(saved) {
		return nil
	}
	return known
}
