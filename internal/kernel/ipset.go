package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// setPlan is what becomes of the sets around a commit of rules, which can only look up sets that are there, and keep sets
// from going that they look up.
type setPlan struct {
	make     input                 // input of "ipset restore" before the rules
	refused  int                   // the line of that, from 1, that ipset has refused; 0 for none
	swaps    []*swap               // what comes behind that, in this order
	undoText input                 // input of "ipset restore" that takes back changes of elements
	had      []*ir.Set             // the sets whose elements change, as they were committed before
	gone     []string              // sets that go after the rules
	retyped  []string              // sets that must go before they can be made with another type
	foreign  []string              // sets that another program has changed since they were counted
	others   []string              // sets whose names other programs' sets have, in whose place they come
	created  []string              // sets that are made, also under other names
	probe    probe                 // what shows that the change of elements was made
	origins  map[string]*ir.Origin // of sets, by the names they are made under
}

// swap is an exchange of the names of two sets. Then rules look up what was made under the name for a while, and this one has what was there before.
type swap struct {
	fresh, name string
	done        bool
}

// inet6 is behind the type of a set, as listSets lists it, that is for IPv6.
const inet6 = " inet6"

// setKind is the type and family of a set, as listSets lists it.
func setKind(s *ir.Set) string {
	if s.Family == ir.V6 {
		return s.Type + inet6
	}
	return s.Type
}

// setList is the sets that there are, by name, of our own and of others.
type setList struct {
	types   map[string]string // with inet6 behind those of sets for IPv6
	used    map[string]bool   // a rule or another set refers to it
	entries map[string]string // how many it has
}

// listSets are the types of the sets that there are, as in setList.
func (t tools) listSets(ctx context.Context) (types map[string]string, err error) {
	list, err := t.describeSets(ctx)
	return list.types, err
}

// describeSets lists the sets without their entries.
func (t tools) describeSets(ctx context.Context) (setList, error) {
	list := setList{map[string]string{}, map[string]bool{}, map[string]string{}}
	text, err := t.run(ctx, "", "ipset", "list", "-terse")
	if err != nil {
		var said *toolError
		if !errors.As(err, &said) && !errors.Is(err, errLimit) {
			return list, nil // no ipset: an error only for those who want a set
		}
		return setList{}, fmt.Errorf("cannot list the sets: %w", err)
	}
	name := ""
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Name":
			name = value
		case "Type":
			list.types[name] = value
		case "Header":
			if strings.HasPrefix(value, "family inet6 ") {
				list.types[name] += inet6
			}
		case "References":
			list.used[name] = value != "0"
		case "Number of entries":
			list.entries[name] = value
		}
	}
	return list, nil
}

// errUsed is why a set stays that was not tried, as the list of sets says already that it would be refused.
var errUsed = errors.New("something refers to it")

// destroySets takes out sets, as far as they are there: one run of ipset for all. Where it is refused one, as something refers to that, it is
// run again for those behind it, but for those that the list of sets says are referred to, too. stay is why each set stays that does. On an
// error it is not known which of them are gone: the sets cannot be listed, or the context has ended.
func (t tools) destroySets(ctx context.Context, names []string) (stay map[string]error, err error) {
	stay = map[string]error{}
	for round := 0; len(names) > 0; round++ {
		sets, err := t.describeSets(ctx)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(stay, func(name string, _ error) bool { return sets.types[name] == "" }) // ipset was ended behind that
		names = filter(names, func(name string) bool {
			if round > 0 && sets.used[name] { // at first it may be a rule that is being taken out just now
				stay[name] = errUsed
			}
			return sets.types[name] != "" && stay[name] == nil
		})
		refused, err := t.destroyUntilRefused(ctx, names)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			return stay, nil
		case refused == 0: // ipset does not say which one
			refused = 1
		}
		stay[names[refused-1]] = err
	}
	return stay, nil
}

// destroyUntilRefused takes out sets that are there, until ipset is refused one: which one that is, from 1, is its number in the list; 0 if
// ipset does not say.
func (t tools) destroyUntilRefused(ctx context.Context, names []string) (refused int, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	_, err = t.run(ctx, setLines("destroy", names), "ipset", "restore")
	return min(lineNamed(err), len(names)), err
}

// setLines are lines for "ipset restore", with the same command for some sets.
func setLines(command string, names []string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintln(&b, command, name)
	}
	return b.String()
}

// temporary is the name of a set that is made to be swapped with another one. Names of ipsets of a configuration cannot
// begin like it.
func temporary(n int) string { return fmt.Sprintf("_richwall_%d", n) }

func (k *iptablesKernel) planSets(ctx context.Context, next *Desired) (*setPlan, error) {
	p := &setPlan{origins: map[string]*ir.Origin{}}
	var want, had []*ir.Set
	if next.Rules != nil {
		want = next.Rules.Sets
	}
	if k.installed != nil && k.installed.Rules != nil {
		had = k.installed.Rules.Sets
	}
	if len(want) == 0 && len(had) == 0 {
		return p, nil
	}
	sets, err := k.describeSets(ctx)
	if err != nil {
		return nil, err
	}
	types := sets.types
	old := byName(had, setName)
	noted, _ := k.options.Left.found()
	for _, s := range want {
		o := old[s.Name]
		if o == nil && types[s.Name] != "" && !slices.Contains(noted.Sets, s.Name) {
			p.others = append(p.others, s.Name)
		}
		delete(old, s.Name)
		if types[s.Name] == "" || (k.unsure[s.Name] || k.emptied(o, sets)) && !k.despite {
			o = nil
		}
		if sets.entries[s.Name] != k.entries[s.Name] {
			p.foreign = append(p.foreign, s.Name)
		}
		p.set(o, s, types)
	}
	for _, s := range had {
		if old[s.Name] != nil && types[s.Name] != "" && !(next.Succeeded && k.options.Left.wants(s.Name)) {
			p.gone = append(p.gone, s.Name)
		}
	}
	return p, nil
}

// set brings one set from what was committed, nil if that is not known, to what it shall be.
func (p *setPlan) set(old, next *ir.Set, types map[string]string) {
	switch {
	case types[next.Name] == "":
		p.whole(next)
	case types[next.Name] != setKind(next):
		p.retyped = append(p.retyped, next.Name)
		p.whole(next)
	case old != nil && sameKind(old, next) && old.HashSize == next.HashSize && !p.wide(old, next):
		p.difference(old, next)
	case old != nil && sameKind(old, next) && slices.EqualFunc(old.Elements, next.Elements, sameElement):
	default:
		p.swap(next, types)
	}
}

// whole makes a set with all its elements.
func (p *setPlan) whole(s *ir.Set) {
	p.created = append(p.created, s.Name)
	p.origins[s.Name] = s.Origin
	if err := iptables.WriteSets(&p.make, &ir.Ruleset{Sets: []*ir.Set{s}}); err != nil {
		panic("internal error: " + err.Error()) // it was verified, and an input takes everything
	}
}

// swap plans to make the set anew under another name, and to exchange the names: rules see the one or the other.
func (p *setPlan) swap(s *ir.Set, types map[string]string) {
	n := 0
	for types[temporary(n)] != "" {
		n++
	}
	fresh := *s
	fresh.Name = temporary(n)
	types[fresh.Name] = setKind(s)
	p.whole(&fresh)
	p.swaps = append(p.swaps, &swap{fresh: fresh.Name, name: s.Name})
}

// temporaries are the sets that are made under names for a while.
func (p *setPlan) temporaries() (names []string) {
	for _, s := range p.swaps {
		names = append(names, s.fresh)
	}
	return names
}

// wide says whether elements go that ipset keeps as several: others that stay may be among those.
func (p *setPlan) wide(old, next *ir.Set) bool {
	gone, _ := setDifference(old, next)
	return slices.ContainsFunc(gone, ir.Element.Wide)
}

// setDifference is the elements that go from a set, and those that come or get another time to end at.
func setDifference(old, next *ir.Set) (gone, added []ir.Element) {
	if !expires(next) {
		return elementDifference(old.Elements, next.Elements)
	}
	gone, _ = elementDifference(old.Elements, next.Elements)
	begin, end := inCommon(old.Elements, next.Elements, sameExpiring)
	had := byName(old.Elements[begin:len(old.Elements)-end], elementText)
	for _, e := range next.Elements[begin : len(next.Elements)-end] {
		if other, ok := had[e.Text]; !ok || !sameExpiring(e, other) {
			added = append(added, e)
		}
	}
	return gone, added
}

func elementText(e ir.Element) string { return e.Text }

func (p *setPlan) difference(old, next *ir.Set) {
	p.origins[next.Name] = next.Origin
	gone, added := setDifference(old, next)
	if len(gone)+len(added) == 0 {
		return
	}
	p.probed(next, gone, added)
	p.had = append(p.had, old)
	var had map[string]ir.Element
	if expires(next) {
		had = byName(old.Elements, elementText)
	}
	var line []byte
	for _, e := range added {
		line = iptables.AddElement(line[:0], next.Name, e)
		p.make.Write(line)
		if before, renewed := had[e.Text]; renewed {
			line = iptables.AddElement(line[:0], next.Name, before)
		} else {
			line = deleteElement(line[:0], next.Name, e)
		}
		p.undoText.Write(line)
	}
	for _, e := range gone {
		line = deleteElement(line[:0], next.Name, e)
		p.make.Write(line)
		line = iptables.AddElement(line[:0], next.Name, e)
		p.undoText.Write(line)
	}
}

// deleteElement appends the line that takes an element out of a set, if it is there.
func deleteElement(b []byte, set string, e ir.Element) []byte {
	return fmt.Appendf(b, "del %s %s -exist\n", set, e.Text)
}

// retypeSets removes sets whose type or family changes, and before that the rules that look them up: for that moment the
// machine has the rules that it had, without those, and the guard.
func (k *iptablesKernel) retypeSets(ctx context.Context, p *setPlan, next *Desired) error {
	if len(p.retyped) == 0 {
		return nil
	}
	without := &Desired{Panic: next.Panic}
	if k.installed != nil && k.installed.Rules != nil {
		without.Rules = withoutRules(k.installed.Rules, func(s *ir.Set) bool { return slices.Contains(p.retyped, s.Name) })
	}
	if next.Rules != nil && !next.Unguarded {
		k.watch.guard.raise(next.Panic)
	}
	if err := k.commitRules(ctx, k.installed, without); err != nil {
		return err
	}
	k.installed = without
	was, err := k.run(ctx, setLines("save", p.retyped), "ipset", "restore")
	if err != nil {
		return p.notRetyped(p.retyped[max(1, min(lineNamed(err), len(p.retyped)))-1], err)
	}
	stay, err := k.destroySets(ctx, p.retyped)
	gone := filter(p.retyped, func(name string) bool { return stay[name] == nil })
	k.steps = append(k.steps, step{"sets of other types", func(ctx context.Context) error { return k.remakeSets(ctx, gone, was) }})
	for _, name := range p.retyped {
		if reason := cmp.Or(err, stay[name]); reason != nil {
			return p.notRetyped(name, reason)
		}
	}
	return nil
}

// notRetyped is the error that a set cannot be made with another type.
func (p *setPlan) notRetyped(name string, reason error) error {
	return &RuleError{Origin: p.origins[name], Err: fmt.Errorf("cannot make set %s with another type: %w", name, reason)}
}

// remakeSets makes some sets what "ipset save" has told of them and others, whatever has their names now. The error is as of again.
func (k *iptablesKernel) remakeSets(ctx context.Context, names []string, saved string) error {
	stay, err := k.destroySets(ctx, names)
	if err == nil {
		lines := filter(slices.Collect(strings.Lines(saved)), func(line string) bool {
			words := strings.Fields(line)
			return len(words) > 1 && slices.Contains(names, words[1]) && stay[words[1]] == nil
		})
		_, err = k.run(ctx, strings.Join(lines, ""), "ipset", "restore", "-exist")
	}
	errs := []error{k.again(err, names...)}
	for name, reason := range stay {
		errs = append(errs, k.again(reason, name))
	}
	return errors.Join(errs...)
}

// emptied says whether another program has changed a set that this process has made, as far as the number of its entries tells: nothing is heard
// of changes of ipset. Only a reload asks: until one, what others put into a set stays. Entries that time out go by themselves.
func (k *iptablesKernel) emptied(made *ir.Set, now setList) bool {
	if !k.anew || made == nil || expires(made) || k.entries[made.Name] == now.entries[made.Name] {
		return false
	}
	if before := k.entries[made.Name]; before != "" {
		k.options.Log.Warn("another program has changed the entries of an ipset: it is filled anew", "set", made.Name, "entries", now.entries[made.Name], "before", before)
	}
	return true
}

// countEntries notes how many entries each set has that was changed. Where another program has changed it before, and where that cannot be told, the next
// reload fills it anew.
func (k *iptablesKernel) countEntries(ctx context.Context, p *setPlan) {
	list, _ := k.describeSets(ctx)
	for _, name := range p.touched() {
		k.entries[name] = list.entries[name]
	}
	for _, s := range p.had {
		if slices.Contains(p.foreign, s.Name) {
			delete(k.entries, s.Name)
		}
	}
}

// touched is the sets that come or change.
func (p *setPlan) touched() []string {
	names := slices.Clone(p.created)
	for _, s := range p.had {
		names = append(names, s.Name)
	}
	for _, s := range p.swaps {
		names = append(names, s.name)
	}
	return names
}

func (k *iptablesKernel) makeSets(ctx context.Context, p *setPlan) error {
	if p.make.empty() {
		return nil
	}
	_, err := k.runOn(ctx, func(int) {}, &p.make, "ipset", "restore")
	var said *toolError
	if p.refused = lineNamed(err); err != nil && !errors.As(err, &said) && !errors.Is(err, errLimit) { // it was not run
		p.refused = 1
	}
	if err != nil {
		return k.blameSet(p, err)
	}
	if err := k.seenSets(ctx, p); err != nil {
		return err
	}
	for _, s := range p.swaps {
		if err := k.swapSets(s.fresh, s.name); err != nil {
			return fmt.Errorf("cannot put the new ipset %s in the place of the old one: %w", s.name, err)
		}
		s.done = true
	}
	k.countEntries(ctx, p)
	return nil
}

// blameSet is the error of ipset with the set it is about, as far as its line number tells.
func (k *iptablesKernel) blameSet(p *setPlan, err error) error {
	var said *toolError
	if !errors.As(err, &said) {
		return err
	}
	e := &RuleError{Err: err}
	if m := lineNumber.FindStringSubmatch(said.said); m != nil {
		refused, _ := strconv.Atoi(m[1])
		reading := p.make.eachLine(func(n int, line string) bool {
			if n != refused {
				return true
			}
			e.Err = fmt.Errorf("ipset refuses %q: %s", line, said.said)
			if words := strings.Fields(line); len(words) > 1 && p.origins[words[1]] != nil {
				e.Origin = p.origins[words[1]]
			}
			return false
		})
		e.Err = errors.Join(e.Err, reading)
	}
	return e
}

// undoSets takes back what was done, as far as it was. The error is as of again. A set that was made, and that something refers to by now, stays
// until it can be taken out, and so does one that holds what was there before and cannot be put back.
func (k *iptablesKernel) undoSets(ctx context.Context, p *setPlan) error {
	var names []string
	apart := map[string]error{}
	for _, name := range p.touched() {
		delete(k.entries, name)
	}
	for _, s := range p.had {
		names = append(names, s.Name)
	}
	err := k.again(k.undoElements(ctx, p), names...)
	for _, s := range slices.Backward(p.swaps) {
		if !s.done {
			continue
		}
		if swapping := k.swapSets(s.fresh, s.name); swapping != nil {
			apart[s.fresh], err = swapping, errors.Join(err, k.again(swapping, s.name))
		} else {
			s.done = false
		}
	}
	made, reading := p.made()
	if err = errors.Join(err, reading); err != nil {
		return err
	}
	stay, err := k.destroySets(ctx, filter(made, func(name string) bool { return apart[name] == nil }))
	if err != nil {
		return k.again(err, made...)
	}
	reason := func(name string) error { return cmp.Or(apart[name], stay[name]) }
	k.keepSets(filter(made, func(name string) bool { return reason(name) != nil }), reason)
	return nil
}

// again is the error of an undo of sets, if that is tried again by the next commit. It is nil where that would never end, as ipset or the kernel
// refuses it, and where the commit that is going on ends the firewall or panic mode, which nothing may keep from that: then it is logged, and the
// next commit makes the sets that it is about anew.
func (k *iptablesKernel) again(err error, names ...string) error {
	if err == nil || passes(err) && !k.despite && !errors.Is(err, errUsed) && !errors.Is(err, errNoSwap) {
		return err
	}
	k.options.Log.Error("sets are not what they were before a change that was not made", "sets", strings.Join(names, " "), "reason", err)
	for _, name := range names {
		k.unsure[name] = true
	}
	return nil
}

// undoElements takes back changes of the elements of sets. Where ipset refuses that, as where other programs have filled a set, sets are made anew
// as they were committed before. It can be done again.
func (k *iptablesKernel) undoElements(ctx context.Context, p *setPlan) error {
	if p.undoText.empty() {
		return nil
	}
	_, err := k.runOn(ctx, func(int) {}, &p.undoText, "ipset", "restore")
	if err == nil {
		return nil
	}
	if anew := k.makeAnew(ctx, p.had); anew != nil {
		return fmt.Errorf("%w (before: %v)", anew, err)
	}
	return nil
}

// makeAnew makes sets anew, as far as they are there.
func (k *iptablesKernel) makeAnew(ctx context.Context, sets []*ir.Set) error {
	types, err := k.listSets(ctx)
	if err != nil {
		return err
	}
	p := &setPlan{origins: map[string]*ir.Origin{}}
	for _, s := range sets {
		if types[s.Name] == setKind(s) {
			p.swap(s, types)
		}
	}
	k.options.Left.before(leftThings{Sets: p.temporaries()})
	made := k.makeSets(ctx, p)
	k.dropSets(ctx, p.temporaries())
	return made
}

// made are the sets that makeSets has made, or may have, last first: those up to the line that was refused. The error is that its input cannot be
// read.
func (p *setPlan) made() (names []string, err error) {
	err = p.make.eachLine(func(n int, line string) bool {
		if n == p.refused {
			return false
		}
		if name, is := strings.CutPrefix(line, "create "); is {
			name, _, _ = strings.Cut(name, " ")
			names = append(names, name)
		}
		return true
	})
	slices.Reverse(names)
	return names, err
}

// finishSets removes what no rule looks up any more. A set that another program's rules look up stays. It warns of sets of other programs
// that are gone.
func (k *iptablesKernel) finishSets(ctx context.Context, p *setPlan) {
	for _, name := range p.others {
		k.options.Log.Warn("another program had made a set with the name of an ipset: what it held is gone, and it holds what the configuration says", "set", name)
	}
	k.dropSets(ctx, slices.Concat(p.temporaries(), p.gone))
	if !k.despite {
		clear(k.unsure)
	}
}

// dropSets takes out sets. Those that cannot be taken out now are noted.
func (k *iptablesKernel) dropSets(ctx context.Context, names []string) {
	stay, err := k.destroySets(ctx, names)
	reason := func(name string) error { return cmp.Or(err, stay[name]) }
	k.keepSets(filter(names, func(name string) bool { return reason(name) != nil }), reason)
}

// keepSets notes sets that cannot be taken out now, and logs why.
func (k *iptablesKernel) keepSets(names []string, reason func(name string) error) {
	for _, name := range names {
		k.options.Log.Warn("a set stays until it can be taken out", "set", name, "error", reason(name))
		k.options.Left.stays(name)
	}
}
