package mss

import (
	"math"
	"net/netip"
	"slices"
)

// The kernel clamps to the path's MTU by two routes: that of the packet, and that back to its source, for which it asks by the address alone, as
// a packet of its own without a mark (nf_ip_route, tcpmss_reverse_mtu). Where the routing policy asks for more, the way back that it finds may
// be another one than that by which answers go.

// wayKey names what is one path: a link, and the MTU of the routes over it.
type wayKey struct {
	link     int32
	mtu      int32 // bytes, as the kernel has it
	internet bool
}

// span is the MTUs that the kernel may find for the way back to addresses that a path leads to.
type span struct{ low, high int }

// noWay is the MTU of no route: nothing is clamped to it.
const noWay = math.MaxInt32

func (s *span) add(mtu int) {
	if s.high == 0 {
		s.low = mtu
	}
	s.low, s.high = min(s.low, mtu), max(s.high, mtu)
}

// leading is where routes lead: of each path the prefixes that are routed over it, and what the kernel finds for the way back from there.
type leading struct {
	machine *Machine
	links   map[int]Link
	order   []wayKey // as they were first seen
	routes  map[wayKey]*prefixes
	back    map[bool]map[wayKey]*span // by family: IPv6 or not
}

// prefixes are those that are routed over a path.
type prefixes struct {
	list     []netip.Prefix
	seen     map[netip.Prefix]bool
	more     int // that are not in list
	last     netip.Prefix
	families [2]bool // IPv4 and IPv6
}

// kept is how many prefixes of a path are kept.
const kept = 100

func (p *prefixes) add(to netip.Prefix) {
	if to == p.last || p.seen[to] {
		return
	}
	p.last = to
	if to.Addr().Is6() {
		p.families[1] = true
	} else {
		p.families[0] = true
	}
	if len(p.list) >= kept {
		p.more++
		return
	}
	p.list = append(p.list, to)
	p.seen[to] = true
}

// lead finds out where a machine's routes lead.
func (m *Machine) lead() *leading {
	d := &leading{machine: m, links: map[int]Link{}, routes: map[wayKey]*prefixes{}, back: map[bool]map[wayKey]*span{false: {}, true: {}}}
	for _, l := range m.Links {
		d.links[l.Index] = l
	}
	var order [2][]int32
	for i, r := range m.Routes {
		six := 0
		if r.To.Addr().Is6() {
			six = 1
		}
		order[six] = append(order[six], int32(i))
		k, ok := d.key(r)
		if !ok {
			continue
		}
		if d.routes[k] == nil {
			d.routes[k] = &prefixes{seen: map[netip.Prefix]bool{}}
			d.order = append(d.order, k)
		}
		d.routes[k].add(r.To)
	}
	for six, list := range order {
		slices.SortStableFunc(list, m.compare)
		policy := m.policy(six == 1)
		if slices.ContainsFunc(policy, func(r RoutingRule) bool { return !r.plain() }) || slices.ContainsFunc(list, func(i int32) bool { return m.Routes[i].Chooses }) {
			(&sweep{leading: d, ways: m.newWays(), policy: policy, six: six == 1}).run(list)
		} else {
			d.simple(list, six == 1)
		}
	}
	return d
}

// key is the path that a route leads by; false for one that leads by none, or over a link that is down. A route into a VRF leads on by the links
// of that.
func (d *leading) key(r Route) (wayKey, bool) {
	l, ok := d.links[int(r.Link)]
	if !ok || !l.Up || l.Loopback || l.Type == "vrf" || r.Refuses || r.Throws {
		return wayKey{}, false
	}
	return wayKey{r.Link, int32(l.mtuOf(r)), internet(r.To)}, true
}

// mtuOf is the MTU that the kernel has for a route over a link: its own, even if the link has less, or else the link's.
func (l Link) mtuOf(r Route) int {
	switch {
	case r.MTU != 0:
		return int(r.MTU)
	case r.To.Addr().Is6() && l.MTU6 != 0:
		return l.MTU6
	}
	return l.MTU
}

// internet says whether a prefix is that of a default route, or of a part of one that OpenVPN and WireGuard make.
func internet(p netip.Prefix) bool {
	if p.Addr().Is6() {
		return p.Bits() <= 4 // 2000::/3, and halves
	}
	return p.Bits() <= 2
}

func (d *leading) found(six bool, k wayKey, mtu int) {
	s := d.back[six][k]
	if s == nil {
		s = &span{}
		d.back[six][k] = s
	}
	s.add(mtu)
}

// simple is for routes that are chosen by the destination alone: the way back is the same, or by another hop of the same route.
func (d *leading) simple(list []int32, six bool) {
	routes := d.machine.Routes
	for len(list) > 0 {
		first, n := routes[list[0]], 1
		for n < len(list) && routes[list[n]].To == first.To && routes[list[n]].table() == first.table() && routes[list[n]].Metric == first.Metric {
			n++
		}
		for _, i := range list[:n] {
			k, ok := d.key(routes[i])
			for _, j := range list[:n] {
				if other, also := d.key(routes[j]); ok && also {
					d.found(six, k, int(other.mtu))
				}
			}
		}
		list = list[n:]
	}
}

// sweep goes through all addresses of a family in ascending order, with the routes that have each.
type sweep struct {
	*leading
	ways   *ways
	policy []RoutingRule
	six    bool
	stack  []int32
	at     netip.Addr // the first address that was not looked at; not valid beyond the last one
}

func (s *sweep) run(list []int32) {
	if len(list) == 0 {
		return
	}
	s.at = s.machine.Routes[list[0]].To.Addr()
	for _, i := range list {
		s.to(s.machine.Routes[i].To.Addr())
		s.stack = append(s.stack, i)
		s.ways.push(i)
	}
	s.to(netip.Addr{})
}

// to goes on to an address, or to the end if it is not valid.
func (s *sweep) to(next netip.Addr) {
	for len(s.stack) > 0 {
		i := s.stack[len(s.stack)-1]
		last := lastOf(s.machine.Routes[i].To)
		if next.IsValid() && !last.Less(next) {
			break
		}
		if s.at.IsValid() && !last.Less(s.at) {
			s.look()
			s.at = last.Next()
		}
		s.stack = s.stack[:len(s.stack)-1]
		s.ways.pop(i)
	}
	if !next.IsValid() {
		return
	}
	if len(s.stack) > 0 && s.at.IsValid() && s.at.Less(next) {
		s.look()
	}
	s.at = next
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As16()
	from := p.Bits()
	if p.Addr().Is4() {
		from += 96
	}
	for i := from; i < 128; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		return a.Unmap()
	}
	return a
}

// look finds out by which paths packets to the address may go, and what the kernel finds for the way back from there.
func (s *sweep) look() {
	var way *found
	s.ways.walk(s.policy, s.at, flow{back: true}, true, func(f *found) {
		if way == nil {
			way = f
		}
	})
	routes := s.machine.Routes
	s.ways.walk(s.policy, s.at, flow{}, false, func(f *found) {
		for _, i := range f.routes {
			k, ok := s.key(routes[i])
			switch {
			case !ok:
			case way == nil:
				s.found(s.six, k, noWay)
			default:
				s.compareBack(k, i, way)
			}
		}
	})
}

// compareBack adds what the way back means for a path. A worse metric of the same prefix is for when the better one is gone, and is its own
// way back then.
func (s *sweep) compareBack(k wayKey, i int32, way *found) {
	routes := s.machine.Routes
	best := routes[way.routes[0]]
	if best.To == routes[i].To && best.table() == routes[i].table() && best.Metric != routes[i].Metric {
		s.found(s.six, k, int(k.mtu))
		return
	}
	any := false
	for _, j := range way.routes {
		if other, ok := s.key(routes[j]); ok {
			s.found(s.six, k, int(other.mtu))
			any = true
		}
	}
	if !any {
		s.found(s.six, k, noWay)
	}
}
