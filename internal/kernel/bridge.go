package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Bridge is the chains, rules and command lines of the direct interface for ebtables.
type Bridge struct {
	Chains   []BridgeChain
	Rules    []BridgeRule // those of one chain in the order in which they stand there
	Commands [][]string   // arguments of ebtables; they are for the table that -t says, or filter
}

// BridgeChain is a chain of its own.
type BridgeChain struct{ Table, Chain string }

// BridgeRule is a rule of such a chain, or of one of the kernel's.
type BridgeRule struct {
	Table, Chain string
	Args         []string
}

// CommitBridge makes what ebtables has of ours next, where it was old, one transaction a table. A nil old is that nobody knows: then
// ebtables is asked what is there of what an earlier process has left, as the options' Left knows it, and of next. It is asked as well
// where the change cannot be made: another program may have taken out what was there. Nothing is run where there is no difference. On an
// error nothing changed. was is what was there before, for a commit that brings it back; nil behind an error that has left nobody knows
// what.
func CommitBridge(ctx context.Context, o Options, old, next *Bridge) (was *Bridge, err error) {
	was, err = commitBridge(ctx, o, old, next)
	if err == nil || old == nil || ctx.Err() != nil {
		return was, err
	}
	found, again := commitBridge(ctx, o, nil, next)
	switch {
	case again == nil:
		o.withDefaults().Log.Warn("the rules of bridges that are ours were not what they should be", "reason", err)
		if errors.Is(err, errNotPutBack) { // what is found is half of next
			return old, nil
		}
		return found, nil
	case errors.Is(again, errNotPutBack):
		return nil, errors.Join(err, again)
	}
	return was, err
}

// errNotPutBack is in the error of an attempt that has left nobody knows what.
var errNotPutBack = errors.New("cannot put back the rules of bridges")

// commitBridge is one attempt.
func commitBridge(ctx context.Context, o Options, old, next *Bridge) (was *Bridge, err error) {
	if err := ctx.Err(); err != nil {
		return old, err
	}
	ctx, o = context.WithoutCancel(ctx), o.withDefaults() // what has begun must end, one way or the other
	t := tools{enter: o.Enter}
	was, gone := old, old
	if old == nil {
		noted, known := o.Left.foundBridge()
		if was, gone, err = t.findBridge(ctx, o.Log, noted, next, known); err != nil {
			return nil, err
		}
	}
	if err := t.othersChains(ctx, was, next); err != nil {
		return old, err
	}
	var before *Bridge
	o.Left.bridge(func(noted *Bridge) *Bridge { before = noted; return noted.with(was).with(next) })
	done, err := t.changeBridge(ctx, was, next)
	if once := was.once(); err != nil && old == nil && !reflect.DeepEqual(once, was) { // it is not known how often each rule is there
		if back := t.backTo(ctx, done, was, next); back != nil {
			return nil, errors.Join(err, back)
		}
		was = once
		done, err = t.changeBridge(ctx, was, next)
	}
	if err != nil {
		if back := t.backTo(ctx, done, was, next); back != nil {
			return nil, errors.Join(err, back)
		}
		o.Left.bridge(func(*Bridge) *Bridge { return before }) // what another program has of next is not ours
		return old, err
	}
	o.Left.bridge(func(noted *Bridge) *Bridge { return noted.with(nil).without(gone).with(next) })
	o.Left.knowBridge()
	return was, nil
}

// CheckBridge asks ebtables whether it would take next, in place of what is there of ours, and changes nothing. The error is that of
// CommitBridge.
func CheckBridge(ctx context.Context, o Options, next *Bridge) error {
	t := tools{enter: o.withDefaults().Enter}
	noted, known := o.Left.foundBridge()
	was, _, err := t.findBridge(ctx, slog.New(slog.DiscardHandler), noted, next, known)
	if err != nil {
		return err
	}
	if err := t.othersChains(ctx, was, next); err != nil {
		return err
	}
	for _, table := range bridgeTables {
		lines := bridgeLines(table, was.once(), next)
		if len(lines) == 0 {
			continue
		}
		if err := t.trial(ctx, table, lines); err != nil {
			return fmt.Errorf("cannot change the rules of bridges in table %s: %w", table, t.refusedLines(ctx, err, table, lines))
		}
	}
	return nil
}

// bridgeTables are the tables of ebtables, in the order in which they change.
var bridgeTables = []string{"broute", "nat", "filter"}

// changeBridge makes the difference, one transaction a table. done are the tables that have changed, also on an error.
func (t tools) changeBridge(ctx context.Context, old, next *Bridge) (done []string, err error) {
	for _, table := range bridgeTables {
		lines := bridgeLines(table, old, next)
		script, err := joinLines(lines)
		if err == nil && script != "" {
			_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
		}
		if err != nil {
			return done, fmt.Errorf("cannot change the rules of bridges in table %s: %w", table, t.refusedLines(ctx, err, table, lines))
		}
		if script != "" {
			done = append(done, table)
		}
	}
	return done, nil
}

// backTo takes tables back to old. An error is errNotPutBack.
func (t tools) backTo(ctx context.Context, tables []string, old, next *Bridge) error {
	var errs []error
	for _, table := range tables {
		script, err := bridgeScript(table, next, old)
		if err == nil {
			_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w in table %s: %w", errNotPutBack, table, err))
		}
	}
	return errors.Join(errs...)
}

// with is what either has; either may be nil.
func (b *Bridge) with(c *Bridge) *Bridge {
	all := &Bridge{}
	for _, one := range []*Bridge{b, c} {
		if one != nil {
			all.Chains = union(all.Chains, one.Chains, itself)
			all.Rules = union(all.Rules, one.Rules, quoted)
			all.Commands = union(all.Commands, one.Commands, quoted)
		}
	}
	return all
}

// quoted tells rules, and commands, apart.
func quoted[T BridgeRule | []string](v T) string { return fmt.Sprintf("%q", v) }

// without is what b has and c has not.
func (b *Bridge) without(c *Bridge) *Bridge {
	return &Bridge{
		Chains:   filter(b.Chains, func(v BridgeChain) bool { return !slices.Contains(c.Chains, v) }),
		Rules:    filter(b.Rules, func(v BridgeRule) bool { return !slices.ContainsFunc(c.Rules, v.equal) }),
		Commands: filter(b.Commands, func(v []string) bool { return !contains(c.Commands, v) }),
	}
}

// once is the same with each rule once, be it of the rules or of the commands.
func (b *Bridge) once() *Bridge {
	seen := map[string]bool{}
	first := func(table string, words []string) bool {
		key := table + " " + strings.Join(words, "\x00")
		was := seen[key]
		seen[key] = true
		return !was
	}
	return &Bridge{Chains: b.Chains,
		Rules: filter(b.Rules, func(r BridgeRule) bool {
			return b.owns(r) || first(r.Table, append([]string{"-D", r.Chain}, r.Args...))
		}),
		Commands: filter(b.Commands, func(c []string) bool {
			undo, _ := undone(c)
			return first(tableOf(c), withoutTable(undo))
		})}
}

func (r BridgeRule) equal(s BridgeRule) bool {
	return r.Table == s.Table && r.Chain == s.Chain && slices.Equal(r.Args, s.Args)
}

func (b *Bridge) owns(r BridgeRule) bool {
	return slices.Contains(b.Chains, BridgeChain{r.Table, r.Chain})
}

// ownsRuleOf says whether a command puts a rule into a chain of its own, whose rules come and go together.
func (b *Bridge) ownsRuleOf(command []string) bool {
	undo, _ := undone(command)
	i := slices.Index(undo, "-D")
	return i >= 0 && i+1 < len(undo) && slices.Contains(b.Chains, BridgeChain{tableOf(undo), undo[i+1]})
}

// of is what concerns one table.
func (b *Bridge) of(table string) *Bridge {
	return &Bridge{
		Chains:   filter(b.Chains, func(c BridgeChain) bool { return c.Table == table }),
		Rules:    filter(b.Rules, func(r BridgeRule) bool { return r.Table == table }),
		Commands: filter(b.Commands, func(c []string) bool { return tableOf(c) == table }),
	}
}

func filter[T any](list []T, keep func(T) bool) []T {
	var kept []T
	for _, v := range list {
		if keep(v) {
			kept = append(kept, v)
		}
	}
	return kept
}

func tableOf(command []string) string {
	if i := slices.Index(command, "-t"); i >= 0 && i+1 < len(command) {
		return command[i+1]
	}
	return "filter"
}

// bridgeScript is bridgeLines as text; "" for none.
func bridgeScript(table string, old, next *Bridge) (string, error) {
	return joinLines(bridgeLines(table, old, next))
}

// bridgeLines are the input of ebtables-restore --noflush that leads from one state of a table to another; none if they are the same.
// Rules in the kernel's chains stand before those of others. A chain of its own goes back to where it was called from.
func bridgeLines(table string, old, next *Bridge) [][]string {
	old, next = old.of(table), next.of(table)
	if reflect.DeepEqual(old, next) {
		return nil
	}
	lines := [][]string{{"*" + table}}
	add := func(words ...string) { lines = append(lines, words) }
	for _, c := range slices.Backward(old.Commands) { // a chain is empty, and nothing leads there, when it goes
		if undo, ok := undone(c); ok && !contains(next.Commands, c) && !old.ownsRuleOf(c) {
			add(withoutTable(undo)...)
		}
	}
	for _, r := range old.Rules {
		if !old.owns(r) {
			add(append([]string{"-D", r.Chain}, r.Args...)...)
		}
	}
	for _, c := range old.Chains {
		add("-F", c.Chain)
	}
	for _, c := range old.Chains {
		if !slices.Contains(next.Chains, c) {
			add("-X", c.Chain)
		}
	}
	for _, c := range next.Chains {
		if !slices.Contains(old.Chains, c) {
			add(":"+c.Chain, "ACCEPT")
		}
	}
	for _, r := range slices.Backward(next.Rules) { // each comes first, so that no place depends on another rule
		if !next.owns(r) {
			add(append([]string{"-I", r.Chain, "1"}, r.Args...)...)
		}
	}
	for _, r := range next.Rules {
		if next.owns(r) {
			add(append([]string{"-A", r.Chain}, r.Args...)...)
		}
	}
	for _, c := range next.Commands {
		if !contains(old.Commands, c) || old.ownsRuleOf(c) {
			add(withoutTable(c)...)
		}
	}
	for _, c := range next.Chains {
		add("-A", c.Chain, "-j", "RETURN")
	}
	return lines
}

func contains(list [][]string, command []string) bool {
	return slices.ContainsFunc(list, func(c []string) bool { return slices.Equal(c, command) })
}

// undoes says which command takes back another.
var undoes = map[string]string{"-A": "-D", "--append": "-D", "-I": "-D", "--insert": "-D", "-N": "-X", "--new-chain": "-X"}

// undone is the command line that takes one back; ok is false for one that leaves nothing to take back.
func undone(command []string) (undo []string, ok bool) {
	i := slices.IndexFunc(command, func(word string) bool { return undoes[word] != "" })
	if i < 0 {
		return nil, false
	}
	if undoes[command[i]] == "-X" && i+1 < len(command) { // a policy may stand behind the name
		return []string{"-t", tableOf(command), "-X", command[i+1]}, true
	}
	undo = slices.Clone(command)
	undo[i] = undoes[command[i]]
	if i+2 < len(undo) { // the place of an insertion
		if _, err := strconv.Atoi(undo[i+2]); err == nil {
			undo = slices.Delete(undo, i+2, i+3)
		}
	}
	return undo, true
}

// withoutTable is a command line as a line of ebtables-restore, where the table is known.
func withoutTable(command []string) []string {
	if i := slices.Index(command, "-t"); i >= 0 && i+1 < len(command) {
		return slices.Delete(slices.Clone(command), i, i+2)
	}
	return command
}

// joinLines writes words so that ebtables-restore reads them.
func joinLines(lines [][]string) (string, error) {
	var b strings.Builder
	for _, words := range lines {
		for i, word := range words {
			if strings.ContainsAny(word, "\n\r\x00\"") {
				return "", fmt.Errorf("cannot say %q to ebtables: it takes neither quotes nor line ends", word)
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			if word == "" || strings.ContainsAny(word, " \t'\\") {
				word = `"` + word + `"`
			}
			b.WriteString(word)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
