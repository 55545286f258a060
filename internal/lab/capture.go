package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Frame is a packet as it passed one of the firewall's interfaces. It is as it was on the link: before the rules on the way
// in, after them on the way out.
type Frame struct {
	Interface   string         `json:"interface"` // c0, s0 or d0
	Out         bool           `json:"out"`       // it left the firewall there
	Source      netip.AddrPort `json:"source"`    // port 0 for ICMP
	Destination netip.AddrPort `json:"destination"`
	Protocol    Protocol       `json:"protocol"`
	Flags       string         `json:"flags,omitempty"` // TCP: letters as tcpdump has them: S, S., R., …
	MSS         int            `json:"mss,omitempty"`   // TCP: in bytes; 0 means no such option
	Length      int            `json:"length"`          // of the data, in bytes
	ICMP        string         `json:"icmp,omitempty"`  // for a person to read
}

// String is the frame in the manner of "tcpdump -n -i any", without its time and numbers:
//
//	c0 In  IP 10.1.0.2.32768 > 10.2.0.2.80: Flags [S], options [mss 1460], length 0
func (f Frame) String() string {
	direction, family := "In ", "IP"
	if f.Out {
		direction = "Out"
	}
	if f.Source.Addr().Is6() {
		family = "IP6"
	}
	text := fmt.Sprintf("%s %s %s %s > %s: ", f.Interface, direction, family, dotted(f.Source), dotted(f.Destination))
	switch f.Protocol {
	case TCP:
		text += fmt.Sprintf("Flags [%s], ", f.Flags)
		if f.MSS != 0 {
			text += fmt.Sprintf("options [mss %d], ", f.MSS)
		}
	case UDP:
		text += "UDP, "
	default:
		text += f.ICMP + ", "
	}
	return text + fmt.Sprintf("length %d", f.Length)
}

// dotted is an address and port with a dot between them; without a port that there is not.
func dotted(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return fmt.Sprintf("%s.%d", a.Addr(), a.Port())
}

// flagLetters are tcpdump's, in its order.
var flagLetters = []struct {
	flag   Flags
	letter string
}{{FIN, "F"}, {SYN, "S"}, {RST, "R"}, {PSH, "P"}, {ACK, "."}}

func (f Flags) letters() string {
	var b strings.Builder
	for _, l := range flagLetters {
		if f&l.flag != 0 {
			b.WriteString(l.letter)
		}
	}
	return b.String()
}

// sniffer sees what passes the interfaces of the firewall.
type sniffer struct {
	socket int
	names  map[int]string // of interfaces, by index
}

func (l *Lab) openCapture() error {
	s := &sniffer{socket: -1, names: map[int]string{}}
	err := l.Firewall().Do(func() error {
		devices, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.Flags&net.FlagLoopback == 0 {
				s.names[d.Index] = d.Name
			}
		}
		all := networkOrder(unix.ETH_P_ALL)
		s.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all))
		if err != nil {
			return err
		}
		l.capture = s
		return unix.SetsockoptInt(s.socket, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	})
	if err != nil {
		return fmt.Errorf("cannot capture the packets of the %s: %w", FirewallHost, err)
	}
	return nil
}

func (s *sniffer) close() { unix.Close(s.socket) }

// read calls f for what has passed since, with the number of the probe that it belongs to.
func (s *sniffer) read(f func(id uint32, frame Frame)) error {
	return drain(s.socket, func(data []byte, from unix.Sockaddr) {
		a, ok := from.(*unix.SockaddrLinklayer)
		if !ok || s.names[a.Ifindex] == "" || a.Protocol == networkOrder(unix.ETH_P_ARP) {
			return
		}
		if p := parseIP(data); p != nil {
			frame := newFrame(p)
			frame.Interface, frame.Out = s.names[a.Ifindex], a.Pkttype == unix.PACKET_OUTGOING
			f(p.id(), frame)
		}
	})
}

func newFrame(p *packet) Frame {
	f := Frame{Source: netip.AddrPortFrom(p.src, p.sport), Destination: netip.AddrPortFrom(p.dst, p.dport), Length: len(p.payload)}
	switch {
	case p.protocol == unix.IPPROTO_TCP:
		f.Protocol, f.Flags, f.MSS = TCP, p.flags.letters(), p.mss
	case p.protocol == unix.IPPROTO_UDP:
		f.Protocol = UDP
	case p.quote != nil:
		f.Protocol, f.ICMP = ICMP, Reply{Kind: GotICMP, Type: int(p.kind), Code: int(p.code), From: p.src}.String()
	case p.kind == echoRequest4 || p.kind == echoRequest6:
		f.Protocol, f.ICMP = ICMP, "ICMP echo request"
	default:
		f.Protocol, f.ICMP = ICMP, "ICMP echo reply"
	}
	return f
}
