package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// dropTable drops every packet while it is there, as panicTable does. No Kernel knows of it, so that no commit ends it.
const dropTable = ir.Table + "_drop_all"

// dropTables are the names of a table of DropAll, in the order in which they are tried where another program owns tables of these names. One
// with a spareName comes last.
var dropTables = []string{dropTable, dropTable + "_2", dropTable + "_3", dropTable + "_4"}

// isDropName says whether a table has the name of one of DropAll.
func isDropName(name string) bool {
	return slices.Contains(dropTables, name) || isSpare(dropTable, name)
}

// DropAll puts up or takes away a table that drops every packet, and one that drops every frame of a bridge, by a socket of its own: for a
// panic mode that must not wait for a commit that takes its time. No commit takes the tables away, nor does the end of the process; DropAll
// alone does. A table that is there already is made anew, and one that is not there can be taken away. A table of the name that another
// program owns, and that drops nothing (isHarmless), is in nobody's way: it stays, and a table of another name takes its place. That frames
// cannot be dropped is logged alone. On an error nothing was put up, and every packet is dropped if it was before.
func DropAll(o Options, on bool) error {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	if !on {
		for _, family := range []uint8{unix.NFPROTO_BRIDGE, unix.NFPROTO_INET} {
			if err := s.endDropping(o.Log, family); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.dropAnyway(o.Log, unix.NFPROTO_INET); err != nil {
		return err
	}
	if err := s.dropAnyway(o.Log, unix.NFPROTO_BRIDGE); err != nil { // panic mode is on all the same
		o.Log.Error("what bridges forward is not dropped", "reason", err)
	}
	return nil
}

// dropAnyway puts up a table of DropAll, by the first of its names that no other program owns.
func (s *socket) dropAnyway(log *slog.Logger, family uint8) error {
	there, err := s.tablesOf(family, func(name string) bool { return isSpare(dropTable, name) })
	if err != nil {
		return err
	}
	names := append(slices.Clone(dropTables[1:]), slices.Sorted(maps.Keys(there))...)
	err = s.putDropTable(family, dropTable, true)
	for _, name := range append(names, spareName(dropTable)) {
		if !errors.Is(err, ErrForeignOwner) {
			break
		}
		log.Warn("another table drops everything in place of the usual one", "table", nftFamilies[family]+" "+name, "reason", err)
		err = s.putDropTable(family, name, true)
	}
	return err
}

// endDropping takes away the tables of DropAll. One that another program owns and that drops nothing stays.
func (s *socket) endDropping(log *slog.Logger, family uint8) error {
	err := s.removeDropTable(log, family, dropTable)
	there, asking := s.tablesOf(family, func(name string) bool { return name != dropTable && isDropName(name) })
	err = cmp.Or(err, asking)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		err = cmp.Or(err, s.removeDropTable(log, family, name))
	}
	return err
}

// removeDropTable takes away a table with the name of one that drops everything, whether it is there or not. One that another program owns,
// and that drops nothing (isHarmless), stays: it is not ours, and stops no packet. The error is ErrForeignOwner where it does.
func (s *socket) removeDropTable(log *slog.Logger, family uint8, name string) error {
	err := s.putDropTable(family, name, false)
	if !errors.Is(err, ErrForeignOwner) {
		return err
	}
	if harmless, asking := s.isHarmless(family, name); !harmless {
		return errors.Join(err, asking)
	}
	log.Warn("a table with a name of ours stays: it drops nothing", "reason", err)
	return nil
}

// putDropTable makes anew a table that drops every packet, or with NFPROTO_BRIDGE every frame which comes to a bridge, or leaves the machine
// by one; or it takes the table away. A kernel without tables of family bridge has none. On an error nothing changed; it is ErrForeignOwner
// where another program owns the table.
func (s *socket) putDropTable(family uint8, name string, on bool) error {
	e := &nft.Encoder{Table: name, Bridge: family == unix.NFPROTO_BRIDGE}
	list := []nft.Message{e.AddTable(0), e.DeleteTable()}
	if on {
		list = append(list, e.AddTable(0))
		for _, c := range panicChains {
			m, err := e.AddChain(c, true)
			if err != nil {
				return err
			}
			list = append(list, m)
		}
	}
	a, err := s.commit(list)
	if err == nil && len(a.refused) > 0 {
		err = a.refused[0].err
	}
	switch {
	case err == nil, e.Bridge && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)):
		return nil
	case errors.Is(err, unix.EPERM):
		err = s.whyForbidden(family, name, err)
	}
	return fmt.Errorf("cannot change table %s %s: %w", nftFamilies[family], name, err)
}

// whyForbidden is ErrForeignOwner, with the program's name, where another socket owns a table that cannot be changed; else the error given.
func (s *socket) whyForbidden(family uint8, name string, err error) error {
	if t, asking := s.headOf(family, name); asking == nil && s.isOthers(t) {
		return fmt.Errorf("%w%s", ErrForeignOwner, ownerHint(t.owner))
	}
	return err
}

// isOthers says whether another socket owns a table.
func (s *socket) isOthers(t tableHead) bool {
	return t.there && t.owner != 0 && t.owner != s.conn.PID()
}

// isHarmless says whether a table is another program's and stops nothing: it is dormant, or no chain that the kernel enters drops what comes
// to its end.
func (s *socket) isHarmless(family uint8, table string) (bool, error) {
	t, err := s.headOf(family, table)
	if err != nil || !s.isOthers(t) || t.flags&dormant != 0 {
		return err == nil && s.isOthers(t), err
	}
	drops := false
	err = s.dump(unix.NFT_MSG_GETCHAIN, family, nil, func(body []byte) {
		policy := attribute(body, unix.NFTA_CHAIN_POLICY)
		drops = drops || text(attribute(body, tableName)) == table && attribute(body, unix.NFTA_CHAIN_HOOK) != nil &&
			len(policy) == 4 && number32(policy) == 0 // NF_DROP
	})
	if absent(err) {
		err = nil
	}
	return err == nil && !drops, err
}

// bridged is what a Kernel knows of the table bridge firewalld_policy_drop, which panic mode puts up whatever the back end.
type bridged struct{ known, dropped bool }

// commit makes a commit, with that table before it when panic mode is on behind it, and without it after it when it is off. Where the table
// cannot be put up, that of DropAll for bridges is, which DropAll takes away when panic mode ends. Before the commit, too, packets come again
// to tables as of Options.uses that another program has made dormant. That a table cannot be changed is no reason to do less than the rest;
// it is tried again by the next commit.
func (b *bridged) commit(s *socket, o Options, next *Desired, rest func() error) error {
	if s == nil || next.Succeeded { // the one that succeeds it has the table
		return rest()
	}
	before, instead := *b, false
	set := func(on bool) {
		if o.Guard.check() != nil { // the start was broken off, and the socket closed
			return
		}
		var err error
		if on {
			err = s.putDropTable(unix.NFPROTO_BRIDGE, panicTable, true)
		} else {
			err = s.removeDropTable(o.Log, unix.NFPROTO_BRIDGE, panicTable)
		}
		if *b = (bridged{err == nil, on}); err == nil {
			return
		}
		o.Log.Error("panic mode is not switched for what bridges forward by the table for that", "reason", err)
		if on {
			instead = s.dropBridgedInstead(o.Log)
		}
	}
	if next.Panic {
		set(true)
	}
	if o.Guard.check() == nil {
		if err := s.wake(o.Log, func(p part) bool { return o.uses(next, p) }); err != nil {
			o.Log.Error("packets are not stopped where they should be", "reason", err)
		}
	}
	err := rest()
	if err != nil && instead && o.Guard.check() == nil {
		if err := s.endDropping(o.Log, unix.NFPROTO_BRIDGE); err != nil {
			o.Log.Error("what bridges forward is dropped until panic mode was on and is off again", "reason", err)
		}
	}
	switch {
	case err == nil && !next.Panic && (!b.known || b.dropped):
		set(false)
	case err != nil && next.Panic && before == bridged{known: true}:
		set(false)
	}
	return err
}

// dropBridgedInstead puts up the table of DropAll that drops every frame of a bridge, and says whether there was none before.
func (s *socket) dropBridgedInstead(log *slog.Logger) (made bool) {
	there, _ := s.tablesOf(unix.NFPROTO_BRIDGE, isDropName) // where that is not known, one is made anew
	for _, t := range there {
		if !s.isOthers(t) {
			return false
		}
	}
	err := s.dropAnyway(log, unix.NFPROTO_BRIDGE)
	if err != nil {
		log.Error("what bridges forward is not dropped", "reason", err)
	}
	return err == nil
}

// Dropping tells whether a table drops every packet: one of DropAll, or that of a Desired with Panic for nftables, of this process
// or one before it. One that another program has made dormant, or emptied, counts, too: it is there because panic mode was switched on. One
// that another program owns, and that drops nothing (isHarmless), does not.
func Dropping(o Options) (bool, error) {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return false, err
	}
	defer s.conn.Close()
	there, err := s.tablesOf(unix.NFPROTO_INET, func(name string) bool { return name == panicTable || isDropName(name) })
	for name := range there {
		harmless, asking := s.isHarmless(unix.NFPROTO_INET, name) // of another program; that may be another socket of this process
		if !harmless && asking == nil {
			return true, nil
		}
		err = cmp.Or(err, asking)
	}
	return false, err
}
