// Package compile turns a configuration into the ruleset of one back end.
//
// In comes a *zones.Config, out goes an *ir.Ruleset, or a list of what cannot be said there. It is a pure function: it
// reads no file and asks the machine nothing, and the same configuration gives the same ruleset to the byte.
//
// The passes run in the order of the table below, each adding its chains and rules:
//
//	sets      ipsets become sets with typed, merged elements
//	base      the chains that the kernel enters, and what they do before any zone is asked
//	dispatch  from interface and source to a pair of zones, and there through policies and zones by priority
//	zones     what each zone that is in use allows, denies, forwards and translates
//	policies  the same for each policy that is in use
//	clamps    chains that clamp the segment size in both directions of a connection
//	settle    rules that are as they were the last time are the same again
//	order     rules into the order of their priorities
//	unique    nftables: a rule that stands twice in a chain is emitted once
//	fold      rules that differ in an address or a port alone become one, with a set
//	direct    iptables: chains and rules of the direct interface
//	share     so are chains, and the ruleset if all is
//
// The daemon and the commands call Compile; the targets (compile/nft, compile/iptables) take what it returns.
package compile

import (
	"fmt"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// passes is the compiler, in the order it runs. The order is data: after says which passes must have run, and why.
var passes = []struct {
	name  string
	run   func(*state)
	after []string
}{
	{name: "sets", run: (*state).compileSets},
	{name: "zonesInUse", run: (*state).findInUse},
	{name: "base", run: (*state).compileBase, after: []string{"sets"}},
	{name: "dispatch", run: (*state).compileDispatch, after: []string{"zonesInUse", "base"}}, // long names are drawn in this order
	{name: "zones", run: (*state).compileZones, after: []string{"dispatch", "sets"}},         // rules look sets up
	{name: "policies", run: (*state).compilePolicies, after: []string{"zones"}},
	{name: "clamps", run: (*state).compileClamps, after: []string{"policies"}}, // needs to know all clamps
	{name: "settle", run: (*state).settle, after: []string{"clamps"}},          // compares all that was added
	{name: "order", run: (*state).order, after: []string{"settle"}},            // needs all rules that have a priority
	{name: "unique", run: (*state).unique, after: []string{"order"}},           // keeps the first of equal rules
	{name: "fold", run: (*state).fold, after: []string{"unique"}},              // many rules become one
	{name: "direct", run: (*state).compileDirect, after: []string{"fold"}},     // by position, into what is there
	{name: "share", run: (*state).share, after: []string{"direct"}},            // compares what came out
}

// Error is one thing that a configuration asks for and the back end cannot do, or that a check found too late.
type Error struct {
	Code   grammar.Code
	Origin *ir.Origin
	Msg    string
}

func (e *Error) Error() string {
	if e.Origin == nil {
		return fmt.Sprintf("%s: %s", e.Code, e.Msg)
	}
	return fmt.Sprintf("%s: %s: %s", e.Origin, e.Code, e.Msg)
}

// Errors is all of them, in the order of the passes.
type Errors []*Error

func (l Errors) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Compile makes the ruleset of a configuration that has been checked. The error is an Errors; so it is for one that has not been checked and
// in which something refers to what is not there.
func Compile(cfg *zones.Config, backend ir.Backend) (*ir.Ruleset, error) {
	rs, _, err := History{}.Compile(cfg, backend)
	return rs, err
}

// History is what a running firewall's ruleset has from the configurations before it: as in firewalld, a zone that was in
// use keeps its chains until the next reload, and a chain's short name stays. The zero History is that of a start.
//
// It also has what was made of objects that may not have changed since, so that they need not be compiled again. That does not
// change what comes out.
type History struct {
	applied []string // zones in the order in which they came into use
	names   shortNames
	memo    *memo // nil at the start
}

// Reloaded is the history after a reload: no zone is in use, and long names are drawn anew, further on.
func (h History) Reloaded() History {
	return History{names: shortNames{rng: h.names.rng}, memo: h.memo}
}

// Compile makes the ruleset of a configuration that has been checked, and the history for the next one. The error is an
// Errors; the history is the same then.
func (h History) Compile(cfg *zones.Config, backend ir.Backend) (*ir.Ruleset, History, error) {
	return h.compile(cfg, backend, false)
}

// compile makes the ruleset of the zones that are in use, or of all zones. Without a default zone there is none: it is what packets meet
// that nothing else is bound for.
func (h History) compile(cfg *zones.Config, backend ir.Backend, all bool) (*ir.Ruleset, History, error) {
	if cfg.Zones[cfg.Conf.DefaultZone] == nil {
		return nil, h, Errors{{Code: zones.InvalidZone, Origin: confOrigin, Msg: fmt.Sprintf("the default zone %q does not exist", cfg.Conf.DefaultZone)}}
	}
	s := &state{
		all:    all,
		cfg:    cfg,
		layout: layouts[backend],
		out: &ir.Ruleset{
			Backend:  backend,
			Counters: backend == ir.NFTables && cfg.Conf.NftablesCounters,
			Owner:    backend == ir.NFTables && cfg.Conf.NftablesTableOwner,
		},
		chains:  map[chainKey]*ir.Chain{},
		sets:    map[string]*ir.Set{},
		names:   h.names.clone(),
		history: h.applied,
	}
	s.remember(h.memo)
	for _, p := range passes {
		p.run(s)
	}
	if len(s.errs) > 0 {
		return nil, h, s.errs
	}
	return s.out, History{applied: names(s.applied), names: s.names, memo: s.next}, nil
}

// state is what the passes share.
type state struct {
	directOnly  bool // nothing but the direct interface is compiled
	all         bool // every zone counts as in use
	history     []string
	cfg         *zones.Config
	layout      *layout
	names       shortNames
	out         *ir.Ruleset
	chains      map[chainKey]*ir.Chain
	sets        map[string]*ir.Set
	applied     []*zones.Zone   // the zones in use: the default zone first, then by name
	active      []*zones.Policy // the policies in use, by name
	clamps      []*clamp
	links       ir.Families         // of clamps to what links carry
	clampChains map[clampKey]string // their chains' names, once they are known
	bound       [2][]binding        // of the zones in use, in the order they are asked as ingress (ir.Source) and egress (ir.Dest)
	strict      int                 // counts down: the forward-port added last stands first
	errs        Errors

	before, next *memo
	tape         made // of the item that is compiled
}

type chainKey struct{ table, name string }

// fail records an error of the object that origin names, once for all the rules that the object becomes.
func (s *state) fail(code grammar.Code, origin *ir.Origin, format string, args ...any) {
	e := &Error{Code: code, Origin: origin, Msg: fmt.Sprintf(format, args...)}
	if n := len(s.errs); n > 0 && *s.errs[n-1] == *e {
		return
	}
	s.errs = append(s.errs, e)
}

// declare makes an empty chain, or returns the one that there is.
func (s *state) declare(table, name string) *ir.Chain {
	if s.layout.oneTable {
		table = ""
	}
	key := chainKey{table, name}
	if c := s.chains[key]; c != nil {
		return c
	}
	c := &ir.Chain{Table: table, Name: name, Families: ir.Both}
	s.chains[key] = c
	s.out.Chains = append(s.out.Chains, c)
	return c
}

// add puts rules at the end of a chain.
func (s *state) add(table, name string, rules ...*ir.Rule) {
	c := s.declare(table, name)
	c.Rules = append(c.Rules, rules...)
}
