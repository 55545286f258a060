package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// A restore tool may say that all is done, and have done nothing: a program stands in its place, or it could not read its input, as where a
// rule of SELinux has put an empty file there. So what a commit has done is looked at behind it.

// errNothingDone is that a tool says that it has done what it was given, and nothing of that is to be seen.
var errNothingDone = errors.New("it says that all is done, and nothing of that is in the kernel: another program may stand in its place, or it does not get its input")

// carryOutSeen carries a script out, and looks at the table behind it. The error is errNothingDone, with now, where nothing of the script is to be
// seen. In nf_tables it is enough that something was committed: what another program has changed since is noticed otherwise (watched).
func (k *iptablesKernel) carryOutSeen(ctx context.Context, s *script, before *savedTable) (now *savedTable, err error) {
	begun := k.generationNow(s.family)
	if err := k.carryOut(ctx, s); err != nil {
		return nil, err
	}
	committed := k.generationNow(s.family) != begun && len(s.gone) == 0
	now, err = k.read(ctx, s.family, s.table)
	if err != nil || committed {
		return now, err
	}
	return now, k.seen(ctx, s, before, now)
}

// generationNow is the number of commits of nf_tables; 0 for iptables-legacy, and where it is not known.
func (k *iptablesKernel) generationNow(family ir.Families) uint32 {
	if slices.Contains(k.silent, family) {
		return 0
	}
	s, err := openSocket(k.enter)
	if err != nil {
		return 0
	}
	defer s.conn.Close()
	generation, err := s.generation()
	if err != nil {
		return 0
	}
	return generation
}

// seen is the error that nothing is to be seen of what a script has done to a table, from what that was before and is now. What other programs
// have done meanwhile counts as something.
func (k *iptablesKernel) seen(ctx context.Context, s *script, before, now *savedTable) error {
	p := s.parted()
	missed := false
	for _, is := range p.whole(before, now) {
		if is {
			return nil
		}
		missed = true
	}
	var unknown []string
	for chain, did := range p.puts {
		switch is, known := p.rules(chain, did, before, now); {
		case is:
			return nil
		case known:
			missed = true
		default:
			unknown = append(unknown, chain)
		}
	}
	for _, chain := range unknown {
		is, err := k.has(ctx, s, chain, p.puts[chain].inserted, now)
		if err != nil {
			return err
		}
		missed = missed || !is
	}
	if missed {
		return fmt.Errorf("table %s: %s-restore: %w", s.table, tool(s.family), errNothingDone)
	}
	return nil
}

// parted is a script by what it does.
type parted struct {
	policies map[string]string
	declared []string
	emptied  map[string]bool // also those that are declared
	removed  []string
	puts     map[string]puts
	gone     map[string]int // rules that go by their handles, without the tool
}

func (s *script) parted() *parted {
	p := &parted{policies: map[string]string{}, emptied: map[string]bool{}, gone: map[string]int{}}
	p.declared, p.puts = s.puts()
	for _, line := range s.lines {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "-F":
			p.emptied[f[1]] = true
		case f[0] == "-X":
			p.removed = append(p.removed, f[1])
		case strings.HasPrefix(f[0], ":") && f[1] != "-":
			p.policies[f[0][1:]] = f[1]
		}
	}
	for _, chain := range p.declared {
		p.emptied[chain] = true
	}
	for chain := range p.emptied {
		if _, is := p.puts[chain]; !is {
			p.puts[chain] = puts{}
		}
	}
	for _, g := range s.gone {
		p.gone[g.chain]++
	}
	return p
}

// whole is, for each chain whose policy changes, or that comes or goes, whether that is to be seen.
func (p *parted) whole(before, now *savedTable) (seen []bool) {
	for chain, policy := range p.policies {
		if before.policies[chain] != policy {
			seen = append(seen, now.policies[chain] == policy)
		}
	}
	for _, chain := range p.declared {
		if !slices.Contains(before.order, chain) {
			seen = append(seen, slices.Contains(now.order, chain))
		}
	}
	for _, chain := range p.removed {
		if slices.Contains(before.order, chain) {
			seen = append(seen, !slices.Contains(now.order, chain))
		}
	}
	return seen
}

// rules says whether what was done to the rules of a chain is to be seen. That is not known where they are what they were before, and may be meant
// to be so; nor where rules have gone without the tool.
func (p *parted) rules(chain string, did puts, before, now *savedTable) (seen, known bool) {
	was, is := before.rules[chain], now.rules[chain]
	handles := func(s *savedTable) (list []uint64) {
		for _, body := range s.raw[chain] {
			list = append(list, handleOf(body))
		}
		return list
	}
	want := len(was) + len(did.inserted) - len(did.deleted) - p.gone[chain]
	if p.emptied[chain] {
		want = len(did.inserted)
	}
	switch {
	case p.gone[chain] == 0 && (!slices.Equal(was, is) || !slices.Equal(handles(before), handles(now))):
		return true, true
	case len(is) < want, len(did.inserted) == 0 && len(is) != want:
		return false, true
	}
	return false, false
}

// has says whether rules are in a chain, as they are written or as the tool lists them. The first of which that is not known is looked up, and
// stands for the rest: they have come together. In a chain that is not listed they count as there.
func (k *iptablesKernel) has(ctx context.Context, s *script, chain string, specs []string, now *savedTable) (bool, error) {
	listed := map[string]bool{}
	for _, rule := range now.rules[chain] {
		listed[rule] = true
	}
	key := sharedChain{s.family, s.table, chain}
	for _, spec := range specs {
		if listed[spec] || listed[k.textOf(key, spec)] || now.isUnlisted(chain) {
			continue
		}
		return k.ruleExists(ctx, s.family, s.table, chain, words(spec))
	}
	return true, nil
}

// probe is an element of a set of which it is known whether it is in there behind a change.
type probe struct {
	set, element string
	in           bool
}

// probed notes an element by which it can be seen that a change of a set was made, if there is one: an element of a set of networks may be in
// another one that stays.
func (p *setPlan) probed(s *ir.Set, gone, added []ir.Element) {
	narrow := func(e ir.Element) bool { return !e.Wide() }
	switch in, out := slices.IndexFunc(added, narrow), slices.IndexFunc(gone, narrow); {
	case expires(s):
	case in >= 0:
		p.probe = probe{s.Name, added[in].Text, true}
	case out >= 0 && !strings.Contains(s.Type, "net"):
		p.probe = probe{s.Name, gone[out].Text, false}
	}
}

// seenSets is the error that nothing is to be seen of what ipset has done.
func (k *iptablesKernel) seenSets(ctx context.Context, p *setPlan) error {
	if len(p.created) > 0 {
		types, err := k.listSets(ctx)
		if err != nil {
			return err
		}
		for _, name := range p.created {
			if types[name] == "" {
				return &RuleError{Origin: p.origins[name], Err: fmt.Errorf("ipset: set %s is not there: %w", name, errNothingDone)}
			}
		}
	}
	if p.probe.set == "" {
		return nil
	}
	_, err := k.run(ctx, "", "ipset", "test", p.probe.set, p.probe.element)
	switch out := err != nil && strings.Contains(err.Error(), "NOT in set"); {
	case out && p.probe.in, err == nil && !p.probe.in:
		return &RuleError{Origin: p.origins[p.probe.set], Err: fmt.Errorf("ipset: set %s has not changed: %w", p.probe.set, errNothingDone)}
	}
	return nil // what ipset cannot tell is no error
}
