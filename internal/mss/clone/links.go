package clone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"richwall/internal/mss/nlattr"

	"golang.org/x/sys/unix"
)

// link is a network interface of the machine.
type link struct {
	index, mtu     int
	name, kind     string // kind: as the kernel has it, "" for hardware
	flags          uint32
	mac            []byte
	master, parent int  // indices, 0 for none
	elsewhere      bool // the parent is in another namespace
	group          int
	data           []byte // the attributes of its kind
	program        bool   // it has an XDP program
	forwards       bool   // it is no port of a bridge, or one that forwards
	addressed      bool   // it has addresses that are not of the link alone
}

// Attributes of links that package unix has no names for (if_link.h).
const (
	infoKind, infoData = 1, 2
	infoSlaveKind      = 4
	infoSlaveData      = 5
	linkGroup          = 27
	linkNamespace      = 37
	linkXDP            = 43
	vethPeer           = 1
)

func (r *Reading) readLinks(c *conn) error {
	list, err := c.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	for _, m := range list {
		if l, ok := newLink(m.body); ok {
			r.links = append(r.links, l)
		}
	}
	return err
}

func newLink(body []byte) (l link, ok bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return l, false
	}
	l.index, l.flags, l.forwards = int(number(body[4:])), number(body[8:]), true
	nlattr.Each(body[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = text(value)
		case unix.IFLA_MTU:
			l.mtu = int(number(value))
		case unix.IFLA_ADDRESS:
			l.mac = slices.Clone(value)
		case unix.IFLA_MASTER:
			l.master = int(number(value))
		case unix.IFLA_LINK:
			l.parent = int(number(value))
		case linkNamespace:
			l.elsewhere = true
		case linkGroup:
			l.group = int(number(value))
		case unix.IFLA_LINKINFO:
			nlattr.Each(value, func(kind uint16, value []byte) {
				switch kind {
				case infoKind:
					l.kind = text(value)
				case infoData:
					l.data = slices.Clone(value)
				case infoSlaveKind:
					l.forwards = text(value) != "bridge"
				case infoSlaveData:
					nlattr.Each(value, func(kind uint16, value []byte) {
						const state, forwarding = 1, 3 // IFLA_BRPORT_STATE, BR_STATE_FORWARDING
						l.forwards = l.forwards || kind == state && number(value) == forwarding
					})
				}
			})
		case linkXDP:
			nlattr.Each(value, func(kind uint16, value []byte) {
				l.program = l.program || kind == 2 && len(value) > 0 && value[0] != 0 // IFLA_XDP_ATTACHED
			})
		}
	})
	return l, true
}

func (l link) up() bool       { return l.flags&unix.IFF_UP != 0 }
func (l link) loopback() bool { return l.flags&unix.IFF_LOOPBACK != 0 }

// bare says whether a link has no addresses of Ethernet, by which neighbours are asked for.
func (l link) bare() bool { return l.flags&unix.IFF_NOARP != 0 || len(l.mac) != 6 }

// role is what becomes of a link in the clone.
type role uint8

const (
	absent role = iota // it is a part of another one, which stands for it
	same               // it is there already
	real               // one of the same kind
	pair               // a veth, with its other end
	wire               // a veth, whose other end is outside: what a link sends is seen there, and what it receives is sent there
)

// deeper are the kinds that go over other links of the machine. A deep clone has them as they are, another one their ends.
var deeper = []string{
	"vlan", "vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "sit", "ipip", "ip6tnl", "vti", "vti6", "xfrm", "macvlan", "ipvlan",
}

// plain are the kinds that have nothing below them but what the wire outside can stand for.
var plain = []string{"", "ppp", "tun", "veth", "dummy", "ifb", "macvtap", "ipvtap", "netkit", "bond", "team", "virtio_net", "nlmon", "device", "generic"}

// planned is what becomes of each link.
type planned struct {
	link
	role role
	peer int  // of a pair: the index of the other end
	far  bool // of a pair: the other end is where packets are sent into it
}

// plan decides what becomes of the links.
func (r *Reading) plan(deep bool) map[int]*planned {
	plan := map[int]*planned{}
	for _, l := range r.links {
		l.addressed = r.addressed(l.index)
		plan[l.index] = &planned{link: l}
	}
	for _, p := range plan {
		p.role = p.roleIn(plan, deep)
	}
	for _, p := range plan {
		other := plan[p.parent]
		if p.role == pair {
			p.peer = p.parent
			p.far = !other.addressed && plan[other.master] == nil
		}
	}
	return plan
}

func (p *planned) roleIn(plan map[int]*planned, deep bool) role {
	master := plan[p.master]
	other := plan[p.parent]
	switch {
	case p.loopback():
		return same
	case master != nil && (master.kind == "bond" || master.kind == "team"):
		return absent
	case p.kind == "bridge", p.kind == "vrf":
		return real
	case p.kind == "veth" && !p.elsewhere && other != nil && other.kind == "veth":
		return pair
	case deep && slices.Contains(deeper, p.kind) && !p.elsewhere:
		return real
	}
	return wire
}

// addressed says whether a link has an address that is not of the link alone.
func (r *Reading) addressed(index int) bool {
	return slices.ContainsFunc(r.addresses, func(m message) bool {
		if len(m.body) < unix.SizeofIfAddrmsg || int(number(m.body[4:])) != index {
			return false
		}
		found := false
		nlattr.Each(m.body[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
			a, ok := netip.AddrFromSlice(value)
			found = found || ok && (kind == unix.IFA_ADDRESS || kind == unix.IFA_LOCAL) && !a.IsLinkLocalUnicast()
		})
		return found
	})
}

// order is the links in an order in which those that others go over come first.
func order(plan map[int]*planned) []*planned {
	var list []*planned
	done := map[int]bool{}
	var add func(p *planned)
	add = func(p *planned) {
		if p == nil || done[p.index] {
			return
		}
		done[p.index] = true
		if p.role == real && !p.elsewhere {
			add(plan[p.parent])
			add(plan[p.bound()])
		}
		list = append(list, p)
	}
	indices := []int{}
	for i := range plan {
		indices = append(indices, i)
	}
	slices.Sort(indices)
	for _, i := range indices {
		add(plan[i])
	}
	return list
}

// largest is the largest MTU of a veth.
const largest = 65535

// head is the fixed part of a message about a link.
func head(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// self is the part of a message that makes a link which is about itself.
func (l link) self(index int) []byte {
	b := putText(head(index, 0, 0), unix.IFLA_IFNAME, l.name)
	b = putNumber(b, unix.IFLA_MTU, uint32(min(l.mtu, largest)))
	if len(l.mac) == 6 && l.mac[0]&1 == 0 {
		b = put(b, unix.IFLA_ADDRESS, l.mac)
	}
	return b
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// vethMessage makes a veth with another end; that is in the namespace of a file descriptor, unless it is 0.
func vethMessage(l link, index int, other link, otherIndex, fd int) message {
	peer := other.self(otherIndex)
	if fd != 0 {
		peer = putNumber(peer, unix.IFLA_NET_NS_FD, uint32(fd))
	}
	info := putText(nil, infoKind, "veth")
	info = nest(info, infoData, nest(nil, vethPeer, peer))
	return message{unix.RTM_NEWLINK, create, nest(l.self(index), unix.IFLA_LINKINFO, info)}
}

// realMessage makes a link of the same kind.
func (c *Clone) realMessage(l link) message {
	info := putText(nil, infoKind, l.kind)
	if l.data != nil && l.kind != "bridge" {
		info = nest(info, infoData, c.kindData(l))
	}
	b := l.self(c.index(l.index))
	if l.kind == "bridge" || l.kind == "vrf" { // a bridge's MTU is that of its ports, until they are there
		b = putText(head(c.index(l.index), 0, 0), unix.IFLA_IFNAME, l.name)
		if len(l.mac) == 6 {
			b = put(b, unix.IFLA_ADDRESS, l.mac)
		}
	}
	if l.parent != 0 && !l.elsewhere {
		b = putNumber(b, unix.IFLA_LINK, uint32(c.index(l.parent)))
	}
	return message{unix.RTM_NEWLINK, create, nest(b, unix.IFLA_LINKINFO, info)}
}

// onLink are the attributes of kinds that name the link below by its index (if_link.h, if_tunnel.h).
var onLink = map[string]uint16{"vxlan": 3, "gre": 1, "gretap": 1, "ip6gre": 1, "ip6gretap": 1, "sit": 1, "ipip": 1, "ip6tnl": 1, "vti": 1, "vti6": 1, "xfrm": 1}

// bound is the index of the link that a tunnel is bound to, 0 for none.
func (l link) bound() int {
	index := 0
	nlattr.Each(l.data, func(kind uint16, value []byte) {
		if kind == onLink[l.kind] && len(value) == 4 {
			index = int(number(value))
		}
	})
	return index
}

// kindData are the attributes of a link's kind, with the numbers that links have in the clone.
func (c *Clone) kindData(l link) []byte {
	var data []byte
	nlattr.Each(l.data, func(kind uint16, value []byte) {
		if kind == onLink[l.kind] && len(value) == 4 {
			value = binary.NativeEndian.AppendUint32(nil, uint32(c.index(int(number(value)))))
		}
		data = put(data, kind, value)
	})
	return data
}

// index is the number that a link of the machine has in the clone.
func (c *Clone) index(i int) int {
	if n, ok := c.moved[i]; ok {
		return n
	}
	return i
}

// makeLinks makes the links in the router's namespace, which is that of the calling thread. far is the namespace outside.
func (c *Clone) makeLinks(route *conn, far int) error {
	there, err := route.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return err
	}
	taken := map[int]string{}
	known := map[string]int{}
	for _, m := range there {
		if l, ok := newLink(m.body); ok {
			taken[l.index], known[l.name] = l.name, l.index
		}
	}
	highest := 0
	for i := range c.plan {
		highest = max(highest, i)
	}
	for _, p := range order(c.plan) {
		if n, ok := known[p.name]; ok && p.name != "" { // the kernel makes lo, and some ends of tunnels, by itself
			if n != p.index {
				c.moved[p.index] = n
			}
			p.role = same
			continue
		}
		if taken[p.index] != "" {
			highest++
			c.moved[p.index] = highest
		}
	}
	for _, p := range order(c.plan) {
		if err := c.makeLink(route, p, far); err != nil {
			if p.role == real && p.kind != "bridge" {
				p.role = wire
				c.standIns[p.name] = fmt.Sprintf("the kernel refuses to clone it: %v", err)
				err = c.makeLink(route, p, far)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

func (c *Clone) makeLink(route *conn, p *planned, far int) error {
	switch p.role {
	case real:
		return c.makeReal(route, p)
	case pair:
		if c.paired[p.index] {
			return nil // made with the other end
		}
		c.paired[p.peer] = true
		return route.one(vethMessage(p.link, c.index(p.index), c.plan[p.peer].link, c.index(p.peer), 0))
	case wire:
		if slices.Contains(deeper, p.kind) && c.deep && c.standIns[p.name] == "" {
			c.standIns[p.name] = "it goes over a link of another network namespace"
		} else if !slices.Contains(deeper, p.kind) && !slices.Contains(plain, p.kind) {
			c.standIns[p.name] = fmt.Sprintf("links of the kind %s cannot be cloned", p.kind)
		}
		return route.one(vethMessage(p.link, c.index(p.index), link{name: outside(p.index), mtu: p.mtu}, 0, far))
	}
	return nil
}

// makeReal makes a link of the same kind. Not all attributes of a kind that the kernel lists are such that it takes them: where it names one that it
// refuses, that is a flag, which it lists as a byte, or is left out.
func (c *Clone) makeReal(route *conn, p *planned) error {
	const most = 32
	l := p.link
	for range most {
		m := c.realMessage(l)
		err := route.one(m)
		var r refusal
		if !errors.As(err, &r) || l.data == nil || l.kind == "bridge" {
			return err
		}
		// The attributes are the last in the message, but for their own number of bytes.
		at := r.at - headerLength - (len(m.body) - len(pad(slices.Clone(l.data))))
		next, ok := without(l.data, at)
		if !ok {
			return err
		}
		l.data = next
	}
	return errors.New("the kernel refuses its attributes")
}

// without are attributes without the one at a place; one that is a byte and set becomes a flag. false if there is none.
func without(data []byte, at int) (next []byte, ok bool) {
	place := 0
	nlattr.Each(data, func(kind uint16, value []byte) {
		switch {
		case place != at:
			next = put(next, kind, value)
		case len(value) == 1 && value[0] != 0:
			next, ok = put(next, kind, nil), true
		default:
			ok = true
		}
		place += (unix.SizeofRtAttr + len(value) + 3) &^ 3
	})
	return next, ok
}

// outside is the name of the end outside of a link.
func outside(index int) string { return fmt.Sprintf("end%d", index) }

// joinLinks makes links parts of bridges and VRFs, and sets what they have beside.
func (c *Clone) joinLinks(route *conn) {
	for _, p := range order(c.plan) {
		if master := c.plan[p.master]; master != nil && p.role != absent {
			if master.role == real {
				c.refused(route.one(message{unix.RTM_NEWLINK, 0, putNumber(head(c.index(p.index), 0, 0), unix.IFLA_MASTER, uint32(c.index(master.index)))}), "that %s is a part of %s", p.name, master.name)
			} else {
				note(&c.Notes, "That %s is a part of %s cannot be cloned.", p.name, master.name)
			}
		}
		if p.group != 0 && p.role != absent {
			c.refused(route.one(message{unix.RTM_NEWLINK, 0, putNumber(head(c.index(p.index), 0, 0), linkGroup, uint32(p.group))}), "the group of %s", p.name)
		}
		if p.program {
			note(&c.Notes, "The XDP program of %s is not cloned.", p.name)
		}
	}
	for _, p := range order(c.plan) {
		if p.kind == "bridge" && p.role == real {
			for _, data := range [][]byte{put(nil, 5, []byte{0, 0, 0, 0}), putNumber(nil, 1, 0)} { // IFLA_BR_STP_STATE, IFLA_BR_FORWARD_DELAY: ports forward at once
				info := nest(putText(nil, infoKind, "bridge"), infoData, data)
				_ = route.one(message{unix.RTM_NEWLINK, 0, nest(head(c.index(p.index), 0, 0), unix.IFLA_LINKINFO, info)}) // both are off in a new bridge
			}
			if filters(p.data) {
				note(&c.Notes, "The VLANs of the bridge %s are not cloned.", p.name)
			}
		}
	}
}

// filters says whether a bridge keeps VLANs apart (IFLA_BR_VLAN_FILTERING).
func filters(data []byte) bool {
	on := false
	nlattr.Each(data, func(kind uint16, value []byte) { on = on || kind == 7 && number(value) != 0 })
	return on
}

// startLinks sets the links up that are up.
func (c *Clone) startLinks(route *conn) {
	for _, p := range order(c.plan) {
		if p.role == absent {
			continue
		}
		if p.kind == "bridge" || p.role == same {
			c.refused(route.one(message{unix.RTM_NEWLINK, 0, putNumber(head(c.index(p.index), 0, 0), unix.IFLA_MTU, uint32(p.mtu))}), "the MTU of %s", p.name)
		}
		if p.role == real && slices.Contains(deeper, p.kind) { // it may have been too much for a bridge below, whose MTU is set by now; if it still is, readMACs says so
			_ = route.one(message{unix.RTM_NEWLINK, 0, putNumber(head(c.index(p.index), 0, 0), unix.IFLA_MTU, uint32(p.mtu))})
		}
		var flags, change uint32 = 0, unix.IFF_UP
		if p.up() || p.role == pair && c.plan[p.peer].up() {
			flags |= unix.IFF_UP
		}
		if p.role == wire && p.bare() || p.role == real && slices.Contains(deeper, p.kind) && p.kind != "vlan" && !strings.HasPrefix(p.kind, "macv") {
			flags, change = flags|unix.IFF_NOARP, change|unix.IFF_NOARP
		}
		c.refused(route.one(message{unix.RTM_NEWLINK, 0, head(c.index(p.index), flags, change)}), "that %s is up", p.name)
	}
}

// refused notes what the kernel refuses to have in the clone.
func (c *Clone) refused(err error, what string, args ...any) {
	if err != nil {
		note(&c.Notes, "What cannot be cloned is %s: %v.", fmt.Sprintf(what, args...), err)
	}
}

// readMACs reads by which addresses of Ethernet the links of the clone are reached.
func (c *Clone) readMACs(route *conn) error {
	list, err := route.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	for _, m := range list {
		if l, ok := newLink(m.body); ok {
			c.macs[l.name] = net.HardwareAddr(l.mac)
			for _, p := range c.plan {
				if p.name == l.name && p.role != absent && p.mtu != l.mtu && !p.loopback() {
					note(&c.Notes, "The MTU of %s, %d, cannot be cloned: it is %d in the clone.", p.name, p.mtu, l.mtu)
				}
			}
		}
	}
	return err
}
