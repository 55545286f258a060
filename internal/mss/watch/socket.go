package watch

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Socket is a connection of this machine itself that hangs: what it sends was sent again and not answered. A connection keeps
// the MSS that it began with, so that a clamp that is added now does not help it.
type Socket struct {
	Local    string `json:"local"`
	Remote   string `json:"remote"`
	MSS      int    `json:"mss"`       // bytes of data that it puts into a segment
	PathMTU  int    `json:"path_mtu"`  // bytes, as the kernel has it
	Repeated int    `json:"repeated"`  // how often the oldest segment was sent again, without an answer
	Waiting  int    `json:"waiting"`   // segments that are not answered
	End      string `json:"to_end_it"` // a command, for whoever wants to
}

// hangsAfter is how often a segment was sent again, without an answer, where a connection is said to hang.
const hangsAfter = 2

// sends are the states of a connection in which it may still send data (include/net/tcp_states.h): ESTABLISHED, FIN_WAIT1,
// CLOSE_WAIT, LAST_ACK.
var sends = []uint8{1, 4, 8, 9}

// Hanging are the connections of this machine that hang with large segments (INET_DIAG, sock_diag(7)). None are known where the
// kernel does not tell.
func Hanging() ([]Socket, error) {
	var list []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := netlink.SocketDiagTCPInfo(family)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) {
			continue
		}
		if err != nil {
			return list, fmt.Errorf("cannot read this machine's connections: %w", err)
		}
		for _, one := range found {
			if s, hangs := hanging(one); hangs {
				list = append(list, s)
			}
		}
	}
	slices.SortFunc(list, func(a, b Socket) int { return b.Repeated - a.Repeated })
	return list, nil
}

func hanging(one *netlink.InetDiagTCPInfoResp) (s Socket, hangs bool) {
	m, info := one.InetDiagMsg, one.TCPInfo
	if m == nil || info == nil {
		return s, false
	}
	from, _ := netip.AddrFromSlice(m.ID.Source)
	to, _ := netip.AddrFromSlice(m.ID.Destination)
	from, to = from.Unmap(), to.Unmap()
	size := int(info.Snd_mss) + headers(to.Is6())
	if !slices.Contains(sends, info.State) || info.Retransmits < hangsAfter || info.Unacked == 0 || to.IsLoopback() || size <= smallest(to.Is6()) {
		return s, false
	}
	return Socket{
		Local: netip.AddrPortFrom(from, m.ID.SourcePort).String(), Remote: netip.AddrPortFrom(to, m.ID.DestinationPort).String(),
		MSS: int(info.Snd_mss), PathMTU: int(info.Pmtu), Repeated: int(info.Retransmits), Waiting: int(info.Unacked),
		End: fmt.Sprintf("ss -K dst %s dport = %d sport = %d", to, m.ID.DestinationPort, m.ID.SourcePort),
	}, true
}

// Line says it, in one line without its end.
func (s Socket) Line() string {
	return fmt.Sprintf("hangs    %s → %s  this machine's own: MSS %d, path MTU %d, sent again %d times without an answer; it keeps this MSS, and this ends it: %s",
		s.Local, s.Remote, s.MSS, s.PathMTU, s.Repeated, s.End)
}
