package mss

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseNFT reads what "nft -j list ruleset" prints (libnftables-json(5)). Rules of iptables that it lists as "xt" are left
// to ParseIPTables.
func ParseNFT(data []byte) (*Rules, error) {
	var list struct {
		Nftables []struct {
			Chain *nftChain `json:"chain"`
			Rule  *nftRule  `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("cannot read the rules that nft lists: %w", err)
	}
	rules := &Rules{chains: map[string][]rule{}, xt: map[nftPlace]bool{}}
	for _, item := range list.Nftables {
		if c := item.Chain; c != nil && c.Hook != "" {
			rules.bases = append(rules.bases, base{c.key(c.Name), c.Hook, c.Prio, nftFamilies[c.Family]})
		}
		if r := item.Rule; r != nil {
			key := r.key(r.Chain)
			rules.chains[key] = append(rules.chains[key], r.rules()...)
			if r.mayClampUnseen() {
				rules.xt[r.nftPlace] = true
			}
		}
	}
	return rules, nil
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
var nftFamilies = map[string]carries{"inet": both, "ip": only4, "ip6": only6}

type nftPlace struct{ Family, Table string }

func (p nftPlace) key(chain string) string { return p.Family + " " + p.Table + " " + chain }

type nftChain struct {
	nftPlace
	Name string
	Hook string
	Prio int
}

type nftRule struct {
	nftPlace
	Chain string
	Expr  []map[string]json.RawMessage
}

// rules are the rules that one of nft's is: each action has those conditions that stand before it.
func (r *nftRule) rules() []rule {
	var list []rule
	var conditions []condition
	add := func(one rule, more ...condition) {
		one.conditions = append(append([]condition{}, conditions...), more...)
		list = append(list, one)
	}
	for _, statement := range r.Expr {
		for name, body := range statement {
			switch name {
			case "match":
				conditions = append(conditions, nftMatch(body))
			case "limit", "xt":
				conditions = append(conditions, depends)
			case "mangle":
				if size, ok := nftClamp(body); ok {
					add(rule{action: clamp, size: size, text: fmt.Sprintf("nft: table %s %s, chain %s", r.Family, r.Table, r.Chain)})
				}
			case "vmap":
				r.verdictMap(body, add)
			default:
				if one, ok := r.verdict(name, body); ok {
					add(one)
				}
			}
		}
	}
	return list
}

// verdict is a rule without conditions; false for statements that decide nothing.
func (r *nftRule) verdict(name string, body json.RawMessage) (rule, bool) {
	switch name {
	case "accept", "drop", "reject", "queue":
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

// verdictMap adds a rule for each element of a map of verdicts.
func (r *nftRule) verdictMap(body json.RawMessage, add func(rule, ...condition)) {
	var m struct {
		Key  json.RawMessage
		Data struct {
			Set [][2]json.RawMessage
		}
	}
	if json.Unmarshal(body, &m) != nil { // a map that has a name, whose elements are not here
		return
	}
	for _, element := range m.Data.Set {
		var verdicts map[string]json.RawMessage
		if json.Unmarshal(element[1], &verdicts) != nil {
			continue
		}
		for name, body := range verdicts {
			if one, ok := r.verdict(name, body); ok {
				add(one, nftCompare(m.Key, element[0], false))
			}
		}
	}
}

// nftClamp is the size that a "tcp option maxseg size set" sets, 0 for "rt mtu".
func nftClamp(body json.RawMessage) (size int, ok bool) {
	var m struct {
		Key struct {
			Option struct{ Name string } `json:"tcp option"`
		}
		Value json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil || m.Key.Option.Name != "maxseg" {
		return 0, false
	}
	var rt struct{ Rt struct{ Key string } }
	if json.Unmarshal(m.Value, &rt) == nil && rt.Rt.Key == "mtu" {
		return 0, true
	}
	return size, json.Unmarshal(m.Value, &size) == nil
}

// nftMatch is the condition of a match.
func nftMatch(body json.RawMessage) condition {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil {
		return depends
	}
	c := nftCompare(m.Left, m.Right, m.Op == "in")
	switch m.Op {
	case "==", "in":
		return c
	case "!=":
		return inverted(c)
	}
	return depends
}

// nftLeft is what a match looks at, in the forms that matter.
type nftLeft struct {
	Meta, CT  struct{ Key string }
	Payload   struct{ Protocol, Field string }
	TCPOption struct{ Name, Field string } `json:"tcp option"`
	And       []json.RawMessage            `json:"&"`
}

// nftCompare is the condition that what left names is right, or one of right. bits says that right is flags of which any
// will do.
func nftCompare(left, right json.RawMessage, bits bool) condition {
	var l nftLeft
	if json.Unmarshal(left, &l) != nil {
		return depends
	}
	if len(l.And) == 2 {
		return nftFlags(l.And[0], l.And[1], right)
	}
	if l.TCPOption.Name == "maxseg" {
		return nftSizes(right)
	}
	if c := nftAddress(l, right); c != nil {
		return c
	}
	values, plain := nftWords(right)
	if !plain {
		return depends
	}
	return nftKey(l, values, bits)
}

// nftKey is the condition that what l names is one of some values.
func nftKey(l nftLeft, values []string, bits bool) condition {
	switch {
	case l.Meta.Key == "iifname" || l.Meta.Key == "iif":
		return named(false, values, "*")
	case l.Meta.Key == "oifname" || l.Meta.Key == "oif":
		return named(true, values, "*")
	case l.Meta.Key == "nfproto":
		return family(values[0] == "ipv6")
	case l.Meta.Key == "protocol":
		return family(values[0] == "ip6")
	case l.Meta.Key == "l4proto" || l.Payload.Field == "protocol" || l.Payload.Field == "nexthdr":
		return protocol(values)
	case l.CT.Key == "state":
		return state(values)
	case l.CT.Key == "direction":
		return direction(values[0] == "reply")
	case l.Payload.Protocol == "tcp" && l.Payload.Field == "flags":
		return flags([]string{"ALL"}, values, bits)
	case l.Payload.Protocol == "udp":
		return protocol([]string{"udp"})
	}
	return depends
}

// nftAddress is a condition on the IP header: on an address, or else no more than that the packet has such a header. It is
// nil for other headers, and for the protocol.
func nftAddress(l nftLeft, right json.RawMessage) condition {
	six := l.Payload.Protocol == "ip6"
	if !six && l.Payload.Protocol != "ip" || l.Payload.Field == "protocol" || l.Payload.Field == "nexthdr" {
		return nil
	}
	if l.Payload.Field == "saddr" || l.Payload.Field == "daddr" {
		if p, ok := nftPrefix(right); ok {
			return within(l.Payload.Field == "daddr", p)
		}
	}
	return func(s segment) answer { return min(answered(s.six == six), maybe) }
}

// nftPrefix is an address or a prefix.
func nftPrefix(data json.RawMessage) (netip.Prefix, bool) {
	var m struct {
		Prefix struct {
			Addr string
			Len  int
		}
	}
	var text string
	if json.Unmarshal(data, &m) == nil {
		text = fmt.Sprintf("%s/%d", m.Prefix.Addr, m.Prefix.Len)
	} else if json.Unmarshal(data, &text) != nil {
		return netip.Prefix{}, false
	}
	return parsePrefix(text)
}

// protocol is a condition on the transport protocol.
func protocol(names []string) condition {
	return func(segment) answer {
		for _, n := range names {
			if n == "tcp" || n == "6" || n == "all" {
				return yes
			}
		}
		return no
	}
}

// nftFlags is the condition "tcp flags & mask == set".
func nftFlags(left, mask, set json.RawMessage) condition {
	var l nftLeft
	if json.Unmarshal(left, &l) != nil || l.Payload.Protocol != "tcp" || l.Payload.Field != "flags" {
		return depends
	}
	masked, ok := nftWords(mask)
	values, plain := nftWords(set)
	if !ok || !plain {
		return depends
	}
	return flags(masked, values, false)
}

// nftSizes is the condition that an announced MSS is right: a number or a range.
func nftSizes(right json.RawMessage) condition {
	var m struct{ Range [2]int }
	if json.Unmarshal(right, &m) == nil && m.Range[1] != 0 {
		return offers(m.Range[0], m.Range[1])
	}
	var n int
	if json.Unmarshal(right, &n) == nil {
		return offers(n, n)
	}
	return depends
}

// nftWords are words or numbers: one, a list, a set without a name, or flags joined by |. false for anything else.
func nftWords(data json.RawMessage) ([]string, bool) {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return nil, false
	}
	return flatWords(v)
}

func flatWords(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, !strings.HasPrefix(v, "@")
	case float64:
		return []string{strconv.Itoa(int(v))}, true
	case []any:
		var list []string
		for _, one := range v {
			words, ok := flatWords(one)
			if !ok {
				return nil, false
			}
			list = append(list, words...)
		}
		return list, len(list) > 0
	case map[string]any:
		for _, key := range []string{"set", "|"} {
			if inner, ok := v[key]; ok && len(v) == 1 {
				return flatWords(inner)
			}
		}
	}
	return nil, false
}
