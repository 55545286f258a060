// Package observe counts the maximum segment sizes (MSS) that TCP endpoints offer: from capture files (ReadFile) or from the
// wire (Listen). In come packets, out goes a Report: which values are offered how often, over IPv4 and IPv6 apart, by whom,
// and what that says about a clamp.
//
// An endpoint is an address that sent a segment with SYN set, be it a SYN or a SYN/ACK: both carry an offer
// (RFC 9293, 3.7.1). It counts once, with the first offer that was seen of it, however many connections it opens.
//
// A packet goes this way: capture.go or live.go fetches it, link.go and wifi.go find the IP packet in it, packet.go finds the
// offer in that, and endpoints.go remembers it. report.go counts what is remembered; who.go and names.go say whose it is;
// text.go, plot.go and svg.go show it.
//
// The commands import it; it imports grammar, for the rules that it suggests.
package observe

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Offer is what one segment with SYN set said.
type Offer struct {
	From netip.Addr
	MSS  int  // bytes, 0 to 65535; None if the segment has no such option
	ACK  bool // a SYN/ACK, which answers a SYN
}

// None stands for an offer without the option. The other end must then take 536 bytes for IPv4 and 1220 for IPv6
// (RFC 9293, 3.7.1).
const None = -1

// verdict is what became of an IP packet.
type verdict uint8

const (
	other     verdict = iota // no SYN, or not for us to count
	offered                  // an offer, perhaps of None
	truncated                // a SYN that was not captured far enough to tell its MSS
	malformed                // a SYN whose header contradicts itself
	short                    // not captured far enough to tell whether it is a SYN
)

// Stats is how many packets were looked at, and what became of them.
type Stats struct {
	Packets   int64  `json:"packets"`
	SYNs      int64  `json:"syns"`                     // with the option or without it
	Sent      int64  `json:"sent,omitempty"`           // of SYNs: those that the capture says its own machine sent, or forwarded
	Truncated int64  `json:"truncated,omitempty"`      // captured too short to tell the MSS
	Short     int64  `json:"too_short,omitempty"`      // captured too short to tell whether they are SYNs
	Malformed int64  `json:"malformed,omitempty"`      // with a TCP header that cannot be
	Lost      int64  `json:"lost,omitempty"`           // live: seen by the kernel, but too fast for this program
	Unread    Unread `json:"not_understood,omitempty"` // below the IP packet is something that is not known here
}

// note counts an IP packet.
func (s *Stats) note(v verdict) {
	switch v {
	case offered:
		s.SYNs++
	case truncated:
		s.Truncated++
	case malformed:
		s.Malformed++
	case short:
		s.Short++
	case other:
	}
}

// Unread is the packets that were not understood, by why.
type Unread map[Unknown]int64

// Unknown is what was found where something known should be.
type Unknown struct {
	Layer  string // with %d or %x for the number, if there is one
	Number int
}

func (u Unknown) String() string {
	if strings.Contains(u.Layer, "%") {
		return fmt.Sprintf(u.Layer, u.Number)
	}
	return u.Layer
}

// mostUnknown is how many kinds of unknown things are told apart.
const mostUnknown = 256

// unknown counts a packet. Its kind is lost if there are too many.
func (s *Stats) unknown(layer string, number int) {
	if s.Unread == nil {
		s.Unread = Unread{}
	}
	u := Unknown{layer, number}
	if s.Unread[u] == 0 && len(s.Unread) >= mostUnknown {
		u = Unknown{Layer: "other things"}
	}
	s.Unread[u]++
}

// unreadCount is a kind as a report has it.
type unreadCount struct {
	What    string `json:"what"`
	Packets int64  `json:"packets"`
}

// list is the kinds, the most frequent first.
func (u Unread) list() []unreadCount {
	list := make([]unreadCount, 0, len(u))
	for what, n := range u {
		list = append(list, unreadCount{what.String(), n})
	}
	slices.SortFunc(list, func(a, b unreadCount) int {
		if a.Packets != b.Packets {
			return int(min(max(b.Packets-a.Packets, -1), 1))
		}
		return strings.Compare(a.What, b.What)
	})
	return list
}

// MarshalJSON writes a list, the most frequent first.
func (u Unread) MarshalJSON() ([]byte, error) { return json.Marshal(u.list()) }
