package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// RemoveOther takes out what an earlier process has put into the kernel by another back end than that of the options: tables of
// nftables, or chains of iptables with the jumps to them, the policies of panic mode, and sets that are noted as left. iptables-nft and
// iptables-legacy are looked at both; the one that is the back end of the options is not. It is called when the rules of that back
// end stand. What is not ours stays. Nothing is run where there is nothing to take out.
func RemoveOther(ctx context.Context, o Options) error {
	o = o.withDefaults()
	var errs []error
	own := ""
	if o.Backend == ir.IPTables {
		errs = append(errs, removeTables(o))
		own = tools{enter: o.Enter}.kindOf(ctx, "iptables")
	}
	for _, v := range variants {
		if v.name != own {
			errs = append(errs, v.sweep(ctx, o))
		}
	}
	o.Left.removeChains(ctx, tools{enter: o.Enter})
	return errors.Join(append(errs, o.Left.removeSets(ctx, tools{enter: o.Enter}))...)
}

// removeTables takes out the tables of nftables, as far as they are there.
func removeTables(o Options) error {
	s, err := openSocket(o.Enter)
	if err != nil {
		return nil // the kernel has no nf_tables
	}
	defer s.conn.Close()
	var errs []error
	for _, name := range []string{ir.Table, panicTable} {
		head, err := s.tableHead(name)
		if err != nil || !head.there {
			continue
		}
		p := &plan{}
		p.dropTable(name, false, 0)
		a, err := s.commit(p.messages())
		if err == nil && len(a.refused) > 0 {
			err = p.errors(a.refused)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot remove table inet %s: %w", name, err))
			continue
		}
		o.Log.Info("the table of an earlier process was taken out", "table", "inet "+name)
	}
	return errors.Join(errs...)
}

// variant is one of the two implementations of iptables.
type variant struct {
	name string // as the names of its programs have it
	// tables are those of a family in which it may have something of ours, in the namespace that a function enters.
	tables func(enter func(func() error) error, family ir.Families) []string
}

var variants = []variant{{"nft", tablesOfNFT}, {"legacy", tablesOfLegacy}}

// tablesOfNFT are all tables, where nf_tables has a chain of ours in one, or panic mode's policy.
func tablesOfNFT(enter func(func() error) error, family ir.Families) []string {
	s, err := openSocket(enter)
	if err != nil {
		return nil
	}
	defer s.conn.Close()
	found := false
	_ = s.dump(unix.NFT_MSG_GETCHAIN, familyNumber(family), nil, func(body []byte) { // an error is that there is none
		table, chain := text(attribute(body, tableName)), text(attribute(body, unix.NFTA_CHAIN_NAME))
		policy := attribute(body, unix.NFTA_CHAIN_POLICY)
		dropping := len(policy) == 4 && number32(policy) == 0 // NF_DROP
		found = found || builtins[table] != nil && (entryChain.MatchString(chain) || dropping && slices.Contains(panicOnly, table))
	})
	if !found {
		return nil
	}
	return iptables.Tables
}

// tablesOfLegacy are those that the kernel has loaded: to ask iptables-legacy for another one would load it.
func tablesOfLegacy(enter func(func() error) error, family ir.Families) []string {
	file := "ip_tables_names"
	if family == ir.V6 {
		file = "ip6_tables_names"
	}
	var list []string
	_ = enter(func() error { // where there is no such file, no table is loaded
		names, err := os.ReadFile("/proc/thread-self/net/" + file)
		list = strings.Fields(string(names))
		return err
	})
	return filter(iptables.Tables, func(table string) bool { return slices.Contains(list, table) })
}

// panicOnly are tables in which nobody but panic mode has all of the kernel's chains drop what comes to their end.
var panicOnly = []string{"raw", "mangle"}

// sweep takes out what is ours in the tables of a variant.
func (v variant) sweep(ctx context.Context, o Options) error {
	tables := map[ir.Families][]string{}
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		if list := v.tables(o.Enter, family); len(list) > 0 {
			tables[family] = list
		}
	}
	if len(tables) == 0 {
		return nil
	}
	t := tools{enter: o.Enter, kind: v.name}
	if _, err := find("iptables-" + v.name); err != nil { // it may go by the plain name
		if t.kind = ""; t.kindOf(ctx, "iptables") != v.name {
			return nil
		}
	}
	var errs []error
	noted, _ := o.Left.found()
	swept := false
	for family, list := range tables {
		k := &iptablesKernel{tools: t, options: o, found: noted, made: map[sharedChain]bool{}, texts: map[sharedRule]string{}}
		some, err := k.sweep(ctx, family, list)
		swept, errs = swept || some, append(errs, err)
	}
	if swept {
		o.Log.Info("the rules of an earlier process were taken out", "program", "iptables-"+v.name)
	}
	return errors.Join(errs...)
}

// sweep is that for one family, and says whether there was something. The tables that tell of panic mode come last, so that a sweep that was broken off begins anew.
func (k *iptablesKernel) sweep(ctx context.Context, family ir.Families, tables []string) (swept bool, err error) {
	var errs []error
	saved := map[string]*savedTable{}
	panicked := false
	for _, table := range tables {
		s, err := k.save(ctx, family, table)
		if s == nil {
			errs = append(errs, err)
			continue
		}
		saved[table] = s
		panicked = panicked || slices.Contains(panicOnly, table) && s.drops(table)
	}
	order := append(filter(tables, func(t string) bool { return !slices.Contains(panicOnly, t) }), panicOnly...)
	for _, table := range order {
		if saved[table] == nil {
			continue
		}
		s, err := k.sweepScript(ctx, family, table, saved[table], panicked)
		if err == nil && s != nil {
			swept, err = true, k.restore(ctx, s)
		}
		errs = append(errs, err)
	}
	return swept, errors.Join(errs...)
}

// drops says whether all of the kernel's chains of a table drop what comes to their end.
func (s *savedTable) drops(table string) bool {
	return !slices.ContainsFunc(builtins[table], func(chain string) bool { return s.policies[chain] != "DROP" })
}

// sweepScript takes out what is ours in a table, but for direct rules; nil if there is nothing.
func (k *iptablesKernel) sweepScript(ctx context.Context, family ir.Families, table string, saved *savedTable, panicked bool) (*script, error) {
	e := &tableEdit{k: k, saved: saved, before: &tableRules{}, had: saved.remains(), want: &tableRules{}, script: &script{family: family, table: table,
		want: &tableRules{}, rules: map[int]*ir.Rule{}, chains: map[int]string{}, listings: map[string]listing{}}}
	for _, r := range e.left().Rules { // one that looks like ours beside those that go is a direct rule
		c := e.had.chain(r.Chain)
		if c == nil || !c.builtin {
			continue
		}
		if i := slices.IndexFunc(c.specs, func(spec string) bool { return spec == r.Spec || spec == r.Text }); i >= 0 {
			c.specs = slices.Delete(slices.Clone(c.specs), i, i+1)
		}
	}
	for _, chain := range builtins[table] {
		if panicked && saved.policies[chain] == "DROP" {
			e.line(":%s ACCEPT [0:0]", chain)
		}
	}
	return e.build(ctx)
}
