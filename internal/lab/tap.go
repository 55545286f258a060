package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// tap sends and receives the packets of one host.
type tap interface {
	// send puts a packet out.
	send(*packet) error
	// receive calls f for what has come in since, without waiting.
	receive(f func(*packet)) error
	// sockets are what to wait for.
	sockets() []int
	close()
}

// receiveBuffer is the size of a socket's buffer in bytes; a batch of probes takes a small part of it.
const receiveBuffer = 1 << 20

// wire is the tap of a client or server: a packet socket on its interface, beside the kernel's own stack.
type wire struct {
	socket  int
	end     end
	gateway end
	index   int  // of the interface
	settled bool // the gateway answered the last ask
}

func openWire(e, gateway end, index int) (*wire, error) {
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ALL)))
	if err != nil {
		return nil, err
	}
	w := &wire{socket: s, end: e, gateway: gateway, index: index}
	if err := unix.Bind(s, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		w.close()
		return nil, err
	}
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

func (w *wire) close()         { unix.Close(w.socket) }
func (w *wire) sockets() []int { return []int{w.socket} }

func (w *wire) send(p *packet) error {
	protocol := uint16(unix.ETH_P_IP)
	if p.src.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	return w.frame(protocol, p.bytes())
}

func (w *wire) frame(protocol uint16, data []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: w.index, Halen: 6}
	copy(to.Addr[:], w.gateway.mac)
	return unix.Sendto(w.socket, data, 0, to)
}

// ask sends an ARP request (RFC 826) to the gateway.
func (w *wire) ask() error {
	w.settled = false
	request := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, their lengths, request
	request = append(append(request, w.end.mac...), w.end.probed[0].AsSlice()...)
	request = append(append(request, make([]byte, 6)...), w.gateway.own[0].Addr().AsSlice()...)
	return w.frame(unix.ETH_P_ARP, request)
}

func (w *wire) receive(f func(*packet)) error {
	return drain(w.socket, func(data []byte, from unix.Sockaddr) {
		a, ok := from.(*unix.SockaddrLinklayer)
		switch {
		case !ok || a.Pkttype == unix.PACKET_OUTGOING:
		case a.Protocol == networkOrder(unix.ETH_P_ARP):
			w.settled = w.settled || len(data) > 7 && data[7] == 2 // a reply
		default:
			if p := parseIP(data); p != nil {
				f(p)
			}
		}
	})
}

// stack is the tap of the firewall: raw sockets, which send by way of the kernel's output hook, and receive what its
// input hook has let through.
type stack struct {
	out map[Family]int
	in  []rawSocket
}

type rawSocket struct {
	socket   int
	family   Family
	protocol int
}

func openStack() (*stack, error) {
	s := &stack{out: map[Family]int{}}
	for _, f := range []Family{IPv4, IPv6} {
		domain := map[Family]int{IPv4: unix.AF_INET, IPv6: unix.AF_INET6}[f]
		for _, protocol := range []int{unix.IPPROTO_RAW, unix.IPPROTO_TCP, unix.IPPROTO_UDP, icmpProtocol(f)} {
			fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
			if err != nil {
				s.close()
				return nil, err
			}
			if protocol == unix.IPPROTO_RAW { // for sending, with a header of its own: raw(7)
				s.out[f] = fd
				continue
			}
			s.in = append(s.in, rawSocket{fd, f, protocol})
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
				s.close()
				return nil, err
			}
		}
	}
	return s, nil
}

func icmpProtocol(f Family) int {
	if f == IPv6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

func (s *stack) close() {
	for _, fd := range s.out {
		unix.Close(fd)
	}
	for _, fd := range s.sockets() {
		unix.Close(fd)
	}
}

func (s *stack) sockets() []int {
	var fds []int
	for _, r := range s.in {
		fds = append(fds, r.socket)
	}
	return fds
}

func (s *stack) send(p *packet) error {
	var err error
	if p.dst.Is6() {
		err = unix.Sendto(s.out[IPv6], p.bytes(), 0, &unix.SockaddrInet6{Addr: p.dst.As16()})
	} else {
		err = unix.Sendto(s.out[IPv4], p.bytes(), 0, &unix.SockaddrInet4{Addr: p.dst.As4()})
	}
	if errors.Is(err, unix.EPERM) { // what the kernel says when rules drop the packet
		return nil
	}
	return err
}

func (s *stack) receive(f func(*packet)) error {
	for _, r := range s.in {
		err := drain(r.socket, func(data []byte, from unix.Sockaddr) {
			var p *packet
			if a, ok := from.(*unix.SockaddrInet6); ok { // raw(7) has the header for IPv4, ipv6(7) has not
				p = parseSegment(r.protocol, netip.AddrFrom16(a.Addr), netip.Addr{}, data)
			} else {
				p = parseIP(data)
			}
			if p != nil {
				f(p)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// drain reads what a socket has.
func drain(socket int, f func(data []byte, from unix.Sockaddr)) error {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(socket, buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return fmt.Errorf("cannot read packets: %w", err)
		}
		f(bytes.Clone(buffer[:n]), from)
	}
}

func (l *Lab) openTaps() error {
	for _, k := range l.links {
		e, gateway := k.ends[0], k.ends[1]
		if !e.probed[0].IsValid() {
			continue // a router
		}
		err := l.namespaces[e.host].Do(func() error {
			device, err := net.InterfaceByName(e.device)
			if err != nil {
				return err
			}
			w, err := openWire(e, gateway, device.Index)
			if err == nil {
				l.taps[e.host] = w
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot listen on the %s: %w", e.host, err)
		}
	}
	err := l.Firewall().Do(func() error {
		s, err := openStack()
		if err == nil {
			l.taps[FirewallHost] = s
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot listen on the %s: %w", FirewallHost, err)
	}
	return nil
}
