package kernel

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BridgeError is that ebtables refuses some lines, which are about chains, rules and commands of the direct interface.
type BridgeError struct {
	Table string
	Lines []BridgeLine
	Err   error // why the first of them is refused
}

// BridgeLine is a line that is refused. Words are what is to be done, the chain, perhaps a place, and the arguments; or :CHAIN and a policy.
type BridgeLine struct {
	Words []string
	Why   error
}

func (e *BridgeError) Error() string { return e.Err.Error() }
func (e *BridgeError) Unwrap() error { return e.Err }

// AboutRule is the line that puts a rule with some arguments into a chain; nil if there is none.
func (e *BridgeError) AboutRule(chain string, args []string) *BridgeLine {
	return e.line(func(words []string) bool {
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

// AboutCommand is the line that is a command line with some arguments, which may say the table; nil if there is none.
func (e *BridgeError) AboutCommand(args []string) *BridgeLine {
	if tableOf(args) != e.Table {
		return nil
	}
	return e.line(func(words []string) bool { return slices.Equal(words, withoutTable(args)) })
}

// AboutChain is the line that makes a chain; nil if there is none.
func (e *BridgeError) AboutChain(chain string) *BridgeLine {
	return e.line(func(words []string) bool { return words[0] == ":"+chain })
}

func (e *BridgeError) line(is func(words []string) bool) *BridgeLine {
	for i := range e.Lines {
		if is(e.Lines[i].Words) {
			return &e.Lines[i]
		}
	}
	return nil
}

// refusedLines is an error of ebtables-restore, or of making its input, with the lines that it is about, as far as they can be found; none
// where another program is the reason, or where ebtables-restore was ended.
func (t tools) refusedLines(ctx context.Context, err error, table string, lines [][]string) error {
	if ended(err) {
		return err
	}
	if others := t.othersTable(bridgeLister, table, err); others != nil {
		return others
	}
	var refused []BridgeLine
	var tool *toolError
	if errors.As(err, &tool) {
		refused = t.tryBridge(ctx, table, lines, tool)
	} else {
		for _, words := range lines {
			if _, why := joinLines([][]string{words}); why != nil {
				refused = append(refused, BridgeLine{words, why})
			}
		}
	}
	if refused == nil {
		return err
	}
	return &BridgeError{table, refused, refused[0].Why}
}

// bridgeReason is why ebtables-restore has refused its input.
func bridgeReason(said *toolError) error {
	reason := said.reason()
	if strings.Contains(reason, "COMMIT failed") { // which is all that it says
		reason += ": a chain, a place or a rule is not there"
	}
	return errors.New(reason)
}

// neverTaken is, for each table, a line that the kernel refuses when it has taken all lines before it: snat is for the chain POSTROUTING
// of table nat alone (net/bridge/netfilter/ebt_snat.c). Input that ends with it changes nothing.
var neverTaken = map[string][]string{
	"broute": {"-A", "BROUTING", "-j", "snat", "--to-source", "00:00:00:00:00:01"},
	"nat":    {"-A", "PREROUTING", "-j", "snat", "--to-source", "00:00:00:00:00:01"},
	"filter": {"-A", "INPUT", "-j", "snat", "--to-source", "00:00:00:00:00:01"},
}

// errUntried is that the time for trials has passed before a line was tried.
var errUntried = errors.New("too much is refused: there was no time to try whether this is")

// tryBridge finds the lines that ebtables-restore refuses. What it says does not tell: of a rule that jumps to a chain which does not exist it
// names the last line of all, and of one in such a chain none. So the shortest beginning is looked for that is refused, and again without
// its last line, until nothing is refused but neverTaken. When trialTime has passed, all lines count as refused that are not known to be
// good by then. None are when the context has ended, or where the program was ended instead of saying anything. said is what was said to all of the lines.
func (t tools) tryBridge(ctx context.Context, table string, lines [][]string, said *toolError) (refused []BridgeLine) {
	if t.reachesEnd(ctx, table, lines[:1]) != nil {
		return untried(lines, said)
	}
	left, good := slices.Clone(lines), 1
	for until := time.Now().Add(trialTime); good < len(left); {
		if ctx.Err() != nil {
			return nil
		}
		if time.Now().After(until) {
			return append(refused, asLines(left[good:], errUntried)...)
		}
		var why error
		if good, why = t.goodLines(ctx, table, left, good); ended(why) {
			return refused
		} else if why != nil {
			refused = append(refused, BridgeLine{left[good], why})
			left = slices.Delete(left, good, good+1)
		}
	}
	return refused
}

// goodLines is how many lines are good, of which so many are known to be, and why the next one is refused; nil if there is none.
func (t tools) goodLines(ctx context.Context, table string, lines [][]string, good int) (int, error) {
	bad := len(lines) + 1
	var why error
	for step := 1; why == nil && good < len(lines); step *= 2 {
		next := min(good+step, len(lines))
		if why = t.reachesEnd(ctx, table, lines[:next]); why == nil {
			good = next
		} else {
			bad = next
		}
	}
	for why != nil && bad-good > 1 {
		middle := (good + bad) / 2
		if said := t.reachesEnd(ctx, table, lines[:middle]); said == nil {
			good = middle
		} else {
			bad, why = middle, said
		}
	}
	return good, why
}

// reachesEnd is why ebtables-restore refuses something else of lines than neverTaken behind them; nil if it does not.
func (t tools) reachesEnd(ctx context.Context, table string, lines [][]string) error {
	err := t.trial(ctx, table, lines)
	var said *toolError
	if errors.As(err, &said) && !ended(err) {
		return bridgeReason(said)
	}
	return err
}

// trial gives ebtables-restore lines and neverTaken behind them, which changes nothing. The error is what it says, if not of that line.
func (t tools) trial(ctx context.Context, table string, lines [][]string) error {
	script, err := joinLines(append(slices.Clone(lines), neverTaken[table]))
	if err == nil {
		_, err = t.run(ctx, script, "ebtables-restore", "--noflush")
	}
	var said *toolError
	if errors.As(err, &said) && lineOf(said) == len(lines)+1 {
		return nil
	}
	return cmp.Or(err, errors.New("ebtables-restore takes what the kernel never does"))
}

// untried are the lines that ebtables-restore refuses where it does not even get to neverTaken: the one that ebtables-legacy names, or all
// where the table is none that it or the kernel knows. None is that it is not known.
func untried(lines [][]string, said *toolError) []BridgeLine {
	switch at := lineOf(said); {
	case at == 1, at == 0 && strings.Contains(said.said, "support"): // "The kernel doesn't support the ebtables 'filter' table."
		return asLines(lines, bridgeReason(said))
	case at > 1 && at <= len(lines):
		return asLines(lines[at-1:at], bridgeReason(said))
	}
	return nil
}

// asLines are lines that are refused for one reason.
func asLines(lines [][]string, why error) (refused []BridgeLine) {
	for _, words := range lines {
		refused = append(refused, BridgeLine{words, why})
	}
	return refused
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
