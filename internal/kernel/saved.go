package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// savedTable is a table as iptables-save shows it.
type savedTable struct {
	order    []string            // chains
	policies map[string]string   // of the kernel's chains
	rules    map[string][]string // by chain, without "-A CHAIN"; of one that is not listed see unlistedRule
	unlisted []string            // chains that iptables cannot list, or was not asked to: in these rules are deleted by their handles
	raw      map[string][][]byte // the rules of these, as the kernel tells them
}

// save reads a table; nil if the kernel has no such table.
func (t tools) save(ctx context.Context, family ir.Families, table string) (*savedTable, error) {
	switch listing, err := t.run(ctx, "", tool(family), waitForLock(), "-t", table, "-S", "OUTPUT"); {
	case cannotList(listing, err):
	case passes(err):
		return nil, fmt.Errorf("cannot read table %s: %w", table, err)
	case err != nil:
		return nil, nil
	}
	return t.read(ctx, family, table)
}

// resourceProblem is the exit status of the programs of iptables for a lock or a lack of memory (RESOURCE_PROBLEM, xtables.h).
const resourceProblem = 4

// passes says whether what a program of iptables has failed for may pass: a lock, too little memory, or too many processes. That the
// kernel has no such table does not.
func passes(err error) bool {
	var said *toolError
	if err == nil || !errors.As(err, &said) {
		return err != nil
	}
	var status *exec.ExitError
	return !errors.As(said.err, &status) || status.ExitCode() == resourceProblem || status.ExitCode() < 0 || lacks(err)
}

// lacks says whether a program of iptables has failed for too little memory, or too many processes, by what it says.
func lacks(err error) bool {
	return slices.ContainsFunc([]string{"temporarily unavailable", "Cannot allocate memory"}, func(s string) bool { return strings.Contains(err.Error(), s) })
}

// read reads a table that is there.
func (t tools) read(ctx context.Context, family ir.Families, table string) (*savedTable, error) {
	listed, err := t.list(ctx, listerOf(family), []string{table}, "-t", table)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read table %s: %w", table, err)
	case listed[table] == nil:
		return t.readUnlisted(ctx, listerOf(family), table)
	}
	return listed[table], nil
}

func newSavedTable() *savedTable {
	return &savedTable{policies: map[string]string{}, rules: map[string][]string{}}
}

// declare adds a chain by the line that lists it: a colon, its name, and its policy or "-".
func (s *savedTable) declare(line string) {
	name, rest, _ := strings.Cut(line[1:], " ")
	s.order = append(s.order, name)
	if policy, _, _ := strings.Cut(rest, " "); policy != "-" {
		s.policies[name] = policy
	}
}

// addBuiltins adds those of the kernel's chains that nf_tables does not have yet, as a program that lists the table does: the programs make them
// with the first rule, and a change that puts rules into them is taken back by that.
func (s *savedTable) addBuiltins(table string) {
	for _, chain := range builtins[table] {
		if !slices.Contains(s.order, chain) {
			s.order = append(s.order, chain)
			s.policies[chain] = "ACCEPT"
		}
	}
}

// parseSaved is the chains and rules that a program of iptables lists, of rules that are ours, or known to be plain.
func parseSaved(text string) *savedTable {
	s := newSavedTable()
	for line := range savedLines(text) {
		switch name, rest, _ := strings.Cut(line, " "); {
		case strings.HasPrefix(line, ":"):
			s.declare(line)
		case name == "-A":
			chain, spec, _ := strings.Cut(rest, " ")
			s.rules[chain] = append(s.rules[chain], spec)
		}
	}
	return s
}

// forget takes a chain out that is not there any more.
func (s *savedTable) forget(chain string) {
	is := func(name string) bool { return name == chain }
	s.order, s.unlisted = slices.DeleteFunc(s.order, is), slices.DeleteFunc(s.unlisted, is)
	delete(s.rules, chain)
	delete(s.raw, chain)
}

// savedLines are the lines of what a program of iptables prints. A text in quotation marks, such as a comment, may have line breaks, which end
// no line.
func savedLines(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		begin, quoted := 0, false
		for i := 0; i < len(text); i++ {
			switch c := text[i]; {
			case c == '\\' && quoted:
				i++
			case c == '"':
				quoted = !quoted
			case c == '\n' && !quoted:
				if !yield(text[begin:i]) {
					return
				}
				begin = i + 1
			}
		}
		if begin < len(text) {
			yield(text[begin:])
		}
	}
}

// baseRule are the rules that stand beside the jumps to chains of ours in the kernel's chains, as iptables-save prints them.
var baseRule = regexp.MustCompile(`^(?:` +
	`-m conntrack --ctstate (?:RELATED,ESTABLISHED(?:,DNAT)?|DNAT|INVALID) -j (?:ACCEPT|DROP)|` +
	`-[io] lo -j ACCEPT|` +
	`.*-j LOG --log-prefix "(?:STATE_INVALID_DROP|FINAL_REJECT|rpfilter_DROP): ".*|` +
	`-j REJECT --reject-with (?:icmp-host-prohibited|icmp6-adm-prohibited)|` +
	`-p ipv6-icmp -m icmp6 --icmpv6-type 13[45] -j ACCEPT|` +
	`-m rpfilter .*-j DROP)$`)

// isEntry says whether a chain is, by its name, one that rules of ours in the kernel's chains lead to: of a ruleset, or the guard.
func isEntry(table, chain string) bool {
	return ir.IsEntryChain(table, chain) || isTrial(chain) || slices.ContainsFunc(builtins["filter"], func(hook string) bool {
		return chain == baseChain+"_"+strings.ToLower(hook)
	})
}

// remains is what an earlier process seems to have left in a table: in the kernel's chains the jumps to chains of ours, and
// the rules right beside them that rulesets have there; the chains that one gets to from there; and, beside those, chains of ours that
// nothing leads to, as the one of a trial. What is of the direct interface is
// not among that, whatever its name, nor is what its rules lead to: they may lead to another program's chain.
func (s *savedTable) remains(table string, direct leftThings) *tableRules {
	left := &tableRules{}
	var reached []string
	for _, chain := range s.order {
		if s.policies[chain] == "" {
			continue
		}
		block := direct.without(chain, ownBlock(table, direct.withoutAll(chain, s.rules[chain])))
		if len(block) > 0 {
			left.chains = append(left.chains, &chainRules{name: chain, builtin: true, specs: block})
			reached = append(reached, targets(block)...)
		}
	}
	reached = append(reached, filter(s.order, isTrial)...)
	if len(reached) == 0 {
		return left
	}
	names := s.reach(table, direct, reached)
	for _, name := range s.order {
		if names[name] {
			left.chains = append(left.chains, &chainRules{name: name, unknown: true})
		}
	}
	return left
}

// reach are the names of the chains of ours that one gets to from some, and from those that nothing leads to.
func (s *savedTable) reach(table string, direct leftThings, from []string) map[string]bool {
	names, there := map[string]bool{}, map[string]bool{}
	for _, name := range s.order {
		there[name] = s.policies[name] == ""
	}
	follow := func(reached []string) {
		for i := 0; i < len(reached); i++ {
			name := reached[i]
			if names[name] || !there[name] || direct.hasChain(name) || !ir.IsChain(table, name) && !isEntry(table, name) {
				continue
			}
			names[name] = true
			if !ir.IsDirectChain(name) {
				reached = append(reached, targets(s.rules[name])...)
			}
		}
	}
	follow(from)
	follow(s.unused(table, names))
	return names
}

// unused are the chains of a ruleset that are not among those of some names, and that no rule of others leads to. A zone that only has
// sources of IPv4 leaves such chains in the tables of IPv6.
func (s *savedTable) unused(table string, names map[string]bool) []string {
	used := map[string]bool{}
	for _, chain := range s.order {
		if !ir.IsChain(table, chain) || ir.IsDirectChain(chain) {
			for _, to := range targets(s.rules[chain]) {
				used[to] = true
			}
		}
	}
	return filter(s.order, func(chain string) bool {
		return !used[chain] && !names[chain] && (s.isZone(table, chain) || ir.IsDispatchChain(table, chain) && s.leadsToZones(table, chain, 5))
	})
}

// isZone says whether a chain is that of a zone or policy by the chains of its own that it leads to. The name of the fifth one, _allow, may
// be too long.
func (s *savedTable) isZone(table, chain string) bool {
	to := targets(s.rules[chain])
	return ir.IsChain(table, chain) && !slices.ContainsFunc([]string{"_pre", "_log", "_deny", "_post"}, func(sub string) bool { return !slices.Contains(to, chain+sub) })
}

// verdictRule are the rules in a chain between zones that lead to no other chain, as iptables-save prints them: the target of a zone.
var verdictRule = regexp.MustCompile(`^(?:-m pkttype --pkt-type \w+ )?-j (?:ACCEPT|DROP|REJECT --reject-with \S+|LOG --log-prefix "[^"]*(?:DROP|REJECT): ")$`)

// leadsToZones says whether all rules of a chain are such as one between zones has: they lead, by other chains between zones as many
// as steps at most, to chains of zones and policies, and there is one that does. What a chain is called proves nothing, unless its rules,
// if it has any, only return: then nothing is lost with it.
func (s *savedTable) leadsToZones(table, chain string, steps int) bool {
	leads, decides := false, false
	for _, rule := range s.rules[chain] {
		words := words(rule)
		to := targetIn(words)
		switch {
		case slices.Contains(words, "-p") && !strings.HasPrefix(rule, "-p tcp -m tcp --tcp-flags ACK ACK -g "): // nothing else is told apart there by its protocol
			return false
		case to == "RETURN":
		case verdictRule.MatchString(rule):
			decides = true
		case s.isZone(table, to) || s.isClamps(table, to), steps > 0 && ir.IsDispatchChain(table, to) && s.leadsToZones(table, to, steps-1):
			leads = true
		default:
			return false
		}
	}
	return leads || !decides
}

// isClamps says whether a chain is one that the clamps of a zone or policy are in, or its rules about segment sizes, which all ask for these.
func (s *savedTable) isClamps(table, chain string) bool {
	rules := s.rules[chain]
	if table != "mangle" || !ir.IsChain(table, chain) || len(rules) == 0 {
		return false
	}
	kinds := []string{"TCPMSS", "LOG", "NFLOG"}
	if strings.HasPrefix(chain, "MSS_") {
		kinds = []string{"LOG", "NFLOG", "AUDIT", "DROP", "RETURN"}
	}
	return !slices.ContainsFunc(rules, func(rule string) bool {
		words := words(rule)
		return !slices.Contains(kinds, targetIn(words)) || kinds[0] == "LOG" && !slices.Contains(words, "--mss")
	}) && (kinds[0] == "LOG" || slices.Contains(targets(rules), "TCPMSS"))
}

// stillThere is what may be left of what was committed to a table, after another program has changed it.
func (s *savedTable) stillThere(committed *tableRules) *tableRules {
	left := &tableRules{}
	for _, c := range committed.chains {
		if !c.builtin && !slices.Contains(s.order, c.name) {
			continue
		}
		some := &chainRules{name: c.name, builtin: c.builtin, shared: c.shared, declared: c.declared, unknown: true, again: true}
		for i, spec := range c.specs {
			if to := targetOf(spec); committed.chain(to) == nil || slices.Contains(s.order, to) { // no jump to a chain that has gone
				some.specs, some.places, some.rules = append(some.specs, spec), append(some.places, c.place(i)), append(some.rules, c.rules[i])
			}
		}
		left.chains = append(left.chains, some)
	}
	return left
}

// ownBlock is the rules of ours among those of one of the kernel's chains.
func ownBlock(table string, rules []string) []string {
	leadsIn := func(rule string) bool {
		chain := targetOf(rule)
		return isEntry(table, chain) && rule == jumpTo(chain)
	}
	first := slices.IndexFunc(rules, leadsIn)
	if first < 0 {
		return nil
	}
	last := first
	for i, r := range rules {
		if leadsIn(r) {
			last = i
		}
	}
	for first > 0 && baseRule.MatchString(rules[first-1]) {
		first--
	}
	for last+1 < len(rules) && baseRule.MatchString(rules[last+1]) {
		last++
	}
	var block []string
	for _, r := range rules[first : last+1] {
		if leadsIn(r) || baseRule.MatchString(r) {
			block = append(block, r)
		}
	}
	return block
}

// jumpTo is the rule of ours that leads from one of the kernel's chains to an entry chain, as iptables-save prints it.
func jumpTo(chain string) string {
	switch {
	case isTrial(chain):
		return toTrial(chain)
	case strings.HasSuffix(chain, "_"+ir.ChainDNAT):
		return "-m conntrack --ctstate DNAT -j " + chain
	case strings.HasSuffix(chain, "_"+ir.ChainMSS):
		return "-p tcp -m tcp --tcp-flags SYN,RST SYN -j " + chain
	}
	return "-j " + chain
}

// targets are the chains and targets that rules go to.
func targets(rules []string) []string {
	var list []string
	for _, r := range rules {
		if to := targetOf(r); to != "" {
			list = append(list, to)
		}
	}
	return list
}

// targetOf is the chain or target that a rule goes to; empty if there is none.
func targetOf(rule string) string { return targetIn(words(rule)) }

// targetIn is the chain or target that a rule of some words goes to; empty if there is none. A comment may be -j, too, but is not followed
// by a name: the next word is an option or "!", with which no name begins (iptables(8), ebtables(8)).
func targetIn(words []string) string {
	for i := range len(words) - 1 {
		if slices.Contains([]string{"-j", "--jump", "-g", "--goto"}, words[i]) && !strings.HasPrefix(words[i+1], "-") && words[i+1] != "!" {
			return words[i+1]
		}
	}
	return ""
}
