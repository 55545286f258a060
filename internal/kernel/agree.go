package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

// A program that lists tables prints what other programs have put there as it is. A comment, or the name of an interface, may have a line
// break, and what is behind that may look like a line of its own, whatever it says. Nothing in the text tells such a line from others. So a
// listing counts only if it has as many rules as the kernel has, chain by chain: a line break only ever adds lines. A table whose listing does
// not agree is read from the kernel itself, as one is that has rules of nftables in it (readUnlisted). iptables-legacy has no other way to
// read a table: it is not changed then.

// list is some tables of a family, by name, as the program lists them that prints them with some arguments. They are nil where they can only be
// read from the kernel itself. The error is that they cannot be read, or, for iptables-legacy, that the listing does not agree.
func (t tools) list(ctx context.Context, l lister, tables []string, args ...string) (map[string]*savedTable, error) {
	last := uint32(0)
	for range mostReadings {
		text, err := t.run(ctx, "", l.program+"-save", args...)
		switch {
		case cannotList(text, err):
			return nil, nil
		case err != nil:
			return nil, err
		}
		nft, err := t.listsNFT(ctx, l, text)
		if err != nil {
			return nil, err
		}
		var listed map[string]*savedTable
		generation := uint32(0)
		if nft {
			listed, generation, err = t.agreedNFT(l, tables, text)
		} else {
			listed, err = t.agreedLegacy(l, tables, text)
		}
		if listed != nil || err != nil {
			return listed, err
		}
		if nft && generation == last { // nobody has changed anything since the reading before
			return nil, nil
		}
		last = generation
	}
	return nil, fmt.Errorf("what %s-save prints does not agree with the kernel: other programs change the rules all the time, or the text of a rule has a line break in it", l.program)
}

// listsNFT says whether a listing is one of the variants for nf_tables. Older ones do not say so of themselves.
func (t tools) listsNFT(ctx context.Context, l lister, text string) (bool, error) {
	first, _, _ := strings.Cut(text, "\n")
	switch {
	case strings.Contains(first, "(nf_tables)"):
		return true, nil
	case l == bridgeLister:
		version, err := t.run(ctx, "", l.program, "--version")
		return strings.Contains(version, "(nf_tables)"), err
	}
	kind, err := t.kindOf(ctx, l.program)
	return kind == "nft", err
}

// agreedNFT is a listing of tables; nil if it does not agree with what nf_tables has. generation is that of nf_tables behind it.
func (t tools) agreedNFT(l lister, tables []string, text string) (listed map[string]*savedTable, generation uint32, err error) {
	s, err := openSocket(t.enter)
	if err != nil {
		return nil, 0, err
	}
	defer s.conn.Close()
	listed, plain := tablesIn(strings.SplitSeq(text, "\n"), l != bridgeLister)
	for _, table := range tables {
		counts, err := s.countRules(l.family, table)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read table %s of %s: %w", table, l.program, err)
		}
		plain = plain && listed[table].agrees(counts)
	}
	if plain && onlyOf(listed, tables) {
		return listed, 0, nil
	}
	generation, err = s.generation()
	return nil, generation, err
}

// onlyOf says whether no other tables are listed than some.
func onlyOf(listed map[string]*savedTable, tables []string) bool {
	asked := map[string]bool{}
	for _, table := range tables {
		asked[table] = true
	}
	for table := range listed {
		if !asked[table] {
			return false
		}
	}
	return true
}

// countRules is how many rules each chain of a table has that a program would list. There are none of a table that is not there.
func (s *socket) countRules(family uint8, table string) (map[string]int, error) {
	counts, ends := map[string]int{}, map[string]int{}
	err := s.dump(unix.NFT_MSG_GETCHAIN, family, nil, func(body []byte) {
		if text(attribute(body, tableName)) == table {
			counts[text(attribute(body, unix.NFTA_CHAIN_NAME))] = 0
		}
	})
	if err != nil && !absent(err) {
		return nil, err
	}
	err = s.dump(unix.NFT_MSG_GETRULE, family, namedAttribute(tableName, table), func(body []byte) {
		if text(attribute(body, tableName)) != table {
			return
		}
		chain := text(attribute(body, unix.NFTA_RULE_CHAIN))
		counts[chain]++
		if ends[chain] = 0; isPolicy(body) {
			ends[chain] = 1 // see cutPolicies
		}
	})
	if err != nil && !absent(err) {
		return nil, err
	}
	for chain, n := range ends {
		counts[chain] -= n
	}
	return counts, nil
}

// agrees says whether a listed table has the chains of a table in the kernel, each with as many rules. nil is a table that is not listed. A
// program also lists those of the kernel's chains that are not there: they let everything pass.
func (s *savedTable) agrees(counts map[string]int) bool {
	if s == nil {
		return len(counts) == 0
	}
	there, seen := 0, map[string]bool{}
	for _, chain := range s.order {
		n, is := counts[chain]
		if seen[chain] || len(s.rules[chain]) != n || !is && s.policies[chain] != "ACCEPT" {
			return false
		}
		if seen[chain] = true; is {
			there++
		}
	}
	for chain := range s.rules {
		if !seen[chain] {
			return false
		}
	}
	return there == len(counts)
}

// tablesIn is the tables that lines list, by name. plain says that each line is what it may be at its place. commits says that a table ends
// with COMMIT; ebtables prints none. Lines that are no rules are told from the rest of a rule by that: a table has no remark in it, or one
// before it and one behind it.
func tablesIn(lines iter.Seq[string], commits bool) (tables map[string]*savedTable, plain bool) {
	tables, plain = map[string]*savedTable{}, true
	remarks := map[string]int{}
	var in *savedTable
	for line := range lines {
		first, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "*"):
			plain = plain && tables[line[1:]] == nil && (in == nil || !commits)
			in = newSavedTable()
			tables[line[1:]] = in
		case line == "", first == "#":
			plain = plain && (in == nil || !commits)
			in = nil
			if kind, _, _ := strings.Cut(rest, " "); line != "" {
				remarks[kind]++
			}
		case in == nil:
			plain = false
		case line == "COMMIT":
			in = nil
		case strings.HasPrefix(line, ":") && len(in.rules) == 0:
			in.declare(line)
		case first == "-A":
			chain, spec, _ := strings.Cut(rest, " ")
			in.rules[chain] = append(in.rules[chain], spec)
		default:
			plain = false
		}
	}
	for kind, n := range remarks {
		plain = plain && (commits || n <= len(tables) && (kind == "Generated" || kind == "Completed"))
	}
	return tables, plain
}

// agreedLegacy is a listing of tables of iptables-legacy or ebtables-legacy; nil if it does not agree with the kernel. In iptables-legacy a
// comment may have line breaks. Of ebtables-legacy it is only known whether each line is one of a listing.
func (t tools) agreedLegacy(l lister, tables []string, text string) (map[string]*savedTable, error) {
	if l == bridgeLister {
		listed, plain := tablesIn(strings.SplitSeq(text, "\n"), false)
		if !plain {
			return nil, nil
		}
		return listed, nil
	}
	for _, lines := range []iter.Seq[string]{strings.SplitSeq(text, "\n"), savedLines(text)} {
		listed, plain := tablesIn(lines, true)
		if !plain || !onlyOf(listed, tables) {
			continue
		}
		agrees := true
		for _, table := range tables {
			n, err := t.legacyEntries(l.family, table)
			if err != nil {
				return nil, fmt.Errorf("cannot read table %s of %s: %w", table, l.program, err)
			}
			agrees = agrees && listed[table] != nil && listed[table].entries() == n
		}
		if agrees {
			return listed, nil
		}
	}
	return nil, nil
}

// entries is how many entries iptables-legacy has of a table: its rules, a policy for each of the kernel's chains, a beginning and an end for
// each other one, and the end of the table (struct ipt_standard, struct ipt_error of linux/netfilter_ipv4/ip_tables.h).
func (s *savedTable) entries() int {
	n := 1 + 2*len(s.order) - len(s.policies)
	for _, rules := range s.rules {
		n += len(rules)
	}
	return n
}

// legacyInfo is struct ipt_getinfo (linux/netfilter_ipv4/ip_tables.h), and struct ip6t_getinfo, which is like it.
type legacyInfo struct {
	name                  [32]byte
	hooks                 uint32
	hookEntry, underflow  [5]uint32
	entries, bytesOfTable uint32
}

// legacySockets are, by family, the kind of socket that tells of tables of iptables-legacy, and the level of that option, whose number is
// getLegacyInfo: IPT_SO_GET_INFO, IP6T_SO_GET_INFO.
var legacySockets = map[uint8]struct{ family, level int }{
	familyNumber(ir.V4): {unix.AF_INET, unix.IPPROTO_IP},
	familyNumber(ir.V6): {unix.AF_INET6, unix.IPPROTO_IPV6},
}

const getLegacyInfo = 64

// legacyEntries is how many entries a table of iptables-legacy has, as the kernel tells.
func (t tools) legacyEntries(family uint8, table string) (n int, err error) {
	info := legacyInfo{}
	if copy(info.name[:], table); len(table) >= len(info.name) {
		return 0, errors.New("the name is too long")
	}
	err = t.enter(func() error {
		fd, err := unix.Socket(legacySockets[family].family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot open a socket: %w", err)
		}
		defer unix.Close(fd)
		size := uint32(unsafe.Sizeof(info))
		_, _, failed := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(legacySockets[family].level), getLegacyInfo,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if failed != 0 {
			return fmt.Errorf("the kernel does not tell how many rules it has: %w", failed)
		}
		return nil
	})
	return int(info.entries), err
}
