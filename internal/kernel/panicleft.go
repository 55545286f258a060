package kernel

import (
	"context"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

// PanicLeft is what panic mode has put into the kernel by a commit, of this process or one before it, that drops every packet: the table
// firewalld_policy_drop of family inet, and tables of iptables by the policies of the kernel's chains. Only a commit takes them away. Tables of
// DropAll are not among them. An error is that it cannot be found out.
func PanicLeft(ctx context.Context, o Options) ([]string, error) {
	o = o.withDefaults()
	left, err := panicTableLeft(o)
	if err != nil {
		return nil, err
	}
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		for _, v := range variants {
			list, err := v.panicPolicies(ctx, o, family)
			if err != nil {
				return nil, err
			}
			left = append(left, list...)
		}
	}
	return left, nil
}

// panicTableLeft is the table of nftables among those, if it is there.
func panicTableLeft(o Options) ([]string, error) {
	s, err := openSocket(o.Enter)
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	t, err := s.tableHead(panicTable)
	if err != nil || !t.there {
		return nil, err
	}
	harmless, err := s.isHarmless(unix.NFPROTO_INET, panicTable)
	if err != nil || harmless {
		return nil, err
	}
	return []string{"table inet " + panicTable}, nil
}

// panicPolicies are the tables of a variant of iptables, for a family, in which panic mode's policies are. Those two that have them longest are
// looked at.
func (v variant) panicPolicies(ctx context.Context, o Options, family ir.Families) (list []string, err error) {
	tables := v.tables(o.Enter, family)
	if !slices.ContainsFunc(panicOnly, func(table string) bool { return slices.Contains(tables, table) }) {
		return nil, nil
	}
	t, err := v.programs(ctx, o, family)
	if t == nil {
		return nil, err
	}
	for _, table := range panicOnly {
		if !slices.Contains(tables, table) {
			continue
		}
		s, err := t.save(ctx, family, table)
		if err != nil {
			return nil, err
		}
		if s != nil && s.drops(table) {
			list = append(list, "the policies of table "+table+" of "+tool(family)+"-"+v.name)
		}
	}
	return list, nil
}

// PassFrames takes the table bridge firewalld_policy_drop away, by which panic mode drops every frame of a bridge. That it is not there is no
// error. One that another program owns, and that drops nothing, stays.
func PassFrames(o Options) error {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	return s.removeDropTable(o.Log, unix.NFPROTO_BRIDGE, panicTable)
}

// ClosedBy are the tables, each with its family, by which the machine is closed when no daemon is there: those of the guard, of panic mode and
// of DropAll. One that another program owns, and that drops nothing, is not among them. What cannot be found out is left out.
func ClosedBy(o Options) (tables []string) {
	s, err := openSocket(o.withDefaults().Enter)
	if err != nil {
		return nil
	}
	defer s.conn.Close()
	for _, family := range []uint8{unix.NFPROTO_INET, unix.NFPROTO_BRIDGE} {
		there, _ := s.tablesOf(family, func(name string) bool { return name == panicTable || isDropName(name) || isGuardName(name) })
		for _, name := range slices.Sorted(maps.Keys(there)) {
			if harmless, _ := s.isHarmless(family, name); !harmless {
				tables = append(tables, nftFamilies[family]+" "+name)
			}
		}
	}
	return tables
}
