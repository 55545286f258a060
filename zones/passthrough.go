package zones

import (
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

// PassCommand is what a passthrough for iptables or ip6tables does: it adds one rule, or makes a chain.
type PassCommand struct {
	Table  string // filter if it names none
	Chain  string
	Kind   PassKind
	Number int      // of an insertion: where, counted from 1
	Rule   []string // matches and target, without what says where they go or how the tool waits and prints
}

// PassKind is one of the three things that a passthrough may do.
type PassKind string

// The kinds, by the long options of iptables(8).
const (
	PassAppend PassKind = "append"
	PassInsert PassKind = "insert"
	PassNew    PassKind = "new-chain"
)

// MaxChainName is how long the name of a chain of iptables is at most, in bytes (XT_EXTENSION_MAXNAMELEN in
// linux/netfilter/x_tables.h, less the zero at its end).
const MaxChainName = 28

// toolOption is an option of iptables itself that is no part of a rule.
type toolOption struct {
	kind PassKind // of an option that is a command; "-" for one that adds nothing
	args int      // how many words it takes: −1 for one that may follow in the same word alone
	drop bool     // it is about how the tool runs, not about the rule
}

const (
	noAddition PassKind = "-"
	// noAdditionText is what firewalld says.
	noAdditionText = "no '-A', '-I' or '-N' arg"
)

// toolOptions are those options by their short and long names (iptables(8)). Options of matches and targets are not among them.
var toolOptions = map[string]toolOption{
	"A": {kind: PassAppend, args: 1}, "append": {kind: PassAppend, args: 1},
	"I": {kind: PassInsert, args: 1}, "insert": {kind: PassInsert, args: 1},
	"N": {kind: PassNew, args: 1}, "new-chain": {kind: PassNew, args: 1},
	"C": {kind: noAddition}, "check": {kind: noAddition}, "D": {kind: noAddition}, "delete": {kind: noAddition},
	"R": {kind: noAddition}, "replace": {kind: noAddition}, "L": {kind: noAddition}, "list": {kind: noAddition},
	"S": {kind: noAddition}, "list-rules": {kind: noAddition}, "F": {kind: noAddition}, "flush": {kind: noAddition},
	"Z": {kind: noAddition}, "zero": {kind: noAddition}, "X": {kind: noAddition}, "delete-chain": {kind: noAddition},
	"P": {kind: noAddition}, "policy": {kind: noAddition}, "E": {kind: noAddition}, "rename-chain": {kind: noAddition},
	"V": {kind: noAddition}, "version": {kind: noAddition}, "h": {kind: noAddition}, "help": {kind: noAddition},
	"t": {args: 1, drop: true}, "table": {args: 1, drop: true},
	"c": {args: 2, drop: true}, "set-counters": {args: 2, drop: true},
	"w": {args: -1, drop: true}, "wait": {args: -1, drop: true}, "W": {args: -1, drop: true}, "wait-interval": {args: -1, drop: true},
	"v": {drop: true}, "verbose": {drop: true}, "n": {drop: true}, "numeric": {drop: true}, "x": {drop: true}, "exact": {drop: true},
	"line-numbers": {drop: true}, "M": {args: 1, drop: true}, "modprobe": {args: 1, drop: true},
	"4": {drop: true}, "ipv4": {drop: true}, "6": {drop: true}, "ipv6": {drop: true},
	"s": {args: 1}, "d": {args: 1}, "p": {args: 1}, "i": {args: 1}, "o": {args: 1}, "j": {args: 1}, "g": {args: 1}, "m": {args: 1}, "f": {},
}

// optionFamilies are the IP versions of options that are for one of them alone.
var optionFamilies = map[string]string{"4": "ipv4", "ipv4": "ipv4", "6": "ipv6", "ipv6": "ipv6"}

// wordOptions are options of matches and targets whose argument is free text, which may look like an option.
var wordOptions = []string{"--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string", "--hex-string"}

// Command takes the passthrough apart as iptables does: options may be in any order, short ones together in one word or with
// their argument in it, long ones with their argument behind "=". The error has code INVALID_PASSTHROUGH
// and says why it cannot be used.
func (p DirectPassthrough) Command() (PassCommand, error) {
	r := passReader{ipv: p.IPV, words: p.Args, whole: p.Args, command: PassCommand{Table: "filter"}}
	for len(r.words) > 0 {
		if err := r.word(); err != nil {
			return PassCommand{}, err
		}
	}
	return r.command, r.check()
}

// Check tells why a passthrough cannot be used, as Command does. Of those for ebtables it is only known whether they add
// something.
func (p DirectPassthrough) Check() error {
	if err := checkDirectIPV(p.IPV); err != nil || p.IPV != "eb" {
		if err == nil {
			_, err = p.Command()
		}
		return err
	}
	adds := false
	for i, word := range p.Args {
		switch {
		case slices.Contains(bridgeRefused, word):
			return refuse(InvalidPass, "cannot use %s in a passthrough: it adds neither a rule nor a chain", word).worded("arg '%s' is not allowed", word)
		case slices.Contains(bridgeAdds, word) && i == len(p.Args)-1:
			return refuse(InvalidPass, "cannot use %s at the end of a passthrough: the chain is missing", word)
		case word == "-t" && i+1 < len(p.Args) && !slices.Contains(directTables["eb"], p.Args[i+1]):
			return refusedByTool("cannot use table %q: eb has %s", p.Args[i+1], strings.Join(directTables["eb"], ", "))
		}
		adds = adds || slices.Contains(bridgeAdds, word)
	}
	if !adds {
		return refuse(InvalidPass, "cannot use a passthrough without -A, -I or -N: it adds neither a rule nor a chain").
			worded(noAdditionText)
	}
	return nil
}

// bridgeRefused are commands of ebtables(8) that add nothing, and bridgeAdds those that do.
var (
	bridgeRefused = []string{
		"-C", "--check", "-D", "--delete", "-R", "--replace", "-L", "--list", "-S", "--list-rules", "-F", "--flush",
		"-Z", "--zero", "-X", "--delete-chain", "-P", "--policy", "-E", "--rename-chain",
	}
	bridgeAdds = []string{"-A", "--append", "-I", "--insert", "-N", "--new-chain"}
)

// refusedByTool is what only the tool refuses in firewalld, whose code is COMMAND_FAILED then.
func refusedByTool(format string, args ...any) *Problem {
	p := refuse(InvalidPass, format, args...)
	p.Wording = &grammar.Wording{Code: CommandFailed, Detail: p.Msg}
	return p
}

// byTool tells whether a problem is of refusedByTool.
func (p *Problem) byTool() bool { return p.Wording != nil && p.Wording.Code == CommandFailed }

// passReader reads the words of a passthrough.
type passReader struct {
	ipv     string
	words   []string // that are not read yet
	whole   []string
	command PassCommand
}

// next is the next word; ok is false if there is none.
func (r *passReader) next() (word string, ok bool) {
	if len(r.words) == 0 {
		return "", false
	}
	word, r.words = r.words[0], r.words[1:]
	return word, true
}

func (r *passReader) keep(words ...string) { r.command.Rule = append(r.command.Rule, words...) }

// word reads an option with its arguments, or another word.
func (r *passReader) word() error {
	word, _ := r.next()
	if slices.Contains(wordOptions, word) {
		if text, ok := r.next(); ok {
			r.keep(word, text)
			return nil
		}
	}
	if long, ok := strings.CutPrefix(word, "--"); ok && long != "" {
		name, value, given := strings.Cut(long, "=")
		o, known := toolOptions[name]
		if !known || len(name) == 1 {
			r.keep(word)
			return nil
		}
		if given {
			r.words = slices.Concat([]string{value}, r.words)
			o.args = max(o.args, -o.args)
		}
		return r.option("--"+name, name, o)
	}
	if len(word) > 1 && word[0] == '-' {
		return r.short(word)
	}
	r.keep(word)
	return nil
}

// short reads a word of short options: the last of them may have its argument in the same word.
func (r *passReader) short(word string) error {
	rest := word[1:]
	for rest != "" {
		name := rest[:1]
		rest = rest[1:]
		o, known := toolOptions[name]
		if !known {
			r.keep("-" + name + rest)
			return nil
		}
		if rest != "" && o.args != 0 {
			r.words = slices.Concat([]string{rest}, r.words)
			rest, o.args = "", max(o.args, -o.args)
		}
		if err := r.option("-"+name, name, o); err != nil {
			return err
		}
	}
	return nil
}

// option takes in an option whose arguments are the next words.
func (r *passReader) option(written, name string, o toolOption) error {
	if o.kind == noAddition {
		p := refuse(InvalidPass, "cannot use %s in a passthrough: it adds neither a rule nor a chain", written)
		if !slices.Contains(r.whole, written) { // firewalld looks at whole words
			return p.worded(noAdditionText)
		}
		return p.worded("arg '%s' is not allowed", written)
	}
	if o.args < 0 && len(r.words) > 0 { // seconds, which may also be a word of their own
		if _, err := strconv.ParseFloat(r.words[0], 64); err == nil {
			o.args = 1
		}
	}
	var args []string
	for range max(o.args, 0) {
		word, ok := r.next()
		if !ok {
			if o.kind != "" {
				return refuse(InvalidPass, "cannot use %s at the end of a passthrough: the chain is missing", written)
			}
			return refusedByTool("cannot use %s at the end of a passthrough: what it needs is missing", written)
		}
		args = append(args, word)
	}
	switch {
	case name == "t" || name == "table":
		r.command.Table = args[0]
	case optionFamilies[name] != "" && optionFamilies[name] != r.ipv:
		return refusedByTool("cannot use %s in a passthrough for %s: the rule would not be there", written, r.ipv)
	case o.kind != "":
		return r.add(written, o.kind, args[0])
	case !o.drop:
		r.keep(append([]string{written}, args...)...)
	}
	return nil
}

// add takes in the command.
func (r *passReader) add(written string, kind PassKind, chain string) error {
	if r.command.Kind != "" {
		return refusedByTool("cannot use %s beside --%s: a passthrough adds one rule or one chain", written, r.command.Kind)
	}
	r.command.Kind, r.command.Chain = kind, chain
	if kind == PassInsert && len(r.words) > 0 {
		n, err := strconv.Atoi(r.words[0])
		switch {
		case err != nil:
		case n < 1:
			return refusedByTool("cannot insert a rule as number %d: rules are counted from 1", n)
		default:
			r.command.Number, r.words = n, r.words[1:]
		}
	}
	return nil
}

// check says what of the whole the tool would refuse.
func (r *passReader) check() error {
	c := &r.command
	switch tables := directTables[r.ipv]; {
	case c.Kind == "":
		return refuse(InvalidPass, "cannot use a passthrough without -A, -I or -N: it adds neither a rule nor a chain").
			worded(noAdditionText)
	case !slices.Contains(tables, c.Table):
		return refusedByTool("cannot use table %q: %s has %s%s", c.Table, r.ipv, strings.Join(tables, ", "), hint(c.Table, tables))
	case c.Chain == "" || len(c.Chain) > MaxChainName || strings.ContainsAny(c.Chain[:1], "-!") || strings.ContainsAny(c.Chain, " \t\n\""):
		return refusedByTool("cannot use chain %q: a name has 1 to %d characters, no blanks, and does not begin with - or !", c.Chain, MaxChainName)
	case slices.Contains(verdicts, c.Chain):
		return refusedByTool("cannot use chain %s: that is a verdict of iptables", c.Chain)
	case c.Kind == PassNew && len(c.Rule) > 0:
		return refusedByTool("cannot use %s beside -N: a new chain has no rule yet", JoinArgs(c.Rule))
	case c.Kind == PassNew && isBuiltin(r.ipv, c.Table, c.Chain):
		return refusedByTool("cannot make chain %s: table %s has it", c.Chain, c.Table)
	}
	return nil
}
