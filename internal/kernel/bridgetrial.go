package kernel

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// BridgeError is that ebtables refuses some lines, which are about chains, rules and commands of the direct interface.
type BridgeError struct {
	Table string
	Lines [][]string // the words of each: what is to be done, the chain, perhaps a place, and the arguments; or :CHAIN and a policy
	Err   error      // why the first of them is refused
}

func (e *BridgeError) Error() string { return e.Err.Error() }
func (e *BridgeError) Unwrap() error { return e.Err }

// AboutRule tells whether one of the lines puts a rule with some arguments into a chain.
func (e *BridgeError) AboutRule(chain string, args []string) bool {
	return slices.ContainsFunc(e.Lines, func(words []string) bool {
		if len(words) < 2 || words[0] != "-A" && words[0] != "-I" || words[1] != chain {
			return false
		}
		rest := words[2:]
		if words[0] == "-I" && len(rest) > 0 { // the place
			rest = rest[1:]
		}
		return slices.Equal(rest, args)
	})
}

// AboutCommand tells whether one of the lines is a command line with some arguments, which may say the table.
func (e *BridgeError) AboutCommand(args []string) bool {
	return tableOf(args) == e.Table && contains(e.Lines, withoutTable(args))
}

// AboutChain tells whether one of the lines makes a chain.
func (e *BridgeError) AboutChain(chain string) bool {
	return slices.ContainsFunc(e.Lines, func(words []string) bool { return words[0] == ":"+chain })
}

// refusedLines is an error of ebtables-restore, or of making its input, with the lines that it is about, as far as they can be found.
func (t tools) refusedLines(ctx context.Context, err error, table string, lines [][]string) error {
	var tool *toolError
	if !errors.As(err, &tool) {
		unsaid := filter(lines, func(words []string) bool { _, err := joinLines([][]string{words}); return err != nil })
		if unsaid == nil {
			return err
		}
		return &BridgeError{table, unsaid, err}
	}
	if refused := t.tryBridge(ctx, table, lines, tool); refused != nil {
		reason := tool.reason()
		if strings.Contains(reason, "COMMIT failed") { // which is all that it says
			reason += ": a chain, a place or a rule is not there"
		}
		return &BridgeError{table, refused, errors.New(reason)}
	}
	return err
}

// neverTaken is, for each table, a line that the kernel refuses when it has taken all lines before it: snat is for the chain POSTROUTING
// of table nat alone (net/bridge/netfilter/ebt_snat.c). Input that ends with it changes nothing.
var neverTaken = map[string][]string{
	"broute": {"-A", "BROUTING", "-j", "snat", "--to-source", "00:00:00:00:00:01"},
	"nat":    {"-A", "PREROUTING", "-j", "snat", "--to-source", "00:00:00:00:00:01"},
	"filter": {"-A", "INPUT", "-j", "snat", "--to-source", "00:00:00:00:00:01"},
}

// tryBridge finds the lines that ebtables-restore refuses. What it says does not tell: of a rule that jumps to a chain which does not exist it
// names the last line of all, and of one in such a chain none. So the shortest beginning is looked for that is refused, and again without
// its last line, until nothing is refused but neverTaken, or trialTime has passed. said is what was said to all of the lines.
func (t tools) tryBridge(ctx context.Context, table string, lines [][]string, said *toolError) (refused [][]string) {
	fine := func(lines [][]string) bool { return t.reachesEnd(ctx, table, lines) }
	if !fine(lines[:1]) {
		return untried(lines, said)
	}
	left := slices.Clone(lines)
	for until := time.Now().Add(trialTime); time.Now().Before(until) && !fine(left); {
		at := sort.Search(len(left), func(i int) bool { return !fine(left[:i+1]) })
		if at == len(left) {
			break // another program has made or removed what was refused
		}
		refused = append(refused, left[at])
		left = slices.Delete(left, at, at+1)
	}
	return refused
}

// reachesEnd tells whether ebtables-restore, given lines and neverTaken behind them, which changes nothing, refuses nothing but that.
func (t tools) reachesEnd(ctx context.Context, table string, lines [][]string) bool {
	script, err := joinLines(append(slices.Clone(lines), neverTaken[table]))
	if err == nil {
		_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
	}
	var said *toolError
	return errors.As(err, &said) && lineOf(said) == len(lines)+1
}

// untried are the lines that ebtables-restore refuses where it does not even get to neverTaken: the one that ebtables-legacy names, or all
// where the table is none that it or the kernel knows. None is that it is not known.
func untried(lines [][]string, said *toolError) [][]string {
	switch at := lineOf(said); {
	case at == 1, at == 0 && strings.Contains(said.said, "support"): // "The kernel doesn't support the ebtables 'filter' table."
		return lines
	case at > 1 && at <= len(lines):
		return lines[at-1 : at]
	}
	return nil
}

// bridgeLine is how the kernel's refusal names a line, and ebtables-legacy every one.
var bridgeLine = regexp.MustCompile(`\bline (\d+)\b`)

// lineOf is the first line that is named so, from 1; 0 if none is.
func lineOf(said *toolError) int {
	match := bridgeLine.FindStringSubmatch(said.said)
	if match == nil {
		return 0
	}
	n, _ := strconv.Atoi(match[1])
	return n
}
