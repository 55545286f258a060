package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"richwall/compile/nft"
)

// dormant is a flag of a table with which all that is in it stays, and no packet comes to that (linux/netfilter/nf_tables.h,
// NFT_TABLE_F_DORMANT). Any program may set it, with `nft add table ip filter { flags dormant ; }`. The programs of iptables and ebtables
// neither show it nor take it away.
const dormant = 1

// dormantTables are the tables of all families that are dormant, as parts of kind dormantPart, with their flags.
func (s *socket) dormantTables() (map[part]uint32, error) {
	tables := map[part]uint32{}
	err := s.dump(unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC, nil, func(body []byte) {
		if flags := number32(attribute(body, unix.NFTA_TABLE_FLAGS)); flags&dormant != 0 {
			tables[part{family: body[0], table: text(attribute(body, tableName)), kind: dormantPart}] = flags
		}
	})
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("cannot read which tables are dormant: %w", err)
	}
	return tables, nil
}

// asleep says whether a table is dormant that rules of an earlier process may be in, among what is others'; also where that is not known.
func (s *socket) asleep() bool {
	tables, err := s.dormantTables()
	for p := range tables {
		if isIPTables(p) || p.family == unix.NFPROTO_BRIDGE && slices.Contains(bridgeTables, p.table) {
			return true
		}
	}
	return err != nil
}

// isIPTables says whether a part is of a table that the programs of iptables or ip6tables have.
func isIPTables(p part) bool {
	return (p.family == unix.NFPROTO_IPV4 || p.family == unix.NFPROTO_IPV6) && builtins[p.table] != nil
}

// mayStop says whether a part is that a table is dormant by which a Kernel stops packets, of those that are not of its back end alone.
func mayStop(p part) bool {
	return p.kind == dormantPart && (p.family == unix.NFPROTO_BRIDGE && (p.table == panicTable || slices.Contains(bridgeTables, p.table)) || isDropTable(p))
}

func isDropTable(p part) bool {
	return isDropName(p.table) && (p.family == unix.NFPROTO_INET || p.family == unix.NFPROTO_BRIDGE)
}

// uses says whether a table is in use that is not of one back end alone: that of DropAll, that of panic mode for bridges, or one of ebtables
// with rules of ours. d is what a Kernel commits, or has committed.
func (o Options) uses(d *Desired, p part) bool {
	switch {
	case isDropTable(p):
		return true
	case p.family != unix.NFPROTO_BRIDGE:
		return false
	case p.table == panicTable:
		return d.Panic
	}
	noted, _ := o.Left.foundBridge()
	return noted != nil && !noted.of(p.table).empty()
}

// uses says whether a table is in use, of iptables or as of Options.uses: rules of ours are in it, or policies of panic mode.
func (k *iptablesKernel) uses(d *Desired, p part) bool {
	if !isIPTables(p) {
		return !k.direct && k.options.uses(d, p)
	}
	for _, family := range k.families {
		if familyNumber(family) == p.family && !slices.Contains(k.silent, family) {
			return d.Panic && p.table != "nat" || len(rulesOf(d.Rules, family, p.table).chains) > 0
		}
	}
	return false
}

// wake has packets come to the tables of iptables again that what is committed is in.
func (k *iptablesKernel) wake(next *Desired) error {
	if k.watch.socket == nil || !k.direct && k.options.Guard.check() != nil { // there is no nf_tables, or the socket was closed
		return nil
	}
	return k.watch.socket.wake(k.options.Log, func(p part) bool { return isIPTables(p) && k.uses(next, p) })
}

// wake takes the flag away from the dormant tables that used says yes to, in one transaction. All that is in them stays. The log names them.
// On an error nothing changed; it is ErrForeignOwner where a table belongs to another program.
func (s *socket) wake(log *slog.Logger, used func(part) bool) error {
	for range readings {
		tables, err := s.dormantTables()
		if err != nil {
			return err
		}
		var names []string
		var list []nft.Message
		for p, flags := range tables {
			if used(p) {
				names, list = append(names, p.ofTable()), append(list, flagsMessage(p, flags&^dormant))
			}
		}
		if len(list) == 0 {
			return nil
		}
		a, err := s.commit(list)
		switch {
		case err != nil:
			return fmt.Errorf("cannot change what is dormant: %w", err)
		case len(a.refused) == 0:
			slices.Sort(names)
			for _, name := range names {
				log.Warn(name + " was dormant: no packet came to its rules; now packets do again")
			}
			return nil
		case errors.Is(a.refused[0].err, unix.ENOENT): // another program has just removed one
			continue
		}
		err = a.refused[0].err
		if errors.Is(err, unix.EPERM) {
			err = ErrForeignOwner
		}
		return fmt.Errorf("%s is dormant, and cannot be changed: %w", names[max(0, a.refused[0].index)], err)
	}
	return errors.New("tables are dormant, and other programs remove them all the time")
}

// flagsMessage sets the flags of a table that is there. That they are none is said, too: without the attribute they stay.
func flagsMessage(p part, flags uint32) nft.Message {
	body, err := netlink.MarshalAttributes([]netlink.Attribute{nameAttribute(tableName, p.table),
		{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, flags)}})
	if err != nil {
		panic("internal error: " + err.Error()) // the kernel has told the name
	}
	return nft.Message{Type: unix.NFT_MSG_NEWTABLE, Body: append([]byte{p.family, unix.NFNETLINK_V0, 0, 0}, body...)}
}

// ofTable names the table that a part is of, as the reports of changes do.
func (p part) ofTable() string {
	switch p.family {
	case unix.NFPROTO_IPV4, unix.NFPROTO_IPV6:
		return familyTool(p.family) + ", table " + p.table
	case unix.NFPROTO_BRIDGE:
		return "table bridge " + p.table
	}
	return "table inet " + p.table
}

// madeDormant is what another program has done to those of some tables that are in use.
func madeDormant[T any](tables map[part]T, used func(part) bool) (list []string) {
	for p := range tables {
		if p.kind == dormantPart && used(p) {
			list = append(list, p.ofTable()+" was made dormant: no packet comes to its rules")
		}
	}
	slices.Sort(list)
	return list
}
