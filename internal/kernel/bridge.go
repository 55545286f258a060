package kernel

import (
	"context"
	"errors"
	"fmt"
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

// CommitBridge makes what ebtables has of ours next, where it was old, one transaction a table. On an error nothing
// changed. A nil old is that nobody knows: what an earlier process has left, as the options' Left knows it, or may have left of next,
// is taken out first. Nothing is run where there is no difference.
func CommitBridge(ctx context.Context, o Options, old, next *Bridge) error {
	t := tools{enter: o.withDefaults().Enter}
	if old == nil {
		old = &Bridge{}
		left, _ := o.Left.found()
		t.removeRemains(ctx, left.Bridge.with(next), next)
	}
	o.Left.bridge(func(noted *Bridge) *Bridge { return noted.with(old).with(next) })
	if err := t.changeBridge(ctx, old, next); err != nil {
		return err
	}
	o.Left.bridge(func(*Bridge) *Bridge { return next })
	return nil
}

// changeBridge makes the difference, one transaction a table.
func (t tools) changeBridge(ctx context.Context, old, next *Bridge) error {
	var done []string
	for _, table := range []string{"broute", "nat", "filter"} {
		lines := bridgeLines(table, old, next)
		script, err := joinLines(lines)
		if err == nil && script != "" {
			_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
		}
		if err != nil {
			err = t.refusedLines(ctx, err, table, lines)
			return errors.Join(fmt.Errorf("cannot change the rules of bridges in table %s: %w", table, err), t.backTo(ctx, done, old, next))
		}
		if script != "" {
			done = append(done, table)
		}
	}
	return nil
}

// backTo takes tables back to old.
func (t tools) backTo(ctx context.Context, tables []string, old, next *Bridge) error {
	var errs []error
	for _, table := range tables {
		script, err := bridgeScript(table, next, old)
		if err == nil {
			_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// with is what either has; either may be nil.
func (b *Bridge) with(c *Bridge) *Bridge {
	all := &Bridge{}
	for _, one := range []*Bridge{b, c} {
		if one != nil {
			all.Chains = union(all.Chains, one.Chains, itself)
			all.Rules = union(all.Rules, one.Rules, func(r BridgeRule) string { return fmt.Sprintf("%q", r) })
			all.Commands = union(all.Commands, one.Commands, func(c []string) string { return fmt.Sprintf("%q", c) })
		}
	}
	return all
}

// removeRemains takes rules out one by one, and chains that are not kept; those that are not there are no mistake.
func (t tools) removeRemains(ctx context.Context, b, keep *Bridge) {
	remove := func(args ...string) {
		_, _ = t.run(ctx, "", "ebtables", args...)
	}
	for _, r := range b.Rules {
		if !b.owns(r) {
			remove(append([]string{"-t", r.Table, "-D", r.Chain}, r.Args...)...)
		}
	}
	for _, c := range b.Commands {
		if undo, ok := undone(c); ok {
			remove(undo...)
		}
	}
	for _, command := range []string{"-F", "-X"} { // they may jump to one another
		for _, c := range b.Chains {
			if !slices.Contains(keep.Chains, c) {
				remove("-t", c.Table, command, c.Chain)
			}
		}
	}
}

func (b *Bridge) owns(r BridgeRule) bool {
	return slices.Contains(b.Chains, BridgeChain{r.Table, r.Chain})
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
	for _, c := range old.Commands {
		if undo, ok := undone(c); ok && !contains(next.Commands, c) {
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
	for _, c := range next.Chains {
		add("-A", c.Chain, "-j", "RETURN")
	}
	for _, c := range next.Commands {
		if !contains(old.Commands, c) {
			add(withoutTable(c)...)
		}
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
