package mss

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"richwall/internal/mss/nlattr"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What is read here is read from the kernel's messages themselves (rtnetlink(7)): there may be a million routes, and the library has no place for
// some of what rules and tunnels have.

func u32(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

// dump asks the kernel for all objects of a kind, and calls f with each message.
func dump(request, answer uint16, family int, f func(message []byte)) error {
	q := nl.NewNetlinkRequest(int(request), unix.NLM_F_DUMP)
	q.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
	switch request {
	case unix.RTM_GETLINK:
		q.Data = nil
		q.AddData(nl.NewIfInfomsg(family))
	case unix.RTM_GETNEXTHOP:
		q.Data, q.RawData = nil, make([]byte, sizeofNexthop)
	}
	return q.ExecuteIter(unix.NETLINK_ROUTE, answer, func(message []byte) bool {
		f(message)
		return true
	})
}

// readRoutes adds the routes of a family, of all tables.
func (m *Machine) readRoutes(family int, nexthops map[uint32][]int32) error {
	return dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, family, func(message []byte) {
		m.Routes = appendRoutes(m.Routes, message, nexthops)
	})
}

// What the kernel names of next hops that are objects of their own (nexthop.h), and what a route has of them.
const (
	routeNexthop                         = 30
	nexthopID, nexthopGroup, nexthopLink = 1, 2, 5
	sizeofNexthop, sizeofGroupEntry      = 8, 8
)

// readNexthops are the links of next hops that are objects of their own, by their IDs; none for one that is a black hole. Where
// net.ipv4.nexthop_compat_mode is off, routes do not say them.
func readNexthops() (map[uint32][]int32, error) {
	links, groups := map[uint32][]int32{}, map[uint32][]uint32{}
	err := dump(unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, unix.AF_UNSPEC, func(message []byte) {
		var id uint32
		nlattr.Each(message[min(sizeofNexthop, len(message)):], func(kind uint16, value []byte) {
			switch kind {
			case nexthopID:
				id = u32(value)
			case nexthopLink:
				links[id] = []int32{int32(u32(value))}
			case nexthopGroup:
				for ; len(value) >= sizeofGroupEntry; value = value[sizeofGroupEntry:] {
					groups[id] = append(groups[id], u32(value))
				}
			}
		})
	})
	for id, members := range groups {
		for _, one := range members {
			links[id] = append(links[id], links[one]...)
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // Linux before 5.3
		err = nil
	}
	return links, err
}

// appendRoutes adds the routes of a message, one for each next hop. Those to this machine itself, to many, and to neighbours on a link are not
// for what is forwarded.
func appendRoutes(list []Route, message []byte, nexthops map[uint32][]int32) []Route {
	if len(message) < unix.SizeofRtMsg {
		return list
	}
	family, toLength, fromLength, tos, table, kind := message[0], int(message[1]), message[2], message[3], message[4], message[7]
	if binary.NativeEndian.Uint32(message[8:])&unix.RTM_F_CLONED != 0 || family != unix.AF_INET && family != unix.AF_INET6 {
		return list
	}
	to := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	r := Route{Table: uint32(table), Chooses: tos != 0 || fromLength != 0}
	switch kind {
	case unix.RTN_UNICAST:
	case unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT:
		r.Refuses = true
	case unix.RTN_THROW:
		r.Throws = true
	default:
		return list
	}
	var hops []int32
	nlattr.Each(message[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(value); ok {
				to = a
			}
		case unix.RTA_OIF:
			r.Link = int32(u32(value))
		case unix.RTA_TABLE:
			r.Table = u32(value)
		case unix.RTA_PRIORITY:
			r.Metric = u32(value)
		case unix.RTA_METRICS:
			nlattr.Each(value, func(kind uint16, value []byte) {
				if kind == unix.RTAX_MTU {
					r.MTU = int32(u32(value))
				}
			})
		case unix.RTA_MULTIPATH:
			hops = hopsOf(value)
		case routeNexthop:
			hops = nexthops[u32(value)]
		}
	})
	if to.IsMulticast() || to.IsLinkLocalUnicast() || toLength > to.BitLen() {
		return list
	}
	r.To = netip.PrefixFrom(to, toLength)
	if r.Link != 0 || r.Refuses || r.Throws {
		return append(list, r)
	}
	for _, h := range hops {
		r.Link = h
		list = append(list, r)
	}
	return list
}

// hopsOf are the indices of the links of next hops (struct rtnexthop). Those that are dead are left out.
func hopsOf(value []byte) []int32 {
	var list []int32
	for len(value) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(value))
		if n < unix.SizeofRtNexthop || n > len(value) {
			break
		}
		if value[2]&unix.RTNH_F_DEAD == 0 {
			list = append(list, int32(u32(value[4:])))
		}
		value = value[min((n+3)&^3, len(value)):]
	}
	return list
}

// readRoutingRules reads the routing policy of both families, without the rule for this machine's own addresses.
func (m *Machine) readRoutingRules() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		err := dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, family, func(message []byte) {
			if r, ok := newRoutingRule(message); ok {
				m.Rules = append(m.Rules, r)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// The actions of rules that the kernel names in fib_rules.h, and the flag of one that is inverted.
const (
	actionTable   = 1
	actionGoto    = 2
	actionNothing = 3
	ruleInverted  = 2
	tableLocal    = 255
	anyLength     = 0xffffffff
)

// newRoutingRule is a rule of a message (struct fib_rule_hdr); false for that of this machine's own addresses.
func newRoutingRule(message []byte) (RoutingRule, bool) {
	if len(message) < unix.SizeofRtMsg {
		return RoutingRule{}, false
	}
	r := RoutingRule{
		Six: message[0] == unix.AF_INET6, Service: message[3] != 0, Table: uint32(message[4]),
		Not: binary.NativeEndian.Uint32(message[8:])&ruleInverted != 0, SuppressLength: -1, SuppressGroup: -1,
	}
	toLength, fromLength, action := int(message[1]), int(message[2]), message[7]
	nlattr.Each(message[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case nl.FRA_DST:
			r.To = prefixFrom(value, toLength)
		case nl.FRA_SRC:
			r.From = prefixFrom(value, fromLength)
		default:
			r.read(kind, value)
		}
	})
	r.Nothing = action == actionNothing
	r.Refuses = action != actionTable && action != actionGoto && action != actionNothing
	return r, r.Table != tableLocal
}

func prefixFrom(value []byte, length int) netip.Prefix {
	a, _ := netip.AddrFromSlice(value)
	return netip.PrefixFrom(a, length)
}

// read takes an attribute of a rule.
func (r *RoutingRule) read(kind uint16, value []byte) {
	if len(value) == 0 {
		return
	}
	n, text := u32(value), strings.TrimRight(string(value), "\x00")
	switch kind {
	case nl.FRA_IIFNAME:
		r.In = text
	case nl.FRA_OIFNAME:
		r.Out = text
	case nl.FRA_PRIORITY:
		r.Priority = int(n)
	case nl.FRA_FWMARK:
		r.Mark = n
	case nl.FRA_FWMASK:
		r.Mask = n
	case unix.RTA_TABLE:
		r.Table = n
	case nl.FRA_GOTO:
		r.Goto = int(n)
	case nl.FRA_IP_PROTO:
		r.Protocol = int(value[0])
	case nl.FRA_L3MDEV:
		r.VRF = value[0] != 0
	case nl.FRA_UID_RANGE:
		r.Service, r.Root = true, n == 0
	case nl.FRA_DPORT_RANGE, nl.FRA_SPORT_RANGE, nl.FRA_TUN_ID:
		r.Service = true
	case nl.FRA_SUPPRESS_PREFIXLEN:
		if n != anyLength {
			r.SuppressLength = int(n)
		}
	case nl.FRA_SUPPRESS_IFGROUP:
		if n != anyLength {
			r.SuppressGroup = int(n)
		}
	default:
		r.Service = r.Service || kind > nl.FRA_DPORT_RANGE // what later kernels ask for
	}
}

// What the kernel names of tunnels in if_tunnel.h.
const (
	greLimit, greFlags   = 11, 13
	greMark, ipMark      = 20, 20
	vtiMark              = 6
	infoKind, infoValues = 1, 2
)

// readTunnels are the changes to links, by their index, for what the library does not read: marks, and the encapsulation limit of GRE over IPv6.
func readTunnels() (map[int]func(*Link), error) {
	changes := map[int]func(*Link){}
	err := dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, unix.AF_UNSPEC, func(message []byte) {
		if len(message) < unix.SizeofIfInfomsg {
			return
		}
		index := int(int32(u32(message[4:])))
		nlattr.Each(message[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
			if kind == unix.IFLA_LINKINFO {
				if change := tunnelOf(value); change != nil {
					changes[index] = change
				}
			}
		})
	})
	return changes, err
}

// tunnelOf is the change that the description of a link's kind means, nil for none.
func tunnelOf(info []byte) func(*Link) {
	var kind string
	values := map[uint16]uint32{}
	nlattr.Each(info, func(which uint16, value []byte) {
		switch which {
		case infoKind:
			kind = strings.TrimRight(string(value), "\x00")
		case infoValues:
			nlattr.Each(value, func(which uint16, value []byte) {
				switch len(value) {
				case 1:
					values[which] = uint32(value[0])
				case 4:
					values[which] = u32(value)
				}
			})
		}
	})
	switch kind {
	case "gre", "gretap":
		return func(l *Link) { l.Mark = values[greMark] }
	case "ip6gre", "ip6gretap":
		extra := limitOption(values[greFlags], uint8(values[greLimit]))
		return func(l *Link) { l.Type, l.Outside6, l.Mark, l.Extra = kind, true, values[greMark], l.Extra+extra }
	case "ipip", "sit", "ip6tnl":
		return func(l *Link) { l.Mark = values[ipMark] }
	case "vti", "vti6":
		return func(l *Link) { l.Mark = values[vtiMark] }
	}
	return nil
}
