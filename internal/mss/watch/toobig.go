package watch

// tooBig is what was said of a connection's segments: that they are too large.
type tooBig struct {
	sender [16]byte
	at     uint32
	mtu    int32 // bytes; 0 if the message does not tell
	side   uint8 // who sent the segments
	came   uint8 // how often the message came in, and how often it left towards who sent them
	left   uint8
	known  bool
	told   bool
}

// mostBehind is how many bytes before what was sent last a segment may be for a message about it to be taken for true.
const mostBehind = 1 << 24

// tooBig looks at a message that a segment is too large.
func (w *Watcher) tooBig(p Packet, s *segment) {
	i, known := w.table.byEnds[ends{s.src, s.dst}.turned()]
	if !known {
		w.totals.Stray++
		return
	}
	c := w.table.at(i)
	side := c.side(ends{s.src, s.dst})
	f := &c.flows[side]
	if !f.sent(s.seq) {
		w.totals.Stray++
		return
	}
	way := p.Way
	if way == Unknown {
		way = Came
		if int32(p.Interface) == f.in {
			way = Left
		}
	}
	b := &c.big
	if !b.known || int(b.mtu) != s.mtu || int(b.side) != side || way == Came && b.sender != s.sender.address {
		w.tellTooBig(i)
		*b = tooBig{sender: s.sender.address, mtu: int32(s.mtu), side: uint8(side), known: true}
		w.totals.TooBig++
	}
	b.at = w.now
	if way == Came {
		b.came = min(b.came+1, 255)
		w.suspect(i)
		return
	}
	b.left = min(b.left+1, 255)
	w.tellTooBig(i)
}

// sent says whether a segment with a number was sent, not too long ago.
func (f *flow) sent(seq uint32) bool {
	return f.begunOut && f.nextOut-seq-1 < mostBehind || f.begunIn && f.nextIn-seq-1 < mostBehind
}

// tellTooBig tells of a message, once.
func (w *Watcher) tellTooBig(i int32) {
	c := w.table.at(i)
	if b := &c.big; b.known && !b.told {
		b.told = true
		if v, shown := w.view(c); shown {
			w.o.Event(Event{Kind: KindTooBig, Time: w.time(), Connection: v, TooBig: w.message(c)})
		}
	}
}

// waiting says whether it is to be asked again if a message left.
func (w *Watcher) waiting(i int32) bool {
	b := &w.table.at(i).big
	if !b.known || b.told {
		return false
	}
	if w.now-b.at < answerWithin {
		return true
	}
	w.tellTooBig(i)
	return false
}

// message is what an event says of a message.
func (w *Watcher) message(c *conn) *TooBig {
	b := &c.big
	f := &c.flows[b.side]
	m := &TooBig{From: shown(b.sender), For: shown(c.sender(int(b.side))), MTU: int(b.mtu)}
	switch {
	case b.left > 0 && b.came == 0:
		m.What = "sent by this machine"
	case b.left > 0:
		m.What = "passed on"
	case f.in == 0:
		m.What = "for this machine"
	default:
		m.What = "not passed on"
	}
	return m
}
