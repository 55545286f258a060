package kernel

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// nft(8) can put rules into the tables of iptables-nft and ebtables-nft that these have no words for, such as "ct state established accept".
// Then iptables-save prints nothing of the table, or stops at the rule, and iptables finds and deletes no rule of its chain by words. What
// iptables still does there is to make and empty chains, to set policies, and to put in rules. So the table is read over netlink. Which rules
// are ours is known by what they are made of: rules that may be ours are put into a chain that nothing leads to, and those of the table that
// are made of the same as one of these are listed as that is. All others stand for themselves. Ours are deleted by their handles. So the
// number of processes does not depend on what other programs have there.

// cannotList says whether a program of iptables-nft has said that a table or chain has rules which it has no words for. In such a table it says
// the same of a chain that is not there.
func cannotList(said string, err error) bool {
	var e *toolError
	if errors.As(err, &e) {
		said += e.said
	}
	return strings.Contains(said, " is incompatible, use 'nft' tool") || strings.Contains(said, stopped)
}

// stopped is what a program of iptables-nft says where it has listed, or looked at, the rules before one that it cannot read.
const stopped = "Parsing nftables rule failed"

// unlistedRule is what stands in a savedTable for a rule of which it is not known how iptables lists it. No rule of iptables begins like that.
func unlistedRule(body []byte) string {
	text := fmt.Sprintf("%shandle %d", unlistedMark, handleOf(body))
	for _, chain := range jumpsOf(body) {
		text += " -j " + chain
	}
	return text
}

func handleOf(body []byte) uint64 { return number64(attribute(body, unix.NFTA_RULE_HANDLE)) }

const unlistedMark = "# "

func isUnlisted(rule string) bool { return strings.HasPrefix(rule, unlistedMark) }

// mapOfOthers stands in a savedTable for a chain that leads where the elements of maps do.
const mapOfOthers = "a map of nftables"

// rawTable is a table as the kernel tells it: chains, and rules by their chain, each the body of a message.
type rawTable struct {
	chains [][]byte
	rules  map[string][][]byte
	ends   map[string]int // of ebtables, rules that are the policy of a chain, and are not among its rules
}

func (s *socket) rawTable(family uint8, table string) (*rawTable, error) {
	raw := &rawTable{rules: map[string][][]byte{}, ends: map[string]int{}}
	filter := namedAttribute(tableName, table)
	err := s.dump(unix.NFT_MSG_GETCHAIN, family, nil, func(body []byte) {
		if text(attribute(body, tableName)) == table {
			raw.chains = append(raw.chains, slices.Clone(body))
		}
	})
	if err != nil {
		return nil, err
	}
	err = s.dump(unix.NFT_MSG_GETRULE, family, filter, func(body []byte) {
		if text(attribute(body, tableName)) == table {
			chain := text(attribute(body, unix.NFTA_RULE_CHAIN))
			raw.rules[chain] = append(raw.rules[chain], slices.Clone(body))
		}
	})
	raw.cutPolicies()
	return raw, err
}

// cutPolicies takes out of each chain the rule that ebtables does not list, as it is the chain's policy. That is the last one alone: ebtables
// lists and counts a policy that another rule stands behind, as a rule of its own.
func (r *rawTable) cutPolicies() {
	for chain, rules := range r.rules {
		if last := len(rules) - 1; isPolicy(rules[last]) {
			r.rules[chain], r.ends[chain] = rules[:last], 1
		}
	}
}

// isPolicy says whether ebtables has made a rule to be the policy of a chain. It marks it in the rule's user data, a list of a kind and
// a length, each one byte, and a value (libnftnl/udata.h, UDATA_TYPE_EBTABLES_POLICY).
func isPolicy(body []byte) bool {
	if body[0] != unix.NFPROTO_BRIDGE {
		return false
	}
	for data := attribute(body, unix.NFTA_RULE_USERDATA); len(data) > 2; data = data[min(2+int(data[1]), len(data)):] {
		if data[0] == 1 {
			return true
		}
	}
	return false
}

// lister is a program that lists the rules of a family's tables.
type lister struct {
	program string
	family  uint8
}

func listerOf(family ir.Families) lister { return lister{tool(family), familyNumber(family)} }

var bridgeLister = lister{"ebtables", unix.NFPROTO_BRIDGE}

// mostReadings is how often a table is read at most that other programs change meanwhile.
const mostReadings = 5

// readUnlisted reads a table that iptables-save cannot print.
func (t tools) readUnlisted(ctx context.Context, l lister, table string) (*savedTable, error) {
	s, err := openSocket(t.enter)
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	for readings := 1; ; readings++ {
		before, err := s.generation()
		if err != nil {
			return nil, err
		}
		raw, err := s.rawTable(l.family, table)
		if err != nil {
			return nil, fmt.Errorf("cannot read table %s of %s: %w", table, l.program, err)
		}
		saved := raw.saved(table)
		if l != bridgeLister {
			saved.addBuiltins(table)
			if err := t.listOwn(ctx, l, table, saved); err != nil {
				return nil, err
			}
		}
		if after, err := s.generation(); err != nil || after == before || readings == mostReadings {
			return saved, err
		}
	}
}

// saved is the table with what is known of its rules by themselves.
func (r *rawTable) saved(table string) *savedTable {
	saved := newSavedTable()
	saved.raw = r.rules
	for _, chain := range r.chains {
		name := text(attribute(chain, unix.NFTA_CHAIN_NAME))
		saved.order, saved.unlisted = append(saved.order, name), append(saved.unlisted, name)
		if isBuiltin(table, name) && attribute(chain, unix.NFTA_CHAIN_HOOK) != nil {
			saved.policies[name] = map[uint32]string{0: "DROP", 1: "ACCEPT"}[number32(attribute(chain, unix.NFTA_CHAIN_POLICY))]
		}
		for _, body := range r.rules[name] {
			rule, plain := plainText(body)
			switch trials := filter(jumpsOf(body), isTrial); {
			case len(trials) > 0:
				rule = toTrial(trials[0])
			case !plain:
				rule = unlistedRule(body)
			}
			saved.rules[name] = append(saved.rules[name], rule)
		}
	}
	saved.addMaps(r)
	return saved
}

// mostListings is how many processes list the chains of a table at most.
const mostListings = 8

// listOwn lists those of a table's chains that rules of a ruleset may be in, by their names: an earlier process may have left them, and a commit
// that fails puts them back. A process lists them one after the other, up to one that it cannot list; another one goes on behind that.
func (t tools) listOwn(ctx context.Context, l lister, table string, saved *savedTable) error {
	names := filter(saved.order, func(name string) bool {
		return isBuiltin(table, name) || ir.IsChain(table, name) || isEntry(table, name)
	})
	for n := 0; n < mostListings && len(names) > 0; n++ {
		input := "*" + table + "\n-S " + strings.Join(names, "\n-S ") + "\nCOMMIT\n" // which commits nothing, and is when they are listed
		said, err := t.run(ctx, input, l.program+"-restore", "--noflush", waitForLock())
		if passes(err) {
			return fmt.Errorf("cannot read table %s: %w", table, err)
		}
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		for len(names) > 0 {
			rules, rest, ok := listedChain(names[0], len(saved.rules[names[0]]), lines)
			if !ok {
				break
			}
			lines, saved.rules[names[0]] = rest, rules
			saved.unlisted = slices.DeleteFunc(saved.unlisted, func(name string) bool { return name == names[0] })
			names = names[1:]
		}
		if len(names) > 0 {
			names = names[1:]
		}
	}
	return nil
}

// listedChain is the rules of a chain at the beginning of lines, and the lines behind it. It is false if the chain is not there with so many rules,
// each in a line: what looks like a line and is the rest of a rule would be one too many.
func listedChain(name string, n int, lines []string) (rules, rest []string, ok bool) {
	if len(lines) <= n || !slices.Contains([]string{"-N " + name, "-P " + name + " ACCEPT", "-P " + name + " DROP"}, lines[0]) {
		return nil, nil, false
	}
	for _, line := range lines[1 : n+1] {
		rule, is := strings.CutPrefix(line, "-A "+name)
		if !is || rule != "" && rule[0] != ' ' {
			return nil, nil, false
		}
		rules = append(rules, strings.TrimPrefix(rule, " "))
	}
	rest = lines[n+1:]
	return rules, rest, len(rest) == 0 || strings.HasPrefix(rest[0], "-N ") || strings.HasPrefix(rest[0], "-P ")
}

// plainText is how iptables and ebtables list a rule without conditions that leads to a chain or gives a verdict, or does nothing. They make none that
// does not count: that one is another program's, and is not plain, though they list it alike.
func plainText(body []byte) (rule string, plain bool) {
	if attribute(body, unix.NFTA_RULE_USERDATA) != nil {
		return "", false
	}
	plain, counts := true, false
	eachExpression(body, func(name string, data map[uint16][]byte) {
		switch {
		case name == "counter":
			counts = true
		case name == "immediate" && rule == "" && number32(data[unix.NFTA_IMMEDIATE_DREG]) == unix.NFT_REG_VERDICT:
			rule = verdictText(data[unix.NFTA_IMMEDIATE_DATA])
			plain = plain && rule != ""
		default:
			plain = false
		}
	})
	if plain && rule == "" && body[0] == unix.NFPROTO_BRIDGE {
		rule = "-j CONTINUE"
	}
	return rule, plain && counts
}

// verdictText is how iptables lists a verdict; empty for one that it does not know.
func verdictText(data []byte) (rule string) {
	eachAttribute(data, func(kind uint16, v []byte) {
		if kind != unix.NFTA_DATA_VERDICT {
			return
		}
		code, chain := int32(0), ""
		eachAttribute(v, func(kind uint16, v []byte) {
			switch kind {
			case unix.NFTA_VERDICT_CODE:
				code = int32(number32(v))
			case unix.NFTA_VERDICT_CHAIN:
				chain = text(v)
			}
		})
		rule = map[int32]string{0: "-j DROP", 1: "-j ACCEPT", unix.NFT_RETURN: "-j RETURN", unix.NFT_JUMP: "-j " + chain, unix.NFT_GOTO: "-g " + chain}[code]
	})
	return rule
}

// madeOf tells rules apart by what they do, where they count, but not by what they have counted, and by their comments.
func madeOf(body []byte) string {
	var b strings.Builder
	eachAttribute(attribute(body, unix.NFTA_RULE_EXPRESSIONS), func(_ uint16, e []byte) {
		counter := false
		eachAttribute(e, func(kind uint16, v []byte) { counter = counter || kind == unix.NFTA_EXPR_NAME && text(v) == "counter" })
		if counter {
			b.WriteString("counter")
			return
		}
		fmt.Fprintf(&b, "%d:%s", len(e), e)
	})
	b.Write(attribute(body, unix.NFTA_RULE_USERDATA))
	return b.String()
}

// recognise lists rules as they are known to be listed, by madeOf.
func (s *savedTable) recognise(known map[string]string) {
	for _, chain := range s.unlisted {
		for i, body := range s.raw[chain] {
			if rule, is := known[madeOf(body)]; is {
				s.rules[chain][i] = rule
			}
		}
	}
}

// goneRule is a rule that is to be deleted.
type goneRule struct {
	chain, madeOf string
	handle        uint64
}

// gone is the i-th rule of a chain that is not listed.
func (s *savedTable) gone(chain string, i int) goneRule {
	body := s.raw[chain][i]
	return goneRule{chain, madeOf(body), handleOf(body)}
}

// mostDeletions is how often it is tried at most to delete rules while other programs change tables.
const mostDeletions = 100

// deleteRules deletes rules, as far as they are there. A handle is never given twice in one table (net/netfilter/nf_tables_api.c,
// nf_tables_alloc_handle); that the table is still the one whose rules were read is made sure of by the generation.
func (t tools) deleteRules(ctx context.Context, l lister, table string, gone []goneRule) error {
	if len(gone) == 0 {
		return nil
	}
	s, err := openSocket(t.enter)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	for range mostDeletions {
		if err := ctx.Err(); err != nil {
			return err
		}
		generation, err := s.generation()
		if err != nil {
			return err
		}
		raw, err := s.rawTable(l.family, table)
		if err != nil {
			return err
		}
		deletions := raw.deletions(l.family, table, gone)
		if len(deletions) == 0 {
			return nil
		}
		a, err := s.commitAt(generation, deletions)
		if err != nil || len(a.refused) == 0 {
			return err
		}
		if why := a.refused[0].err; !errors.Is(why, unix.ERESTART) {
			return fmt.Errorf("cannot delete rules of ours in table %s of %s: %w", table, l.program, why)
		}
	}
	return fmt.Errorf("cannot delete rules of ours in table %s of %s: other programs change the packet filter all the time", table, l.program)
}

// deletions are the messages that delete rules, as far as they are there.
func (r *rawTable) deletions(family uint8, table string, gone []goneRule) (list []nft.Message) {
	for _, g := range gone {
		if !slices.ContainsFunc(r.rules[g.chain], func(body []byte) bool { return handleOf(body) == g.handle && madeOf(body) == g.madeOf }) {
			continue
		}
		body, err := netlink.MarshalAttributes([]netlink.Attribute{
			nameAttribute(unix.NFTA_RULE_TABLE, table), nameAttribute(unix.NFTA_RULE_CHAIN, g.chain),
			{Type: unix.NFTA_RULE_HANDLE, Data: binary.BigEndian.AppendUint64(nil, g.handle)}})
		if err != nil {
			panic("internal error: " + err.Error()) // the kernel has told these names
		}
		list = append(list, nft.Message{Type: unix.NFT_MSG_DELRULE, Body: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, body...)})
	}
	return list
}

func nameAttribute(kind uint16, name string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(name), 0)}
}

// madeOfTrial is what the rules of trialChain are made of.
func (t tools) madeOfTrial(l lister, table string) (list []string, err error) {
	s, err := openSocket(t.enter)
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	raw, err := s.rawTable(l.family, table)
	if err != nil {
		return nil, err
	}
	for _, body := range raw.rules[trialChain] {
		list = append(list, madeOf(body))
	}
	return list, nil
}

// addMaps adds what leads to chains beside rules: the kernel counts for each chain its rules and what leads to it.
func (s *savedTable) addMaps(raw *rawTable) {
	leads := map[string]int{}
	for _, rules := range raw.rules {
		for _, body := range rules {
			for _, chain := range jumpsOf(body) {
				leads[chain]++
			}
		}
	}
	for _, chain := range raw.chains {
		name := text(attribute(chain, unix.NFTA_CHAIN_NAME))
		if int(number32(attribute(chain, unix.NFTA_CHAIN_USE))) > len(raw.rules[name])+raw.ends[name]+leads[name] {
			s.rules[mapOfOthers] = append(s.rules[mapOfOthers], unlistedMark+"-j "+name)
		}
	}
	if len(s.rules[mapOfOthers]) > 0 {
		s.order = append(s.order, mapOfOthers)
	}
}

// jumpsOf are the chains that a rule leads to.
func jumpsOf(body []byte) (chains []string) {
	eachExpression(body, func(name string, data map[uint16][]byte) {
		if name != "immediate" {
			return
		}
		eachAttribute(data[unix.NFTA_IMMEDIATE_DATA], func(kind uint16, v []byte) {
			eachAttribute(v, func(in uint16, v []byte) {
				if kind == unix.NFTA_DATA_VERDICT && in == unix.NFTA_VERDICT_CHAIN {
					chains = append(chains, text(v))
				}
			})
		})
	})
	return chains
}

// eachExpression calls f with the name and the attributes of each expression of a rule.
func eachExpression(body []byte, f func(name string, data map[uint16][]byte)) {
	eachAttribute(attribute(body, unix.NFTA_RULE_EXPRESSIONS), func(_ uint16, e []byte) {
		name, data := "", map[uint16][]byte{}
		eachAttribute(e, func(kind uint16, v []byte) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = text(v)
			case unix.NFTA_EXPR_DATA:
				eachAttribute(v, func(kind uint16, v []byte) { data[kind] = v })
			}
		})
		f(name, data)
	})
}

func (s *savedTable) isUnlisted(chain string) bool { return slices.Contains(s.unlisted, chain) }

func unlistedByAnother(program string) string {
	return "another program has put a rule into a table that " + program + " cannot list: it stays there"
}

// tellUnlisted logs, once, that iptables cannot list a table.
func (k *iptablesKernel) tellUnlisted(saved *savedTable, family ir.Families, table string) {
	key := sharedChain{family: family, table: table}
	if is := len(saved.unlisted) > 0; is != k.unlisted[key] {
		if k.unlisted[key] = is; is {
			command := fmt.Sprintf("nft list table %s %s", map[ir.Families]string{ir.V4: "ip", ir.V6: "ip6"}[family], table)
			k.options.Log.Warn(unlistedByAnother(tool(family)), "look", command)
		}
	}
}

// save is that of tools, with rules listed as they are known to be.
func (k *iptablesKernel) save(ctx context.Context, family ir.Families, table string) (*savedTable, error) {
	return k.recognised(family, table)(k.tools.save(ctx, family, table))
}

// read is that of tools, with rules listed as they are known to be.
func (k *iptablesKernel) read(ctx context.Context, family ir.Families, table string) (*savedTable, error) {
	return k.recognised(family, table)(k.tools.read(ctx, family, table))
}

func (k *iptablesKernel) recognised(family ir.Families, table string) func(*savedTable, error) (*savedTable, error) {
	return func(saved *savedTable, err error) (*savedTable, error) {
		if saved != nil {
			saved.recognise(k.madeOf[sharedChain{family: family, table: table}])
			k.listOwn(saved, family, table)
		}
		return saved, err
	}
}

// recognise finds out which rules of a table are ones that may be ours, in the chains that are not listed. texts is how the tool lists
// each of them: see listTogether. Those that are known by their handles are not asked for. A check changes nothing, and recognises none. The
// error, an *untriedError among others, is that of some of them it cannot be found out; the others are recognised.
func (k *iptablesKernel) recognise(ctx context.Context, saved *savedTable, family ir.Families, table string, may map[string][]string) (texts map[string][]string, err error) {
	delete(k.madeOf, sharedChain{family: family, table: table}) // a set that is made anew has another index
	var specs []string
	for _, chain := range saved.unlisted {
		specs = append(specs, k.unaccounted(sharedChain{family, table, chain}, may[chain])...)
	}
	if len(specs) == 0 || k.checking {
		return nil, nil
	}
	texts, untried, err := k.listTogether(ctx, family, table, saved, specs, k.stopped)
	if err != nil {
		return nil, err
	}
	for _, chain := range saved.unlisted {
		for _, spec := range may[chain] {
			if list := texts[spec]; len(list) == 1 {
				k.texts[sharedRule{sharedChain{family, table, chain}, spec}] = list[0]
			}
		}
	}
	k.listOwn(saved, family, table)
	return texts, untriedOf(tool(family), table, untried)
}

// mayBeHere is the rules that may be ours in each chain of a table: those of some rulesets, those that are noted, and, at a start, those that
// an earlier process may have left in the kernel's chains. A rule that leads to a chain that is to be made is not here.
func (k *iptablesKernel) mayBeHere(saved *savedTable, family ir.Families, table string, starts bool, rules ...*tableRules) map[string][]string {
	may := map[string][]string{}
	for _, t := range rules {
		for _, c := range t.chains {
			may[c.name] = append(may[c.name], filter(c.specs, func(spec string) bool {
				to := targetOf(spec)
				return t.chain(to) == nil || slices.Contains(saved.order, to)
			})...)
		}
	}
	if k.installed == nil && !k.withoutLeft {
		for _, r := range k.found.in(family, table).Rules {
			may[r.Chain] = append(may[r.Chain], cmp.Or(r.Text, r.Spec)) // a host need not be looked up
		}
	}
	if starts {
		for _, chain := range builtins[table] {
			may[chain] = append(may[chain], blockSpecs(family, table, saved.order)...)
		}
	}
	return may
}

// blockSpecs is what rulesets have in the kernel's chains, but for what the direct interface puts there: rules such as baseRule, and those that
// lead to chains that are there.
func blockSpecs(family ir.Families, table string, chains []string) (specs []string) {
	for _, chain := range chains {
		if !isTrial(chain) && isEntry(table, chain) {
			specs = append(specs, jumpTo(chain))
		}
	}
	logged := func(match, prefix string) {
		for _, kind := range []string{"", "-m pkttype --pkt-type unicast ", "-m pkttype --pkt-type broadcast ", "-m pkttype --pkt-type multicast "} {
			specs = append(specs, fmt.Sprintf("%s%s-j LOG --log-prefix %q", match, kind, prefix+": "))
		}
	}
	switch {
	case table == "filter":
		for _, state := range []string{"RELATED,ESTABLISHED", "RELATED,ESTABLISHED,DNAT", "DNAT", "INVALID"} {
			specs = append(specs, "-m conntrack --ctstate "+state+" -j ACCEPT", "-m conntrack --ctstate "+state+" -j DROP")
		}
		specs = append(specs, "-i lo -j ACCEPT", "-o lo -j ACCEPT")
		logged("-m conntrack --ctstate INVALID ", "STATE_INVALID_DROP")
		logged("", "FINAL_REJECT")
		specs = append(specs, "-j REJECT --reject-with "+map[ir.Families]string{ir.V4: "icmp-host-prohibited", ir.V6: "icmp6-adm-prohibited"}[family])
	case family == ir.V6 && table == "mangle":
		specs = append(specs, "-p ipv6-icmp -m icmp6 --icmpv6-type 134 -j ACCEPT", "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT")
		for _, loose := range []string{"", "--loose "} {
			match := "-m rpfilter " + loose + "--validmark --invert "
			specs = append(specs, match+"-j DROP", match+`-j LOG --log-prefix "rpfilter_DROP: "`)
		}
	}
	return specs
}

// learnTexts finds out how the tool saves rules in a chain that is not listed, as far as it is not known.
func (k *iptablesKernel) learnTexts(ctx context.Context, saved *savedTable, in sharedChain, specs []string) error {
	unknown := filter(specs, func(spec string) bool { return !slices.Contains(saved.rules[in.name], k.textOf(in, spec)) })
	if !saved.isUnlisted(in.name) || len(unknown) == 0 {
		return nil
	}
	_, err := k.recognise(ctx, saved, in.family, in.table, map[string][]string{in.name: specs})
	return err
}

// hasChain says whether a chain is there; it is also where that is not known.
func (t tools) hasChain(ctx context.Context, c leftChain) bool {
	listing, err := t.run(ctx, "", c.Tool, waitForLock(), "-t", c.Table, "-S", c.Chain)
	if !cannotList(listing, err) {
		return err == nil || passes(err)
	}
	s, err := openSocket(t.enter)
	if err != nil {
		return true
	}
	defer s.conn.Close()
	family := ir.V4
	if c.Tool == tool(ir.V6) {
		family = ir.V6
	}
	raw, err := s.rawTable(familyNumber(family), c.Table)
	return err != nil || slices.ContainsFunc(raw.chains, func(body []byte) bool { return text(attribute(body, unix.NFTA_CHAIN_NAME)) == c.Chain })
}
