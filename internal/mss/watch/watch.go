// Package watch follows TCP connections through a router, by their packets as they come in and as they leave: which maximum
// segment size (MSS) each side announced and what became of it, which segments get through, and which do not.
//
// In come packets (Watcher.Packet) and the time (Watcher.Tick), out go Events; Watcher.Summary is what is known at the end,
// with the rules to add. Live and Files fetch the packets.
//
// A packet goes this way: segment.go reads it; table.go finds its connection, by its addresses, or where they were translated
// by what it carries; handshake.go looks at SYN and SYN/ACK, flow.go at the segments of each direction, toobig.go at what
// ICMP says of them; stall.go judges what does not arrive; event.go, advice.go and text.go say it.
//
// Strangers write the packets. The memory is bounded by Options.Limit, whatever they are.
package watch

import (
	"net/netip"

	"richwall/internal/mss"
)

// DefaultLimit is how many connections are followed at a time if nothing else is said. Each takes some 500 bytes.
const DefaultLimit = 1 << 15

// Options are what a Watcher is told beside packets. All of them may be left out.
type Options struct {
	Limit  int                                           // connections that are followed at a time; 0 for DefaultLimit
	Name   func(index int) string                        // the name of an interface
	Zone   func(iface string, address netip.Addr) string // the zone of what is at an address behind an interface, "" if it is not known
	Clamps func(mss.Passage) []string                    // the rules that lowered a segment's MSS
	Only   []Filter                                      // show only connections that all of these are about
	Device string                                        // show only connections that use this interface
	Event  func(Event)
}

// Way is where a packet was seen.
type Way uint8

// The ways.
const (
	Unknown Way = iota // a file does not say
	Came               // as it came in
	Left               // as it left
)

// Packet is an IP packet that was seen.
type Packet struct {
	Time      int64 // nanoseconds, that ascend
	Interface int   // its number, from 1
	Way       Way
	Data      []byte // from the IP header on, perhaps cut
	Whole     int    // its length in bytes, for packets that do not say it themselves; 0 if it is not known
	Segment   int    // it stands for several, of which each has so many bytes of data; 0 if it is itself
}

// Watcher follows connections. It is for one goroutine.
type Watcher struct {
	o     Options
	table table
	now   uint32 // milliseconds since the first packet, and round again after 49 days
	start int64  // when that was
	begun bool

	reach    sizes // what was answered, by who answered
	arrive   sizes // what came, by who sent it
	suspects []int32
	round    uint32    // of judge
	holes    []holeKey // that were named, by where they are
	found    map[holeKey]*holeFound
	totals   Totals
	keep     []string // connections that a clamp comes too late for, and how many more
	more     int
	files    bool // the packets are from files
}

// New is a Watcher that has seen nothing yet.
func New(o Options) *Watcher {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Name == nil {
		o.Name = func(int) string { return "" }
	}
	if o.Zone == nil {
		o.Zone = func(string, netip.Addr) string { return "" }
	}
	if o.Event == nil {
		o.Event = func(Event) {}
	}
	return &Watcher{o: o, table: newTable(o.Limit), found: map[holeKey]*holeFound{}}
}

// Totals are counts of what was seen.
type Totals struct {
	Packets     int64 `json:"packets"`
	Connections int64 `json:"connections"`
	Forgotten   int64 `json:"forgotten,omitempty"` // connections that there was no room for any more
	SYN         Pairs `json:"syn"`
	SYNACK      Pairs `json:"syn_ack"`
	Lowered     int64 `json:"lowered"` // SYN and SYN/ACK that left with a smaller MSS than they came with
	TooBig      int64 `json:"too_big"` // Packet Too Big and Fragmentation Needed, for segments of connections that are followed
	Stray       int64 `json:"stray"`   // the same for segments that nobody is known to have sent
	Unread      int64 `json:"not_understood,omitempty"`
}

// Pairs count the connections of which a SYN, or a SYN/ACK, was seen.
type Pairs struct {
	Came int64 `json:"came"`
	Left int64 `json:"left"`
	Both int64 `json:"both"` // it came, and it left
}

// clock sets the time.
func (w *Watcher) clock(at int64) {
	if !w.begun {
		w.begun, w.start = true, at
	}
	if now := uint32((at - w.start) / 1e6); at > w.start && before(w.now, now) {
		w.now = now
	}
}

// Packet looks at a packet.
func (w *Watcher) Packet(p Packet) {
	w.clock(p.Time)
	w.totals.Packets++
	if p.Interface <= 0 {
		return
	}
	s, what := read(p.Data, p.Whole, p.Segment)
	switch what {
	case isSegment:
		w.segment(p, &s)
	case isTooBig:
		w.tooBig(p, &s)
	case isBroken:
		w.totals.Unread++
	case isOther:
	}
}

// segment looks at a TCP segment.
func (w *Watcher) segment(p Packet, s *segment) {
	i, side, way := w.table.find(p, s)
	if s.flags&(flagSYN|flagACK) == flagSYN && i != none && w.table.at(i).isn != s.seq {
		w.close(i) // the ports are used again
		i, side, way = w.table.find(p, s)
	}
	if i == none {
		if s.flags&flagRST != 0 {
			return
		}
		i, side = w.open(p, s, way), 0
	}
	c := w.table.at(i)
	c.last = w.now
	c.heard |= 1 << side
	w.table.touch(i)
	f := &c.flows[side]
	primary := f.see(way, int32(p.Interface), s)
	switch {
	case s.flags&flagSYN != 0:
		w.handshake(i, side, way, primary, s)
	default:
		w.answer(i, side, s)
		if primary {
			w.data(i, side, way, s)
		}
	}
	if s.flags&flagRST != 0 || s.flags&flagFIN != 0 {
		w.ending(i, side, s)
	}
}

// open follows a new connection.
func (w *Watcher) open(p Packet, s *segment, way Way) int32 {
	if w.table.full() {
		w.totals.Forgotten++
		w.forget(w.table.oldest())
	}
	w.totals.Connections++
	i := w.table.add(s)
	w.table.pair(i, 0, way, s)
	c := w.table.at(i)
	c.first, c.last, c.six, c.isn = w.now, w.now, s.six, s.seq
	c.midway = s.flags&flagSYN == 0
	c.back = s.flags&(flagSYN|flagACK) == flagSYN|flagACK
	return i
}

// forget gives a connection's place to others.
func (w *Watcher) forget(i int32) {
	w.tell(i)
	w.closed(i)
	w.table.remove(i)
}

// close forgets a connection that is over.
func (w *Watcher) close(i int32) { w.forget(i) }

// Times in milliseconds.
const (
	answerWithin = 1000   // an answer, or a packet's way through this machine, is waited for so long before it is said to be missing
	closedAfter  = 2000   // a connection that ended is followed so long for what is sent again
	oldAfter     = 30_000 // a handshake that goes nowhere is followed so long
)

// ending notes that one side ended a connection.
func (w *Watcher) ending(i int32, side int, s *segment) {
	c := w.table.at(i)
	c.ended |= 1 << side
	if s.flags&flagRST != 0 {
		c.ended = 3
	}
	if c.ended == 3 && !c.over {
		c.over = true
		w.table.finish(i)
	}
}

// Tick looks at what time alone brings about. It is to be called several times a second.
func (w *Watcher) Tick(at int64) {
	w.clock(at)
	w.table.each(listNew, func(i int32) bool {
		c := w.table.at(i)
		if w.now-c.first < answerWithin {
			return false
		}
		w.tell(i)
		w.table.settle(i)
		return true
	})
	w.table.each(listHalf, func(i int32) bool {
		if w.now-w.table.at(i).last < oldAfter {
			return false
		}
		w.forget(i)
		return true
	})
	w.table.each(listOver, func(i int32) bool {
		if w.now-w.table.at(i).last < closedAfter {
			return false
		}
		w.forget(i)
		return true
	})
	w.judge()
}

// Finish ends: what was not told yet is told.
func (w *Watcher) Finish() {
	w.tooLate()
	for i := range w.table.slots() {
		if w.table.at(i).used {
			w.forget(i)
		}
	}
}
