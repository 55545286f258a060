package kernel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// step is something that a commit has done, and how it is taken back.
type step struct {
	what string // "table filter of iptables"
	undo func(context.Context) error
}

// memory is what a Kernel remembers of what it has committed.
type memory struct {
	installed *Desired
	made      map[sharedChain]bool
	listed    map[sharedChain][]string
	addressed map[sharedRule][]string
	left      leftState
}

func (k *iptablesKernel) remember() memory {
	return memory{k.installed, maps.Clone(k.made), maps.Clone(k.listed), maps.Clone(k.addressed), k.options.Left.state()}
}

func (k *iptablesKernel) recall(m memory) {
	k.installed, k.made, k.listed, k.addressed = m.installed, m.made, m.listed, m.addressed
}

// unwind takes back what was done, last first. What cannot be taken back stays among the steps, with all that was done before
// it: the next call begins there.
func (k *iptablesKernel) unwind(ctx context.Context) error {
	for len(k.steps) > 0 {
		last := k.steps[len(k.steps)-1]
		if err := last.undo(ctx); err != nil {
			return fmt.Errorf("%s cannot be put back to what it was: %w", last.what, err)
		}
		k.steps = k.steps[:len(k.steps)-1]
	}
	return nil
}

// Unfinished implements Remnant.
func (k *iptablesKernel) Unfinished() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.steps) > 0
}

// YieldGuard implements Remnant.
func (k *iptablesKernel) YieldGuard() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.watch.guard.yield()
}

// unfinished guards the machine while what a commit has left is not taken back, and asks for a commit that does it.
func (k *iptablesKernel) unfinished(next *Desired) {
	if next.Rules == nil && !next.Panic { // the firewall ends: what is new is to pass
		return
	}
	panicked := next.Panic || k.installed != nil && k.installed.Panic
	k.watch.guard.raise(panicked)
	f := Foreign{Unfinished: true}
	for _, s := range k.steps {
		f.Changes = append(f.Changes, s.what)
	}
	k.watch.report(f)
}

// put commits one table, and notes how it is taken back.
func (k *iptablesKernel) put(ctx context.Context, s *script) error {
	before, err := k.read(ctx, s.family, s.table)
	if err != nil {
		return err
	}
	u := &undoing{script: s, before: before}
	after, restored := k.carryOutSeen(ctx, s, before)
	if restored != nil && !s.begun {
		return restored
	}
	k.steps = append(k.steps, step{fmt.Sprintf("table %s of %s", s.table, tool(s.family)), func(ctx context.Context) error { return k.takeBack(ctx, u) }})
	u.after, s.after = after, after
	return restored
}

// undoing is a table as a commit has found it, and as it has left it. after is nil where it could not be read.
type undoing struct {
	*script
	before, after *savedTable
}

// takeBack makes a table what it was before a commit, but for what others have changed since.
func (k *iptablesKernel) takeBack(ctx context.Context, u *undoing) error {
	now, err := k.read(ctx, u.family, u.table)
	if err != nil {
		return err
	}
	if u.after == nil {
		u.after = now
	}
	lines, gone, err := k.linesBack(ctx, u, now)
	if err != nil || lines == nil && gone == nil {
		return err
	}
	s := &script{family: u.family, table: u.table, lines: append(append([]string{"*" + u.table}, lines...), "COMMIT"), gone: gone, want: u.want}
	_, err = k.carryOutSeen(ctx, s, now)
	return err
}

// linesBack are the input of a restore tool for a table as it is now; nil if there is nothing to do. Rules are the text that the
// tool has saved. gone are those that go from chains that are not listed.
func (k *iptablesKernel) linesBack(ctx context.Context, u *undoing, now *savedTable) (lines []string, gone []goneRule, err error) {
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, chain := range u.before.order {
		switch policy := u.before.policies[chain]; {
		case policy != "" && policy != u.after.policies[chain]:
			line(":%s %s [0:0]", chain, policy)
		case policy == "" && !slices.Contains(now.order, chain):
			line(":%s - [0:0]", chain)
		}
	}
	declared, byChain := u.puts()
	stale := slices.DeleteFunc(declared, func(chain string) bool {
		return slices.Contains(u.before.order, chain) || !slices.Contains(now.order, chain)
	})
	for _, chain := range stale {
		line("-F %s", chain)
	}
	for _, chain := range u.before.order {
		back, out, err := k.chainBack(ctx, u, chain, byChain[chain], now)
		if err != nil {
			return nil, nil, err
		}
		lines, gone = append(lines, back...), append(gone, out...)
	}
	for _, chain := range stale {
		if !now.jumpsTo(chain, u.after) {
			line("-X %s", chain)
		}
	}
	return lines, gone, nil
}

// missing are lines that put rules back into a chain that are not there, each behind the one before it: those of a list from one index
// up to another one. The first goes to a place, or further behind.
func missing(chain string, rules []string, from, to int, there []string, place int) (lines []string) {
	left, behind := slices.Clone(there), 0
	for i, rule := range rules[:to] {
		if i == from {
			behind = max(behind, place)
		}
		if at := slices.Index(left, rule); at >= 0 {
			left[at] = ""
			behind = at + 1
		} else if i >= from && !isUnlisted(rule) {
			lines = append(lines, fmt.Sprintf("-I %s %d %s", chain, behind+1, rule))
			left = slices.Insert(left, behind, "")
			behind++
		}
	}
	return lines
}

// puts is what a script does to the rules of a chain, by their specs.
type puts struct{ inserted, deleted []string }

// puts are the chains that a script makes or empties, and what it does to each chain.
func (s *script) puts() (declared []string, byChain map[string]puts) {
	byChain = map[string]puts{}
	for _, line := range s.lines {
		command, rest, _ := strings.Cut(line, " ")
		chain, spec, _ := strings.Cut(rest, " ")
		p := byChain[chain]
		switch {
		case strings.HasPrefix(command, ":"):
			if !isBuiltin(s.table, command[1:]) {
				declared = append(declared, command[1:])
			}
			continue
		case command == "-D":
			p.deleted = append(p.deleted, spec)
		case command == "-I":
			_, spec, _ = strings.Cut(spec, " ")
			fallthrough
		case command == "-A":
			p.inserted = append(p.inserted, spec)
		}
		byChain[chain] = p
	}
	return declared, byChain
}

// chainBack puts the rules of one chain back. Of what is new in it, only what the commit has put there goes; what went comes to
// where that was.
func (k *iptablesKernel) chainBack(ctx context.Context, u *undoing, chain string, p puts, now *savedTable) (lines []string, gone []goneRule, err error) {
	was, made, there := u.before.rules[chain], u.after.rules[chain], slices.Clone(now.rules[chain])
	if slices.Equal(was, made) {
		return nil, nil, nil
	}
	if err := k.learnTexts(ctx, now, sharedChain{u.family, u.table, chain}, p.inserted); err != nil {
		return nil, nil, err
	}
	begin, end := inCommon(was, made, func(a, b string) bool { return a == b })
	place := min(begin, len(there))
	fresh, unknown := k.newRules(u, chain, p, made[begin:len(made)-end])
	for i, rule := range slices.Backward(fresh) {
		at := begin + i
		if at >= len(there) || there[at] != rule {
			at = slices.Index(there, rule)
		}
		switch {
		case at < 0:
		case now.isUnlisted(chain):
			place, there[at] = at, deletedRule
			gone = append(gone, now.gone(chain, at))
		default:
			place = at
			lines = append(lines, fmt.Sprintf("-D %s %d", chain, at+1))
			there = slices.Delete(there, at, at+1)
		}
	}
	lines = append(lines, missing(chain, was, begin, len(was)-end, there, place)...)
	for _, spec := range unknown {
		found, err := k.ruleExists(ctx, u.family, u.table, chain, words(spec))
		if err != nil {
			return nil, nil, err
		}
		if found {
			lines = append(lines, fmt.Sprintf("-D %s %s", chain, spec))
		}
	}
	return lines, gone, nil
}

// newRules are those of the rules that are new in a chain which a script has put there. unknown are specs of rules of which it is
// not known how the tool saves them, as others have put rules there at the same time.
func (k *iptablesKernel) newRules(u *undoing, chain string, p puts, fresh []string) (ours, unknown []string) {
	if c := u.want.chain(chain); c != nil && !c.partial() {
		return fresh, nil
	}
	texts := u.listings[chain].texts(u.after.rules[chain])
	var inserted []string
	for _, spec := range p.inserted {
		text, known := texts[spec]
		if !known {
			text = k.textOf(sharedChain{u.family, u.table, chain}, spec)
		}
		inserted = append(inserted, text)
		if !slices.Contains(u.after.rules[chain], text) && !slices.Contains(p.deleted, spec) {
			unknown = append(unknown, spec)
		}
	}
	for _, rule := range fresh {
		if i := slices.Index(inserted, rule); i >= 0 {
			ours, inserted = append(ours, rule), slices.Delete(inserted, i, i+1)
		}
	}
	if len(fresh)-len(ours) == len(unknown) {
		return fresh, nil
	}
	return ours, unknown
}

// jumpsTo says whether a rule leads to a chain that was not there in another state of the table.
func (s *savedTable) jumpsTo(chain string, known *savedTable) bool {
	for from, rules := range s.rules {
		if count(targets(rules), chain) > count(targets(known.rules[from]), chain) {
			return true
		}
	}
	return false
}
