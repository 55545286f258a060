package mss

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
)

var (
	machines = flag.Int("machines", 3, "how many random machines TestRandomMachines tries")
	seed     = flag.Uint64("seed", 0, "the first seed of TestRandomMachines; 0 for one from the clock")
)

// What richwall says of machines that are drawn at random agrees with packets that go through them: where it says that a path is clamped, or needs
// no clamp, no segment announces more than the path carries, and what it says fits is what gets through.
func TestRandomMachines(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for i := range *machines {
		n := first + uint64(i)
		t.Run(fmt.Sprint("seed ", n), func(t *testing.T) {
			d := drawMachine(t, rand.New(rand.NewPCG(n, 1)))
			d.try()
			d.verified = d.alike()
			if t.Failed() {
				t.Log(d.script)
			}
			t.Logf("%d announcements of paths that are said to be in order, %d sizes, %d segments beside the clone", d.sure, d.sized, d.verified)
		})
	}
}

// drawn is a machine that was drawn.
type drawn struct {
	*world
	r        *rand.Rand
	script   string
	mtus     map[string]int                 // of links, and of bridges, by what they carry
	places   map[string]map[bool]netip.Addr // of each end: a host behind it, to which the main table has a route
	sure     int                            // announcements of paths of which it is said that they are in order
	sized    int                            // paths whose size was tried
	verified int                            // segments that were compared with those of a clone
}

func (d *drawn) one(list ...string) string { return list[d.r.IntN(len(list))] }

// usual are MTUs that links have.
var usual = []int{1500, 1500, 1500, 1492, 1450, 1400, 1380, 1300, 9000}

// drawMachine draws links, bridges, routes, a routing policy, and clamps of others.
func drawMachine(t *testing.T, r *rand.Rand) *drawn {
	d := &drawn{r: r, mtus: map[string]int{}, places: map[string]map[bool]netip.Addr{}}
	ends := map[string]string{}
	var b strings.Builder
	n := 2 + r.IntN(3)
	var routed []string
	for i := range n {
		name, number := fmt.Sprint("e", i), i+1
		mtu := usual[r.IntN(len(usual))]
		ends[name], routed = name, append(routed, name)
		d.mtus[name] = mtu
		fmt.Fprintf(&b, "plug %s %d %d\n", name, number, mtu)
		if r.IntN(4) == 0 {
			ends[name], routed[i] = d.bridge(&b, name, number, mtu), "br"+name
		}
		d.places[name] = map[bool]netip.Addr{false: at(fmt.Sprintf("10.%d.0.5", number)), true: at(fmt.Sprintf("fd00:%d::5", number))}
		fmt.Fprintf(&b, "ip route add 10.%d.0.0/16 via 10.200.%d.2\nip -6 route add fd00:%d::/32 via fd00:200:%d::2\n", number, number, number, number)
	}
	d.routes(&b, n)
	d.policy(&b, n, routed)
	if r.IntN(3) == 0 {
		d.tunnel(&b, routed)
	}
	d.beside(&b, routed)
	if r.IntN(3) > 0 {
		b.WriteString(clamps[d.one("nftables", "iptables")](0))
	}
	for range r.IntN(3) {
		d.clamp(&b, routed)
	}
	if r.IntN(4) == 0 {
		d.ours(t, &b, routed)
	}
	d.script = b.String()
	d.world = newWorld(t, d.script, ends)
	return d
}

// bridge makes the link a port of a bridge, which has an MTU of its own.
func (d *drawn) bridge(b *strings.Builder, name string, number, mtu int) string {
	wide := max(mtu, usual[d.r.IntN(len(usual))])
	fmt.Fprintf(b, "ip link add br%s type bridge\nip address flush dev %s\nip link set %s master br%s\nip link set br%s up\naddress br%s %d\nip link set br%s mtu %d\n",
		name, name, name, name, name, name, number, name, wide)
	return "br" + name
}

// gateway is the next hop by a link.
func gateway(number int, six bool) string {
	if six {
		return fmt.Sprintf("via fd00:200:%d::2", number)
	}
	return fmt.Sprintf("via 10.200.%d.2", number)
}

// far are addresses that no link is for alone.
var far = map[bool]netip.Addr{false: at("198.51.100.9"), true: at("2001:db8::9")}

// routes adds default routes, and one to a part of what is far, each by a link, by two, or with an MTU.
func (d *drawn) routes(b *strings.Builder, n int) {
	for _, six := range []bool{false, true} {
		ip, part := "ip", "198.51.100.0/24"
		if six {
			ip, part = "ip -6", "2001:db8::/32"
		}
		for _, table := range []string{"main", "200", "300"} {
			for _, to := range []string{"default", part} {
				if d.r.IntN(3) == 0 && (table != "main" || to != "default") {
					continue
				}
				how := gateway(1+d.r.IntN(n), six)
				switch d.r.IntN(6) {
				case 0:
					how += fmt.Sprint(" mtu ", []int{1280, 1400, 1492}[d.r.IntN(3)])
				case 1:
					how = "nexthop " + how + " nexthop " + gateway(1+d.r.IntN(n), six)
				}
				fmt.Fprintf(b, "%s route add %s table %s %s || true\n", ip, to, table, how)
			}
		}
	}
}

// throughTunnel are addresses that main has a route to by a VXLAN, if there is one.
var throughTunnel = map[bool]netip.Addr{false: at("203.0.113.9"), true: at("2001:db8:7::9")}

// tunnel adds a VXLAN, whose packets must not be fragmented, with an MTU of its own, as a link or as the port of a bridge.
func (d *drawn) tunnel(b *strings.Builder, routed []string) {
	bound := ""
	if d.r.IntN(3) == 0 {
		bound = "dev " + routed[d.r.IntN(len(routed))]
	}
	name, mtu := "vx", 1300+d.r.IntN(300)
	fmt.Fprintf(b, "ip link add vx mtu %d type vxlan id 7 dstport 4789 remote 192.0.2.9 df set %s\nip link set vx up\n", mtu, bound)
	if d.r.IntN(2) == 0 {
		name = "brvx"
		fmt.Fprintf(b, "ip link add brvx type bridge\nip link set vx master brvx\nip link set brvx up mtu %d\n", mtu+d.r.IntN(100))
	}
	fmt.Fprintf(b, "address %s 9\nip route add 203.0.113.0/24 via 10.200.9.2\nip -6 route add 2001:db8:7::/48 via fd00:200:9::2\n", name)
}

// beside adds what is not to change what is said: IPsec for marks and for interfaces that are not there, NAT, and a tunnel over the tunnel.
func (d *drawn) beside(b *strings.Builder, routed []string) {
	if d.r.IntN(3) == 0 {
		fmt.Fprintf(b, "ip xfrm policy add src 0.0.0.0/0 dst %s dir out %s tmpl src 10.200.1.1 dst 192.0.2.7 proto esp mode %s\n",
			d.one("0.0.0.0/0", "198.51.100.0/24"), d.one("mark 42", "mark 0x40/0xf0", "if_id 42"), d.one("tunnel", "transport"))
	}
	if d.r.IntN(4) == 0 {
		fmt.Fprintf(b, "nft add table ip nat\nnft add chain ip nat c '{ type nat hook postrouting priority srcnat; }'\nnft add rule ip nat c oifname %s masquerade\n", routed[d.r.IntN(len(routed))])
	}
	if d.r.IntN(2) == 0 && strings.Contains(b.String(), "type vxlan") {
		fmt.Fprintf(b, "ip link add over-vx mtu %d type vxlan id 8 dstport 4789 remote 203.0.113.50 df set\nip link set over-vx up\naddress over-vx 10\nip route add 192.88.99.0/24 via 10.200.10.2\n", 1200+d.r.IntN(300))
	}
}

// tunnelled compares what gets through the VXLAN with what is said to fit. Of several next hops below, and
// of tables for marks, the smallest is said, and another may be taken.
func (d *drawn) tunnelled(report *Report, names []string) {
	d.t.Helper()
	i := slices.IndexFunc(report.Paths, func(p Path) bool { return p.Name == "vx" || p.Name == "brvx" })
	if i < 0 {
		return
	}
	fits := report.Paths[i].Fit.MTU
	exact := !strings.Contains(d.script, "nexthop") && !strings.Contains(d.script, "mark set")
	for _, name := range names {
		for _, six := range report.Paths[i].families {
			d.ports++
			from, to := netip.AddrPortFrom(d.places[name][six], d.ports), netip.AddrPortFrom(throughTunnel[six], d.ports^0x8000)
			d.send(name, segmentOf(from, to, flagSYN, 536, 0))
			if got, ok := d.next(d.ports); !ok || !got.inside || fits+tag+1 > d.mtus[name] {
				continue
			}
			d.sized++
			if !d.passes(name, from.Addr(), to.Addr(), fits) || exact && d.passes(name, from.Addr(), to.Addr(), fits+tag+1) {
				d.t.Errorf("from %s by the VXLAN: %d is not what gets through", name, fits)
			}
		}
	}
}

// policy adds rules to the routing policy, and marks.
func (d *drawn) policy(b *strings.Builder, n int, routed []string) {
	for range d.r.IntN(4) {
		six := d.r.IntN(2) == 0
		ip, from := "ip", fmt.Sprintf("10.%d.0.0/16", 1+d.r.IntN(n))
		if six {
			ip, from = "ip -6", fmt.Sprintf("fd00:%d::/32", 1+d.r.IntN(n))
		}
		what := d.one("from "+from, "iif "+routed[d.r.IntN(n)], "to "+from, "fwmark 7", "iif "+routed[d.r.IntN(n)], "not fwmark 7", "ipproto tcp", "dport 30000-60000", "oif "+routed[d.r.IntN(n)], "")
		do := d.one("lookup 200", "lookup 200", "lookup 300", "lookup main suppress_prefixlength 0")
		fmt.Fprintf(b, "%s rule add priority %d %s %s\n", ip, 100+d.r.IntN(1000), what, do)
	}
	if d.r.IntN(3) == 0 {
		fmt.Fprintf(b, "nft add table inet marks\nnft add chain inet marks c '{ type filter hook prerouting priority mangle; }'\nnft add rule inet marks c iifname %s meta mark set 7\n",
			routed[d.r.IntN(n)])
	}
}

// clamp adds a clamp of others, by nft or by iptables of either kind.
func (d *drawn) clamp(b *strings.Builder, routed []string) {
	iface := routed[d.r.IntN(len(routed))]
	sizes := []string{"1240", "1340", "1360", "1400", "1460"}
	size := d.one(sizes...)
	if d.r.IntN(2) == 0 {
		match := d.one("", "", "-o "+iface, "-i "+iface, "-s 10.1.0.0/16", "-m tcpmss --mss "+d.one(sizes...)+":65535", "-m conntrack --ctstate NEW")
		if d.r.IntN(3) > 0 {
			size = "--clamp-mss-to-pmtu"
		} else {
			size = "--set-mss " + size
		}
		for _, tool := range []string{"iptables", "ip6tables"} {
			if tool == "ip6tables" && strings.HasPrefix(match, "-s") {
				continue
			}
			fmt.Fprintf(b, "%s%s -t mangle -A FORWARD %s -p tcp --tcp-flags SYN,RST SYN -j TCPMSS %s\n", tool, d.one("", "-legacy"), match, size)
		}
		return
	}
	if d.r.IntN(3) > 0 {
		size = "rt mtu"
	}
	match := d.one("", "", `oifname "`+iface+`"`, `iifname "`+iface+`"`, "tcp option maxseg size > "+d.one(sizes...), "ct direction original", "ct state established", "ip saddr 10.0.0.0/8",
		"ip6 daddr 2001:db8::/32", "meta nfproto ipv4", "iifname . oifname { "+iface+" . "+routed[0]+" }")
	table := fmt.Sprint("t", d.r.IntN(1_000_000))
	fmt.Fprintf(b, "nft add table inet %s\nnft add chain inet %s c '{ type filter hook forward priority %d; }'\n", table, table, d.r.IntN(300)-150)
	if d.r.IntN(4) == 0 {
		fmt.Fprintf(b, "nft add rule inet %s c %s accept\n", table, d.one("ct state established,related", `iifname "`+iface+`"`, "tcp dport 80", "ct status dnat"))
	}
	fmt.Fprintf(b, "nft add rule inet %s c 'tcp flags syn %s tcp option maxseg size set %s'\n", table, match, size)
}

// ours adds richwall's own rules: the first link in the zone external, the others in internal, and a clamp in one of them.
func (d *drawn) ours(t *testing.T, b *strings.Builder, routed []string) {
	backend := []ir.Backend{ir.NFTables, ir.IPTables}[d.r.IntN(2)]
	if backend == ir.IPTables && strings.Contains(b.String(), "iptables") {
		return // it takes the place of what is there
	}
	rule := d.one("rule tcp-mss-clamp", "rule tcp-mss-clamp", "rule tcp-mss-clamp mtu="+d.one("1280", "1400", "1492"), "rule tcp-mss-clamp mtu=1300 range=1301-1500", "rule family=ipv4 tcp-mss-clamp")
	b.WriteString(load(t, rulesOf(t, backend, d.one("external", "internal"), rule, routed[0], routed[1:])))
}

// try sends connections between all places, and from each to what is far, and compares.
func (d *drawn) try() {
	d.t.Helper()
	report := d.advise()
	names := []string{}
	for name := range d.ends {
		names = append(names, name)
	}
	slices.Sort(names)
	d.wait = time.Second // for what is not forwarded at all
	for _, six := range []bool{false, true} {
		for _, from := range names {
			targets := []netip.Addr{far[six]}
			for _, to := range names {
				if to != from {
					targets = append(targets, d.places[to][six])
				}
			}
			for _, to := range targets {
				for _, fewer := range []int{0, 70} {
					d.compare(report, from, d.places[from][six], to, fewer)
				}
			}
		}
	}
	d.tunnelled(report, names)
	if d.t.Failed() {
		d.t.Logf("%s\n%+v", d.script, report.Paths)
	}
}

// headerOf is the length of the headers before a segment's data, in bytes.
func headerOf(six bool) int {
	if six {
		return header6
	}
	return header4
}

// announced is what a host behind a link announces: what an Ethernet carries, or the link, if that is more; fewer is taken off.
func (d *drawn) announced(six bool, fewer int) func(string) int {
	return func(link string) int { return max(d.mtus[link], Ethernet) - headerOf(six) - fewer }
}

// compare opens a connection, and compares both announcements. What a SYN announces limits what is sent to who sent it, which takes the way of the
// answer; and what the answer announces limits what takes the way of the SYN. Whoever sends has the MTU of the link that it is behind.
func (d *drawn) compare(report *Report, from string, src, dst netip.Addr, fewer int) {
	d.t.Helper()
	six := src.Is6()
	syn, answer, ok := d.handshake(from, src, dst, d.announced(six, fewer))
	if !ok || syn.at == from || answer.at == syn.at {
		return // no such connection is forwarded
	}
	what := fmt.Sprintf("from %s of %s to %s by %s, back by %s, %d bytes fewer", src, from, dst, syn.at, answer.at, fewer)
	d.check(report, what+": SYN", answer.at, src, min(syn.mss, d.mtus[syn.at]-headerOf(six)), six)
	p := d.check(report, what+": SYN/ACK", syn.at, dst, min(answer.mss, d.mtus[from]-headerOf(six)), six)
	if p == nil || p.internet || p.Fit.MTU+tag+1 > d.mtus[from] || fewer != 0 {
		return
	}
	d.sized++
	if !d.passes(from, src, dst, p.Fit.MTU) || d.passes(from, src, dst, p.Fit.MTU+tag+1) {
		d.t.Errorf("%s: %d is not what gets through", what, p.Fit.MTU)
	}
}

// check compares what is sent by a link to an address, in bytes of a segment, with what is said of the path that leads there. If there is one
// alone, it is the answer.
func (d *drawn) check(report *Report, what, by string, to netip.Addr, mss int, six bool) *Path {
	d.t.Helper()
	var paths []*Path
	fits, yes := 0, true
	for i := range report.Paths {
		p := &report.Paths[i]
		if p.Interface == d.ends[by].name && slices.Contains(p.families, six) && leads(p, to) {
			paths = append(paths, p)
			fits = max(fits, p.fits(six))
			yes = yes && (p.Clamped == Clamped || p.Clamped == NotNeeded)
		}
	}
	if len(paths) == 0 {
		d.t.Errorf("%s: no path by %s leads to %s", what, by, to)
		return nil
	}
	if yes {
		d.sure++
	}
	if yes && mss > fits {
		d.t.Errorf("%s: %d bytes are sent, and %d fit", what, mss, fits)
	}
	if len(paths) > 1 {
		return nil
	}
	return paths[0]
}

// leads says whether a path leads to an address.
func leads(p *Path, to netip.Addr) bool {
	return slices.ContainsFunc(p.Routes, func(text string) bool {
		if rest, isDefault := strings.CutPrefix(text, "default (IPv"); isDefault {
			return (rest == "6)") == to.Is6()
		}
		prefix, err := netip.ParsePrefix(text)
		return err == nil && prefix.Contains(to)
	})
}
