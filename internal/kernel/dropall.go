package kernel

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// dropTable drops every packet while it is there, as panicTable does. No Kernel knows of it, so that no commit ends it.
const dropTable = ir.Table + "_drop_all"

// DropAll puts up or takes away a table that drops every packet, and one that drops every frame of a bridge, by a socket of its own: for a
// panic mode that must not wait for a commit that takes its time. No commit takes the tables away, nor does the end of the process; DropAll
// alone does. A table that is there already is made anew, and one that is not there can be taken away. That frames cannot be dropped is
// logged alone. On an error nothing was put up, and every packet is dropped if it was before.
func DropAll(o Options, on bool) error {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	if !on {
		if err := s.dropBridged(dropTable, false); err != nil {
			return err
		}
		return s.dropPackets(dropTable, false)
	}
	if err := s.dropPackets(dropTable, true); err != nil {
		return err
	}
	if err := s.dropBridged(dropTable, true); err != nil { // panic mode is on all the same
		o.Log.Error("what bridges forward is not dropped", "reason", err)
	}
	return nil
}

// dropPackets makes anew a table that drops every packet, or takes a table away. On an error nothing changed.
func (s *socket) dropPackets(name string, on bool) error {
	p := &plan{}
	p.dropTable(name, on, 0)
	a, err := s.commit(p.messages())
	if err == nil && len(a.refused) > 0 {
		err = p.errors(a.refused)
	}
	if err != nil {
		return fmt.Errorf("cannot change table inet %s: %w", name, err)
	}
	return nil
}

// dropBridged makes anew or takes away a table that drops every frame which comes to a bridge, or leaves the machine by one. A kernel
// without tables of family bridge has none. On an error nothing changed.
func (s *socket) dropBridged(name string, on bool) error {
	e := &nft.Encoder{Table: name, Bridge: true}
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
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("cannot change table bridge %s: %w", name, err)
	}
	return nil
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
		err := s.dropBridged(panicTable, on)
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
		if err := s.dropBridged(dropTable, false); err != nil {
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

// dropBridgedInstead puts up the table of DropAll that drops every frame of a bridge, and says whether it was not there before.
func (s *socket) dropBridgedInstead(log *slog.Logger) (made bool) {
	there := false
	err := s.dump(unix.NFT_MSG_GETTABLE, unix.NFPROTO_BRIDGE, nil, func(body []byte) {
		there = there || text(attribute(body, tableName)) == dropTable
	})
	if err == nil && there {
		return false
	}
	if err = s.dropBridged(dropTable, true); err != nil {
		log.Error("what bridges forward is not dropped", "reason", err)
	}
	return err == nil
}

// Dropping tells whether a table drops every packet: that of DropAll, or that of a Desired with Panic for nftables, of this process
// or one before it. One that another program has made dormant counts, too: it is there because panic mode was switched on.
func Dropping(o Options) (bool, error) {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return false, err
	}
	defer s.conn.Close()
	for _, name := range []string{dropTable, panicTable} {
		t, err := s.tableHead(name)
		if err != nil || t.there {
			return t.there, err
		}
	}
	return false, nil
}
