package mss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Read reads the machine's links, routes, routing policy and IPsec policies. What it may not read is in Notes.
func Read() (*Machine, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's links: %w", err)
	}
	m := &Machine{Forward4: forwards("ipv4/ip_forward"), Forward6: forwards("ipv6/conf/all/forwarding")}
	for _, l := range links {
		m.Links = append(m.Links, newLink(l))
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("cannot read the machine's routes: %w", err)
		}
		for _, r := range routes {
			m.Routes = append(m.Routes, newRoutes(r, family)...)
		}
	}
	if m.Rules, err = readRoutingRules(); err != nil {
		m.Notes = append(m.Notes, fmt.Sprintf("The routing policy cannot be read: %v.", err))
	}
	policies, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	switch {
	case errors.Is(err, unix.EPERM):
		m.Notes = append(m.Notes, "IPsec policies cannot be read: that needs root.")
	case err != nil && !errors.Is(err, unix.EPROTONOSUPPORT): // a kernel without IPsec
		m.Notes = append(m.Notes, fmt.Sprintf("IPsec policies cannot be read: %v.", err))
	}
	for _, p := range policies {
		if one, ok := newPolicy(p); ok && !slices.Contains(m.Policies, one) {
			m.Policies = append(m.Policies, one)
		}
	}
	return m, nil
}

func forwards(setting string) bool {
	value, err := os.ReadFile("/proc/sys/net/" + setting)
	return err == nil && strings.TrimSpace(string(value)) == "1"
}

// newLink is a link as the kernel describes it.
func newLink(l netlink.Link) Link {
	a := l.Attrs()
	n := Link{
		Index: a.Index, Name: a.Name, Type: l.Type(), MTU: a.MTU, Parent: a.ParentIndex, Master: a.MasterIndex,
		Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0,
	}
	end := func(remote, local net.IP) {
		n.Remote = address(remote)
		n.Outside6 = n.Remote.Is6() || address(local).Is6()
	}
	switch t := l.(type) {
	case *netlink.Vxlan:
		end(t.Group, t.SrcAddr)
		n.Parent = t.VtepDevIndex
	case *netlink.Geneve:
		end(t.Remote, nil)
	case *netlink.Gretun:
		end(t.Remote, t.Local)
		n.Keyed = t.OKey != 0
	case *netlink.Gretap:
		end(t.Remote, t.Local)
		n.Keyed = t.OKey != 0
	case *netlink.Sittun:
		end(t.Remote, t.Local)
	case *netlink.Iptun:
		end(t.Remote, t.Local)
	case *netlink.Ip6tnl:
		end(t.Remote, t.Local)
		n.Outside6 = true
	case *netlink.Vti:
		end(t.Remote, t.Local)
	}
	return n
}

// address is an address of netlink's, not valid for none.
func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if !a.IsValid() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// newRoutes are the routes over links of one of netlink's, which may have several next hops.
func newRoutes(r netlink.Route, family int) []Route {
	if r.Type != unix.RTN_UNICAST && r.Type != 0 {
		return nil
	}
	to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if family == netlink.FAMILY_V6 {
		to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if !ok {
			return nil
		}
		if family == netlink.FAMILY_V4 {
			a = a.Unmap()
		}
		to = netip.PrefixFrom(a, bits)
	}
	if to.Addr().IsMulticast() || to.Addr().IsLinkLocalUnicast() {
		return nil // nothing is forwarded there
	}
	var list []Route
	if r.LinkIndex != 0 {
		list = append(list, Route{To: to, Link: r.LinkIndex, MTU: r.MTU})
	}
	for _, hop := range r.MultiPath {
		list = append(list, Route{To: to, Link: hop.LinkIndex, MTU: r.MTU})
	}
	return list
}

// newPolicy is an outgoing policy that sends packets through a tunnel; false for any other.
func newPolicy(p netlink.XfrmPolicy) (Policy, bool) {
	if p.Dir != netlink.XFRM_DIR_OUT || p.Dst == nil {
		return Policy{}, false
	}
	for _, t := range p.Tmpls {
		if t.Mode == netlink.XFRM_MODE_TUNNEL {
			a, ok := netip.AddrFromSlice(p.Dst.IP)
			bits, _ := p.Dst.Mask.Size()
			return Policy{To: netip.PrefixFrom(a.Unmap(), bits), Remote: address(t.Dst)}, ok
		}
	}
	return Policy{}, false
}

// ReadRules reads the kernel's rules by the programs that list them: nft, and iptables-save and ip6tables-save where there are
// any. notes say what could not be read, a sentence each; no rules then does not mean that there are none.
func ReadRules(ctx context.Context) (list []*Rules, notes []string) {
	var native *Rules // nil where nft does not tell
	out, err := output(ctx, "nft", "-j", "list", "ruleset")
	if err == nil && out != nil {
		if native, err = ParseNFT(out); err == nil {
			list = append(list, native)
		}
	}
	if err != nil {
		notes = append(notes, fmt.Sprintf("The rules of nftables cannot be read: %v.", err))
	}
	for program, six := range map[string]bool{"iptables-save": false, "ip6tables-save": true} {
		out, err := output(ctx, program)
		switch {
		case err != nil:
			notes = append(notes, fmt.Sprintf("The rules of %s cannot be read: %v.", strings.TrimSuffix(program, "-save"), err))
		case out != nil:
			list = append(list, ParseIPTables(string(out), six))
			notes = append(notes, unsaved(string(out), six, native)...)
		}
	}
	slices.Sort(notes)
	return list, notes
}

// unsavedTable is what iptables-save of iptables-nft prints, as a comment, in place of a table with a rule that it has no words for, such as one
// that nft(8) has put there (iptables/xtables-save.c). It does not fail for that.
var unsavedTable = regexp.MustCompile("(?m)^# Table `([^']+)' is incompatible, use 'nft' tool")

// unsaved says, of the tables that iptables-save does not print, which may have clamps that nft does not tell of either. native are the rules
// that nft tells; nil if it does not.
func unsaved(text string, six bool, native *Rules) (notes []string) {
	tool, family := "iptables", "ip"
	if six {
		tool, family = "ip6tables", "ip6"
	}
	for _, m := range unsavedTable.FindAllStringSubmatch(text, -1) {
		if native == nil || native.xt[nftPlace{family, m[1]}] {
			notes = append(notes, fmt.Sprintf("The table %s of %s cannot be read: it has rules that %s has no words for (nft list table %s %s).", m[1], tool, tool, family, m[1]))
		}
	}
	return notes
}

// output is what a program prints; nil if it is not installed.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} { // not in the PATH of every user
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return nil, nil
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err == nil && strings.Contains(said.String(), "Parsing nftables rule failed") { // iptables-save has left out a rule, and may not fail
		err = errors.New("it cannot print a rule")
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); err != nil && line != "" {
		err = errors.New(strings.TrimSuffix(line, "."))
	}
	if out == nil && err == nil {
		out = []byte{}
	}
	return out, err
}
