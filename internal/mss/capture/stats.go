// Package capture fetches packets, from capture files (Open) or from the wire (Listen), and finds the IP packet in them below
// whatever link layer there is (Decoder). What it does not understand it counts.
//
// A packet goes this way: file.go or live.go fetches it, for which filter.go says to the kernel what is wanted; link.go and
// wifi.go find the IP packet in it. internal/mss/observe and internal/mss/watch look into that.
package capture

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Stats is how many packets were looked at, and what became of them.
type Stats struct {
	Packets int64
	Short   int64 // captured too short to find out what they are
	Lost    int64 // live: seen by the kernel, but too fast for this program
	Unread  Unread
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

// MostUnknown is how many kinds of unknown things are told apart.
const MostUnknown = 256

// unknown counts a packet. Its kind is lost if there are too many.
func (s *Stats) unknown(layer string, number int) {
	if s.Unread == nil {
		s.Unread = Unread{}
	}
	u := Unknown{layer, number}
	if s.Unread[u] == 0 && len(s.Unread) >= MostUnknown {
		u = Unknown{Layer: "other things"}
	}
	s.Unread[u]++
}

// UnreadCount is a kind as a report has it.
type UnreadCount struct {
	What    string `json:"what"`
	Packets int64  `json:"packets"`
}

// List is the kinds, the most frequent first.
func (u Unread) List() []UnreadCount {
	list := make([]UnreadCount, 0, len(u))
	for what, n := range u {
		list = append(list, UnreadCount{what.String(), n})
	}
	slices.SortFunc(list, func(a, b UnreadCount) int {
		if a.Packets != b.Packets {
			return int(min(max(b.Packets-a.Packets, -1), 1))
		}
		return strings.Compare(a.What, b.What)
	})
	return list
}

// MarshalJSON writes a list, the most frequent first.
func (u Unread) MarshalJSON() ([]byte, error) { return json.Marshal(u.List()) }
