package observe

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

// listening is a Listener at one end of a link, and a socket of a kind to send packets at the other end, whose number is index.
func listening(t *testing.T, kind int) (listener *Listener, sender, index int) {
	t.Helper()
	if missing := lab.Missing(); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	err = ns.Do(func() (err error) {
		if index, err = vethPair(); err != nil {
			return err
		}
		if listener, err = Listen("near"); err != nil {
			return err
		}
		sender, err = unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close(); unix.Close(sender) })
	return listener, sender, index
}

// On a link every SYN that comes in is seen, and nothing else.
func TestListenSeesEverySYN(t *testing.T) {
	listener, sender, index := listening(t, unix.SOCK_DGRAM)

	const each = 2000
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for i := range each {
			v4 := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			v6 := netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
			for _, ip := range [][]byte{
				syn(v4, mssOption(1000+i%400)), syn(v6, mssOption(1440)),
				packet(v4, tcp, segment(0x10, nil)), packet(v6, 17, make([]byte, 20)),
			} {
				send(sender, index, ip)
			}
		}
	}()
	c := NewCounter(DefaultLimit)
	s, err := listener.Run(ctx, c, func(s Stats) {
		if s.SYNs >= 2*each {
			cancel()
		}
	})
	if err != nil || s.SYNs != 2*each || s.Packets > 3*each || s.Lost != 0 {
		t.Errorf("%+v, %v; want %d SYNs, and neither ACKs nor datagrams", s, err, 2*each)
	}
	r := c.Report("near", s)
	if r.IPv4.Endpoints != each || r.IPv6.Endpoints != each || len(r.IPv4.Values) != 400 || r.IPv6.Values[0] != (Value{1440, each, 1}) {
		t.Errorf("%d and %d endpoints, want %d each", r.IPv4.Endpoints, r.IPv6.Endpoints, each)
	}
}

// Below VLAN tags, PPPoE and MPLS a SYN is seen live as it is in a file; what is not understood is counted.
func TestListenSeesBelowOtherLayers(t *testing.T) {
	listener, sender, index := listening(t, unix.SOCK_RAW)

	from := netip.MustParseAddr("10.0.0.0")
	below := func(layers ...[]byte) []byte {
		from = from.Next()
		return join([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1}, join(layers...), syn(from, mssOption(1400)))
	}
	vlan, session := []byte{0x81, 0, 0, 5}, []byte{0x88, 0x64, 0x11, 0, 0, 1, 0, 46, 0, 0x21}
	frames := [][]byte{
		below(ip4), below(vlan, ip4), below([]byte{0x88, 0xa8, 0, 7}, vlan, ip4), below(session), below(vlan, session),
		below([]byte{0x88, 0xa8, 0, 7}, vlan, session), below([]byte{0x88, 0x47, 0, 1, 0x10, 64, 0, 2, 0x11, 64}),
		below([]byte{0, 52}, snap, ip4),
	}
	unknown := below([]byte{0x88, 0xe5}) // MACsec
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, frame := range append(frames, unknown) {
		to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index, Halen: 6}
		if err := unix.Sendto(sender, frame, 0, to); err != nil {
			t.Fatal(err)
		}
	}
	c := NewCounter(100)
	s, err := listener.Run(ctx, c, func(s Stats) {
		if s.SYNs >= int64(len(frames)) && len(s.Unread) > 0 {
			cancel()
		}
	})
	if err != nil || c.Endpoints() != len(frames) || s.Unread[Unknown{Layer: "Ethernet type 0x%04x", Number: 0x88e5}] != 1 || len(s.Unread) != 1 {
		t.Errorf("%+v, %d endpoints, %v; want %d, and one frame of MACsec", s, c.Endpoints(), err, len(frames))
	}
}

// vethPair makes the interfaces near and far, which are one link, and returns the number of far.
func vethPair() (int, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "near"
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "far"
	if err := netlink.LinkAdd(veth); err != nil {
		return 0, err
	}
	for _, name := range []string{"near", "far"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return 0, err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return 0, err
		}
	}
	far, err := net.InterfaceByName("far")
	if err != nil {
		return 0, err
	}
	return far.Index, nil
}

func send(socket, index int, ip []byte) {
	kind := uint16(unix.ETH_P_IP)
	if ip[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(kind), Ifindex: index, Halen: 6}
	copy(to.Addr[:], []byte{255, 255, 255, 255, 255, 255})
	unix.Sendto(socket, ip, 0, to)
}

// A wrong name is answered with the right ones.
func TestListenOnNoInterface(t *testing.T) {
	_, err := Listen("nope0")
	if err == nil || !strings.Contains(err.Error(), "cannot listen on nope0: there is no such interface; there are lo") {
		t.Errorf("got %v", err)
	}
}

// networkOrder turns a number of this machine's byte order into one of the network's.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
