package compile

import "richwall/compile/ir"

// layout is how a back end arranges what is otherwise the same: its tables, its names, its peculiarities.
type layout struct {
	backend      ir.Backend
	oneTable     bool   // chains carry the table's name, and live in one table
	policyPrefix string // before the name of a policy in a chain's name
	preTables    []string
	unique       bool   // equal rules of a chain are emitted once
	elementFirst bool   // what a rich rule is about is compared before source and destination
	macEgress    bool   // a MAC address can be matched as a destination
	logPrefix    string // before the chain's name in log prefixes
	base         func(*state)
}

// layouts are the back ends. Names are those of firewalld 2.5.2, which scripts and people know.
var layouts = map[ir.Backend]*layout{
	ir.NFTables: {
		backend: ir.NFTables, oneTable: true, policyPrefix: "policy_", preTables: []string{"nat", "mangle"},
		unique: true, macEgress: true, logPrefix: "filter_", base: (*state).baseNFT,
	},
	ir.IPTables: {
		backend: ir.IPTables, preTables: []string{"nat", "mangle", "raw"},
		elementFirst: true, base: (*state).baseIPTables,
	},
}

// chain is the name of a chain of a table: filter, "IN", "public" → filter_IN_public or IN_public.
func (s *state) chain(table, hook, rest string) string {
	if s.layout.oneTable {
		return table + "_" + hook + "_" + rest
	}
	return s.names.short(ir.ChainName(table, hook, rest))
}

// dispatchChain is the name of the chain that a base chain hands packets to: filter_INPUT_dispatch or INPUT_dispatch.
func (s *state) dispatchChain(table, hook string) string {
	return s.chain(table, hook, ir.ChainDispatch)
}

// subChains are the parts of a zone's or policy's chain, in the order they are asked.
var subChains = []string{"pre", "log", "deny", "allow", "post"}

// nameChains draws the names of all chains that are too long for iptables, in the order in which firewalld does at a start,
// so that each gets the same one. Later uses find them drawn.
func (s *state) nameChains() {
	if s.layout.oneTable {
		return
	}
	draw := func(hook, rest string) { s.names.short(hook + "_" + rest) }
	withSubChains := func(hook, suffix string) {
		draw(hook, suffix)
		for _, sub := range subChains {
			draw(hook, suffix+"_"+sub)
		}
	}
	for n, z := range s.applied {
		draw("FWD", z.Name+"_dispatch_stage2")
		draw("POST", z.Name+"_dispatch_stage2")
		draw("IN", z.Name+"_to_HOST")
		draw("PRE", z.Name+"_dispatch")
		draw("OUT", "HOST_to_"+z.Name)
		for _, other := range s.applied[:n+1] {
			draw("FWD", z.Name+"_to_"+other.Name)
			draw("POST", z.Name+"_to_"+other.Name)
		}
		for _, other := range s.applied[:n] {
			draw("FWD", other.Name+"_to_"+z.Name)
			draw("POST", other.Name+"_to_"+z.Name)
		}
		for _, hook := range []string{"IN", "PRE", "OUT", "FWD", "POST"} {
			withSubChains(hook, z.Name)
		}
	}
	for _, p := range s.active {
		for _, c := range policyOwner(s, p).hooks() {
			withSubChains(c.hook, s.layout.policyPrefix+p.Name)
		}
	}
}
