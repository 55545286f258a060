package mss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Read reads the machine's links, routes, routing policy and IPsec policies. What it may not read is in Notes.
func Read() (*Machine, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // of a million routes little more is held than what is kept of them
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's links: %w", err)
	}
	m := &Machine{Forward4: forwards("ipv4/ip_forward"), Forward6: forwards("ipv6/conf/all/forwarding")}
	more, err := readTunnels()
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's links: %w", err)
	}
	for _, l := range links {
		n := newLink(l)
		if change := more[n.Index]; change != nil {
			change(&n)
		}
		n.MTU6 = number("ipv6/conf/" + n.Name + "/mtu")
		m.Links = append(m.Links, n)
	}
	nexthops, err := readNexthops()
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's next hops: %w", err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := m.readRoutes(family, nexthops); err != nil {
			return nil, fmt.Errorf("cannot read the machine's routes: %w", err)
		}
	}
	if err := m.readRoutingRules(); err != nil {
		m.Notes = append(m.Notes, fmt.Sprintf("The routing policy cannot be read: %v.", err))
	}
	policies, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	switch {
	case errors.Is(err, unix.EPERM):
		m.Notes = append(m.Notes, "IPsec policies cannot be read: that needs root.")
	case err != nil && !errors.Is(err, unix.EPROTONOSUPPORT): // a kernel without IPsec
		m.Notes = append(m.Notes, fmt.Sprintf("IPsec policies cannot be read: %v.", err))
	}
	seen := map[Policy]bool{}
	for _, p := range policies {
		if one, ok := newPolicy(p); ok && !seen[one] {
			seen[one] = true
			m.Policies = append(m.Policies, one)
		}
	}
	return m, nil
}

func forwards(setting string) bool { return number(setting) == 1 }

// number is a setting of the kernel, 0 if there is none.
func number(setting string) int {
	value, err := os.ReadFile("/proc/sys/net/" + setting)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(value)))
	return n
}

// newLink is a link as the kernel describes it.
func newLink(l netlink.Link) Link {
	a := l.Attrs()
	n := Link{
		Index: a.Index, Name: a.Name, Type: l.Type(), MTU: a.MTU, Parent: a.ParentIndex, Master: a.MasterIndex, Group: int(a.Group),
		Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0,
	}
	if a.NetNsID >= 0 {
		n.Parent = 0 // an index of another namespace
	}
	if n.MTU == nat46MTU && (n.Type == "" || n.Type == "device" || n.Type == "generic") {
		n.Type = nat46
	}
	end := func(remote, local net.IP) {
		n.Remote, n.Local = address(remote), address(local)
		n.Outside6 = n.Remote.Is6() || n.Local.Is6()
	}
	switch t := l.(type) {
	case *netlink.Vxlan:
		end(t.Group, t.SrcAddr)
		n.Parent, n.Port = t.VtepDevIndex, t.Port
	case *netlink.Geneve:
		end(t.Remote, nil)
		n.Port = int(t.Dport)
	case *netlink.Gretun:
		end(t.Remote, t.Local)
		n.Extra = greOptions(t.OFlags) + around(t.EncapType)
	case *netlink.Gretap:
		end(t.Remote, t.Local)
		n.Extra = greOptions(t.OFlags) + around(t.EncapType)
	case *netlink.Sittun:
		end(t.Remote, t.Local)
		n.Extra = around(t.EncapType)
	case *netlink.Iptun:
		end(t.Remote, t.Local)
		n.Extra = around(t.EncapType)
	case *netlink.Ip6tnl:
		end(t.Remote, t.Local)
		n.Outside6, n.Extra = true, around(t.EncapType)+limitOption(t.Flags, t.EncapLimit)
	case *netlink.Vti:
		end(t.Remote, t.Local)
		n.ID = t.OKey
	case *netlink.Xfrmi:
		n.ID = t.Ifid
	case *netlink.Vrf:
		n.Table = int(t.Table)
	}
	return n
}

// greOptions is the length of what flags of a GRE tunnel add to its header, in bytes (RFC 2784, RFC 2890; if_tunnel.h).
func greOptions(flags uint16) int {
	n := 0
	for _, option := range []uint16{0x8000, 0x2000, 0x1000} { // checksum, key, sequence number
		if host := bits.ReverseBytes16(option); flags&host != 0 {
			n += 4
		}
	}
	return n
}

// around is the length of what a tunnel within UDP adds, in bytes: that of UDP, and of GUE's header (if_tunnel.h).
func around(encapsulation uint16) int { return map[uint16]int{1: 8, 2: 8 + 4}[encapsulation] }

// limitOption is the length of the destination option with the tunnel encapsulation limit (RFC 2473, 5.1), which a tunnel over IPv6 has unless
// it is told not to (ip6_tunnel.h).
func limitOption(flags uint32, limit uint8) int {
	const ignored = 1
	if flags&ignored != 0 || limit == 0 {
		return 0
	}
	return 8
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

// newPolicy is an outgoing policy that encrypts; false for any other.
func newPolicy(p netlink.XfrmPolicy) (Policy, bool) {
	if p.Dir != netlink.XFRM_DIR_OUT || p.Dst == nil || p.Action != netlink.XFRM_POLICY_ALLOW {
		return Policy{}, false
	}
	for _, t := range p.Tmpls {
		if t.Mode != netlink.XFRM_MODE_TUNNEL && t.Mode != netlink.XFRM_MODE_TRANSPORT {
			continue
		}
		to, ok := prefixOf(p.Dst)
		from, _ := prefixOf(p.Src)
		one := Policy{
			From: from, To: to, Local: address(t.Src), Remote: address(t.Dst), Transport: t.Mode == netlink.XFRM_MODE_TRANSPORT,
			Protocol: int(p.Proto), Port: p.DstPort, ID: uint32(p.Ifid),
		}
		if p.Mark != nil && p.Mark.Mask != 0 {
			one.Mark, one.Mask = p.Mark.Value, p.Mark.Mask
		}
		return one, ok
	}
	return Policy{}, false
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	length, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), length), ok
}

// ReadRules reads the kernel's rules by the programs that list them: nft, and iptables-save and ip6tables-save, of either kind, where there are
// any. notes say what could not be read, a sentence each; no rules then does not mean that there are none.
func ReadRules(ctx context.Context) (list []*Rules, notes []string) {
	native, err := readNFT(ctx) // nil where nft does not tell
	if native != nil {
		list, notes = append(list, native), append(notes, native.notes...)
	}
	if err != nil {
		notes = append(notes, fmt.Sprintf("The rules of nftables cannot be read: %v.", err))
	}
	for _, six := range []bool{false, true} {
		rules, said := readIPTables(ctx, six, native)
		list, notes = append(list, rules...), append(notes, said...)
	}
	slices.Sort(notes)
	return list, notes
}

// readNFT reads what nft lists; nil if it is not installed, or cannot.
func readNFT(ctx context.Context) (*Rules, error) {
	out, err := output(ctx, "nft", "-j", "list", "ruleset")
	if err != nil || out == nil {
		return nil, err
	}
	var devices map[string][]string
	if atDevice.Match(out) {
		chains, err := output(ctx, "nft", "list", "chains")
		if err != nil {
			return nil, err
		}
		devices = chainDevices(string(chains))
	}
	return ParseNFT(out, devices)
}

// atDevice is a chain at the hook of a device, in JSON.
var atDevice = regexp.MustCompile(`"hook": ?"(ingress|egress)"`)

var (
	tableLine  = regexp.MustCompile(`^table (\S+) (\S+) \{`)
	chainLine  = regexp.MustCompile(`^\s+chain (\S+) \{`)
	deviceLine = regexp.MustCompile(`\bhook (?:ingress|egress) devices? (?:= )?(.*?) priority`)
)

// chainDevices are the devices of chains by family, table and chain, from what "nft list chains" prints: before version 1.0.7 its JSON leaves
// them out.
func chainDevices(text string) map[string][]string {
	devices := map[string][]string{}
	var place nftPlace
	var chain string
	for line := range strings.Lines(text) {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			place = nftPlace{m[1], m[2]}
		}
		if m := chainLine.FindStringSubmatch(line); m != nil {
			chain = m[1]
		}
		if m := deviceLine.FindStringSubmatch(line); m != nil {
			devices[place.key(chain)] = strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune(`{}," `, r) })
		}
	}
	return devices
}

// savers are the programs that list rules of iptables, without -save: what the name stands for here, and both kinds by their own names.
var savers = map[bool][]string{
	false: {"iptables", "iptables-nft", "iptables-legacy"},
	true:  {"ip6tables", "ip6tables-nft", "ip6tables-legacy"},
}

// readIPTables reads the rules of iptables, or ip6tables if six is set. native are those that nft lists, nil if it does not.
func readIPTables(ctx context.Context, six bool, native *Rules) (list []*Rules, notes []string) {
	var known []string // what was printed so far, without comments
	legacy, modern := false, false
	for _, program := range savers[six] {
		out, err := output(ctx, program+"-save")
		if err != nil {
			notes = append(notes, fmt.Sprintf("The rules of %s cannot be read: %v.", program, err))
			continue
		}
		text := string(out)
		rules := iptablesComment.ReplaceAllString(text, "")
		if out != nil && !slices.Contains(known, rules) {
			known = append(known, rules)
			list = append(list, ParseIPTables(text, six))
			notes = append(notes, unsaved(text, six, native)...)
		}
		modern = modern || strings.Contains(text, "(nf_tables)") || unsavedTable.MatchString(text)
		legacy = legacy || strings.Contains(text, "# Generated") && !strings.Contains(text, "(nf_tables)")
	}
	tool, family, tables := "iptables", "ip", "ip_tables_names"
	if six {
		tool, family, tables = "ip6tables", "ip6", "ip6_tables_names"
	}
	if names, err := os.ReadFile("/proc/thread-self/net/" + tables); err == nil && len(names) > 0 && !legacy {
		notes = append(notes, fmt.Sprintf("There are tables of the older %s, which %s-legacy-save would list, and it is not installed.", tool, tool))
	}
	if native != nil && !modern && slices.ContainsFunc(slices.Collect(maps.Keys(native.xt)), func(p nftPlace) bool { return p.Family == family }) {
		notes = append(notes, fmt.Sprintf("There are rules of %s, which nft does not tell, and %s-save is not installed.", tool, tool))
	}
	return list, notes
}

// iptablesComment is a line that says when and by what rules were listed, and counters, which differ from one list to the next.
var iptablesComment = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)

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
