// Package observe counts the maximum segment sizes (MSS) that TCP endpoints offer: from capture files (ReadFile) or from the
// wire (Listen). In come packets, out goes a Report: which values are offered how often, over IPv4 and IPv6 apart, and
// what that says about a clamp.
//
// An endpoint is an address that sent a segment with SYN set, be it a SYN or a SYN/ACK: both carry an offer
// (RFC 9293, 3.7.1). It counts once, with the first offer that was seen of it, however many connections it opens.
//
// The commands import it; it imports grammar, for the rules that it suggests.
package observe

import "net/netip"

// Offer is what one segment with SYN set said.
type Offer struct {
	From netip.Addr
	MSS  int // bytes, 0 to 65535; None if the segment has no such option
}

// None stands for an offer without the option. The other end must then take 536 bytes for IPv4 and 1220 for IPv6
// (RFC 9293, 3.7.1).
const None = -1

// verdict is what became of a packet.
type verdict uint8

const (
	other     verdict = iota // no SYN, or not for us to count
	offered                  // an offer, perhaps of None
	truncated                // a SYN that was not captured far enough to tell its MSS
	malformed                // a SYN whose header contradicts itself
)

// Stats is how many packets were looked at, and what became of them.
type Stats struct {
	Packets   int64 `json:"packets"`
	SYNs      int64 `json:"syns"`                // with the option or without it
	Truncated int64 `json:"truncated,omitempty"` // captured too short to tell the MSS
	Malformed int64 `json:"malformed,omitempty"` // with a TCP header that cannot be
	Lost      int64 `json:"lost,omitempty"`      // live: seen by the kernel, but too fast for this program
	// Unreadable is the packets of link types that are not known here, by their number in
	// https://www.tcpdump.org/linktypes.html.
	Unreadable map[int]int64 `json:"unreadable,omitempty"`
}

// note counts a packet.
func (s *Stats) note(v verdict) {
	s.Packets++
	switch v {
	case offered:
		s.SYNs++
	case truncated:
		s.Truncated++
	case malformed:
		s.Malformed++
	case other:
	}
}
