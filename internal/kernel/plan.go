package kernel

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// plan is the changes that lead from one state of the kernel to another, in an order that the kernel takes: what is
// referred to comes before what refers to it, and goes after it.
type plan struct {
	changes    []change
	enc        *nft.Encoder
	before     *installed // nil: unknown
	next       *Desired
	owned      bool             // the table of next has an owner
	ownedPanic bool             // so has that of panic mode
	replaced   bool             // the table is a new one
	chains     map[string]*rest // chains with other rules than before
	echo       bool             // the kernel is to tell the handles of new rules
	table      int              // where among the changes the table is made, if it is a new one
	guarded    bool             // the guard stands behind it
	sets       int              // how many sets come or go, or have elements that do, by which packets pass or not
	outlasted  bool             // the guard stands until this is committed, and goes behind it
	guessed    bool             // it relies on elements of sets with a timeout, which others may have taken out or put in
	errs       []*RuleError
	enter      func(func() error) error // as of Options
}

// change is a message, and what to say if the kernel refuses it.
type change struct {
	nft.Message
	origin *ir.Origin
	chain  string // of a rule; empty for anything else
	what   string // for anything else: what it does

	devices  []string // of the flow table, for what makes it
	offloads bool     // a rule that needs the flow table
}

// rest is the rules of a chain behind a change: those that stay, and new ones in their midst.
type rest struct {
	before, after []liveRule // the rules that stay, before and behind the new ones
	added         []int      // where among the changes the new rules are
}

// planned is what a plan depends on beside the states that it leads from and to.
type planned struct {
	canOwn       bool // the kernel can give tables an owner
	echo         bool // the kernel is to tell the handles of new rules
	foreignPanic bool // the table with the name of that of panic mode is another program's, and drops nothing: it stays
}

// newPlan compares. The error is what cannot be said in messages.
func newPlan(before *installed, next *Desired, o planned) (*plan, error) {
	p := &plan{before: before, next: next, enc: &nft.Encoder{Table: ir.Table}, chains: map[string]*rest{}, echo: o.echo}
	if next.Rules != nil {
		p.owned = next.Rules.Owner && o.canOwn
		p.enc.Counters = next.Rules.Counters
	}
	if !o.foreignPanic {
		p.panicTable(o.canOwn)
	}
	switch {
	case next.Rules == nil:
		if before == nil || before.Rules != nil {
			p.removeTable(p.enc)
		}
	case before == nil || before.Rules == nil || p.needsReplacing():
		p.replace()
	default:
		p.update()
	}
	return p, joined(p.errs)
}

// isSeenInParts says whether packets may meet some of the changes before others, while the kernel makes them. With Linux 6.18 packets met new
// sets with old rules, or with other old sets, for milliseconds of one transaction, and old ones with new rules. Rules alone come and go at once,
// and so do the elements of one set.
func (p *plan) isSeenInParts() bool {
	return p.next.Rules != nil && (p.replaced || p.sets > 0 && len(p.chains) > 0 || p.sets > 1)
}

func (p *plan) add(c change) { p.changes = append(p.changes, c) }

// put adds a message that encoding gave, or its error.
func (p *plan) put(what string, origin *ir.Origin, err error, messages ...nft.Message) {
	if err != nil {
		p.errs = append(p.errs, &RuleError{Origin: origin, Err: err})
		return
	}
	for _, m := range messages {
		p.add(change{Message: m, origin: origin, what: what})
	}
}

// removeTable removes a table, whether it is there or not.
func (p *plan) removeTable(e *nft.Encoder) {
	what := "cannot remove table inet " + e.Table
	p.put(what, nil, nil, e.AddTable(0), e.DeleteTable())
}

// panicTable makes or removes the table of panic mode. It has an owner unless the configuration wants other programs to be
// able to change what is ours.
func (p *plan) panicTable(canOwn bool) {
	if p.before != nil && p.before.Panic == p.next.Panic {
		p.ownedPanic = p.before.ownedPanic
		return
	}
	p.ownedPanic = canOwn && p.next.Panic && (p.next.Rules == nil || p.next.Rules.Owner)
	p.dropTable(panicTable, p.next.Panic, tableFlags(p.ownedPanic))
}

// dropTable makes anew or removes a table that drops everything, before all other tables see a packet.
func (p *plan) dropTable(name string, stand bool, flags uint32) {
	e := &nft.Encoder{Table: name}
	p.removeTable(e)
	if !stand {
		return
	}
	what := "cannot make table inet " + name
	p.put(what, nil, nil, e.AddTable(flags))
	for _, c := range panicChains {
		m, err := e.AddChain(c, true)
		p.put(what, nil, err, m)
	}
}

// setGuard makes the guard stand behind the changes, or takes it away, as is needed.
func (p *plan) setGuard(g *guard, next *Desired) error {
	p.guarded = g.needed(next)
	if g.isSo(p.guarded, next.Panic) {
		return nil
	}
	if !g.giveWay() { // the guard of the start stands
		p.guarded = false
	}
	if g.isSo(p.guarded, next.Panic) {
		return nil
	}
	list, err := g.messages(p.guarded, next.Panic)
	p.put("cannot change table inet "+g.name, nil, nil, list...)
	return err
}

// tableFlags are those of a table that has an owner, or none.
func tableFlags(owned bool) uint32 {
	if owned {
		return nft.TableOwner | nft.TablePersist
	}
	return 0
}

// panicChains stand before connection tracking, at −200, and other programs' chains for raw packets, at −300 + 10.
var panicChains = []*ir.Chain{
	{Name: "raw_prerouting", Hook: &ir.Hook{Type: "filter", Hook: "prerouting", Priority: -291}},
	{Name: "raw_output", Hook: &ir.Hook{Type: "filter", Hook: "output", Priority: -291}},
}

// needsReplacing says whether there are differences that only a new table can make: those of the table as a whole, and
// objects that have the name of another one of a different kind.
func (p *plan) needsReplacing() bool {
	old, next := p.before.Rules, p.next.Rules
	if p.owned != p.before.owned || old.Counters != next.Counters || !slices.Equal(old.Flowtable, next.Flowtable) {
		return true
	}
	helpers := byName(old.Helpers, helperName)
	for _, h := range next.Helpers {
		if o, ok := helpers[h.Name]; ok && o != h {
			return true
		}
	}
	sets := byName(old.Sets, setName)
	for _, s := range next.Sets {
		if o := sets[s.Name]; o != nil && !sameKind(o, s) {
			return true
		}
	}
	chains := byName(old.Chains, chainName)
	for _, c := range next.Chains {
		if o := chains[c.Name]; o != nil && !sameHook(o.Hook, c.Hook) {
			return true
		}
	}
	return false
}

func byName[T any](list []T, name func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, v := range list {
		m[name(v)] = v
	}
	return m
}

func helperName(h ir.Helper) string { return h.Name }
func setName(s *ir.Set) string      { return s.Name }
func chainName(c *ir.Chain) string  { return c.Name }

func sameHook(a, b *ir.Hook) bool { return a == b || a != nil && b != nil && *a == *b }

// sameKind says whether two sets differ in nothing but their elements.
func sameKind(a, b *ir.Set) bool {
	return a.Type == b.Type && a.Family == b.Family && a.Timeout == b.Timeout && a.MaxElem == b.MaxElem &&
		a.Exact == b.Exact && a.Verdicts == b.Verdicts && a.Sizes == b.Sizes && slices.Equal(a.Sides, b.Sides)
}

// replace puts a new table in the place of the one that there is, if there is one.
func (p *plan) replace() {
	next := p.next.Rules
	p.replaced = true
	p.removeTable(p.enc)
	table := p.enc.AddTable(tableFlags(p.owned))
	table.Flags |= unix.NLM_F_ECHO // for its handle
	p.put("cannot make table inet "+ir.Table, nil, nil, table)
	p.table = len(p.changes) - 1
	for _, h := range next.Helpers {
		p.addHelper(h)
	}
	if next.Flowtable != nil {
		m, err := p.enc.AddFlowtable(next.Flowtable)
		origin := &ir.Origin{Object: "firewalld.conf"}
		if err != nil {
			p.put("", origin, err)
		} else {
			p.add(change{Message: m, origin: origin, devices: next.Flowtable})
		}
	}
	for _, c := range next.Chains {
		p.addChain(c)
	}
	for _, s := range next.Sets { // elements of a verdict map refer to chains
		p.addSet(s)
	}
	for _, c := range next.Chains {
		p.addRules(c.Name, c.Rules)
	}
}

func (p *plan) addHelper(h ir.Helper) {
	m, err := p.enc.AddHelper(h)
	p.put(fmt.Sprintf("cannot make the connection tracking helper %s: the kernel may lack nf_conntrack_%s", h.Name, h.Type), nil, err, m)
}

// changesSet notes that a set comes or goes, or elements of it do. Sizes of segments decide of no packet whether it passes.
func (p *plan) changesSet(s *ir.Set) {
	if !s.Sizes {
		p.sets++
	}
}

func (p *plan) addSet(s *ir.Set) {
	p.changesSet(s)
	m, err := p.enc.AddSet(s)
	p.put("cannot make set "+s.Name, s.Origin, err, m)
	p.addElements(s, s.Elements)
}

func (p *plan) addElements(s *ir.Set, list []ir.Element) {
	messages, err := p.enc.AddElements(s, list)
	p.put("cannot put elements into set "+s.Name, s.Origin, err, messages...)
}

func (p *plan) addChain(c *ir.Chain) {
	m, err := p.enc.AddChain(c, false)
	p.put("cannot make chain "+c.Name, nil, err, m)
}

// addRules puts all rules into a chain that is empty.
func (p *plan) addRules(chain string, rules []*ir.Rule) {
	p.chains[chain] = &rest{added: p.insert(chain, rules, 0)}
}

// insert puts rules before the one with the handle, or at the end if it is 0. It returns where they are among the changes.
func (p *plan) insert(chain string, rules []*ir.Rule, before uint64) []int {
	var added []int
	for _, r := range rules {
		messages, err := p.enc.AddRule(chain, r, before)
		if err != nil {
			p.errs = append(p.errs, &RuleError{Origin: r.Origin, Chain: chain, Err: err})
			continue
		}
		if p.echo {
			messages[len(messages)-1].Flags |= unix.NLM_F_ECHO
		}
		for _, m := range messages {
			p.add(change{Message: m, origin: r.Origin, chain: chain, offloads: slices.Contains(r.Actions, ir.Action(ir.Offload{}))})
		}
		added = append(added, len(p.changes)-1)
	}
	return added
}

// update makes what differs.
func (p *plan) update() {
	old, next := p.before.Rules, p.next.Rules
	if old == next {
		return
	}
	oldHelpers, oldSets, oldChains := byName(old.Helpers, helperName), byName(old.Sets, setName), byName(old.Chains, chainName)
	for _, h := range next.Helpers {
		if _, ok := oldHelpers[h.Name]; !ok {
			p.addHelper(h)
		}
		delete(oldHelpers, h.Name)
	}
	for _, c := range next.Chains {
		if oldChains[c.Name] == nil {
			p.addChain(c)
		}
	}
	for _, s := range next.Sets {
		if o := oldSets[s.Name]; o == nil {
			p.addSet(s)
		} else if o != s {
			p.updateElements(o, s)
		}
		delete(oldSets, s.Name)
	}
	for _, c := range next.Chains {
		if o := oldChains[c.Name]; o == nil {
			p.addRules(c.Name, c.Rules)
		} else if o != c {
			p.updateRules(o, c)
		}
		delete(oldChains, c.Name)
	}
	p.removeRest(old, oldChains, oldSets, oldHelpers)
}

// removeRest removes what the next ruleset does not have. Chains lose their rules first, which may jump to one another; then
// verdict maps go, which lead to chains.
func (p *plan) removeRest(old *ir.Ruleset, chains map[string]*ir.Chain, sets map[string]*ir.Set, helpers map[string]ir.Helper) {
	for _, c := range old.Chains {
		if chains[c.Name] != nil && len(c.Rules) > 0 {
			p.put("cannot empty chain "+c.Name, nil, nil, p.enc.FlushChain(c.Name))
		}
	}
	for _, s := range old.Sets {
		if sets[s.Name] != nil {
			p.changesSet(s)
			p.put("cannot remove set "+s.Name, nil, nil, p.enc.DeleteSet(s.Name))
		}
	}
	for _, c := range old.Chains {
		if chains[c.Name] != nil {
			p.chains[c.Name] = nil
			p.put("cannot remove chain "+c.Name, nil, nil, p.enc.DeleteChain(c.Name))
		}
	}
	for _, h := range old.Helpers {
		if _, ok := helpers[h.Name]; ok {
			p.put("cannot remove helper "+h.Name, nil, nil, p.enc.DeleteHelper(h.Name))
		}
	}
}

// updateElements makes the difference of a set's elements.
func (p *plan) updateElements(old, next *ir.Set) {
	if expires(next) {
		p.updateExpiring(old, next)
		return
	}
	gone, added := elementDifference(old.Elements, next.Elements)
	p.exchangeElements(next, gone, added)
}

// exchangeElements takes some elements out of a set, and puts others in.
func (p *plan) exchangeElements(s *ir.Set, gone, added []ir.Element) {
	if len(gone)+len(added) > 0 {
		p.changesSet(s)
	}
	messages, err := p.enc.DeleteElements(s, gone)
	p.put("cannot take elements out of set "+s.Name, s.Origin, err, messages...)
	p.addElements(s, added)
}

// elementDifference is what the first list alone has, and what the second alone has. Lists mostly differ in a few places, so
// that what they have in common at both ends is not looked at further.
func elementDifference(old, next []ir.Element) (gone, added []ir.Element) {
	begin, end := inCommon(old, next, sameElement)
	old, next = old[begin:len(old)-end], next[begin:len(next)-end]
	had, has := byText(old), byText(next)
	for i := range next {
		if e, ok := had[next[i].Text]; !ok || !e.Same(&next[i]) {
			added = append(added, next[i])
		}
	}
	for i := range old {
		if e, ok := has[old[i].Text]; !ok || !e.Same(&old[i]) {
			gone = append(gone, old[i])
		}
	}
	return gone, added
}

func byText(list []ir.Element) map[string]*ir.Element {
	m := make(map[string]*ir.Element, len(list))
	for i := range list {
		m[list[i].Text] = &list[i]
	}
	return m
}

func sameElement(a, b ir.Element) bool { return a.Same(&b) }

// inCommon is how many items two lists have in common at their beginning, and behind that at their end.
func inCommon[T any](a, b []T, same func(a, b T) bool) (begin, end int) {
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return len(a), 0
	}
	for begin < len(a) && begin < len(b) && same(a[begin], b[begin]) {
		begin++
	}
	for end < len(a)-begin && end < len(b)-begin && same(a[len(a)-1-end], b[len(b)-1-end]) {
		end++
	}
	return begin, end
}

// updateRules makes the difference between two chains: what stands between the rules that they begin with in common and
// those that they end with in common is replaced.
func (p *plan) updateRules(old, next *ir.Chain) {
	keep, end := inCommon(old.Rules, next.Rules, sameRule)
	gone, added := len(old.Rules)-keep-end, next.Rules[keep:len(next.Rules)-end]
	if gone == 0 && len(added) == 0 {
		return
	}
	rules := p.before.rules[next.Name]
	if keep+end == 0 || rules == nil || dear(gone+len(added), len(old.Rules), len(next.Rules)) {
		p.put("cannot empty chain "+next.Name, nil, nil, p.enc.FlushChain(next.Name))
		p.addRules(next.Name, next.Rules)
		return
	}
	r := &rest{before: rules[:keep], after: rules[keep+gone:]}
	for _, old := range rules[keep : keep+gone] {
		p.put("cannot remove a rule from chain "+next.Name, nil, nil, p.enc.DeleteRule(next.Name, old.handle))
	}
	var before uint64
	if end > 0 {
		before = r.after[0].handle
	}
	r.added = p.insert(next.Name, added, before)
	p.chains[next.Name] = r
}

// dear says whether so many changes of single rules cost more than to make the chain anew. For each the kernel walks
// through the chain to find the place, some nanoseconds a rule; to make a rule takes it some thousand times that.
func dear(changes, had, has int) bool { return changes*had > 1000*(has+1) }

// sameRule says whether two rules do the same. A set is known by its name: one with that name and another type would have
// led to a new table.
func sameRule(a, b *ir.Rule) bool {
	return ir.SameRule(a, b, func(a, b *ir.Set) bool { return a.Name == b.Name })
}

// messages are the changes as they are sent.
func (p *plan) messages() []nft.Message {
	messages := make([]nft.Message, len(p.changes))
	for i, c := range p.changes {
		messages[i] = c.Message
	}
	return messages
}

// errors says what the kernel refuses. Rules that need the flow table are not at fault where that is refused.
func (p *plan) errors(refused []refusal) error {
	var list []*RuleError
	noFlowtable := slices.ContainsFunc(refused, func(r refusal) bool {
		return r.index >= 0 && r.index < len(p.changes) && p.changes[r.index].devices != nil
	})
	for _, r := range refused {
		if r.index < 0 || r.index >= len(p.changes) { // the begin or the end of the batch
			list = append(list, &RuleError{Err: fmt.Errorf("the kernel refuses the changes as a whole: %w", r.err)})
			continue
		}
		c := p.changes[r.index]
		e := &RuleError{Origin: c.origin, Chain: c.chain}
		switch {
		case c.offloads && noFlowtable:
			continue
		case c.devices != nil:
			e.Err = p.flowtableError(c.devices, r.err)
		case c.chain == "":
			e.Err = fmt.Errorf("%s: %w", c.what, r.err)
		default:
			e.Err = fmt.Errorf("the kernel refuses the rule: %s", explain(r.err))
		}
		list = append(list, e)
	}
	return joined(list)
}

// flowtableError says why the kernel refuses a flow table of some devices.
func (p *plan) flowtableError(devices []string, err error) error {
	var missing []string
	p.enter(func() error {
		for _, name := range devices {
			if _, err := net.InterfaceByName(name); err != nil {
				missing = append(missing, name)
			}
		}
		return nil
	})
	key := "cannot use NftablesFlowtable=" + strings.Join(devices, " ") + " of firewalld.conf"
	if len(missing) > 0 {
		return fmt.Errorf("%s: there is no interface %s: %w", key, strings.Join(missing, ", "), err)
	}
	return fmt.Errorf("%s: the kernel may lack flow tables, or one of the interfaces cannot be in one: %w", key, err)
}

// result is what the kernel has after the plan was carried out. told are the new rules, and the new table, by the index of the
// change; a chain of which one is missing has to be made anew when it changes.
func (p *plan) result(told map[int]liveRule) *installed {
	i := &installed{Desired: *p.next, owned: p.owned, ownedPanic: p.ownedPanic, rules: map[string][]liveRule{}}
	if p.next.Rules == nil {
		return i
	}
	if p.replaced {
		i.table = told[p.table].handle
	} else {
		i.table = p.before.table
	}
	if p.before != nil && !p.replaced {
		for chain, list := range p.before.rules {
			if _, changed := p.chains[chain]; !changed {
				i.rules[chain] = list
			}
		}
	}
	for chain, r := range p.chains {
		if r == nil {
			continue
		}
		list := slices.Clone(r.before)
		for _, at := range r.added {
			if made, ok := told[at]; ok {
				list = append(list, made)
			}
		}
		if len(list) == len(r.before)+len(r.added) {
			i.rules[chain] = append(list, r.after...)
		}
	}
	return i
}
