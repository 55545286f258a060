package faults

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// tunnel is a TUN device of the firewall, whose other end is here: it stands for a tunnel that this kernel has no module for, such as WireGuard. What it
// takes away from the path is its MTU.
type tunnel struct {
	*testing.T
	file *os.File
}

func (l *linked) tunnel(name string) *tunnel {
	l.T.Helper()
	t := &tunnel{T: l.T}
	err := l.Firewall().Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return err
		}
		t.file = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		l.T.Skipf("there are no TUN devices: %v", err)
	}
	l.T.Cleanup(func() { t.file.Close() })
	return t
}

// syn is the next IPv4 segment with SYN that comes out of the tunnel: its packet, and the MSS that it announces.
func (t *tunnel) syn() ([]byte, int) {
	t.Helper()
	t.file.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		packet := make([]byte, 65536)
		n, err := t.file.Read(packet)
		if err != nil {
			t.Fatalf("no SYN comes out of the tunnel: %v", err)
		}
		if packet = packet[:n]; n >= 44 && packet[0]>>4 == 4 && packet[9] == 6 && packet[33]&2 != 0 && packet[40] == 2 {
			return packet, int(binary.BigEndian.Uint16(packet[42:]))
		}
	}
}

// send puts an IPv4 segment into the tunnel, with an MSS of 8960.
func (t *tunnel) send(from, to netip.AddrPort, flags byte, seq, ack uint32) {
	t.Helper()
	p := make([]byte, 44)
	p[0], p[8], p[9], p[32], p[33] = 0x45, 64, 6, 6<<4, flags
	binary.BigEndian.PutUint16(p[2:], 44)
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[10:], sum(p[:20]))
	binary.BigEndian.PutUint16(p[20:], from.Port())
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint32(p[24:], seq)
	binary.BigEndian.PutUint32(p[28:], ack)
	binary.BigEndian.PutUint16(p[34:], 65535)
	p[40], p[41] = 2, 4
	binary.BigEndian.PutUint16(p[42:], 8960)
	pseudo := append(append([]byte{}, p[12:20]...), 0, 6, 0, 24)
	binary.BigEndian.PutUint16(p[36:], sum(append(pseudo, p[20:]...)))
	if _, err := t.file.Write(p); err != nil {
		t.Fatal(err)
	}
}

// sum is the checksum of RFC 1071.
func sum(b []byte) uint16 {
	n := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return ^uint16(n)
}

// A connection through a tunnel that comes while the firewall runs, and is then given another MTU by hand: the client's SYN has it as it leaves, and
// the client is told no more by the SYN/ACK that comes back; and the same of a connection from beyond.
func TestLinksOfATunnel(t *testing.T) {
	beyond := netip.MustParseAddr("198.18.0.9")
	for _, backend := range bothBackends {
		t.Run(string(backend), func(t *testing.T) {
			l := newLinked(t, backend, clampByLinks)
			tun := l.tunnel("wg0")
			l.ip("link set wg0 mtu 1420 up")
			l.ip("route add 198.18.0.0/15 dev wg0")
			for i, mtu := range []int{1420, 1380} {
				l.ip("link set wg0 mtu %d", mtu)
				l.awaitSize("wg0", mtu-40)
				peer := netip.AddrPortFrom(beyond, uint16(8000+i))
				clamped := make(chan int, 1)
				go func() { clamped <- l.dial(peer) }()
				packet, mss := tun.syn()
				if mss != mtu-40 {
					t.Errorf("MTU %d: the SYN leaves with an MSS of %d", mtu, mss)
				}
				client := netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(packet[20:]))
				answer := func() { tun.send(peer, client, 0x12, 1000, binary.BigEndian.Uint32(packet[24:])+1) }
				answer()
				got := 0
				for waits := true; waits; {
					select {
					case got = <-clamped:
						waits = false
					case <-time.After(time.Second): // the rules may have been exchanged just then
						answer()
					}
				}
				if got > mtu-40 || got < mtu-40-12 { // without timestamps, or with
					t.Errorf("MTU %d: behind the SYN/ACK the client sends segments of %d bytes", mtu, got)
				}

				server := l.listen(uint16(9000 + i))
				tun.send(peer, server, 0x02, 5000, 0)
				if _, mss := tun.syn(); mss != mtu-40 {
					t.Errorf("MTU %d: the SYN/ACK leaves with an MSS of %d", mtu, mss)
				}
			}
		})
	}
}

// awaitSize waits until a link has a size in the rules.
func (l *linked) awaitSize(link string, size int) {
	l.T.Helper()
	for range 300 {
		if l.backend == "nftables" && l.listed()[link] == size {
			return
		}
		if l.backend == "iptables" {
			_, err := l.Firewall().Run(l.T.Context(), "", "iptables", "-t", "mangle", "-C", "SYN_public", "-o", link, "-p", "tcp", "--tcp-flags", "SYN,RST", "SYN",
				"-j", "TCPMSS", "--set-mss", fmt.Sprint(size))
			if err == nil {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.T.Fatalf("no rule has %s with %d", link, size)
}

// dial opens a connection from the client, and returns the largest segments that it sends then; 0 if it does not come about.
func (l *linked) dial(to netip.AddrPort) (size int) {
	err := l.Namespace(lab.Client).Do(func() error {
		c, err := net.DialTimeout("tcp", to.String(), 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		return raw.Control(func(fd uintptr) { size, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	})
	if err != nil {
		l.T.Log(err)
	}
	return size
}

// listen has the client listen on a port until the test ends.
func (l *linked) listen(port uint16) netip.AddrPort {
	l.T.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr("10.1.0.10"), port)
	err := l.Namespace(lab.Client).Do(func() error {
		listener, err := net.Listen("tcp", at.String())
		if err == nil {
			l.T.Cleanup(func() { listener.Close() })
		}
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
	return at
}
