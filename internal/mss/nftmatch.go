package mss

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// nftMap is a map that a statement looks into.
type nftMap struct {
	Key  json.RawMessage
	Data json.RawMessage // its name, or a set of pairs
}

// nftPair is an element of a map.
type nftPair struct {
	key, value json.RawMessage
	passing    bool // it is there for a time
}

// is the condition that what a map is asked with is an element.
func (e nftPair) is(r *nftRules, left json.RawMessage) condition {
	c := r.compare(left, e.key, false)
	if e.passing {
		return bothHold(c, depends)
	}
	return c
}

// bothHold is that two conditions hold.
func bothHold(a, b condition) condition {
	return func(s segment) answer { return min(a(s), b(s)) }
}

// pairs are the elements of a map; false if they cannot be read.
func (r *nftRules) pairs(m nftMap) ([]nftPair, bool) {
	elements, _, ok := r.elements(m.Data)
	var list []nftPair
	for _, e := range elements {
		var pair []json.RawMessage
		if json.Unmarshal(e, &pair) != nil || len(pair) != 2 {
			ok = false
			continue
		}
		key, passing := nftElement(pair[0])
		list = append(list, nftPair{key, pair[1], passing})
	}
	return list, ok
}

// elements are what a set has: one with a name, or one that is written down. What is no set is its only element. passing says that some are
// there for a time only. It is false if there is no set of the name.
func (r *nftRules) elements(data json.RawMessage) (list []json.RawMessage, passing, ok bool) {
	var name string
	var set struct{ Set []json.RawMessage }
	switch {
	case json.Unmarshal(data, &name) == nil && strings.HasPrefix(name, "@"):
		known := r.sets[r.key(name[1:])]
		if known == nil {
			return nil, false, false
		}
		set.Set = known.Elem
	case json.Unmarshal(data, &set) == nil && set.Set != nil:
	default:
		return []json.RawMessage{data}, false, true
	}
	for _, e := range set.Set {
		inner, short := nftElement(e)
		list, passing = append(list, inner), passing || short
	}
	return list, passing, true
}

// nftElement is what an element is in itself, and whether it is there for a time.
func nftElement(data json.RawMessage) (json.RawMessage, bool) {
	var e struct {
		Elem struct {
			Val     json.RawMessage
			Timeout *json.RawMessage
			Expires *json.RawMessage
		}
	}
	if json.Unmarshal(data, &e) == nil && e.Elem.Val != nil {
		return e.Elem.Val, e.Elem.Timeout != nil || e.Elem.Expires != nil
	}
	return data, false
}

// nftLeft is what a match looks at, in the forms that matter.
type nftLeft struct {
	Meta, CT  struct{ Key string }
	Payload   struct{ Protocol, Field string }
	TCPOption struct{ Name, Field string } `json:"tcp option"`
	And       []json.RawMessage            `json:"&"`
	Concat    []json.RawMessage
}

// compare is the condition that what left names is right, or one of right. bits says that right is flags of which any
// will do.
func (r *nftRules) compare(left, right json.RawMessage, bits bool) condition {
	var l nftLeft
	if json.Unmarshal(left, &l) != nil {
		return depends
	}
	if len(l.And) == 2 {
		return nftFlags(l.And[0], l.And[1], right)
	}
	elements, passing, ok := r.elements(right)
	if !ok {
		return l.about()
	}
	c := r.oneOf(l, elements, bits)
	if passing {
		return bothHold(c, depends)
	}
	return c
}

// oneOf is the condition that what l names is one of some elements.
func (r *nftRules) oneOf(l nftLeft, elements []json.RawMessage, bits bool) condition {
	if l.Concat != nil {
		var list []condition
		for _, e := range elements {
			list = append(list, r.concat(l.Concat, e))
		}
		return anyOf(list)
	}
	if l.version() != nil {
		return nftAddress(l, elements)
	}
	var values []string
	for _, e := range elements {
		words, plain := nftWords(e)
		if !plain {
			return depends
		}
		values = append(values, words...)
	}
	return nftKey(l, values, bits)
}

// concat is the condition that several things are an element of as many parts.
func (r *nftRules) concat(left []json.RawMessage, element json.RawMessage) condition {
	var e struct{ Concat []json.RawMessage }
	if json.Unmarshal(element, &e) != nil || len(e.Concat) != len(left) {
		return depends
	}
	c := condition(func(segment) answer { return yes })
	for i := range left {
		c = bothHold(c, r.compare(left[i], e.Concat[i], false))
	}
	return c
}

// anyOf is that one of several conditions holds.
func anyOf(list []condition) condition {
	return func(s segment) answer {
		a := no
		for _, c := range list {
			if a = max(a, c(s)); a == yes {
				break
			}
		}
		return a
	}
}

// nftKey is the condition that what l names is one of some values.
func nftKey(l nftLeft, values []string, bits bool) condition {
	if len(values) == 0 {
		return func(segment) answer { return no }
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(values, w) })
	}
	either := func(a, b condition, isA, isB bool) condition {
		switch {
		case isA && isB:
			return func(segment) answer { return yes }
		case isA:
			return a
		case isB:
			return b
		}
		return func(segment) answer { return no }
	}
	switch {
	case l.Meta.Key == "iifname" || l.Meta.Key == "iif":
		return named(false, values, "*")
	case l.Meta.Key == "oifname" || l.Meta.Key == "oif":
		return named(true, values, "*")
	case l.Meta.Key == "nfproto" || l.Meta.Key == "protocol":
		return either(family(false), family(true), has("ipv4", "ip", "2"), has("ipv6", "ip6", "10"))
	case l.Meta.Key == "l4proto" || l.Payload.Field == "protocol" || l.Payload.Field == "nexthdr":
		return protocol(values)
	case l.CT.Key == "state":
		return state(values)
	case l.CT.Key == "direction":
		return either(direction(false), direction(true), has("original", "0"), has("reply", "1"))
	case l.Payload.Protocol == "tcp" && l.Payload.Field == "flags":
		return flags([]string{"ALL"}, values, bits)
	case l.Payload.Protocol == "udp":
		return protocol([]string{"udp"})
	}
	return depends
}

// about is a condition on what l names, of which it is not known what it is compared with.
func (l nftLeft) about() condition {
	if six := l.version(); six != nil {
		return func(s segment) answer { return min(answered(s.six == *six), maybe) }
	}
	return depends
}

// version is the version of the IP header that l is in, nil if it is in none, or names the protocol.
func (l nftLeft) version() *bool {
	six := l.Payload.Protocol == "ip6"
	if !six && l.Payload.Protocol != "ip" || l.Payload.Field == "protocol" || l.Payload.Field == "nexthdr" {
		return nil
	}
	return &six
}

// nftAddress is a condition on the IP header: on an address, or else no more than that the packet has such a header.
func nftAddress(l nftLeft, elements []json.RawMessage) condition {
	if l.Payload.Field != "saddr" && l.Payload.Field != "daddr" {
		return l.about()
	}
	six, dest := *l.version(), l.Payload.Field == "daddr"
	var list []condition
	for _, e := range elements {
		if p, ok := nftPrefix(e); ok {
			list = append(list, within(dest, p))
		} else {
			list = append(list, l.about())
		}
	}
	return func(s segment) answer {
		have := s.src
		if dest {
			have = s.dst
		}
		switch {
		case s.six != six, len(list) == 0:
			return no
		case !have.IsValid() && len(list) > 1:
			return maybe
		}
		return anyOf(list)(s)
	}
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
