package mss

import (
	"encoding/json"
	"fmt"
	"slices"
)

// ParseNFT reads what "nft -j list ruleset" prints (libnftables-json(5)). Rules of iptables that it lists as "xt" are left
// to ParseIPTables. devices are those of chains at the hook of a device, by family, table and chain, for a version of nft whose JSON does not
// say them; nil for none.
func ParseNFT(data []byte, devices map[string][]string) (*Rules, error) {
	var list struct {
		Nftables []struct {
			Chain *nftChain `json:"chain"`
			Rule  *nftRule  `json:"rule"`
			Set   *nftSet   `json:"set"`
			Map   *nftSet   `json:"map"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("cannot read the rules that nft lists: %w", err)
	}
	p := nftParser{rules: &Rules{chains: map[string][]rule{}, xt: map[nftPlace]bool{}}, sets: map[string]*nftSet{}, devices: devices}
	for _, item := range list.Nftables {
		if item.Set != nil {
			p.sets[item.Set.key(item.Set.Name)] = item.Set
		}
		if item.Map != nil {
			p.sets[item.Map.key(item.Map.Name)] = item.Map
		}
	}
	for _, item := range list.Nftables {
		if c := item.Chain; c != nil && c.Hook != "" {
			p.base(c)
		}
		if r := item.Rule; r != nil {
			key := r.key(r.Chain)
			p.rules.chains[key] = append(p.rules.chains[key], p.parse(r)...)
			if r.mayClampUnseen() {
				p.rules.xt[r.nftPlace] = true
			}
		}
	}
	return p.rules, nil
}

// nftParser makes rules of those of nft.
type nftParser struct {
	rules   *Rules
	sets    map[string]*nftSet // with names, also maps, by family, table and name
	devices map[string][]string
}

// base adds a chain that the kernel enters.
func (p *nftParser) base(c *nftChain) {
	b := base{chain: c.key(c.Name), hook: c.Hook, priority: c.Prio, families: nftFamilies[c.Family]}
	if c.Type == "nat" { // it sees no answer, and of what opens a connection only what needs an address
		b.conditions = append(b.conditions, func(s segment) answer { return min(answered(!s.reply), s.untracked.not(), maybe) })
	}
	switch {
	case c.Family == "arp", c.Family == "bridge" && c.Hook == "forward": // not passed by what is routed
		return
	case c.Family == "bridge":
		b.conditions = append(b.conditions, depends) // it sees what comes and goes by ports, and not all that is routed
	case c.Hook == "ingress" || c.Hook == "egress":
		devices, known := nftWords(c.Dev)
		if !known {
			devices, known = p.devices[b.chain], p.devices[b.chain] != nil
		}
		is := condition(depends)
		if known {
			is = named(c.Hook == "egress", devices, "*")
		} else {
			p.rules.unread(c.nftPlace, c.Name, "nft does not say the device of its hook")
		}
		b.conditions = append(b.conditions, is)
	}
	p.rules.bases = append(p.rules.bases, b)
}

// mayClampUnseen says whether a rule has an extension of iptables that may clamp: nft names it, or not even that, and does not say what it does.
func (r *nftRule) mayClampUnseen() bool {
	for _, e := range r.Expr {
		raw, is := e["xt"]
		if !is {
			continue
		}
		var x struct{ Type, Name string }
		if json.Unmarshal(raw, &x) != nil || x.Name == "" || x.Name == "TCPMSS" {
			return true
		}
	}
	return false
}

// nftFamilies are the families of tables that IP packets pass.
var nftFamilies = map[string]carries{"inet": both, "ip": only4, "ip6": only6, "netdev": both, "bridge": both}

type nftPlace struct{ Family, Table string }

func (p nftPlace) key(name string) string { return p.Family + " " + p.Table + " " + name }

type nftChain struct {
	nftPlace
	Name string
	Type string // filter, nat or route
	Hook string
	Prio int
	Dev  json.RawMessage // a name, or a list
}

// nftSet is a set or map that has a name.
type nftSet struct {
	nftPlace
	Name string
	Elem []json.RawMessage // of a map: pairs
}

type nftRule struct {
	nftPlace
	Chain string
	Expr  []map[string]json.RawMessage
}

// nftRules are the rules that one of nft's becomes: each action has those conditions that stand before it.
type nftRules struct {
	*nftParser
	*nftRule
	list   []rule
	before rule // conditions so far
}

func (r *nftRules) add(one rule, more ...condition) {
	one.conditions = append(slices.Clone(r.before.conditions), more...)
	one.sizes = slices.Clone(r.before.sizes)
	r.list = append(r.list, one)
}

func (r *nftRules) ask(c condition) { r.before.conditions = append(r.before.conditions, c) }

// parse makes rules of one of nft's.
func (p *nftParser) parse(r *nftRule) []rule {
	rules := &nftRules{nftParser: p, nftRule: r}
	for _, statement := range r.Expr {
		for name, body := range statement {
			switch name {
			case "match":
				rules.match(body)
			case "limit", "xt", "quota", "ct count", "set", "map":
				rules.ask(depends)
			case "mangle":
				rules.mangle(body)
			case "vmap":
				rules.verdictMap(body)
			case "notrack":
				rules.add(rule{action: untrack})
			default:
				if one, ok := r.verdict(name, body); ok {
					rules.add(one)
				}
			}
		}
	}
	return rules.list
}

// verdict is a rule without conditions; false for statements that decide nothing.
func (r *nftRule) verdict(name string, body json.RawMessage) (rule, bool) {
	switch name {
	case "accept", "drop", "reject", "queue", "fwd", "tproxy", "synproxy", "dnat", "snat", "masquerade", "redirect":
		return rule{action: end}, true
	case "return":
		return rule{action: back}, true
	case "jump", "goto":
		var to struct{ Target string }
		if json.Unmarshal(body, &to) != nil {
			return rule{}, false
		}
		do := jump
		if name == "goto" {
			do = descend
		}
		return rule{action: do, target: r.key(to.Target)}, true
	}
	return rule{}, false
}

// verdictMap adds a rule for each element of a map of verdicts. What cannot be read may be any verdict.
func (r *nftRules) verdictMap(body json.RawMessage) {
	var m nftMap
	if json.Unmarshal(body, &m) != nil {
		r.add(rule{action: end}, depends)
		return
	}
	elements, ok := r.pairs(m)
	if !ok {
		r.rules.unread(r.nftPlace, r.Chain, "it has a map of verdicts that nft does not list")
		r.add(rule{action: end}, depends)
	}
	for _, e := range elements {
		var verdicts map[string]json.RawMessage
		if json.Unmarshal(e.value, &verdicts) != nil {
			r.add(rule{action: end}, depends)
			continue
		}
		for name, body := range verdicts {
			if one, ok := r.verdict(name, body); ok {
				r.add(one, e.is(r, m.Key))
			}
		}
	}
}

// mangle adds a clamp, or several where the size is in a map.
func (r *nftRules) mangle(body json.RawMessage) {
	var m struct {
		Key struct {
			Meta    struct{ Key string }
			Option  struct{ Name string } `json:"tcp option"`
			Payload struct {
				Base        string
				Offset, Len int
			}
		}
		Value json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil {
		return
	}
	do, text := clamp, fmt.Sprintf("nft: table %s %s, chain %s", r.Family, r.Table, r.Chain)
	switch {
	case m.Key.Meta.Key == "mark":
		r.rules.marks = true
		return
	case m.Key.Option.Name == "maxseg":
	case m.Key.Payload.Base == "th" && m.Key.Payload.Offset == 176 && m.Key.Payload.Len == 16: // the value of an MSS that is the first option
		do = force
	default:
		return
	}
	var value struct {
		Rt  struct{ Key string }
		Map *nftMap
	}
	var size int
	switch {
	case json.Unmarshal(m.Value, &size) == nil:
		r.add(rule{action: do, size: size, text: text})
	case json.Unmarshal(m.Value, &value) == nil && value.Rt.Key == "mtu" && do == clamp:
		r.add(rule{action: do, text: text})
	case value.Map != nil:
		r.sizeMap(*value.Map, do, text)
	default:
		r.rules.unread(r.nftPlace, r.Chain, "it sets a size that is not a number")
	}
}

// sizeMap adds a clamp for each element of a map of sizes.
func (r *nftRules) sizeMap(m nftMap, do action, text string) {
	elements, ok := r.pairs(m)
	for _, e := range elements {
		var size int
		if json.Unmarshal(e.value, &size) != nil {
			ok = false
			continue
		}
		r.add(rule{action: do, size: size, text: text}, e.is(r, m.Key))
	}
	if !ok {
		r.rules.unread(r.nftPlace, r.Chain, "it sets sizes from a map that nft does not list")
	}
}

// match adds the condition of a match.
func (r *nftRules) match(body json.RawMessage) {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil {
		r.ask(depends)
		return
	}
	var l nftLeft
	if json.Unmarshal(m.Left, &l) == nil && l.TCPOption.Name == "maxseg" && r.size(m.Op, m.Right) {
		return
	}
	c := r.compare(m.Left, m.Right, m.Op == "in")
	switch m.Op {
	case "==", "in":
		r.ask(c)
	case "!=":
		r.ask(inverted(c))
	default:
		r.ask(depends)
	}
}

// size adds a condition on the MSS that a segment announces; false if it cannot be read.
func (r *nftRules) size(op string, right json.RawMessage) bool {
	var bounds sizes
	elements, _, ok := r.elements(right)
	if !ok {
		return false
	}
	for _, e := range elements {
		var m struct{ Range [2]int }
		var n int
		switch {
		case json.Unmarshal(e, &n) == nil:
			m.Range = [2]int{n, n}
		case json.Unmarshal(e, &m) != nil || m.Range[1] == 0:
			return false
		}
		bounds.ranges = append(bounds.ranges, m.Range)
	}
	n := bounds.ranges[0][0]
	switch op {
	case "==", "in":
	case "!=":
		bounds.not = true
	case ">":
		bounds.ranges = [][2]int{{n + 1, maxMSS}}
	case ">=":
		bounds.ranges = [][2]int{{n, maxMSS}}
	case "<":
		bounds.ranges = [][2]int{{0, n - 1}}
	case "<=":
		bounds.ranges = [][2]int{{0, n}}
	default:
		return false
	}
	r.before.sizes = append(r.before.sizes, bounds)
	r.rules.sizes = append(r.rules.sizes, bounds.edges()...)
	return true
}
