package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// makes says whether a chain is among those that it makes, by itself or with a command.
func (b *Bridge) makes(c BridgeChain) bool {
	return b != nil && (slices.Contains(b.Chains, c) || slices.ContainsFunc(b.Commands, func(command []string) bool {
		made, ok := chainBy(command)
		return ok && made == c
	}))
}

// chain is where the rule is.
func (r BridgeRule) chain() BridgeChain { return BridgeChain{r.Table, r.Chain} }

// key tells rules apart by what they do, in whichever chain of a table.
func (r BridgeRule) key() string { return r.Table + " " + quoted(r.Args) }

// spec is the words of the rule as a line of ebtables-restore; what cannot be said to it, as it is.
func (r BridgeRule) spec() string {
	line, err := joinLines([][]string{r.Args})
	if err != nil {
		return strings.Join(r.Args, " ")
	}
	return strings.TrimSuffix(line, "\n")
}

// CommitBridge makes what ebtables has of ours next, where it was old, one transaction a table. A nil old is that nobody knows: then it is
// what an earlier process has left, as the options' Left knows it, and of next. In any case ebtables is asked what is there of it, and
// what others have there stays. Where the change cannot be made it is asked again: another program may have taken out what was
// there. Nothing is run where there is no difference between old and next. When the context ends before the change has begun, it is not made. On an
// error nothing changed. was is what was there before, for a commit that brings it back; nil behind an error that has left nobody knows
// what.
func CommitBridge(ctx context.Context, o Options, old, next *Bridge) (was *Bridge, err error) {
	o = o.withDefaults()
	unlock, err := o.Left.lockBridge(ctx)
	if err != nil {
		return old, err
	}
	defer unlock()
	o.Left.begin(true)
	was, err = commitBridge(ctx, o, old, next)
	if err == nil || old == nil || ctx.Err() != nil || refusesNext(err) || errors.Is(err, errNothingDone) {
		return was, err
	}
	found, again := commitBridge(ctx, o, nil, next)
	switch {
	case again == nil:
		o.Log.Warn("the rules of bridges that are ours were not what they should be", "reason", err)
		if errors.Is(err, ErrNotPutBack) { // what is found is half of next
			return old, nil
		}
		return found, nil
	case errors.Is(again, ErrNotPutBack):
		return nil, errors.Join(err, again)
	}
	return was, err
}

// ErrNotPutBack is in the error of a change of the rules of bridges that was not made, and has left nobody knows what.
var ErrNotPutBack = errors.New("cannot put back the rules of bridges")

// refusesNext says whether an attempt has failed for what shall be there alone, and changed nothing: a second one would fail, too.
func refusesNext(err error) bool {
	var refused *BridgeError
	return errors.As(err, &refused) && !errors.Is(err, ErrNotPutBack) &&
		!slices.ContainsFunc(refused.Lines, func(line BridgeLine) bool { return slices.Contains([]string{"-D", "-X"}, line.Words[0]) })
}

// commitBridge is one attempt.
func commitBridge(ctx context.Context, o Options, old, next *Bridge) (was *Bridge, err error) {
	if err := ctx.Err(); err != nil {
		return old, err
	}
	if old != nil && len(bridgeChanges(old, next)) == 0 {
		return old, nil
	}
	t := tools{enter: o.Enter}
	found, err := t.findBridge(ctx, o, old, next, false)
	switch {
	case err != nil:
		return old, err
	case found == nil:
		return &Bridge{}, nil
	}
	if err := found.othersChains(); err != nil {
		return old, err
	}
	var before *Bridge
	o.Left.bridge(func(noted *Bridge) *Bridge { before = noted; return noted.with(found.was).with(found.next) })
	done, err := t.changeBridge(ctx, found)
	if err == nil && len(done) > 0 {
		done, err = t.seenBridge(ctx, found, done)
	}
	if errors.Is(err, ErrNotPutBack) {
		return nil, err
	} else if err != nil {
		if back := t.backTo(ctx, done, found); back != nil {
			return nil, errors.Join(err, back)
		}
		o.Left.bridge(func(*Bridge) *Bridge { return before }) // what another program has of next is not ours
		return old, err
	}
	found.learn(ctx, t)
	o.Left.bridgeDone(found.next, found.texts)
	return found.was, nil
}

// CheckBridge asks ebtables whether it would take next, in place of what is there of ours, and changes nothing. The error is that of
// CommitBridge.
func CheckBridge(ctx context.Context, o Options, next *Bridge) error {
	o = o.withDefaults()
	o.Log = slog.New(slog.DiscardHandler)
	t := tools{enter: o.Enter}
	found, err := t.findBridge(ctx, o, nil, next, true)
	if err != nil || found == nil {
		return err
	}
	if err := found.othersChains(); err != nil {
		return err
	}
	for _, table := range bridgeTables {
		lines := found.edit(table, bridgeLines(table, found.was, found.next), found.saved[table]).lines
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

// bridgeChanges are the tables in which there is a difference.
func bridgeChanges(old, next *Bridge) []string {
	return filter(bridgeTables, func(table string) bool { return bridgeLines(table, old, next) != nil })
}

// changeBridge makes the difference, one transaction a table. done are the tables that have changed, also on an error. A transaction that has
// begun ends, whatever the context; the search for what is refused does not outlast it.
func (t tools) changeBridge(ctx context.Context, found *foundBridge) (done []string, err error) {
	for _, table := range bridgeTables {
		e := found.edit(table, bridgeLines(table, found.was, found.next), found.saved[table])
		begun, err := found.left.carryOut(context.WithoutCancel(ctx), t, table, e)
		switch {
		case err == nil:
		case begun: // a part of it is done
			return done, fmt.Errorf("%w in table %s: %w", ErrNotPutBack, table, err)
		default:
			return done, fmt.Errorf("cannot change the rules of bridges in table %s: %w", table, t.refusedLines(ctx, err, table, e.lines))
		}
		if begun {
			done = append(done, table)
		}
	}
	return done, nil
}

// restoreBridge makes an edit of a table. begun says that something has changed, also on an error.
func (t tools) restoreBridge(ctx context.Context, table string, e bridgeEdit) (begun bool, err error) {
	script, err := joinLines(e.lines)
	if err == nil && script != "" {
		_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
	}
	if err != nil || script == "" {
		return ended(err), err
	}
	rest, err := joinLines(e.rest)
	if err == nil {
		err = t.finish(ctx, bridgeLister, table, e.gone, rest)
	}
	return true, err
}

// backTo takes tables back to what was found, whatever the context. An error is ErrNotPutBack.
func (t tools) backTo(ctx context.Context, tables []string, found *foundBridge) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, table := range tables {
		is, err := t.tableNow(ctx, found, table)
		if err == nil {
			_, err = found.left.carryOut(ctx, t, table, found.edit(table, bridgeLines(table, found.next, found.was), is))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w in table %s: %w", ErrNotPutBack, table, err))
		}
	}
	return errors.Join(errs...)
}

// tableNow is a table as it is, if ebtables could not list it when it was found; else nil.
func (t tools) tableNow(ctx context.Context, found *foundBridge, table string) (*savedTable, error) {
	if found.saved[table] == nil || len(found.saved[table].unlisted) == 0 {
		return nil, nil
	}
	is, err := t.readUnlisted(ctx, bridgeLister, table)
	if err == nil {
		is.recognise(found.madeOf[table])
		found.left.listOwn(table, is)
	}
	return is, err
}

// allRules are the rules of a table, those of commands, too.
func (b *Bridge) allRules(table string) (rules []BridgeRule) {
	for _, r := range b.Rules {
		if r.Table == table {
			rules = append(rules, r)
		}
	}
	for _, c := range b.Commands {
		if r, ok := ruleBy(c); ok && r.Table == table {
			rules = append(rules, r)
		}
	}
	return rules
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

func (b *Bridge) empty() bool { return len(b.Chains)+len(b.Rules)+len(b.Commands) == 0 }

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

// bridgeLines are the input of ebtables-restore --noflush that leads from one state of a table to another; none if they are the same. A
// chain in which ours do not change is not touched. In another one, those of ours that were there go one by one, and those that come stand
// before those of others. A chain of its own goes back to where it was called from.
func bridgeLines(table string, old, next *Bridge) [][]string {
	old, next = old.of(table), next.of(table)
	lines := [][]string{{"*" + table}}
	add := func(words ...string) { lines = append(lines, words) }
	changed := changedChains(old, next)
	has, shall := commandSet(old), commandSet(next)
	for _, c := range slices.Backward(old.Commands) { // a chain is empty, and nothing leads there, when it goes
		if undo, ok := undone(c); ok && !shall[quoted(c)] {
			add(withoutTable(undo)...)
		}
	}
	for _, r := range old.Rules {
		if changed[r.chain()] {
			add(append([]string{"-D", r.Chain}, r.Args...)...)
		}
	}
	for _, c := range old.Chains {
		if !slices.Contains(next.Chains, c) {
			add("-X", c.Chain)
		}
	}
	for _, c := range next.Chains {
		if !slices.Contains(old.Chains, c) {
			add(makeBridgeChain(c)...)
		}
	}
	for _, own := range []bool{false, true} { // a way round in a circle is closed by a rule of such a chain
		for _, r := range slices.Backward(next.Rules) { // each comes first, so that no place depends on another rule
			if changed[r.chain()] && slices.Contains(next.Chains, r.chain()) == own {
				add(append([]string{"-I", r.Chain, "1"}, r.Args...)...)
			}
		}
	}
	for _, c := range next.Commands {
		if !has[quoted(c)] {
			add(withoutTable(c)...)
		}
	}
	if len(lines) == 1 {
		return nil
	}
	return lines
}

// makeBridgeChain is the line that makes a chain, from whose end packets go back.
func makeBridgeChain(c BridgeChain) []string { return []string{":" + c.Chain, "RETURN"} }

// changedChains are the chains in which rules differ.
func changedChains(old, next *Bridge) map[BridgeChain]bool {
	changed, had, want := map[BridgeChain]bool{}, old.byChain(), next.byChain()
	for c := range had {
		changed[c] = !slices.EqualFunc(had[c], want[c], slices.Equal)
	}
	for c := range want {
		changed[c] = !slices.EqualFunc(had[c], want[c], slices.Equal)
	}
	return changed
}

// byChain is the arguments of the rules of each chain.
func (b *Bridge) byChain() map[BridgeChain][][]string {
	rules := map[BridgeChain][][]string{}
	for _, r := range b.Rules {
		rules[r.chain()] = append(rules[r.chain()], r.Args)
	}
	return rules
}

// commandSet is the commands, by quoted.
func commandSet(b *Bridge) map[string]bool {
	set := map[string]bool{}
	for _, c := range b.Commands {
		set[quoted(c)] = true
	}
	return set
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

// ruleBy is the rule that a command puts into a chain; ok is false for another command.
func ruleBy(command []string) (rule BridgeRule, ok bool) {
	undo, _ := undone(command)
	undo = withoutTable(undo)
	i := slices.Index(undo, "-D")
	if i < 0 || i+1 >= len(undo) {
		return BridgeRule{}, false
	}
	return BridgeRule{tableOf(command), undo[i+1], slices.Concat(undo[:i], undo[i+2:])}, true
}

// chainBy is the chain that a command makes; ok is false for another command.
func chainBy(command []string) (chain BridgeChain, ok bool) {
	undo, _ := undone(command)
	i := slices.Index(undo, "-X")
	if i < 0 || i+1 >= len(undo) {
		return BridgeChain{}, false
	}
	return BridgeChain{tableOf(command), undo[i+1]}, true
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
