package mss

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Rules are rules of a packet filter, as far as they bear on the MSS of what is forwarded: which chains a segment goes
// through, and where its MSS is set.
type Rules struct {
	chains map[string][]rule
	bases  []base
	sizes  []int             // sizes that some rule asks for, so that what is announced is to be tried on either side of them
	marks  bool              // some of them mark packets
	notes  []string          // what of them cannot be read, a sentence each
	xt     map[nftPlace]bool // tables with extensions of iptables of which nft does not say whether they clamp
}

// unread notes why a chain cannot be read, so that what is not found may be there.
func (r *Rules) unread(place nftPlace, chain, why string) {
	note := fmt.Sprintf("The chain %s of the table %s %s cannot be read: %s.", chain, place.Family, place.Table, why)
	if !slices.Contains(r.notes, note) {
		r.notes = append(r.notes, note)
	}
}

// base is a chain that the kernel enters.
type base struct {
	chain      string
	hook       string // ingress, prerouting, forward, postrouting or egress
	priority   int
	families   carries
	conditions []condition // under which the kernel enters it
}

// segment is a SYN or SYN/ACK that is forwarded.
type segment struct {
	in, out   string       // interfaces
	inVRF     string       // the VRF of in, whose name some hooks have instead; "" for none
	src, dst  netip.Prefix // where its addresses are; not valid if they may be anything
	six       bool         // IPv6
	reply     bool         // SYN/ACK
	untracked answer       // connection tracking leaves it out
	pmtu      span         // what the kernel makes of the path's MTU, in bytes of MSS
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
	force                 // sets the MSS to size, also if that is more
	untrack               // has connection tracking leave the segment out
	end                   // accepts or drops: no later rule of this base chain is asked
	back                  // returns to the chain that jumped here
	jump                  // to target, and comes back
	descend               // goes to target, and comes back to where this chain was jumped to from
)

type rule struct {
	conditions []condition
	sizes      []sizes // conditions on the MSS that is announced
	action     action
	target     string // of a jump
	size       int    // of a clamp, bytes; 0 means what the path's MTU allows
	text       string // of a clamp: what to call it
}

// sizes is a condition on the MSS that a segment announces: that it is in one of some ranges, or in none.
type sizes struct {
	ranges [][2]int // first and last, in bytes
	not    bool
}

// maxMSS is the largest MSS that the option has room for.
const maxMSS = 65535

func (c sizes) holds(mss int) bool {
	return slices.ContainsFunc(c.ranges, func(r [2]int) bool { return mss >= r[0] && mss <= r[1] }) != c.not
}

// edges are the sizes after which the condition may change.
func (c sizes) edges() []int {
	var list []int
	for _, r := range c.ranges {
		list = append(list, r[0]-1, r[1])
	}
	return list
}

// Found is a clamp that a segment meets.
type Found struct {
	Rule   string `json:"rule"`   // where it is
	Size   int    `json:"size"`   // bytes; 0 means what the path's MTU allows
	Sure   bool   `json:"sure"`   // every such segment meets it; else it depends on, say, addresses
	Enough bool   `json:"enough"` // it is to no more than fits
}

// findings are clamps that segments meet, each once; it is sure if it is so for any.
type findings struct{ list []Found }

func (f *findings) add(one Found) {
	for i, old := range f.list {
		if old.Rule == one.Rule && old.Size == one.Size && old.Enough == one.Enough {
			f.list[i].Sure = old.Sure || one.Sure
			return
		}
	}
	f.list = append(f.list, one)
}

// hooks are where what is forwarded passes, in this order (netfilter_ipv4.h, netfilter_netdev.h).
var hooks = []string{"ingress", "prerouting", "forward", "postrouting", "egress"}

// trackedFrom is the priority at prerouting from which connection tracking knows a packet (netfilter_ipv4.h).
const trackedFrom = -200

// Bounds of a walk. The kernel enters at most 16 chains one from the other, and rules that come from it are in no circle.
const (
	deepest = 32      // chains, one from the other
	longest = 1 << 22 // rules; what lies beyond depends
)

// merge is several lists as one, as the kernel has them.
func merge(list []*Rules) *Rules {
	all := &Rules{chains: map[string][]rule{}}
	for i, r := range list {
		rename := func(chain string) string { return strconv.Itoa(i) + " " + chain }
		for name, rules := range r.chains {
			renamed := slices.Clone(rules)
			for j := range renamed {
				renamed[j].target = rename(renamed[j].target)
			}
			all.chains[rename(name)] = renamed
		}
		for _, b := range r.bases {
			b.chain = rename(b.chain)
			all.bases = append(all.bases, b)
		}
		all.sizes = append(all.sizes, r.sizes...)
	}
	slices.SortStableFunc(all.bases, func(a, b base) int {
		return cmp.Or(cmp.Compare(slices.Index(hooks, a.hook), slices.Index(hooks, b.hook)), cmp.Compare(a.priority, b.priority))
	})
	slices.Sort(all.sizes)
	all.sizes = slices.Compact(all.sizes)
	return all
}

// clamped says whether all that a segment may announce is lowered to what fits, in bytes. What it may announce is all up to what a wider path
// carries, and to what an Ethernet does. The clamps go into by.
func (r *Rules) clamped(s segment, fits, widest int, by *findings) State {
	plain := Ethernet - header4
	if s.six {
		plain = Ethernet - header6
	}
	all, none := true, true
	for _, offer := range r.offers(fits+1, max(widest, plain)) {
		low, high := r.after(s, fits, offer, by)
		all = all && high <= fits
		none = none && low > fits
	}
	switch {
	case all:
		return Clamped
	case none:
		return Unclamped
	}
	return InPart
}

// offers are sizes from low to high of which each that is not there meets the same rules as one that is.
func (r *Rules) offers(low, high int) []int {
	list := []int{low, high}
	for _, n := range r.sizes {
		for _, one := range []int{n, n + 1} {
			if one > low && one < high {
				list = append(list, one)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// after is the least and the most that a segment may announce at the end which comes with an MSS.
func (r *Rules) after(s segment, fits, mss int, by *findings) (low, high int) {
	w := walk{rules: r, segment: s, fits: fits, mss: []int{mss}, found: by}
	for _, b := range r.bases {
		if !slices.Contains(hooks, b.hook) || b.families == only4 && s.six || b.families == only6 && !s.six {
			continue
		}
		w.hook, w.early = b.hook, b.hook == "ingress" || b.hook == "prerouting" && b.priority <= trackedFrom
		if enters := w.all(b.conditions); enters != no {
			w.chain(b.chain, enters == yes, deepest)
		}
	}
	return slices.Min(w.mss), slices.Max(w.mss)
}

// walk is a segment's way through the rules.
type walk struct {
	rules   *Rules
	segment segment
	fits    int
	mss     []int // what it may announce by now
	hook    string
	early   bool // connection tracking does not know it yet
	found   *findings
	steps   int // so far, over all chains
}

// all says whether all conditions hold.
func (w *walk) all(list []condition) answer {
	s := w.segment
	if w.early {
		s.untracked = yes
	}
	switch w.hook {
	case "ingress", "prerouting":
		s.out = "" // it was not routed yet
	case "egress":
		s.in, s.inVRF = "", ""
	}
	holds := yes
	for _, c := range list {
		if holds = min(holds, c(s)); holds == no {
			break
		}
	}
	return holds
}

// asks says whether the conditions on the MSS hold, whichever of those it is that the segment may announce.
func (w *walk) asks(list []sizes) answer {
	if len(list) == 0 {
		return yes
	}
	some, every := false, true
	for _, mss := range w.mss {
		holds := holdAll(list, mss)
		some, every = some || holds, every && holds
	}
	switch {
	case every:
		return yes
	case some:
		return maybe
	}
	return no
}

func holdAll(list []sizes, mss int) bool {
	return !slices.ContainsFunc(list, func(c sizes) bool { return !c.holds(mss) })
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
		met := w.all(r.conditions)
		if met == no {
			continue
		}
		holds := min(met, w.asks(r.sizes))
		if holds == no {
			continue
		}
		inside := no
		switch r.action {
		case clamp, force:
			w.clamp(r, sure && met == yes)
			continue
		case untrack:
			w.segment.untracked = max(w.segment.untracked, maybe)
			if sure && holds == yes {
				w.segment.untracked = yes
			}
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

// clamp changes what the segment may announce by a rule. sure says that it meets the rule, if what it announces does.
func (w *walk) clamp(r rule, sure bool) {
	to := span{r.size, r.size}
	if r.size == 0 {
		to = w.segment.pmtu
	}
	var after []int
	add := func(mss int) {
		if !slices.Contains(after, mss) {
			after = append(after, mss)
		}
	}
	every := true
	for _, mss := range w.mss {
		meets := holdAll(r.sizes, mss)
		every = every && meets
		if !sure || !meets {
			add(mss)
		}
		switch {
		case !meets:
		case r.action == force:
			add(r.size)
		default:
			add(min(mss, to.low))
			add(min(mss, to.high))
		}
	}
	w.found.add(Found{Rule: r.text, Size: r.size, Sure: sure && every, Enough: to.high <= w.fits})
	w.mss = after
}

// named is a condition on an interface's name: one of a list, in which wild at the end of a name stands for anything.
func named(out bool, names []string, wild string) condition {
	exact := map[string]bool{}
	var starts []string
	for _, n := range names {
		exact[n] = true
		if start, is := strings.CutSuffix(n, wild); is {
			starts = append(starts, start)
		}
	}
	is := func(have string) bool {
		return exact[have] || slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(have, start) })
	}
	return func(s segment) answer {
		switch {
		case out:
			return answered(is(s.out))
		case s.inVRF != "" && is(s.in) != is(s.inVRF):
			return maybe
		}
		return answered(is(s.in))
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

// direction is a condition on the direction in which connection tracking sees a packet. One that it leaves out has none.
func direction(reply bool) condition {
	return func(s segment) answer { return min(answered(s.reply == reply), s.untracked.not()) }
}

// state is a condition on the state of connection tracking: that of a SYN is new, that of a SYN/ACK established. iptables
// also has the states DNAT and SNAT, which depend on the connection.
func state(names []string) condition {
	return func(s segment) answer {
		result := no
		for _, n := range names {
			switch strings.ToLower(n) {
			case "dnat", "snat":
				result = max(result, min(maybe, s.untracked.not()))
			case "new":
				result = max(result, min(answered(!s.reply), s.untracked.not()))
			case "established":
				result = max(result, min(answered(s.reply), s.untracked.not()))
			case "untracked":
				result = max(result, s.untracked)
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

// inverted is the opposite of a condition.
func inverted(c condition) condition {
	return func(s segment) answer { return c(s).not() }
}
