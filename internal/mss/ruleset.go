package mss

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Rules are rules of a packet filter, as far as they bear on the MSS of what is forwarded: which chains a segment goes
// through, and where its MSS is set.
type Rules struct {
	chains map[string][]rule
	bases  []base
	xt     map[nftPlace]bool // tables with extensions of iptables of which nft does not say whether they clamp
}

// base is a chain that the kernel enters.
type base struct {
	chain    string
	hook     string // prerouting, forward or postrouting
	priority int
	families carries
}

// segment is a SYN or SYN/ACK that is forwarded.
type segment struct {
	in, out  string       // interfaces
	src, dst netip.Prefix // where its addresses are; not valid if they may be anything
	six      bool         // IPv6
	reply    bool         // SYN/ACK
}

// answer says whether a condition holds.
type answer uint8

const (
	no    answer = iota
	maybe        // it depends on what is not asked about, such as addresses
	yes
)

func answered(b bool) answer {
	if b {
		return yes
	}
	return no
}

func (a answer) not() answer { return yes - a }

// condition is one match of a rule.
type condition func(segment) answer

// depends is a match about something that is not asked about.
func depends(segment) answer { return maybe }

// action is what a rule does if all its conditions hold.
type action uint8

const (
	clamp   action = iota // sets the MSS to at most size
	end                   // accepts or drops: no later rule of this base chain is asked
	back                  // returns to the chain that jumped here
	jump                  // to target, and comes back
	descend               // goes to target, and comes back to where this chain was jumped to from
)

type rule struct {
	conditions []condition
	action     action
	target     string // of a jump
	size       int    // of a clamp, bytes; 0 means what the path's MTU allows
	text       string // of a clamp: what to call it
}

// Found is a clamp that a segment meets.
type Found struct {
	Rule   string `json:"rule"`   // where it is
	Size   int    `json:"size"`   // bytes; 0 means what the path's MTU allows
	Sure   bool   `json:"sure"`   // every such segment meets it; else it depends on, say, addresses
	Enough bool   `json:"enough"` // it is to no more than fits
}

// hooks are where what is forwarded passes, in this order (netfilter_ipv4.h).
var hooks = []string{"prerouting", "forward", "postrouting"}

// Bounds of a walk. The kernel enters at most 16 chains one from the other, and rules that come from it are in no circle.
const (
	deepest = 32      // chains, one from the other
	longest = 1 << 22 // rules; what lies beyond depends
)

// meets is the clamps that a segment meets.
func (r *Rules) meets(s segment) []Found {
	bases := slices.DeleteFunc(slices.Clone(r.bases), func(b base) bool {
		return !slices.Contains(hooks, b.hook) || b.families == only4 && s.six || b.families == only6 && !s.six
	})
	slices.SortStableFunc(bases, func(a, b base) int {
		return cmp.Or(cmp.Compare(slices.Index(hooks, a.hook), slices.Index(hooks, b.hook)), cmp.Compare(a.priority, b.priority))
	})
	w := walk{rules: r, segment: s}
	for _, b := range bases {
		w.chain(b.chain, true, deepest)
	}
	return w.found
}

// walk is a segment's way through the rules.
type walk struct {
	rules   *Rules
	segment segment
	found   []Found
	steps   int // so far, over all chains
}

// chain goes through a chain. sure says that the segment certainly comes here. The answer says whether it ends here.
func (w *walk) chain(name string, sure bool, depth int) (ends answer) {
	if depth == 0 {
		return maybe
	}
	for _, r := range w.rules.chains[name] {
		if w.steps++; w.steps > longest {
			return maybe
		}
		holds := yes
		for _, c := range r.conditions {
			holds = min(holds, c(w.segment))
		}
		if holds == no {
			continue
		}
		inside := no
		switch r.action {
		case clamp:
			w.found = append(w.found, Found{Rule: r.text, Size: r.size, Sure: sure && holds == yes})
			continue
		case end:
			inside = yes
		case back:
			if holds == yes {
				return ends
			}
			sure = false
			continue
		case jump, descend:
			inside = w.chain(r.target, sure && holds == yes, depth-1)
		}
		if holds == yes && (inside == yes || r.action == descend) {
			return max(ends, inside)
		}
		if inside != no || r.action == descend {
			sure = false
		}
		if inside != no {
			ends = maybe
		}
	}
	return ends
}

// named is a condition on an interface's name: one of a list, in which wild at the end of a name stands for anything.
func named(out bool, names []string, wild string) condition {
	return func(s segment) answer {
		have := s.in
		if out {
			have = s.out
		}
		return answered(slices.ContainsFunc(names, func(n string) bool {
			prefix, isPrefix := strings.CutSuffix(n, wild)
			return n == have || isPrefix && strings.HasPrefix(have, prefix)
		}))
	}
}

// within is a condition on an address: that it is in a prefix.
func within(destination bool, p netip.Prefix) condition {
	return func(s segment) answer {
		have := s.src
		if destination {
			have = s.dst
		}
		switch {
		case p.Addr().Is6() != s.six:
			return no
		case p.Bits() == 0, have.IsValid() && p.Bits() <= have.Bits() && p.Overlaps(have):
			return yes
		case have.IsValid() && !p.Overlaps(have):
			return no
		}
		return maybe
	}
}

// parsePrefix reads an address or a prefix.
func parsePrefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

// family is a condition on the version of IP.
func family(six bool) condition {
	return func(s segment) answer { return answered(s.six == six) }
}

// direction is a condition on the direction in which connection tracking sees a packet.
func direction(reply bool) condition {
	return func(s segment) answer { return answered(s.reply == reply) }
}

// state is a condition on the state of connection tracking: that of a SYN is new, that of a SYN/ACK established. iptables
// also has the states DNAT and SNAT, which depend on the connection.
func state(names []string) condition {
	return func(s segment) answer {
		result := no
		for _, n := range names {
			switch strings.ToLower(n) {
			case "dnat", "snat":
				result = max(result, maybe)
			case "new":
				result = max(result, answered(!s.reply))
			case "established":
				result = max(result, answered(s.reply))
			}
		}
		return result
	}
}

// flags is a condition on TCP flags: of those in mask, those in set are there and no others. anyOf says that one of set is
// enough.
func flags(mask, set []string, anyOf bool) condition {
	has := func(list []string, flag string) bool {
		return slices.ContainsFunc(list, func(f string) bool { return strings.EqualFold(f, flag) || strings.EqualFold(f, "ALL") })
	}
	return func(s segment) answer {
		found := false
		for _, flag := range []string{"syn", "ack", "fin", "rst", "psh", "urg"} {
			there := flag == "syn" || flag == "ack" && s.reply
			if anyOf {
				found = found || there && has(set, flag)
			} else if has(mask, flag) && there != has(set, flag) {
				return no
			}
		}
		return answered(found || !anyOf)
	}
}

// offers is a condition on the MSS that a segment announces; what an Ethernet host offers is asked for.
func offers(low, high int) condition {
	return func(s segment) answer {
		plain := Ethernet - header4
		if s.six {
			plain = Ethernet - header6
		}
		return answered(plain >= low && plain <= high)
	}
}

// inverted is the opposite of a condition.
func inverted(c condition) condition {
	return func(s segment) answer { return c(s).not() }
}
