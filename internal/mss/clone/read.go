// Package clone makes a twin of a network namespace: its links, addresses, routes, routing policy, IPsec policies, settings and packet filter, in
// namespaces of its own. In comes what Read has read; out goes a Clone, through which TCP segments are sent to see what the twin does to them.
// What cannot be cloned is in Notes, a sentence each. The namespace that was read is not changed.
package clone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Reading is what was read of a namespace.
type Reading struct {
	links      []link
	addresses  []message
	neighbours []message
	nexthops   []message
	rules      []message
	routes     packed
	policies   []message
	states     []message
	filter     filter
	legacy     map[string]string // what NAME-save prints, by NAME: iptables-legacy, ip6tables-legacy
	sets       string            // what ipset save prints
	setIndex   map[string]uint16 // the numbers of those sets
	settings   []setting
	Notes      []string // what could not be read, a sentence each
}

// setting is one of /proc/sys/net.
type setting struct{ path, value string }

// packed are many messages in little memory.
type packed struct {
	data  []byte
	count int
}

func (p *packed) add(m message) {
	p.data = binary.NativeEndian.AppendUint32(p.data, uint32(len(m.body)))
	p.data = append(p.data, m.body...)
	p.count++
}

// each calls f with each body.
func (p *packed) each(f func(body []byte)) {
	for data := p.data; len(data) > 0; {
		n := binary.NativeEndian.Uint32(data)
		f(data[4 : 4+n])
		data = data[4+n:]
	}
}

// note adds a sentence, once.
func note(list *[]string, format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}

// Read reads the network namespace of the calling thread. It needs the capability CAP_NET_ADMIN there.
func Read(ctx context.Context) (*Reading, error) {
	r := &Reading{legacy: map[string]string{}}
	route, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the kernel for links and routes: %w", err)
	}
	defer route.close()
	if err := r.readLinks(route); err != nil {
		return nil, fmt.Errorf("cannot read the machine's links: %w", err)
	}
	for _, part := range []struct {
		what   string
		kind   uint16
		family []byte
		to     *[]message
	}{
		{"addresses", unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), &r.addresses},
		{"neighbours", unix.RTM_GETNEIGH, make([]byte, unix.SizeofNdMsg), &r.neighbours},
		{"next hops", unix.RTM_GETNEXTHOP, make([]byte, 8), &r.nexthops},
		{"routing policy", unix.RTM_GETRULE, make([]byte, unix.SizeofRtMsg), &r.rules},
	} {
		list, err := route.dump(part.kind, part.family)
		switch {
		case part.kind == unix.RTM_GETNEXTHOP && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)): // Linux before 5.3
		case err != nil:
			return nil, fmt.Errorf("cannot read the machine's %s: %w", part.what, err)
		}
		*part.to = list
	}
	if err := r.readForwarding(route); err != nil {
		return nil, fmt.Errorf("cannot read what bridges and tunnels send where: %w", err)
	}
	if err := r.readRoutes(route); err != nil {
		return nil, fmt.Errorf("cannot read the machine's routes: %w", err)
	}
	if err := r.readIPsec(); err != nil {
		return nil, fmt.Errorf("cannot read the machine's IPsec policies: %w", err)
	}
	if err := r.readFilter(); err != nil {
		return nil, fmt.Errorf("cannot read the rules of nftables: %w", err)
	}
	r.readPrograms(ctx)
	r.readSettings()
	return r, ctx.Err()
}

// readForwarding adds to the neighbours what links of AF_BRIDGE have: to which end a tunnel sends frames for an address.
func (r *Reading) readForwarding(c *conn) error {
	request := make([]byte, unix.SizeofNdMsg)
	request[0] = unix.AF_BRIDGE
	list, err := c.dump(unix.RTM_GETNEIGH, request)
	if errors.Is(err, unix.EOPNOTSUPP) { // a kernel without bridges
		return nil
	}
	r.neighbours = append(r.neighbours, list...)
	return err
}

func (r *Reading) readRoutes(c *conn) error {
	var err error
	for range tries {
		r.routes = packed{}
		err = c.each(unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg), func(m message) error {
			if len(m.body) >= unix.SizeofRtMsg && binary.NativeEndian.Uint32(m.body[8:])&unix.RTM_F_CLONED == 0 {
				r.routes.add(m)
			}
			return nil
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	return err
}

// readIPsec reads policies and security associations.
func (r *Reading) readIPsec() error {
	c, err := dial(unix.NETLINK_XFRM)
	if errors.Is(err, unix.EPROTONOSUPPORT) { // a kernel without IPsec
		return nil
	}
	if err != nil {
		return err
	}
	defer c.close()
	if r.policies, err = c.dump(xfrmGetPolicy, nil); err != nil {
		return err
	}
	r.states, err = c.dump(xfrmGetState, nil)
	return err
}

// Messages of NETLINK_XFRM (xfrm.h).
const (
	xfrmNewState  = 0x10
	xfrmGetState  = 0x12
	xfrmNewPolicy = 0x13
	xfrmGetPolicy = 0x15
)

// copied are the settings that decide what becomes of a packet that is forwarded, below /proc/sys/net. A star stands for each link's, and for all and default.
var copied = []string{
	"ipv4/ip_forward", "ipv4/ip_no_pmtu_disc", "ipv4/ip_forward_use_pmtu", "ipv4/min_pmtu", "ipv4/fib_multipath_hash_policy", "ipv4/fib_multipath_hash_fields", "ipv4/fib_multipath_use_neigh",
	"ipv4/nexthop_compat_mode", "ipv4/raw_l3mdev_accept", "ipv4/tcp_l3mdev_accept",
	"ipv4/conf/*/forwarding", "ipv4/conf/*/rp_filter", "ipv4/conf/*/accept_local", "ipv4/conf/*/src_valid_mark", "ipv4/conf/*/route_localnet",
	"ipv4/conf/*/disable_policy", "ipv4/conf/*/disable_xfrm", "ipv4/conf/*/accept_source_route", "ipv4/conf/*/ignore_routes_with_linkdown",
	"ipv6/fib_multipath_hash_policy", "ipv6/fib_multipath_hash_fields",
	"ipv6/conf/*/forwarding", "ipv6/conf/*/force_forwarding", "ipv6/conf/*/disable_ipv6", "ipv6/conf/*/disable_policy", "ipv6/conf/*/ignore_routes_with_linkdown",
	"ipv6/conf/*/accept_source_route",
	"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables", "bridge/bridge-nf-filter-vlan-tagged", "bridge/bridge-nf-pass-vlan-input-dev",
	"netfilter/nf_conntrack_tcp_loose", "netfilter/nf_conntrack_tcp_be_liberal", "netfilter/nf_conntrack_checksum", "netfilter/nf_conntrack_acct", "netfilter/nf_hooks_lwtunnel",
	"ipv6/conf/*/mtu", // last: what IPv6 uses of a link's MTU
}

// settingsFolder is where settings are; those of the calling thread's namespace.
const settingsFolder = "/proc/sys/net/"

func (r *Reading) readSettings() {
	for _, pattern := range copied {
		names := []string{""}
		if strings.Contains(pattern, "*") {
			names = []string{"all", "default"}
			for _, l := range r.links {
				names = append(names, l.name)
			}
		}
		for _, name := range names {
			path := strings.Replace(pattern, "*", name, 1)
			if value, err := os.ReadFile(filepath.Join(settingsFolder, path)); err == nil { // not every kernel has all
				r.settings = append(r.settings, setting{path, strings.TrimSpace(string(value))})
			}
		}
	}
}
