package watch

import "cmp"

// none is no connection.
const none int32 = -1

// ends are both ends of a connection, as the packets have them at one place.
type ends struct{ from, to end }

// turned is the same in an order that is the same for both directions.
func (e ends) turned() ends {
	for i := range e.from.address {
		if d := cmp.Compare(e.from.address[i], e.to.address[i]); d != 0 {
			return e.ordered(d < 0)
		}
	}
	return e.ordered(e.from.port <= e.to.port)
}

func (e ends) ordered(is bool) ends {
	if is {
		return e
	}
	return ends{e.to, e.from}
}

// mark is what of a packet stays the same where addresses and ports are translated.
type mark struct {
	seq, ack, stamp uint32
	data            int32
	flags           uint8
}

func markOf(s *segment) mark { return mark{s.seq, s.ack, s.stamp, int32(s.data), s.flags} }

// conn is a connection that is followed. Side 0 is who sent the first packet that was seen, side 1 the other.
type conn struct {
	in, out     ends // of side 0, where its packets come in and where they leave
	first, last uint32
	isn         uint32
	flows       [2]flow // from side 0, and from side 1
	big         tooBig
	mark        mark
	prev, next  int32
	round       uint32 // of judge, that looked at it last

	list    listName
	heard   uint8 // a bit for each side
	ended   uint8 // the same
	marks   uint8 // how often its mark was set
	hops    uint8 // of its SYN, where it was seen first
	used    bool
	six     bool
	paired  bool // out is known
	marked  bool // mark is in the table
	midway  bool // it began before anybody watched
	back    bool // side 1 opened it
	told    bool // an event told of its beginning
	suspect bool // in the list of suspects
	over    bool
	counted [2][2]bool // of SYN and SYN/ACK, whether Pairs counts it as come and as left
}

// listName is one of the lists that a connection may be in.
type listName uint8

const (
	listNew  listName = iota // not told of yet, the oldest first
	listHalf                 // told of, but only one side was heard
	listOld                  // both sides were heard, the one that was silent longest first
	listOver                 // both sides ended it
	lists
)

// table is the connections that are followed. It has no pointers into it, so that the collector of garbage passes it over.
type table struct {
	limit      int
	chunks     []*[chunk]conn
	free       []int32
	byEnds     map[ends]int32
	byMark     map[mark]int32 // twice the connection's number, and the side
	head, tail [lists]int32
	count      [lists]int
}

// chunk is how many connections memory is taken for at a time.
const chunk = 1 << 10

// marksOfEach is how many packets of a connection are kept to be recognized: the first of those that come in.
const marksOfEach = 16

func newTable(limit int) table {
	t := table{limit: limit, byEnds: map[ends]int32{}, byMark: map[mark]int32{}}
	for l := range lists {
		t.head[l], t.tail[l] = none, none
	}
	return t
}

func (t *table) at(i int32) *conn { return &t.chunks[i/chunk][i%chunk] }

// slots is how many places there are, used or not.
func (t *table) slots() int32 { return int32(len(t.chunks) * chunk) }

func (t *table) size() int {
	return t.count[listNew] + t.count[listHalf] + t.count[listOld] + t.count[listOver]
}

func (t *table) full() bool { return t.size() >= t.limit }

// oldest is the connection that is missed least: one that is over; or while most are such, one that nobody has answered, so
// that a flood of them displaces themselves; or the one that was silent longest.
func (t *table) oldest() int32 {
	order := []listName{listOver, listOld, listHalf, listNew}
	if t.count[listNew]+t.count[listHalf] > t.limit/2 {
		order = []listName{listOver, listHalf, listNew, listOld}
	}
	for _, l := range order {
		if t.head[l] != none {
			return t.head[l]
		}
	}
	return none
}

// add is a new connection, which begins with a segment.
func (t *table) add(s *segment) int32 {
	if len(t.free) == 0 {
		from := t.slots()
		t.chunks = append(t.chunks, new([chunk]conn))
		for i := t.slots() - 1; i >= from; i-- {
			t.free = append(t.free, i)
		}
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	c := t.at(i)
	*c = conn{in: ends{s.src, s.dst}, used: true}
	for side := range c.flows {
		c.flows[side].mssIn, c.flows[side].mssOut = unseen, unseen
	}
	t.byEnds[c.in.turned()] = i
	t.push(listNew, i)
	return i
}

// remove gives a connection's place to others.
func (t *table) remove(i int32) {
	c := t.at(i)
	t.unlink(i)
	t.forgetEnds(c.in, i)
	if c.paired {
		t.forgetEnds(c.out, i)
	}
	t.unmark(c, i)
	*c = conn{}
	t.free = append(t.free, i)
}

func (t *table) forgetEnds(e ends, i int32) {
	if key := e.turned(); t.byEnds[key] == i {
		delete(t.byEnds, key)
	}
}

func (t *table) unmark(c *conn, i int32) {
	if c.marked {
		if t.byMark[c.mark]>>1 == i {
			delete(t.byMark, c.mark)
		}
		c.marked = false
	}
}

// find is the connection of a segment, none if it has none, which side sent it, and whether it came or left.
func (t *table) find(p Packet, s *segment) (i int32, side int, way Way) {
	way = p.Way
	e := ends{s.src, s.dst}
	i, known := t.byEnds[e.turned()]
	if known {
		side = t.at(i).side(e)
	} else if i, side = t.translated(e, s, way); i == none {
		if way == Unknown {
			way = Came
		}
		return none, 0, way
	}
	c := t.at(i)
	if way == Unknown {
		way = c.guess(side, int32(p.Interface))
	}
	t.pair(i, side, way, s)
	return i, side, way
}

// pair notes that a segment of a connection left as it came, or that it came and may leave as something else.
func (t *table) pair(i int32, side int, way Way, s *segment) {
	c := t.at(i)
	switch {
	case c.paired:
	case way == Left:
		c.out, c.paired = c.in, true
		t.unmark(c, i)
	case c.marks < marksOfEach:
		c.marks++
		t.unmark(c, i)
		c.mark, c.marked = markOf(s), true
		t.byMark[c.mark] = i<<1 | int32(side)
	}
}

// side is which side sends packets with these ends.
func (c *conn) side(e ends) int {
	if e == c.in || c.paired && e == c.out {
		return 0
	}
	return 1
}

// translated is the connection of a segment that left with other addresses than it came with.
func (t *table) translated(e ends, s *segment, way Way) (i int32, side int) {
	if way == Came {
		return none, 0
	}
	found, ok := t.byMark[markOf(s)]
	if !ok {
		return none, 0
	}
	i, side = found>>1, int(found&1)
	c := t.at(i)
	out := e
	if side == 1 {
		out = ends{e.to, e.from}
	}
	// Those who choose the same numbers for all their SYNs are told apart by the end that is not translated, as a rule.
	if c.paired || out.from != c.in.from && out.to != c.in.to && s.stamp == 0 && s.ack == 0 {
		return none, 0
	}
	c.out, c.paired = out, true
	t.unmark(c, i)
	t.byEnds[out.turned()] = i
	return i, side
}

// guess is whether a packet of a file came or left, by where the connection's other packets were seen.
func (c *conn) guess(side int, at int32) Way {
	f, back := &c.flows[side], &c.flows[1-side]
	switch at {
	case f.in, back.out:
		return Came
	case f.out, back.in:
		return Left
	}
	if f.in == 0 && back.out == 0 {
		return Came
	}
	return Left
}

func (t *table) push(l listName, i int32) {
	c := t.at(i)
	c.list, c.prev, c.next = l, t.tail[l], none
	if t.tail[l] == none {
		t.head[l] = i
	} else {
		t.at(t.tail[l]).next = i
	}
	t.tail[l] = i
	t.count[l]++
}

func (t *table) unlink(i int32) {
	c := t.at(i)
	if c.prev == none {
		t.head[c.list] = c.next
	} else {
		t.at(c.prev).next = c.next
	}
	if c.next == none {
		t.tail[c.list] = c.prev
	} else {
		t.at(c.next).prev = c.prev
	}
	t.count[c.list]--
}

func (t *table) move(l listName, i int32) {
	t.unlink(i)
	t.push(l, i)
}

// touch notes that something was heard of a connection.
func (t *table) touch(i int32) {
	c := t.at(i)
	if c.list == listOld || c.list == listHalf && c.heard == 3 {
		t.move(listOld, i)
	}
}

// settle puts a connection that was told of where it belongs.
func (t *table) settle(i int32) {
	switch c := t.at(i); {
	case c.list == listOver:
	case c.heard == 3:
		t.move(listOld, i)
	default:
		t.move(listHalf, i)
	}
}

// finish puts a connection where those are that are over.
func (t *table) finish(i int32) { t.move(listOver, i) }

// each calls f with the connections of a list, from the oldest on, until it says that this was enough. f may take the
// connection out of the list.
func (t *table) each(l listName, f func(int32) bool) {
	for i := t.head[l]; i != none; {
		next := t.at(i).next
		if !f(i) {
			return
		}
		i = next
	}
}
