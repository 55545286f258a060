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

// On a link every SYN that comes in is seen, and nothing else.
func TestListenSeesEverySYN(t *testing.T) {
	if missing := lab.Missing(); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var listener *Listener
	var sender, index int
	err = ns.Do(func() (err error) {
		if index, err = vethPair(); err != nil {
			return err
		}
		if listener, err = Listen("near"); err != nil {
			return err
		}
		sender, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	defer unix.Close(sender)

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
	to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, kind)), Ifindex: index, Halen: 6}
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
