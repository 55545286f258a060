package mss

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// world is a router in a namespace of its own, of whose links the other ends are here: what is sent into one comes to the router, and what the
// router sends is seen there. No other host is needed.
type world struct {
	t     *testing.T
	ns    *lab.Namespace
	ends  map[string]*wireEnd // by the name of the router's link
	ports uint16              // the last source port
	wait  time.Duration       // how long a packet may take through the router; one that does not come is lost
}

// wireEnd is the other end of a link.
type wireEnd struct {
	name string // of the router's link, to which the packets go: a bridge's for a port
	fd   int
	mac  net.HardwareAddr // of the router's link
}

// plug is a link of the router to make: NAME, whose other end is NAME-far, with an address and a gateway of each family by its number.
const plug = `
plug() { # name, number, mtu
	ip link add $1 mtu $3 type veth peer name $1-far mtu $3
	for i in $1 $1-far; do ip link set $i up; done
	echo 1 >/proc/sys/net/ipv6/conf/$1-far/disable_ipv6
	address $1 $2
}
address() { # name, number
	ip address add 10.200.$2.1/24 dev $1
	ip -6 address add fd00:200:$2::1/64 dev $1 nodad
	ip neighbour add 10.200.$2.2 lladdr 02:00:00:00:00:02 dev $1 nud permanent
	ip -6 neighbour add fd00:200:$2::2 lladdr 02:00:00:00:00:02 dev $1 nud permanent
}
PATH=$PATH:/usr/sbin:/sbin
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
for i in all default; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done
`

// newWorld makes a router by a script. ends are the links into which packets are sent, each with the link of the router that has its address: the
// same, or the bridge that it is a port of.
func newWorld(t *testing.T, script string, ends map[string]string) *world {
	t.Helper()
	if missing := lab.Missing("ip", "nft", "iptables", "ip6tables", "sh"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	shell(t, ns, plug+script)
	w := &world{t: t, ns: ns, ends: map[string]*wireEnd{}, ports: 20000, wait: 10 * time.Second}
	err = ns.Do(func() error {
		for name, over := range ends {
			router, err := net.InterfaceByName(over)
			if err != nil {
				return err
			}
			far, err := net.InterfaceByName(name + "-far")
			if err != nil {
				return err
			}
			all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
			if err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: far.Index}); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
				return err
			}
			w.ends[name] = &wireEnd{over, fd, router.HardwareAddr}
		}
		return nil
	})
	t.Cleanup(func() {
		for _, e := range w.ends {
			unix.Close(e.fd)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// advise is what is said about the router as it is.
func (w *world) advise() *Report {
	w.t.Helper()
	var r *Report
	err := w.ns.Do(func() error {
		m, err := Read()
		if err != nil {
			return err
		}
		m.Forward4, m.Forward6 = true, true
		rules, notes := ReadRules(w.t.Context())
		if notes != nil {
			w.t.Error(notes)
		}
		r = Advise(m, Options{Rules: rules})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// flags of TCP.
const (
	flagSYN = 2
	flagACK = 16
)

// segmentOf is a TCP segment with an MSS option, in IP without fragments, padded to a size in bytes; 0 for no padding.
func segmentOf(src, dst netip.AddrPort, flag byte, mss, size int) []byte {
	tcp := binary.BigEndian.AppendUint16(nil, src.Port())
	tcp = binary.BigEndian.AppendUint16(tcp, dst.Port())
	tcp = append(tcp, 0, 0, 0, 9, 0, 0, 0, 0, 6<<4, flag, 0xff, 0xff, 0, 0, 0, 0, 2, 4, byte(mss>>8), byte(mss))
	header := outerHeader(src.Addr().Is6())
	tcp = append(tcp, make([]byte, max(0, size-header-len(tcp)))...)
	pseudo := append(append(src.Addr().AsSlice(), dst.Addr().AsSlice()...), 0, 6, byte(len(tcp)>>8), byte(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	if src.Addr().Is6() {
		ip := append([]byte{0x60, 0, 0, 0, byte(len(tcp) >> 8), byte(len(tcp)), 6, 60}, src.Addr().AsSlice()...)
		return append(append(ip, dst.Addr().AsSlice()...), tcp...)
	}
	ip := []byte{0x45, 0, byte((20 + len(tcp)) >> 8), byte(20 + len(tcp)), 0, 1, 0x40, 0, 60, 6, 0, 0}
	ip = append(append(ip, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(ip, tcp...)
}

// checksum is that of RFC 1071.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i < len(data); i += 2 {
		sum += uint32(data[i]) << 8
		if i+1 < len(data) {
			sum += uint32(data[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// send sends an IP packet into a link.
func (w *world) send(at string, packet []byte) {
	w.t.Helper()
	kind := []byte{0x08, 0x00}
	if packet[0]>>4 == 6 {
		kind = []byte{0x86, 0xdd}
	}
	e := w.ends[at]
	frame := append(append(append([]byte{}, e.mac...), 2, 0, 0, 0, 0, 2), kind...)
	if _, err := unix.Write(e.fd, append(frame, packet...)); err != nil {
		w.t.Fatalf("%s: %v", at, err)
	}
}

// seen is a TCP segment that came out of the router.
type seen struct {
	at       string
	src, dst netip.AddrPort
	size     int // bytes, of the IP packet
	mss      int
	inside   bool // it was in a VXLAN
}

// next is the next segment that the router sends from a port, by any link.
func (w *world) next(port uint16) (seen, bool) {
	names, polls := []string{}, []unix.PollFd{}
	for name, e := range w.ends {
		names, polls = append(names, name), append(polls, unix.PollFd{Fd: int32(e.fd), Events: unix.POLLIN})
	}
	buffer := make([]byte, 1<<16)
	for end := time.Now().Add(w.wait); time.Now().Before(end); {
		if n, err := unix.Poll(polls, 100); n <= 0 || err != nil {
			continue
		}
		for i := range polls {
			if polls[i].Revents == 0 {
				continue
			}
			n, err := unix.Read(int(polls[i].Fd), buffer)
			if err != nil {
				continue
			}
			if s, ok := parseSegment(buffer[:n]); ok && s.src.Port() == port {
				s.at = names[i]
				return s, true
			}
		}
	}
	return seen{}, false
}

// parseSegment reads an Ethernet frame.
func parseSegment(frame []byte) (s seen, ok bool) {
	if len(frame) < 14+20 {
		return s, false
	}
	ip := frame[14:]
	var tcp []byte
	var src, dst netip.Addr
	switch {
	case frame[12] == 0x08 && frame[13] == 0 && ip[9] == 6:
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		tcp = ip[20:]
	case frame[12] == 0x86 && frame[13] == 0xdd && len(ip) >= 40 && ip[6] == 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		tcp = ip[40:]
	}
	if frame[12] == 0x08 && frame[13] == 0 && ip[9] == 17 && len(ip) > 20+8+8+14 && ip[22] == 4789>>8 && ip[23] == 4789&0xff {
		s, ok = parseSegment(ip[20+8+8:]) // VXLAN
		s.inside = true
		return s, ok
	}
	if len(tcp) < 24 || tcp[20] != 2 {
		return s, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	s.size, s.mss = len(ip), int(binary.BigEndian.Uint16(tcp[22:]))
	return s, true
}

// handshake sends a SYN into a link, and an answer into that by which the SYN came out, and says where both came out, and with which MSS. Each
// end announces mss of its link.
func (w *world) handshake(at string, src, dst netip.Addr, mss func(link string) int) (syn, answer seen, ok bool) {
	w.t.Helper()
	w.ports++
	from, to := netip.AddrPortFrom(src, w.ports), netip.AddrPortFrom(dst, w.ports^0x8000)
	w.send(at, segmentOf(from, to, flagSYN, mss(at), 0))
	if syn, ok = w.next(from.Port()); !ok {
		return syn, answer, false
	}
	w.send(syn.at, segmentOf(syn.dst, syn.src, flagSYN|flagACK, mss(syn.at), 0))
	answer, ok = w.next(syn.dst.Port())
	return syn, answer, ok
}

// passes says whether a packet of a size comes through the router to an address. One that is small follows it, so that there is no waiting.
func (w *world) passes(at string, src, dst netip.Addr, size int) bool {
	w.t.Helper()
	w.ports++
	from, to := netip.AddrPortFrom(src, w.ports), netip.AddrPortFrom(dst, w.ports^0x8000)
	w.send(at, segmentOf(from, to, flagSYN, 536, size))
	w.send(at, segmentOf(from, to, flagSYN, 536, 0))
	got, ok := w.next(from.Port())
	if !ok {
		w.t.Fatalf("nothing comes from %s to %s", src, dst)
	}
	return got.size == size
}

// ethernet is what a host on a link of 1500 bytes announces.
func ethernet(six bool) func(string) int {
	if six {
		return func(string) int { return Ethernet - header6 }
	}
	return func(string) int { return Ethernet - header4 }
}

// pathNamed is the path of a name.
func pathNamed(t *testing.T, r *Report, name string) Path {
	t.Helper()
	for _, p := range r.Paths {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no path %s in %+v", name, r.Paths)
	return Path{}
}

// clamps add a clamp for all that is forwarded, by either back end: to the path's MTU, or to that of an MTU.
var clamps = map[string]func(mtu int) string{
	"nftables": func(mtu int) string {
		set4, set6 := "rt mtu", "rt mtu"
		if mtu != 0 {
			set4, set6 = fmt.Sprint(mtu-header4), fmt.Sprint(mtu-header6)
		}
		return `
nft add table inet t
nft add chain inet t c '{ type filter hook forward priority mangle; }'
nft add rule inet t c meta nfproto ipv4 tcp flags syn tcp option maxseg size set ` + set4 + `
nft add rule inet t c meta nfproto ipv6 tcp flags syn tcp option maxseg size set ` + set6 + "\n"
	},
	"iptables": func(mtu int) string {
		set4, set6 := "--clamp-mss-to-pmtu", "--clamp-mss-to-pmtu"
		if mtu != 0 {
			set4, set6 = fmt.Sprint("--set-mss ", mtu-header4), fmt.Sprint("--set-mss ", mtu-header6)
		}
		return `
iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS ` + set4 + `
ip6tables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS ` + set6 + "\n"
	},
}

// Each case is a router with a LAN and one or two uplinks, and what is true of the uplink NARROW: the MTU that fits, what a clamp to the path's
// MTU leaves of SYN and SYN/ACK of a connection from the LAN, and what richwall says of such a clamp. A number, which is the advice, always does.
func TestClampedByPackets(t *testing.T) {
	const lan = "plug lan 1 1500\nip route add 10.1.0.0/16 via 10.200.1.2\nip -6 route add fd01::/16 via fd00:200:1::2\n"
	const uplinks = lan + "plug w1 2 1500\nplug w2 3 1400\nip route add default via 10.200.2.2\nip -6 route add default via fd00:200:2::2\n" +
		"ip route add default via 10.200.3.2 table 200\nip -6 route add default via fd00:200:3::2 table 200\n"
	both := func(script string) string {
		return strings.ReplaceAll(strings.ReplaceAll(script, "IP ", "ip "), "SRC", "10.1.0.0/24") + strings.ReplaceAll(strings.ReplaceAll(script, "IP ", "ip -6 "), "SRC", "fd01::/64")
	}
	for _, tt := range []struct {
		name, script string
		ends         map[string]string
		narrow       string
		fits         int
		syn, answer  int // MTUs that the MSS of the two stands for, with a clamp to the path's MTU
		says         State
	}{
		{"PPPoE's MTU", lan + "plug w1 2 1492\nip route add default via 10.200.2.2\nip -6 route add default via fd00:200:2::2\n",
			map[string]string{"w1": "w1"}, "w1", 1492, 1492, 1492, Clamped},
		{"a table for some sources", uplinks + both("IP rule add from SRC lookup 200\n"),
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1500, InPart},
		{"a table for what comes from an interface", uplinks + both("IP rule add iif lan lookup 200\n"),
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1500, InPart},
		{"a table for TCP", uplinks + both("IP rule add iif lan ipproto tcp lookup 200\n"),
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1500, InPart},
		{"a table for a mark", uplinks + both("IP rule add fwmark 7 lookup 200\n") +
			"nft add table inet m\nnft add chain inet m c '{ type filter hook prerouting priority mangle; }'\nnft add rule inet m c iifname lan meta mark set 7\n",
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1500, InPart},
		{"a table for all but a mark", uplinks + both("IP rule add not fwmark 7 lookup 200\n"),
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1400, Clamped},
		{"a table for destinations", uplinks + "ip rule add to 198.51.0.0/16 lookup 200\nip -6 rule add to 2001:db8::/32 lookup 200\n",
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1400, Clamped},
		{"a table whose default route main's more special ones go before", uplinks + both("IP rule add lookup main suppress_prefixlength 0\nIP rule add lookup 200\n"),
			map[string]string{"w1": "w1", "w2": "w2"}, "w2", 1400, 1400, 1400, Clamped},
		{"a route whose MTU is more than that of its link", lan + "plug w1 2 1400\nip route add default via 10.200.2.2 mtu 1500\nip -6 route add default via fd00:200:2::2\n",
			map[string]string{"w1": "w1"}, "w1 (routes with mtu 1500)", 1400, 1500, 1500, Unclamped},
		{"an MTU of IPv6 that is less than that of the link", lan + "plug w1 2 1500\nip -6 route add default via fd00:200:2::2\nip -4 address flush dev w1\necho 1300 >/proc/sys/net/ipv6/conf/w1/mtu\n",
			map[string]string{"w1": "w1"}, "w1 (routes with mtu 1300)", 1300, 1300, 1300, Clamped},
		{"a bridge with a port that carries less", lan + `plug p1 9 1500
ip link add br0 mtu 1500 type bridge
ip address flush dev p1
ip link set p1 master br0
ip link set br0 up
address br0 2
ip link set br0 mtu 1500
ip link set p1 mtu 1450
ip link set br0 mtu 1500
ip route add default via 10.200.2.2
ip -6 route add default via fd00:200:2::2
`, map[string]string{"p1": "br0"}, "br0", 1450, 1500, 1500, Unclamped},
	} {
		for backend, add := range clamps {
			t.Run(tt.name+", "+backend, func(t *testing.T) {
				ends := map[string]string{"lan": "lan"}
				for name, over := range tt.ends {
					ends[name] = over
				}
				for _, mtu := range []int{0, tt.fits} {
					w := newWorld(t, tt.script+add(mtu), ends)
					p := pathNamed(t, w.advise(), tt.narrow)
					w.mustBe(p, tt.fits)
					syn, answer, says := tt.syn, tt.answer, tt.says
					if mtu != 0 {
						syn, answer, says = mtu, mtu, Clamped
					}
					if p.Clamped != says || p.Fit.MTU != tt.fits {
						t.Errorf("%d: says %s, and that %d fits; want %s, %d\n%+v", mtu, p.Clamped, p.Fit.MTU, says, tt.fits, p)
					}
					if mtu == 0 && says != Clamped && strings.Join(p.Rules, "") != fmt.Sprintf(`rule tcp-mss-clamp mtu="%d"`, tt.fits) {
						t.Errorf("advises %v", p.Rules)
					}
					w.mustMeet(p, syn, answer)
				}
			})
		}
	}
}

// hosts are addresses behind the LAN, and far away.
var hosts = map[bool][2]netip.Addr{
	false: {netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("198.51.100.9")},
	true:  {netip.MustParseAddr("fd01::5"), netip.MustParseAddr("2001:db8::9")},
}

// tag is the length of a VLAN's tag, for which bridges and veths have room beside their MTU (is_skb_forwardable).
const tag = 4

// mustBe checks that packets of a size get through by a path, and none that are larger.
func (w *world) mustBe(p Path, fits int) {
	w.t.Helper()
	for _, six := range p.families {
		if !w.passes("lan", hosts[six][0], hosts[six][1], fits) || w.passes("lan", hosts[six][0], hosts[six][1], fits+tag+1) {
			w.t.Errorf("by %s, %d is not what gets through; IPv6: %v", p.Name, fits, six)
		}
	}
}

// mustMeet checks what a connection from the LAN announces by a path, as MTUs.
func (w *world) mustMeet(p Path, syn, answer int) {
	w.t.Helper()
	for _, six := range p.families {
		header := header4
		if six {
			header = header6
		}
		s, a, ok := w.handshake("lan", hosts[six][0], hosts[six][1], ethernet(six))
		if !ok || s.mss+header != syn || a.mss+header != answer {
			w.t.Errorf("IPv6 %v: SYN %d, SYN/ACK %d; want %d, %d (%v)", six, s.mss+header, a.mss+header, syn, answer, ok)
		}
	}
}

// Packets from the LAN go into a VXLAN, whose own packets go by links of various MTUs and must not be fragmented: what gets through is what fits.
func TestTunnelsByPackets(t *testing.T) {
	const lan = "plug lan 1 1500\nip route add 10.1.0.0/16 via 10.200.1.2\nip -6 route add fd01::/16 via fd00:200:1::2\n"
	const uplinks = lan + "plug w1 2 1400\nplug w2 3 1500\n"
	vxlan := func(mtu int, with string) string {
		return fmt.Sprintf("ip link add vx mtu %d type vxlan id 7 dstport 4789 remote 192.0.2.9 df set %s\nip link set vx up\n", mtu, with)
	}
	const routed = "address vx 5\nip route add 198.51.100.0/24 via 10.200.5.2\nip -6 route add 2001:db8::/32 via fd00:200:5::2\n"
	const by10 = routed + "ip route add 198.51.100.0/24 via 10.200.5.2 table 10\n"
	for _, tt := range []struct {
		name, script string
		path         string
		fits         int
	}{
		{"a table for a mark, and main", uplinks + "ip route add default via 10.200.2.2\nip route add default via 10.200.3.2 table 10\nip rule add fwmark 1 lookup 10\n" + vxlan(1450, "") + routed, "vx", 1350},
		{"a table for a mark that what is carried has", uplinks + "ip route add default via 10.200.3.2\nip route add default via 10.200.2.2 table 10\nip rule add fwmark 1 lookup 10\n" +
			"nft add table inet m\nnft add chain inet m c '{ type filter hook prerouting priority mangle; }'\nnft add rule inet m c iifname lan meta mark set 1\n" + vxlan(1450, "") + by10 +
			"ip -6 rule add fwmark 1 lookup main\n", "vx", 1350},
		{"a table for what comes in, and main", uplinks + "ip route add default via 10.200.2.2\nip route add default via 10.200.3.2 table 10\nip rule add iif lan lookup 10\n" + vxlan(1450, "") + by10, "vx", 1350},
		{"a table for all", uplinks + "ip route add default via 10.200.3.2\nip route add default via 10.200.2.2 table 10\nip rule add lookup 10\n" + vxlan(1450, "") + by10, "vx", 1350},
		{"a table for the tunnel's source", uplinks + "ip route add default via 10.200.3.2\nip route add default via 10.200.2.2 table 10\nip rule add from 10.200.3.1 lookup 10\n" + vxlan(1450, "local 10.200.3.1") + routed, "vx", 1350},
		{"a route with an MTU", uplinks + "ip route add default via 10.200.3.2 mtu 1420\n" + vxlan(1450, "") + routed, "vx", 1370},
		{"a tunnel bound to a link", uplinks + "ip route add default via 10.200.3.2\nip route add default via 10.200.2.2 metric 100\n" + vxlan(1450, "dev w1") + routed, "vx", 1350},
		{"a tunnel bound to a link, of whose routes one is behind another link's", uplinks + "ip route add default via 10.200.2.2 mtu 1300\nip route add 192.0.2.0/24 via 10.200.3.2\n" + vxlan(1450, "dev w1") + routed, "vx", 1250},
		{"a tunnel as a port of a bridge", uplinks + "ip route add default via 10.200.3.2\n" + vxlan(1500, "") +
			"ip link add br0 mtu 1500 type bridge\nip link set vx master br0\nip link set br0 up mtu 1500\n" + strings.ReplaceAll(routed, "address vx", "address br0"), "br0", 1450},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.script, map[string]string{"lan": "lan", "w1": "w1", "w2": "w2"})
			p := pathNamed(t, w.advise(), tt.path)
			if p.Fit.MTU != tt.fits || p.Clamped != Unclamped {
				t.Errorf("says that %d fits, want %d: %+v", p.Fit.MTU, tt.fits, p)
			}
			for _, six := range []bool{false, true} {
				near, far := hosts[six][0], hosts[six][1]
				if !w.passes("lan", near, far, tt.fits) || w.passes("lan", near, far, tt.fits+1) {
					t.Errorf("%d is not what gets through; IPv6: %v", tt.fits, six)
				}
			}
		})
	}
}
