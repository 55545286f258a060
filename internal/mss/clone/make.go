package clone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"richwall/internal/lab"
	"richwall/internal/mss/nlattr"
)

// Clone is a twin of a network namespace.
type Clone struct {
	Notes    []string // what could not be cloned, a sentence each
	deep     bool
	router   *lab.Namespace // the twin
	outside  *lab.Namespace // where the wires end
	plan     map[int]*planned
	moved    map[int]int       // numbers of links that are others in the clone
	paired   map[int]bool      // ends of veths that were made with the other one
	standIns map[string]string // links that a wire stands for although they go over other links, and why
	macs     map[string]net.HardwareAddr
	ends     []*end
	marker   [2]*end // what is sent into the first comes out of the second
	marks    uint32  // how many marks were sent there
	nextID   uint32
	setIndex map[uint16]uint16 // numbers of ipset's sets that are others in the clone
}

// Make makes a clone. In one that is deep tunnels, VLANs and the like go over the links below them; in one that is not they end outside, so that
// what goes through them can be seen and sent. The context bounds it.
func (r *Reading) Make(ctx context.Context, deep bool) (*Clone, error) {
	c := &Clone{deep: deep, plan: r.plan(deep), moved: map[int]int{}, paired: map[int]bool{}, standIns: map[string]string{}, macs: map[string]net.HardwareAddr{}, nextID: firstID}
	err := c.make(ctx, r)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot clone the machine's network: %w", err)
	}
	return c, nil
}

// Close gives the clone's namespaces up.
func (c *Clone) Close() {
	for _, e := range append(slices.Clone(c.ends), c.marker[:]...) {
		if e != nil {
			unix.Close(e.fd)
		}
	}
	for _, n := range []*lab.Namespace{c.router, c.outside} {
		if n != nil {
			n.Close()
		}
	}
}

// StandIn says why a link of a deep clone is a plain one that ends outside, although the machine's goes over other links; "" if it is not.
func (c *Clone) StandIn(link string) string { return c.standIns[link] }

func (c *Clone) make(ctx context.Context, r *Reading) (err error) {
	if c.outside, err = lab.NewNamespace(); err != nil {
		return err
	}
	if c.router, err = lab.NewNamespace(); err != nil {
		return err
	}
	var file *os.File // the namespace outside
	err = c.outside.Do(func() (err error) {
		for _, which := range []string{"all", "default"} {
			_ = os.WriteFile(settingsFolder+"ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0) // a kernel without IPv6 has none
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return err
	}
	defer file.Close()
	if err := c.router.Do(func() error { return c.build(ctx, r, int(file.Fd())) }); err != nil {
		return err
	}
	if err := c.loadPrograms(ctx, r); err != nil {
		return err
	}
	if err := c.openEnds(); err != nil {
		return err
	}
	return c.ready(ctx)
}

// build makes all that the kernel takes in messages, in the router's namespace, which is that of the calling thread.
func (c *Clone) build(ctx context.Context, r *Reading, far int) error {
	route, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer route.close()
	c.set(r.settings, func(path string) bool { return strings.Contains(path, "/default/") || strings.Contains(path, "/all/") })
	quiet := []setting{{"ipv6/conf/default/accept_ra", "0"}, {"ipv6/conf/default/accept_dad", "0"}, {"ipv6/conf/default/addr_gen_mode", "1"}}
	c.set(quiet, func(string) bool { return true }) // no addresses and routes of the kernel's own
	if err := c.makeLinks(route, far); err != nil {
		return err
	}
	c.joinLinks(route)
	if err := c.addPorts(route, far); err != nil {
		return err
	}
	c.set(r.settings, func(path string) bool { return strings.Contains(path, "/disable_ipv6") })
	c.startLinks(route)
	c.set(r.settings, func(path string) bool { return !strings.Contains(path, "/disable_ipv6") })
	if err := c.readMACs(route); err != nil {
		return err
	}
	c.addresses(route, r.addresses)
	if err := c.routes(ctx, route, r); err != nil {
		return err
	}
	if err := c.policy(route, r.rules); err != nil { // it may keep the kernel from finding the gateways of routes
		return err
	}
	c.each(route, r.neighbours, "a neighbour", func(body []byte) (message, bool) { return c.neighbour(body) })
	c.ipsec(r)
	if err := c.loadSets(ctx, r); err != nil {
		return err
	}
	return c.filter(r.filter)
}

// set writes those settings that a condition holds for. A link of the machine that is not in the clone has none.
func (c *Clone) set(list []setting, which func(path string) bool) {
	for _, s := range list {
		if !which(s.path) {
			continue
		}
		err := os.WriteFile(settingsFolder+s.path, []byte(s.value), 0)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if have, _ := os.ReadFile(settingsFolder + s.path); strings.TrimSpace(string(have)) != s.value {
			note(&c.Notes, "The setting %s cannot be cloned: %v.", s.path, err)
		}
	}
}

// each sends what convert makes of messages; what the kernel refuses is noted.
func (c *Clone) each(route *conn, list []message, what string, convert func(body []byte) (message, bool)) {
	for _, m := range list {
		if one, ok := convert(m.body); ok {
			c.refused(route.one(one), "%s", what)
		}
	}
}

// Flags of addresses (if_addr.h), and the attribute that has them.
const (
	flagPermanent, flagNoRoute, flagNoDAD = 0x80, 0x200, 0x02
	addressFlags, addressLifetime         = 8, 6
)

// addresses gives the links their addresses, for good. The routes that come with them are among the routes.
func (c *Clone) addresses(route *conn, list []message) {
	for _, m := range list {
		if len(m.body) < unix.SizeofIfAddrmsg {
			continue
		}
		p := c.plan[int(number(m.body[4:]))]
		if p == nil || p.role == absent || p.loopback() && m.body[3] == unix.RT_SCOPE_HOST {
			continue
		}
		b := slices.Clone(m.body[:unix.SizeofIfAddrmsg])
		binary.NativeEndian.PutUint32(b[4:], uint32(c.index(p.index)))
		b[2] = flagPermanent
		nlattr.Each(m.body[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
			if kind != addressFlags && kind != addressLifetime {
				b = put(b, kind, value)
			}
		})
		b = putNumber(b, addressFlags, flagPermanent|flagNoRoute|flagNoDAD)
		c.refused(route.one(message{unix.RTM_NEWADDR, create, b}), "an address of %s", p.name)
	}
}

// policy makes the routing policy.
func (c *Clone) policy(route *conn, list []message) error {
	own, err := route.dump(unix.RTM_GETRULE, make([]byte, unix.SizeofRtMsg))
	if err != nil {
		return err
	}
	for _, m := range own {
		if len(m.body) < unix.SizeofRtMsg || m.body[0] != unix.AF_INET && m.body[0] != unix.AF_INET6 { // of multicast
			continue
		}
		if err := route.one(message{unix.RTM_DELRULE, 0, m.body}); err != nil {
			return fmt.Errorf("the routing policy that the kernel begins with: %w", err)
		}
	}
	const inverted = 2
	c.each(route, list, "a rule of the routing policy", func(body []byte) (message, bool) {
		if len(body) < unix.SizeofRtMsg || body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
			return message{}, false
		}
		b := slices.Clone(body)
		binary.NativeEndian.PutUint32(b[8:], number(b[8:])&inverted)
		return message{unix.RTM_NEWRULE, create, b}, true
	})
	return nil
}

// Attributes of next hops (nexthop.h), and those with which the kernel takes one.
const (
	hopGroup, hopLink = 2, 5
)

var hopTaken = []uint16{1, hopGroup, 3, 4, hopLink, 6, 7, 8, 11, 12} // id, group, its type, blackhole, link, gateway, encapsulation, fdb, resilience

// nextHops makes next hops that are objects of their own, those of groups first.
func (c *Clone) nextHops(route *conn, list []message) {
	for _, groups := range []bool{false, true} {
		c.each(route, list, "a next hop", func(body []byte) (message, bool) {
			if len(body) < 8 {
				return message{}, false
			}
			b := slices.Clone(body[:8])
			b[1] = 0
			binary.NativeEndian.PutUint32(b[4:], number(b[4:])&unix.RTNH_F_ONLINK)
			group := false
			nlattr.Each(body[8:], func(kind uint16, value []byte) {
				group = group || kind == hopGroup
				if kind == hopLink {
					value = binary.NativeEndian.AppendUint32(nil, uint32(c.index(int(number(value)))))
				}
				if slices.Contains(hopTaken, kind) {
					b = put(b, kind, value)
				}
			})
			return message{unix.RTM_NEWNEXTHOP, create, b}, group == groups
		})
	}
}

// settled are the states of neighbours that somebody has set (neighbour.h).
const settled = 0x80

// neighbour is a neighbour that somebody has set, or to where a tunnel sends what goes to an address.
func (c *Clone) neighbour(body []byte) (message, bool) {
	if len(body) < unix.SizeofNdMsg {
		return message{}, false
	}
	p := c.plan[int(number(body[4:]))]
	const ownTable = 2 // NTF_SELF
	bridged := body[0] == unix.AF_BRIDGE
	state := binary.NativeEndian.Uint16(body[8:])
	if p == nil || p.role == absent || bridged && (p.kind != "vxlan" || p.role != real || body[10]&ownTable == 0) || !bridged && state&settled == 0 {
		return message{}, false
	}
	b := slices.Clone(body)
	binary.NativeEndian.PutUint32(b[4:], uint32(c.index(p.index)))
	flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_REPLACE)
	if bridged {
		flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND // an address may have several ends
	}
	return message{unix.RTM_NEWNEIGH, flags, b}, true
}

// ipsec makes policies and security associations.
func (c *Clone) ipsec(r *Reading) {
	if len(r.policies)+len(r.states) == 0 {
		return
	}
	xfrm, err := dial(unix.NETLINK_XFRM)
	if err != nil {
		c.refused(err, "IPsec")
		return
	}
	defer xfrm.close()
	for _, m := range slices.Backward(r.states) { // the kernel lists the last one first
		c.refused(xfrm.one(message{xfrmNewState, create, m.body}), "a security association of IPsec")
	}
	const userPolicy = 168 // sizeof(struct xfrm_userpolicy_info)
	for _, m := range slices.Backward(r.policies) {
		if len(m.body) < userPolicy || m.body[userPolicy-8] > 2 { // of sockets
			continue
		}
		c.refused(xfrm.one(message{xfrmNewPolicy, create, m.body}), "a policy of IPsec")
	}
}
