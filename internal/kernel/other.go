package kernel

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// home is where in the kernel the rules of a Kernel are that are in force.
type home struct {
	tables   bool                     // in tables of nftables
	variants map[ir.Families][]string // in all tables of these variants of iptables, which may be either where that is not known
	direct   leftThings               // the rules and chains of the direct interface, which are beside the tables of nftables
}

// homed is a Kernel that knows where its rules are. The error is that they are nowhere, or that it cannot say where.
type homed interface {
	home(context.Context) (home, error)
}

// errNotInForce is why nothing is taken out beside rules that are not there.
var errNotInForce = errors.New("the rules that are to take the place of others are not in the kernel")

func (k *nftables) home(context.Context) (home, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.installed == nil || k.installed.Succeeded {
		return home{}, errNotInForce
	}
	at := home{tables: true}
	if k.direct != nil {
		at.direct = k.direct.directs()
	}
	return at, nil
}

// directs is what one beside nftables has committed last, with chains that it had no need to make.
func (k *iptablesKernel) directs() leftThings {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.installed == nil || k.installed.Rules == nil {
		return leftThings{}
	}
	t := k.leaves(k.installed)
	for _, c := range k.installed.Rules.Chains {
		for _, family := range k.families {
			if c.Families&family != 0 && !isBuiltin(c.Table, c.Name) {
				t.Chains = append(t.Chains, chainLeft(family, c.Table, c.Name))
			}
		}
	}
	return t
}

// home asks the programs of each family by itself which variant they are now. What they were when they were found counts too: somebody
// may have changed that meanwhile.
func (k *iptablesKernel) home(ctx context.Context) (home, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.installed == nil || k.installed.Succeeded {
		return home{}, errNotInForce
	}
	at := home{variants: map[ir.Families][]string{}}
	for _, family := range k.unused { // the next commit may find them usable
		for _, v := range variants {
			at.variants[family] = append(at.variants[family], v.name)
		}
	}
	for _, family := range k.families {
		kinds, err := k.kindsOf(ctx, family)
		if err != nil {
			return home{}, err
		}
		at.variants[family] = append(kinds, k.kinds[family])
	}
	return at, nil
}

// RemoveOther takes out what an earlier process has put into the kernel elsewhere than where the rules of a Kernel are, which are in
// force: tables of nftables, or chains of iptables with the jumps to them, the policies of panic mode, and sets that are noted as left.
// iptables-nft and iptables-legacy are looked at both, for each family by itself. What the Kernel says of where its rules are is left
// alone; where it does not know that, or has none in the kernel, nothing is taken out, and the error says so: it can be tried again. What
// is not ours stays. Where there is nothing to take out, no more is run than what the Kernel needs to say where it is.
func RemoveOther(ctx context.Context, o Options, inForce Kernel) error {
	o = o.withDefaults()
	k, ok := inForce.(homed)
	if !ok {
		return errNotInForce
	}
	at, err := k.home(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if !at.tables {
		errs = append(errs, removeTables(o))
	}
	noted, _ := o.Left.found()
	direct := noted.and(at.direct)
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		for _, v := range variants {
			if !slices.Contains(at.variants[family], v.name) {
				errs = append(errs, v.sweep(ctx, o, family, direct))
			}
		}
	}
	o.Left.removeChains(ctx, tools{enter: o.Enter})
	return errors.Join(append(errs, o.Left.removeSets(ctx, tools{enter: o.Enter}))...)
}

// removeTables takes out the tables of nftables, as far as they are there. That of another program, which drops nothing by a policy, is not
// from an earlier process.
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
		if err := s.removeDropTable(o.Log, unix.NFPROTO_INET, name); err != nil {
			errs = append(errs, err)
			continue
		}
		if s.isOthers(head) { // it stays
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
		found = found || builtins[table] != nil && (isEntry(table, chain) || dropping && slices.Contains(panicOnly, table))
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

// sweep takes out what is ours in the tables of a variant for a family, but for what is of the direct interface.
func (v variant) sweep(ctx context.Context, o Options, family ir.Families, direct leftThings) error {
	tables := v.tables(o.Enter, family)
	if len(tables) == 0 {
		return nil
	}
	t, err := v.programs(ctx, o, family)
	if t == nil {
		return err
	}
	k := &iptablesKernel{tools: *t, options: o, made: map[sharedChain]bool{}, texts: map[sharedRule]string{},
		madeOf: map[sharedChain]map[string]string{}}
	swept, err := k.sweep(ctx, family, tables, direct)
	if swept {
		o.Log.Info("the rules of an earlier process were taken out", "program", tool(family)+"-"+v.name)
	}
	return err
}

// programs are those of a variant for a family; nil if they are not installed. Whatever their names, they are asked which variant they are:
// nothing must be run on the tables of the other one. The error is that they cannot be asked.
func (v variant) programs(ctx context.Context, o Options, family ir.Families) (*tools, error) {
	t := &tools{enter: o.Enter, kind: v.name}
	if _, err := find(t.program(tool(family))); err != nil { // they may go by the plain names
		t.kind = ""
	}
	if _, err := find(t.program(tool(family))); err != nil {
		return nil, nil
	}
	kinds, err := t.kindsOf(ctx, family)
	if err != nil || slices.ContainsFunc(kinds, func(kind string) bool { return kind != v.name }) {
		return nil, err
	}
	return t, nil
}

// sweep is that for some tables, and says whether there was something. The tables that tell of panic mode come last, so that a sweep that was broken off begins anew.
func (k *iptablesKernel) sweep(ctx context.Context, family ir.Families, tables []string, direct leftThings) (swept bool, err error) {
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
	for _, table := range tablesInOrder(nil, &Desired{}) {
		if saved[table] == nil {
			continue
		}
		s, err := k.sweepScript(ctx, family, table, saved[table], panicked, direct.in(family, table))
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

// sweepScript takes out what is ours in a table, but for what is of the direct interface; nil if there is nothing.
func (k *iptablesKernel) sweepScript(ctx context.Context, family ir.Families, table string, saved *savedTable, panicked bool, direct leftThings) (*script, error) {
	if _, err := k.recognise(ctx, saved, family, table, k.mayBeHere(saved, family, table, true)); err != nil {
		return nil, err
	}
	e := &tableEdit{k: k, saved: saved, before: &tableRules{}, had: saved.remains(table, direct), want: &tableRules{}, script: &script{family: family, table: table,
		want: &tableRules{}, rules: map[int]*ir.Rule{}, chains: map[int]string{}, listings: map[string]listing{}}}
	for _, chain := range builtins[table] {
		if panicked && saved.policies[chain] == "DROP" {
			e.line(":%s ACCEPT [0:0]", chain)
		}
	}
	return e.build(ctx)
}
