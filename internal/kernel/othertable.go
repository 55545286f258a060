package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"

	"golang.org/x/sys/unix"
)

// refusedPart is how a program of iptables-nft or ebtables-nft says what of its transaction the kernel has refused (mnl_append_error in
// iptables/nft.c).
var refusedPart = regexp.MustCompile(`\b([A-Z]+_[A-Z_]+) failed \(([^)]*)\)(?:: (?:rule in )?chain (\S+))?`)

// othersTable is the error of a program that has changed a table, where another program is the reason and no line of the input: the table
// is that program's own, which is ErrForeignOwner, or one of the chains of the kernel is another one of the same name, which is
// ErrForeignChain. nil is that it is something else.
func (t tools) othersTable(l lister, table string, err error) error {
	var said *toolError
	if !errors.As(err, &said) {
		return nil
	}
	m := refusedPart.FindStringSubmatch(said.said)
	if m == nil {
		return nil
	}
	name := fmt.Sprintf("table %s %s", nftFamilies[l.family], table)
	switch done, why, chain := m[1], m[2], m[3]; {
	case why == "Operation not permitted":
		if owner := t.ownerOf(l.family, table); owner != 0 {
			return fmt.Errorf("cannot change %s: %w%s", name, ErrForeignOwner, ownerHint(owner))
		}
	case done == "CHAIN_ADD" && (why == "Operation not supported" || why == "File exists") && chain != "",
		done == "CHAIN_USER_ADD" && why == "File exists" && t.hookOf(l.family, table, chain) != "":
		return fmt.Errorf("cannot use chain %s of %s: %w: it is %s; to take it out, run nft delete chain %s %s %s",
			chain, name, ErrForeignChain, cmp.Or(t.hookOf(l.family, table, chain), "no base chain: it has no hook"), nftFamilies[l.family], table, chain)
	}
	return nil
}

// hookOf says what kind of base chain a chain is, as nft(8) names hooks: "a base chain of type filter, hook input, priority 300". It is empty
// for a chain without a hook, for one that is not there, and where that is not known.
func (t tools) hookOf(family uint8, table, chain string) (kind string) {
	s, err := openSocket(t.enter)
	if err != nil {
		return ""
	}
	defer s.conn.Close()
	hooks := []string{"prerouting", "input", "forward", "output", "postrouting"} // enum nf_inet_hooks, and those of bridges
	err = s.dump(unix.NFT_MSG_GETCHAIN, family, nil, func(body []byte) {
		hook := attribute(body, unix.NFTA_CHAIN_HOOK)
		if hook == nil || text(attribute(body, tableName)) != table || text(attribute(body, unix.NFTA_CHAIN_NAME)) != chain {
			return
		}
		number, priority := hookPlace(hook)
		kind = fmt.Sprintf("a base chain of type %s, hook %s, priority %d", text(attribute(body, unix.NFTA_CHAIN_TYPE)), hooks[min(int(number), len(hooks)-1)], priority)
	})
	if err != nil {
		return ""
	}
	return kind
}

// nftFamilies are the families of nftables by their number.
var nftFamilies = map[uint8]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_INET: "inet"}

// ownerOf is the port of the socket that owns a table of a family; 0 if none does, or that is not known.
func (t tools) ownerOf(family uint8, table string) (owner uint32) {
	s, err := openSocket(t.enter)
	if err != nil {
		return 0
	}
	defer s.conn.Close()
	err = s.dump(unix.NFT_MSG_GETTABLE, family, nil, func(body []byte) {
		if text(attribute(body, tableName)) == table {
			owner = number32(attribute(body, tableOwner))
		}
	})
	if err != nil {
		return 0
	}
	return owner
}
