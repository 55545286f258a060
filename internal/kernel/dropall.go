package kernel

import "fmt"

// DropAll puts up or takes away the table that drops every packet, by a socket of its own: for a panic mode that must not wait
// for a commit that takes its time. A Kernel that commits panic mode later puts its own table in the place of this one.
func DropAll(o Options, on bool) error {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	p := &plan{next: &Desired{Panic: on}}
	p.panicTable(false)
	a, err := s.commit(p.messages())
	if err == nil && len(a.refused) > 0 {
		err = p.errors(a.refused)
	}
	if err != nil {
		return fmt.Errorf("cannot change table inet %s: %w", panicTable, err)
	}
	return nil
}
