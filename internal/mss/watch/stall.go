package watch

// hole is where large segments are lost.
type hole uint8

const (
	noHole hole = iota
	beyond      // they leave, and are not answered
	here        // they come, and do not leave
	ahead       // they do not come, though what follows them does
)

func (h hole) String() string {
	return [...]string{"", "beyond", "here", "before"}[h]
}

// When a segment is lost for good, as far as can be told.
const (
	patience = 2500 // milliseconds that are waited after the second repetition for what proves that it is not so
	certain  = 6    // large segments that were not answered, so that it needs no waiting if small ones are answered meanwhile
	silence  = 3400 // milliseconds that are waited for what did not come, if nothing else comes either; twice it was sent again after 600 at the least
	leastGap = 536  // bytes of data that have to be missing
)

func (w *Watcher) suspect(i int32) {
	if len(w.suspects) >= 2*w.o.Limit {
		w.judge() // of most of them the places were given to others
	}
	if c := w.table.at(i); !c.suspect {
		c.suspect = true
		w.suspects = append(w.suspects, i)
	}
}

// judge looks at the suspects, and names black holes.
func (w *Watcher) judge() {
	w.round++
	kept := w.suspects[:0]
	for _, i := range w.suspects {
		c := w.table.at(i)
		if !c.suspect || c.round == w.round {
			continue // its place was given to another one, which may be a suspect as well
		}
		c.suspect, c.round = false, w.round
		for side := range c.flows {
			h, size, open := w.stalled(c, side)
			if h != noHole && c.flows[side].hole == noHole {
				w.fall(i, side, h, size)
			}
			c.suspect = c.suspect || open
		}
		c.suspect = w.waiting(i) || c.suspect
		if c.suspect {
			kept = append(kept, i)
		}
	}
	w.suspects = kept
}

// stalled says where large segments of a side are lost, and how large they are; and whether that is to be asked again.
func (w *Watcher) stalled(c *conn, side int) (h hole, size uint16, open bool) {
	f := &c.flows[side]
	if f.hole != noHole || c.ended == 3 {
		return noHole, 0, false
	}
	l := f.first()
	switch {
	case l != nil && l.second != 0:
		if w.swallowed(c, side, l) {
			return f.where(l), l.size, false
		}
		return noHole, 0, true
	case f.gap.open:
		if w.missing(c, side) {
			return ahead, uint16(min(f.lacking(&c.flows[1-side])+headers(c.six), 0xffff)), false
		}
		return noHole, 0, true
	}
	return noHole, 0, false
}

// first is the large segment that the other side waits for, nil if it waits for another one.
func (f *flow) first() *large {
	for j := range f.large {
		l := &f.large[j]
		if l.size != 0 && f.acked && f.acknowledged-l.start < uint32(l.each) {
			return l
		}
	}
	return nil
}

func (f *flow) where(l *large) hole {
	if l.left == 0 {
		return here
	}
	return beyond
}

// swallowed says whether a large segment is lost time and again while small ones get through.
func (w *Watcher) swallowed(c *conn, side int, l *large) bool {
	f := &c.flows[side]
	switch {
	case !f.leftOnce || l.left > 0 && l.left < 3: // it came to stay; or it was this machine that lost some, as a full queue does
		return false
	case !f.answeredSmall || f.shut:
		return false
	case f.small && !f.smallHeard && w.now-f.smallAt >= answerWithin: // small ones are lost as well: nothing gets through
		return false
	case w.reach.since(c.receiver(side), int(l.size), l.first): // another one of this size got through
		return false
	}
	alive := !before(f.heardAt, l.second)
	many := f.unanswered >= certain || l.left == 0 && l.came >= certain
	waited := w.now-l.second >= patience
	if l.size <= f.through { // that large ones got through before, so it takes more
		return alive && many && waited
	}
	return waited || alive && many
}

// missing says whether large segments do not come though what follows them does, and the other side waits for them.
func (w *Watcher) missing(c *conn, side int) bool {
	f := &c.flows[side]
	lacking := f.lacking(&c.flows[1-side])
	switch {
	case before(f.heardAt, f.gap.since) || w.now-f.gap.since < patience || f.gap.heard == 0 && w.now-f.gap.since < silence:
		return false
	case !f.acked || f.acknowledged != f.gap.start || lacking < leastGap:
		return false
	}
	size := lacking + headers(c.six)
	return size > smallest(c.six) && int(f.arrived) < size && !w.arrive.since(c.sender(side), size, f.gap.since)
}

// lacking is how many bytes of data a segment has at most of those that are missing.
func (f *flow) lacking(back *flow) int {
	n := int(min(f.gap.end-f.gap.start, 0xffff))
	if back.mssOut > 0 {
		n = min(n, int(back.mssOut))
	} else if back.mssIn > 0 {
		n = min(n, int(back.mssIn))
	}
	return n
}

// headers is the length of the headers of IP and TCP in bytes.
func headers(six bool) int {
	if six {
		return ipv6Header + tcpHeader
	}
	return ipv4Header + tcpHeader
}
