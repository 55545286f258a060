// Package observe counts the maximum segment sizes (MSS) that TCP endpoints offer: from capture files (ReadFile) or from the
// wire (Listen). In come packets, out goes a Report: which values are offered how often, over IPv4 and IPv6 apart, by whom,
// and what that says about a clamp.
//
// An endpoint is an address that sent a segment with SYN set, be it a SYN or a SYN/ACK: both carry an offer
// (RFC 9293, 3.7.1). It counts once, with the first offer that was seen of it, however many connections it opens.
//
// A packet goes this way: package capture fetches it and finds the IP packet in it, packet.go finds the offer in that, and endpoints.go remembers it. report.go counts what is remembered; who.go and names.go say whose it is;
// text.go, plot.go and svg.go show it.
//
// The commands import it; it imports grammar, for the rules that it suggests.
package observe

import (
	"net/netip"

	"richwall/internal/mss/capture"
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

// Unread is the packets that were not understood, by why.
type Unread = capture.Unread

// Unknown is what was found where something known should be.
type Unknown = capture.Unknown

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
