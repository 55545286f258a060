package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
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
// read from the kernel itself. The error is that they cannot be read, or, for iptables-legacy, that the listing does not agree. Other programs
// may change a table while it is listed: so a chain may have as many rules as before the listing, as behind it, or any number between.
func (t tools) list(ctx context.Context, l lister, tables []string, args ...string) (map[string]*savedTable, error) {
	var before kernelCounts
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
		after, err := t.kernelCounts(l, tables, nft)
		if err != nil {
			return nil, err
		}
		plain := plainListings(l, tables, text, nft)
		for _, listed := range plain {
			if after.allow(before, listed) {
				return listed, nil
			}
		}
		if nft && (len(plain) == 0 || after.equal(before)) { // no other program's doing
			return nil, nil
		}
		before = after
	}
	if before.nft {
		return nil, nil
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

// plainListings is how a listing of tables may be read, where each line is what it may be at its place: in iptables-legacy a comment may have
// line breaks.
func plainListings(l lister, tables []string, text string, nft bool) (list []map[string]*savedTable) {
	ways := []iter.Seq[string]{strings.SplitSeq(text, "\n")}
	if !nft && l != bridgeLister {
		ways = append(ways, savedLines(text))
	}
	for _, lines := range ways {
		if listed, plain := tablesIn(lines, l != bridgeLister); plain && onlyOf(listed, tables) {
			list = append(list, listed)
		}
	}
	return list
}

// kernelCounts is how many rules the kernel has in some tables: by table and chain in nf_tables, and by table in iptables-legacy, where all
// entries of it are counted. Of ebtables-legacy there is nothing.
type kernelCounts struct {
	nft     bool
	chains  map[string]map[string]int
	entries map[string]int
}

func (t tools) kernelCounts(l lister, tables []string, nft bool) (c kernelCounts, err error) {
	c = kernelCounts{nft: nft, chains: map[string]map[string]int{}, entries: map[string]int{}}
	var s *socket
	if nft {
		if s, err = openSocket(t.enter); err != nil {
			return c, err
		}
		defer s.conn.Close()
	}
	for _, table := range tables {
		switch {
		case nft:
			c.chains[table], err = s.countRules(l.family, table)
		case l != bridgeLister:
			c.entries[table], err = t.legacyEntries(l.family, table)
		}
		if err != nil {
			return c, fmt.Errorf("cannot read table %s of %s: %w", table, l.program, err)
		}
	}
	return c, nil
}

// equal says whether the counts are the same as others, which may not be known.
func (c kernelCounts) equal(d kernelCounts) bool {
	return d.chains != nil && maps.Equal(c.entries, d.entries) && maps.EqualFunc(c.chains, d.chains, maps.Equal[map[string]int, map[string]int])
}

// allow says whether listed tables have the rules that the kernel has, from the counts behind the listing and those before it, which may not be
// known.
func (c kernelCounts) allow(before kernelCounts, listed map[string]*savedTable) bool {
	if before.chains == nil {
		before = c
	}
	for table, n := range c.entries {
		if s := listed[table]; s == nil || !isBetween(s.entries(), n, before.entries[table]) {
			return false
		}
	}
	for table, counts := range c.chains {
		if !listed[table].agrees(before.chains[table], counts) {
			return false
		}
	}
	return true
}

func isBetween(n, a, b int) bool { return min(a, b) <= n && n <= max(a, b) }

// agrees says whether a listed table has the chains of a table in the kernel, each with a number of rules between two counts. nil is a table that
// is not listed. A program also lists those of the kernel's chains that are not there: they let everything pass.
func (s *savedTable) agrees(before, after map[string]int) bool {
	if s == nil {
		return len(after) == 0
	}
	there, seen := 0, map[string]bool{}
	for _, chain := range s.order {
		n, is := after[chain]
		m, was := before[chain]
		if seen[chain] || is != was || !isBetween(len(s.rules[chain]), m, n) || !is && s.policies[chain] != "ACCEPT" {
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
	return there == len(after)
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
