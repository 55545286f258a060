package watch

// handshake looks at a SYN or SYN/ACK. primary says that it was seen where the machine routes it from or to.
func (w *Watcher) handshake(i int32, side int, way Way, primary bool, s *segment) {
	c := w.table.at(i)
	f := &c.flows[side]
	if !primary {
		return
	}
	if way == Came {
		f.mssIn, f.cameOnce = int32(s.mss), true
	} else {
		f.mssOut, f.leftOnce = int32(s.mss), true
	}
	f.tries = min(f.tries+1, 255)
	f.nextOut, f.begunOut = s.seq+1+uint32(s.data), true
	f.nextIn, f.begunIn = f.nextOut, true
	reply := 0
	if s.flags&flagACK != 0 {
		reply = 1
		g := &c.flows[1-side]
		g.acknowledged, g.acked, g.answeredSmall = s.ack, true, true
	}
	c.order(way, s)
	w.count(c, side, reply, way)
	if c.complete() {
		w.tell(i)
		w.table.settle(i)
	}
}

// order finds out, of what files do not say, which of two places a SYN passed first: where it has more hops left.
func (c *conn) order(way Way, s *segment) {
	f := &c.flows[0]
	switch {
	case way == Came && c.hops == 0:
		c.hops = s.hops
	case way == Left && c.hops < s.hops && c.hops != 0 && f.cameOnce && f.leftOnce:
		c.hops = s.hops
		c.in, c.out = c.out, c.in
		f.in, f.out = f.out, f.in
		f.mssIn, f.mssOut = f.mssOut, f.mssIn
	}
}

// count counts a SYN, or a SYN/ACK if reply is 1, once for its connection.
func (w *Watcher) count(c *conn, side, reply int, way Way) {
	pairs := &w.totals.SYN
	if reply == 1 {
		pairs = &w.totals.SYNACK
	}
	seen := &c.counted[reply]
	which := int(way - Came)
	if seen[which] {
		return
	}
	seen[which] = true
	if way == Came {
		pairs.Came++
	} else {
		pairs.Left++
	}
	if seen[0] && seen[1] {
		pairs.Both++
		if c.flows[side].lowered() {
			w.totals.Lowered++
		}
	}
}

// complete says that SYN and SYN/ACK were seen as they came and as they left.
func (c *conn) complete() bool {
	return c.counted[0][0] && c.counted[0][1] && c.counted[1][0] && c.counted[1][1]
}
