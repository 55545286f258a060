package kernel

import (
	"fmt"

	"richwall/compile/ir"
)

// dropTable drops every packet while it is there, as panicTable does. No Kernel knows of it, so that no commit ends it.
const dropTable = ir.Table + "_drop_all"

// DropAll puts up or takes away a table that drops every packet, by a socket of its own: for a panic mode that must not wait
// for a commit that takes its time. No commit takes the table away, nor does the end of the process; DropAll alone does. A
// table that is there already is made anew, and one that is not there can be taken away. On an error nothing changed.
func DropAll(o Options, on bool) error {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	p := &plan{}
	p.dropTable(dropTable, on, 0)
	a, err := s.commit(p.messages())
	if err == nil && len(a.refused) > 0 {
		err = p.errors(a.refused)
	}
	if err != nil {
		return fmt.Errorf("cannot change table inet %s: %w", dropTable, err)
	}
	return nil
}

// Dropping tells whether a table drops every packet: that of DropAll, or that of a Desired with Panic for nftables, of this process
// or one before it.
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
