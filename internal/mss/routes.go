package mss

import (
	"cmp"
	"net/netip"
	"slices"
)

// Route is an entry of a routing table. Several next hops of one route are as many entries that differ in Link alone.
type Route struct {
	To      netip.Prefix
	Link    int32  // index
	MTU     int32  // bytes; 0 if the link's counts
	Table   uint32 // 0 for main
	Metric  uint32
	Refuses bool // it has no link: nothing is forwarded (unreachable, blackhole, prohibit)
	Throws  bool // it has no link: the next rule of the policy is asked
	Chooses bool // it is for some sources or services only
}

// RoutingRule is an entry of the routing policy (ip rule). What it does not ask for is zero.
type RoutingRule struct {
	Six            bool // IPv6
	Priority       int
	Not            bool // it is for what it does not match
	From, To       netip.Prefix
	In, Out        string // interfaces
	Mark, Mask     uint32 // Mask 0: whatever the mark
	Service        bool   // it asks for TOS, ports, users, or a tunnel's ID
	Root           bool   // of users it asks for, root is one, as whom the kernel asks for the way back
	Protocol       int
	VRF            bool // the table is that of the VRF of the interface
	Table          uint32
	Goto           int // priority of the rule to go on with; 0 if it does not
	Refuses        bool
	Nothing        bool // it does nothing
	SuppressLength int  // it does not take routes of this prefix length, in bits, or less; −1 for none
	SuppressGroup  int  // it does not take routes over links of this group; −1 for none
}

// The tables that have names (rtnetlink.h), and the policy of a machine that was not told otherwise.
const (
	tableDefault = 253
	tableMain    = 254
)

func (r Route) table() uint32 {
	if r.Table == 0 {
		return tableMain
	}
	return r.Table
}

func defaultPolicy(six bool) []RoutingRule {
	return []RoutingRule{
		{Six: six, Priority: 32766, Table: tableMain, SuppressLength: -1, SuppressGroup: -1},
		{Six: six, Priority: 32767, Table: tableDefault, SuppressLength: -1, SuppressGroup: -1},
	}
}

// policy is the routing policy of a family.
func (m *Machine) policy(six bool) []RoutingRule {
	var list []RoutingRule
	for _, r := range m.Rules {
		if r.Six == six {
			list = append(list, r)
		}
	}
	if list == nil {
		return defaultPolicy(six)
	}
	return list
}

// plain says whether a rule asks for nothing but the destination.
func (r RoutingRule) plain() bool {
	return !r.Not && !limited(r.From) && r.In == "" && r.Out == "" && r.Mask == 0 && !r.Service && !r.VRF && (r.Protocol == 0) &&
		r.SuppressLength < 0 && r.SuppressGroup < 0 && r.Goto == 0
}

// hop is a link, with the MTU of the route that leads by it, 0 if it has none.
type hop struct{ link, mtu int }

// flow is who asks for a way, beside the destination.
type flow struct {
	own     bool       // this machine itself sends; else it forwards
	back    bool       // the kernel asks for the way back to an address, and says nothing else
	src     netip.Addr // not valid if it is not known
	mark    uint32
	anyMark bool   // the mark is not known
	oif     string // the link that it is bound to, "" for none
	bound   int    // the index of that link
	not     int    // index of a link that is no answer
}

// matches says whether a rule is for a flow to an address.
func (r RoutingRule) matches(to netip.Addr, f flow) answer {
	a := yes
	if limited(r.To) {
		a = min(a, answered(r.To.Contains(to)))
	}
	a = min(a, r.asksSource(f), r.asksInterface(f), r.asksService(f))
	if r.Mask != 0 {
		switch {
		case f.anyMark || !f.own && !f.back:
			a = min(a, maybe)
		default:
			a = min(a, answered(f.mark&r.Mask == r.Mark&r.Mask))
		}
	}
	if r.Not {
		return a.not()
	}
	return a
}

func (r RoutingRule) asksSource(f flow) answer {
	switch {
	case !limited(r.From):
		return yes
	case f.src.IsValid():
		return answered(r.From.Contains(f.src))
	case f.own, f.back:
		return no // the source is chosen afterwards
	}
	return maybe
}

func (r RoutingRule) asksInterface(f flow) answer {
	a := yes
	if r.In != "" {
		switch {
		case f.own, f.back:
			a = answered(r.In == "lo")
		case r.In == "lo":
			a = no
		default:
			a = maybe
		}
	}
	if r.Out != "" {
		a = min(a, answered(f.own && f.oif == r.Out))
	}
	if r.VRF {
		if f.own || f.back {
			return no
		}
		return min(a, maybe)
	}
	return a
}

func (r RoutingRule) asksService(f flow) answer {
	a := yes
	switch {
	case r.Protocol == 0:
	case f.back:
		a = no
	case f.own:
		a = maybe
	default:
		a = answered(r.Protocol == 6)
	}
	switch {
	case !r.Service:
	case f.back:
		a = min(a, answered(r.Root))
	default:
		a = min(a, maybe)
	}
	return a
}

// ways are the routes to an address: of each table those whose prefixes have it, the widest first, and of one prefix the best metric first.
type ways struct {
	machine *Machine
	links   map[int]Link
	tables  map[uint32][]int32 // indices of Machine.Routes
	vrfs    []uint32
}

func (m *Machine) newWays() *ways {
	w := &ways{machine: m, links: map[int]Link{}, tables: map[uint32][]int32{}}
	for _, l := range m.Links {
		w.links[l.Index] = l
		if l.Type == "vrf" && l.Table != 0 {
			w.vrfs = append(w.vrfs, uint32(l.Table))
		}
	}
	return w
}

func (w *ways) push(i int32) {
	t := w.machine.Routes[i].table()
	w.tables[t] = append(w.tables[t], i)
}

func (w *ways) pop(i int32) {
	t := w.machine.Routes[i].table()
	w.tables[t] = w.tables[t][:len(w.tables[t])-1]
}

// longest are the routes of the longest prefix of a table, by metric. Where a flow is bound to a link, routes over others are not there.
func (w *ways) longest(table uint32, bound int) []int32 {
	list := w.tables[table]
	if bound != 0 {
		list = slices.DeleteFunc(slices.Clone(list), func(i int32) bool { return int(w.machine.Routes[i].Link) != bound })
	}
	if len(list) == 0 {
		return nil
	}
	i := len(list) - 1
	for to := w.machine.Routes[list[i]].To; i > 0 && w.machine.Routes[list[i-1]].To == to; i-- {
	}
	return list[i:]
}

// found is what a table says.
type found struct {
	routes  []int32 // those of one metric, or of all metrics
	refuses bool
	chooses bool // others may be asked instead
}

// ask is what a rule's table says, nil for nothing. live says that links that are down and worse metrics do not count.
func (w *ways) ask(r RoutingRule, table uint32, f flow, live bool) *found {
	list := w.longest(table, f.bound)
	if len(list) == 0 {
		return nil
	}
	result := &found{}
	for _, i := range list {
		route := w.machine.Routes[i]
		if live && result.routes != nil && w.machine.Routes[result.routes[0]].Metric != route.Metric {
			break
		}
		switch {
		case route.Throws:
			return nil
		case route.Refuses:
			if result.routes == nil {
				result.refuses = true
			}
			return result
		case route.Chooses && (f.back || f.own):
			continue
		case route.Chooses:
			result.chooses = true
		}
		if int(route.Link) == f.not || live && !w.up(int(route.Link)) || w.suppressed(r, route) {
			continue
		}
		result.routes = append(result.routes, i)
	}
	if result.routes == nil {
		return nil
	}
	return result
}

func (w *ways) suppressed(r RoutingRule, route Route) bool {
	if r.SuppressLength >= 0 && route.To.Bits() <= r.SuppressLength {
		return true
	}
	l, ok := w.links[int(route.Link)]
	return r.SuppressGroup >= 0 && ok && l.Group == r.SuppressGroup
}

// up says whether a link is up; one that is not known is.
func (w *ways) up(index int) bool {
	l, ok := w.links[index]
	return !ok || l.Up
}

// walk asks the rules of a policy in turn, and hands what they find to use. What a rule finds that is certainly for the flow ends it. live is
// that of ask.
func (w *ways) walk(policy []RoutingRule, to netip.Addr, f flow, live bool, use func(*found)) {
	doubt := -1 // until a rule of this priority it is not sure that the rules are asked at all
	for i := 0; i < len(policy); i++ {
		r := policy[i]
		if r.Priority >= doubt {
			doubt = -1
		}
		holds := r.matches(to, f)
		if holds == no || r.Nothing {
			continue
		}
		if r.Goto != 0 {
			if holds == yes && doubt < 0 {
				for i+1 < len(policy) && policy[i+1].Priority < r.Goto {
					i++
				}
			} else {
				doubt = max(doubt, r.Goto)
			}
			continue
		}
		sure := holds == yes && doubt < 0
		if r.Refuses {
			if sure {
				return
			}
			continue
		}
		tables := []uint32{r.Table}
		if r.VRF {
			tables = w.vrfs
		}
		for _, t := range tables {
			if got := w.ask(r, t, f, live); got != nil {
				if len(got.routes) > 0 {
					use(got)
				}
				if sure && !got.chooses {
					return
				}
			}
		}
	}
}

// lookup are the hops that a packet to an address may take.
func (m *Machine) lookup(to netip.Addr, f flow) []hop {
	w := m.newWays()
	var containing []int32
	for i, r := range m.Routes {
		if r.To.Contains(to) {
			containing = append(containing, int32(i))
		}
	}
	slices.SortStableFunc(containing, m.compare)
	for _, i := range containing {
		w.push(i)
	}
	var list []hop
	w.walk(m.policy(to.Is6()), to, f, true, func(got *found) {
		for _, i := range got.routes {
			if h := (hop{int(m.Routes[i].Link), int(m.Routes[i].MTU)}); !slices.Contains(list, h) {
				list = append(list, h)
			}
		}
	})
	return list
}

// compare orders routes by where their prefixes begin, the widest first, and by metric.
func (m *Machine) compare(a, b int32) int {
	x, y := &m.Routes[a], &m.Routes[b]
	return cmp.Or(x.To.Addr().Compare(y.To.Addr()), cmp.Compare(x.To.Bits(), y.To.Bits()), cmp.Compare(x.table(), y.table()), cmp.Compare(x.Metric, y.Metric))
}
