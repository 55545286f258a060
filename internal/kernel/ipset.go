package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// setPlan is what becomes of the sets around a commit of rules, which can only look up sets that are there, and keep sets
// from going that they look up.
type setPlan struct {
	make     strings.Builder       // input of "ipset restore" before the rules
	undo     [][]string            // command lines that take that back, last first
	undoText strings.Builder       // input of "ipset restore" that takes back changes of elements
	swapped  []string              // sets that hold what was there before, under other names
	gone     []string              // sets that go after the rules
	retyped  []string              // sets that must go before they can be made with another type
	others   []string              // sets whose names other programs' sets have, in whose place they come
	origins  map[string]*ir.Origin // of sets, by the names they are made under
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

// listSets are the types of the sets that there are, by name, with inet6 behind those of sets for IPv6; of our own and of others.
func (t tools) listSets(ctx context.Context) (map[string]string, error) {
	types := map[string]string{}
	text, err := t.run(ctx, "", "ipset", "list", "-terse")
	if err != nil {
		var said *toolError
		if !errors.As(err, &said) {
			return types, nil // no ipset: an error only for those who want a set
		}
		return nil, fmt.Errorf("cannot list the sets: %w", err)
	}
	name := ""
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Name":
			name = value
		case "Type":
			types[name] = value
		case "Header":
			if strings.HasPrefix(value, "family inet6 ") {
				types[name] += inet6
			}
		}
	}
	return types, nil
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
	types, err := k.listSets(ctx)
	if err != nil {
		return nil, err
	}
	old := byName(had, setName)
	noted, _ := k.options.Left.found()
	for _, s := range want {
		o := old[s.Name]
		if o == nil && types[s.Name] != "" && !slices.Contains(noted.Sets, s.Name) {
			p.others = append(p.others, s.Name)
		}
		delete(old, s.Name)
		if types[s.Name] == "" {
			o = nil
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
		p.undo = append(p.undo, []string{"destroy", next.Name})
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
	p.origins[s.Name] = s.Origin
	if err := iptables.WriteSets(&p.make, &ir.Ruleset{Sets: []*ir.Set{s}}); err != nil {
		panic("internal error: " + err.Error()) // a strings.Builder takes everything
	}
}

// swap makes the set anew under another name, and exchanges the names: rules see the one or the other.
func (p *setPlan) swap(s *ir.Set, types map[string]string) {
	n := 0
	for types[temporary(n)] != "" {
		n++
	}
	fresh := *s
	fresh.Name = temporary(n)
	types[fresh.Name] = setKind(s)
	p.whole(&fresh)
	fmt.Fprintf(&p.make, "swap %s %s\n", fresh.Name, s.Name)
	p.undo = append(p.undo, []string{"destroy", fresh.Name}, []string{"swap", fresh.Name, s.Name})
	p.swapped = append(p.swapped, fresh.Name)
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
	var had map[string]ir.Element
	if expires(next) {
		had = byName(old.Elements, elementText)
	}
	var lines, undo []byte
	for _, e := range added {
		lines = iptables.AddElement(lines, next.Name, e)
		if before, renewed := had[e.Text]; renewed {
			undo = iptables.AddElement(undo, next.Name, before)
		} else {
			undo = deleteElement(undo, next.Name, e)
		}
	}
	for _, e := range gone {
		lines = deleteElement(lines, next.Name, e)
		undo = iptables.AddElement(undo, next.Name, e)
	}
	p.make.Write(lines)
	p.undoText.Write(undo)
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
	for _, name := range p.retyped {
		was, err := k.run(ctx, "", "ipset", "save", name)
		if err == nil {
			_, err = k.run(ctx, "", "ipset", "destroy", name)
		}
		if err != nil {
			return &RuleError{Origin: p.origins[name], Err: fmt.Errorf("cannot make set %s with another type: %w", name, err)}
		}
		k.steps = append(k.steps, step{"set " + name, func(ctx context.Context) error { return k.remakeSet(ctx, name, was) }})
	}
	return nil
}

// remakeSet makes a set what "ipset save" has told of it, whatever has its name now.
func (k *iptablesKernel) remakeSet(ctx context.Context, name, saved string) error {
	if _, err := k.run(ctx, "", "ipset", "destroy", name); err != nil {
		k.options.Log.Debug("a set was not made anew, as it was not there", "error", err)
	}
	_, err := k.run(ctx, saved, "ipset", "restore", "-exist")
	return err
}

func (k *iptablesKernel) makeSets(ctx context.Context, p *setPlan) error {
	if p.make.Len() == 0 {
		return nil
	}
	_, err := k.run(ctx, p.make.String(), "ipset", "restore")
	return k.blameSet(p, err)
}

// blameSet is the error of ipset with the set it is about, as far as its line number tells.
func (k *iptablesKernel) blameSet(p *setPlan, err error) error {
	var said *toolError
	if !errors.As(err, &said) {
		return err
	}
	e := &RuleError{Err: err}
	if m := lineNumber.FindStringSubmatch(said.said); m != nil {
		n, _ := strconv.Atoi(m[1])
		if lines := strings.Split(p.make.String(), "\n"); n >= 1 && n <= len(lines) {
			e.Err = fmt.Errorf("ipset refuses %q: %s", lines[n-1], said.said)
			if words := strings.Fields(lines[n-1]); len(words) > 1 && p.origins[words[1]] != nil {
				e.Origin = p.origins[words[1]]
			}
		}
	}
	return e
}

// undoSets takes back what was done, as far as it was.
func (k *iptablesKernel) undoSets(ctx context.Context, p *setPlan) {
	if p.undoText.Len() > 0 {
		if _, err := k.run(ctx, p.undoText.String(), "ipset", "restore"); err != nil {
			k.options.Log.Error("sets could not be put back", "error", err)
		}
	}
	for _, words := range slices.Backward(p.undo) {
		if _, err := k.run(ctx, "", "ipset", words...); err != nil {
			k.options.Log.Debug("a set was not put back, as it was not made", "error", err)
		}
	}
}

// finishSets removes what no rule looks up any more. A set that another program's rules look up stays. It warns of sets of other programs
// that are gone.
func (k *iptablesKernel) finishSets(ctx context.Context, p *setPlan) {
	for _, name := range p.others {
		k.options.Log.Warn("another program had made a set with the name of an ipset: what it held is gone, and it holds what the configuration says", "set", name)
	}
	for _, name := range append(p.swapped, p.gone...) {
		if _, err := k.run(ctx, "", "ipset", "destroy", name); err != nil {
			k.options.Log.Warn("a set stays until it can be taken out", "set", name, "error", err)
			k.options.Left.stays(name)
		}
	}
}
