package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// nft(8) can put rules into the tables of iptables-nft that iptables has no words for, such as "ct state established accept". Then
// iptables-save prints nothing of the table, or stops at the rule, and iptables finds and deletes no rule of its chain by words. What
// iptables still does there is to make and empty chains, to set policies, and to put in and delete rules by their numbers. So the table is
// read over netlink, and the texts of the other rules in that chain are what iptables says of copies of them.

// copiesChain is where such copies are, for as long as iptables lists them. No rule leads there.
const copiesChain = baseChain + "_list"

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

// unlistedRule is what stands in a savedTable for a rule that iptables has no words for. No rule of iptables begins like that.
func unlistedRule(body []byte) string {
	text := fmt.Sprintf("%shandle %d", unlistedMark, number64(attribute(body, unix.NFTA_RULE_HANDLE)))
	for _, chain := range jumpsOf(body) {
		text += " -j " + chain
	}
	return text
}

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
		if text(attribute(body, tableName)) == table && text(attribute(body, unix.NFTA_CHAIN_NAME)) != copiesChain {
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

// all are the rules of all chains, in the order of these.
func (r *rawTable) all() (rules [][]byte) {
	for _, chain := range r.chains {
		rules = append(rules, r.rules[text(attribute(chain, unix.NFTA_CHAIN_NAME))]...)
	}
	return rules
}

// lister is a program that lists the rules of a family's tables.
type lister struct {
	program string
	family  uint8
}

func listerOf(family ir.Families) lister { return lister{tool(family), familyNumber(family)} }

var bridgeLister = lister{"ebtables", unix.NFPROTO_BRIDGE}

// rules asks for the rules of a chain, and returns what else was said.
func (t tools) rules(ctx context.Context, l lister, table, chain string) (rules []string, said string, err error) {
	if l != bridgeLister {
		said, err = t.run(ctx, "", l.program, waitForLock(), "-t", table, "-S", chain)
		return parseSaved(said).rules[chain], said, err
	}
	said, err = t.run(ctx, "", l.program, "--concurrent", "-t", table, "-L", chain)
	_, list, _ := strings.Cut(said, "\nBridge chain: ")
	for i, line := range strings.Split(strings.TrimSuffix(list, "\n"), "\n") {
		if i > 0 {
			rules = append(rules, strings.TrimRight(line, " "))
		}
	}
	return rules, said, err
}

// readUnlisted reads a table that iptables-save cannot print. What iptables has no words for stands for itself (unlistedRule).
func (t tools) readUnlisted(ctx context.Context, l lister, table string) (*savedTable, error) {
	s, err := openSocket(t.enter)
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	raw, err := s.rawTable(l.family, table)
	if err != nil {
		return nil, fmt.Errorf("cannot read table %s of %s: %w", table, l.program, err)
	}
	texts, err := t.listCopies(ctx, s, l, table, raw.all())
	if err != nil {
		return nil, err
	}
	saved := parseSaved("")
	for _, chain := range raw.chains {
		name := text(attribute(chain, unix.NFTA_CHAIN_NAME))
		saved.order = append(saved.order, name)
		if isBuiltin(table, name) && attribute(chain, unix.NFTA_CHAIN_HOOK) != nil {
			saved.policies[name] = map[uint32]string{0: "DROP", 1: "ACCEPT"}[number32(attribute(chain, unix.NFTA_CHAIN_POLICY))]
		}
		count := len(raw.rules[name])
		rules, unlisted, err := t.listChain(ctx, l, table, name, raw.rules[name], texts[:count])
		if err != nil {
			return nil, err
		}
		texts = texts[count:]
		if saved.rules[name] = rules; unlisted {
			saved.unlisted = append(saved.unlisted, name)
		}
	}
	saved.addMaps(raw)
	return saved, nil
}

// listChain is the rules of a chain. texts are what iptables says of copies of them: where it says nothing of one, it may still list the chain,
// as the kernel does not take copies of all rules.
func (t tools) listChain(ctx context.Context, l lister, table, chain string, rules [][]byte, texts []string) (list []string, unlisted bool, err error) {
	if !slices.Contains(texts, "") {
		return texts, false, nil
	}
	listed, said, err := t.rules(ctx, l, table, chain)
	switch {
	case err == nil:
		return listed, false, nil
	case !cannotList(said, err):
		return nil, false, fmt.Errorf("cannot read table %s: %w", table, err)
	}
	list = slices.Clone(texts)
	for i := range list {
		if list[i] == "" && !countsOnly(rules[i]) {
			list[i] = unlistedRule(rules[i])
		}
	}
	return list, true, nil
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

// copiesChainUse is held while rules are in copiesChain: two that read a table at once would read each other's copies.
var copiesChainUse sync.Mutex

// mostCopies is how many rules are copied at once: one that cannot be listed costs copying those behind it again.
const mostCopies = 256

// texts are what iptables makes of rules; empty for one that it has no words for. What cannot be listed together it halves.
func (c *copies) texts(rules [][]byte) ([]string, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	if len(rules) <= mostCopies && c.put(rules) {
		list, _, err := c.rules(c.ctx, c.lister, c.table, copiesChain)
		switch {
		case passes(err):
			return nil, err
		case err == nil && len(list) == len(rules):
			return list, nil
		case err != nil && strings.Contains(err.Error(), stopped) && len(list) < len(rules): // at the rule behind the last that it lists
			rest, err := c.texts(rules[len(list)+1:])
			return slices.Concat(list, []string{""}, rest), err
		}
	}
	if len(rules) == 1 {
		return []string{""}, nil
	}
	half := len(rules) / 2
	first, err := c.texts(rules[:half])
	if err != nil {
		return nil, err
	}
	second, err := c.texts(rules[half:])
	return slices.Concat(first, second), err
}

// listCopies is how iptables lists rules of a table; empty for one that it has no words for, or that the kernel takes no copy of.
func (t tools) listCopies(ctx context.Context, s *socket, l lister, table string, rules [][]byte) ([]string, error) {
	copiesChainUse.Lock()
	defer copiesChainUse.Unlock()
	c := &copies{tools: t, ctx: ctx, socket: s, lister: l, table: table}
	defer c.remove()
	texts, err := c.texts(filter(rules, mayBeOfIPTables))
	if err != nil {
		return nil, err
	}
	list := make([]string, len(rules))
	for i, body := range rules {
		if mayBeOfIPTables(body) {
			list[i], texts = texts[0], texts[1:]
		}
	}
	return list, nil
}

// copies makes copies of rules in copiesChain.
type copies struct {
	tools
	ctx    context.Context
	socket *socket
	lister lister
	table  string
}

func (c *copies) message(kind uint8, flags uint16, attributes ...netlink.Attribute) nft.Message {
	list := append([]netlink.Attribute{nameAttribute(unix.NFTA_RULE_TABLE, c.table), nameAttribute(unix.NFTA_RULE_CHAIN, copiesChain)}, attributes...)
	if kind == unix.NFT_MSG_NEWCHAIN || kind == unix.NFT_MSG_DELCHAIN {
		list[1].Type = unix.NFTA_CHAIN_NAME
	}
	body, err := netlink.MarshalAttributes(list)
	if err != nil {
		panic("internal error: " + err.Error()) // the kernel has told them so
	}
	return nft.Message{Type: kind, Flags: flags, Body: append([]byte{c.lister.family, unix.NFNETLINK_V0, 0, 0}, body...)}
}

func nameAttribute(kind uint16, name string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(name), 0)}
}

// put makes copiesChain anew with copies of rules, and says whether the kernel takes them all. It does not take one that looks up a set of its own.
func (c *copies) put(rules [][]byte) bool {
	list := []nft.Message{c.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE), c.message(unix.NFT_MSG_DELRULE, 0)}
	for _, body := range rules {
		list = append(list, c.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, copyOf(body)...))
	}
	a, err := c.socket.commit(list)
	return err == nil && len(a.refused) == 0
}

// remove takes copiesChain away. One that stays is empty the next time, and is among the remains of an earlier process.
func (c *copies) remove() { _, _ = c.socket.commit([]nft.Message{c.message(unix.NFT_MSG_DELCHAIN, 0)}) }

// copyOf is what a rule is made of, from what the kernel tells of it. The kernel does not tell for which protocol a rule was made, which the
// extensions of iptables for one protocol ask for (nft_compat.c); the rule itself compares it first. The copy of a policy is a rule like others:
// ebtables would not list it if it stood last.
func copyOf(body []byte) []netlink.Attribute {
	list := []netlink.Attribute{{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: attribute(body, unix.NFTA_RULE_EXPRESSIONS)}}
	if data := attribute(body, unix.NFTA_RULE_USERDATA); data != nil && !isPolicy(body) {
		list = append(list, netlink.Attribute{Type: unix.NFTA_RULE_USERDATA, Data: data})
	}
	if protocol, not, ok := protocolOf(body); ok {
		flags := uint32(0)
		if not {
			flags = unix.NFT_RULE_COMPAT_F_INV
		}
		compat, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFTA_RULE_COMPAT_PROTO, Data: binary.BigEndian.AppendUint32(nil, protocol)},
			{Type: unix.NFTA_RULE_COMPAT_FLAGS, Data: binary.BigEndian.AppendUint32(nil, flags)}})
		if err != nil {
			panic("internal error: " + err.Error()) // two numbers
		}
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_COMPAT, Data: compat})
	}
	return list
}

// protocolOf is the protocol that a rule compares that of a packet with first, as the kernel wants it for a copy, and whether the rule wants
// another one; ok is false if there is none. It is that of IP (RFC 791 and 8200), and for bridges the type of the frame (IEEE 802.3) as it lies
// in memory.
func protocolOf(body []byte) (protocol uint32, not, ok bool) {
	key, base, offset, length := uint32(unix.NFT_META_L4PROTO), uint32(unix.NFT_PAYLOAD_NETWORK_HEADER), uint32(9), 1
	switch body[0] {
	case unix.NFPROTO_IPV6:
		offset = 6
	case unix.NFPROTO_BRIDGE:
		key, base, offset, length = unix.NFT_META_PROTOCOL, unix.NFT_PAYLOAD_LL_HEADER, 12, 2
	}
	protocolIn := map[string]bool{} // registers
	eachExpression(body, func(name string, data map[uint16][]byte) {
		switch {
		case ok:
		case name == "meta" && number32(data[unix.NFTA_META_KEY]) == key:
			protocolIn[string(data[unix.NFTA_META_DREG])] = true
		case name == "payload" && number32(data[unix.NFTA_PAYLOAD_BASE]) == base && number32(data[unix.NFTA_PAYLOAD_OFFSET]) == offset &&
			int(number32(data[unix.NFTA_PAYLOAD_LEN])) == length:
			protocolIn[string(data[unix.NFTA_PAYLOAD_DREG])] = true
		case name == "cmp" && protocolIn[string(data[unix.NFTA_CMP_SREG])]:
			eachAttribute(data[unix.NFTA_CMP_DATA], func(kind uint16, v []byte) {
				if kind == unix.NFTA_DATA_VALUE && len(v) == length {
					protocol, not, ok = uint32(v[0]), number32(data[unix.NFTA_CMP_OP]) == unix.NFT_CMP_NEQ, true
					if length == 2 {
						protocol = uint32(binary.NativeEndian.Uint16(v))
					}
				}
			})
		}
	})
	return protocol, not, ok
}

// foreignExpressions are those of nf_tables that iptables-nft 1.8 neither makes nor lists.
var foreignExpressions = []string{"ct", "dup", "dynset", "exthdr", "fib", "fwd", "hash", "last", "masq", "nat", "notrack", "numgen", "objref", "osf",
	"queue", "quota", "redir", "reject", "rt", "socket", "synproxy", "tproxy", "tunnel", "xfrm"}

// mayBeOfIPTables says whether iptables may have words for a rule. It saves trying each of the others alone.
func mayBeOfIPTables(body []byte) bool {
	may := true
	eachExpression(body, func(name string, data map[uint16][]byte) {
		packetLog := name == "log" && data[unix.NFTA_LOG_GROUP] == nil // that of iptables is an extension, LOG
		may = may && !packetLog && !slices.Contains(foreignExpressions, name)
	})
	return may
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

// countsOnly says whether a rule matches everything and does nothing: iptables lists it without a word.
func countsOnly(body []byte) bool {
	only := true
	eachExpression(body, func(name string, _ map[uint16][]byte) { only = only && name == "counter" })
	return only
}

func (s *savedTable) isUnlisted(chain string) bool { return slices.Contains(s.unlisted, chain) }

func unlistedByAnother(program string) string {
	return "another program has put a rule into a chain that " + program + " cannot list: it stays there"
}

// tellUnlisted logs, once, which chains of a table iptables cannot list.
func (k *iptablesKernel) tellUnlisted(saved *savedTable, family ir.Families, table string) {
	for _, chain := range saved.order {
		key := sharedChain{family, table, chain}
		if is := saved.isUnlisted(chain); is != k.unlisted[key] {
			if k.unlisted[key] = is; is {
				command := fmt.Sprintf("nft list chain %s %s %s", map[ir.Families]string{ir.V4: "ip", ir.V6: "ip6"}[family], table, chain)
				k.options.Log.Warn(unlistedByAnother(tool(family)), "look", command)
			}
		}
	}
}

// learnTexts finds out how the tool saves rules in a chain that it cannot list, as far as it is not known: it finds none there by its words.
func (k *iptablesKernel) learnTexts(ctx context.Context, saved *savedTable, in sharedChain, specs []string) error {
	if !saved.isUnlisted(in.name) || k.checking {
		return nil
	}
	unknown := filter(specs, func(spec string) bool { return !slices.Contains(saved.rules[in.name], k.textOf(in, spec)) })
	texts, _, err := k.listTogether(ctx, in.family, in.table, unknown, nil)
	for spec, list := range texts {
		if len(list) == 1 {
			k.texts[sharedRule{in, spec}] = list[0]
		}
	}
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
