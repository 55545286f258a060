package watch

// flow is what one side of a connection sends.
type flow struct {
	in, out       int32 // the interfaces where the machine routes it from and to; 0 if they were not seen
	mssIn, mssOut int32 // what its SYN announced as it came and as it left; noMSS, unseen

	acknowledged    uint32 // up to here the other side has all
	nextOut, nextIn uint32 // behind what left, and behind what came
	lastSeq         uint32 // of what came last
	lastData        int32
	heardAt         uint32 // when the other side was heard last
	smallAt         uint32 // when the first small segment followed the oldest large one that is not answered
	repeats         uint32 // segments that left again
	large           [heads]large
	gap             gap
	probe           uint32 // the end of a large segment on its way, whose answer is waited for
	probeSize       uint16 // 0 for none
	little          uint16 // size of the largest that went on and fits everywhere
	passed          uint16 // size of the largest that was seen to go on
	arrived         uint16 // of the largest that came
	through         uint16 // of the largest that was answered
	unanswered      uint16 // large ones that went on since the oldest that is not answered
	hole            hole
	holeSize        uint16
	tries           uint8 // of its SYN

	acked, begunOut, begunIn bool // acknowledged, nextOut, nextIn are known
	cameOnce, leftOnce       bool // any of its packets did
	waiting                  bool // what came last did not leave yet
	answeredSmall            bool // something of it was answered
	shut                     bool // the other side has no room (a window of 0)
	small, smallHeard        bool // smallAt is set; the other side was heard since
	df, may, fragmented      bool // segments with Don't Fragment, without it, in fragments
}

// heads is how many large segments that are not answered are remembered: the first ones.
const heads = 3

// large is a segment that is larger than all that were answered.
type large struct {
	start         uint32 // its number in the flow
	first, second uint32 // when it was seen first, and when for the second time again
	last          uint32
	size          uint16 // bytes of the IP packet; 0 for none
	each          uint16 // bytes of data
	came, left    uint8  // how often
}

// gap is what did not come although something behind it did.
type gap struct {
	start, end uint32
	since      uint32
	open       bool
	heard      uint8 // segments that came since
}

// before says whether a number of a flow is before another one, in the sense of RFC 9293, 3.4.
func before(a, b uint32) bool { return int32(a-b) < 0 }

func (f *flow) lowered() bool { return f.mssIn >= 0 && f.mssOut >= 0 && f.mssOut < f.mssIn }

// small sizes fit any path, in bytes: what each host must accept (RFC 791, 3.1), and what each link must carry (RFC 8200, 5).
const small4, small6 = 576, 1280

func smallest(six bool) int {
	if six {
		return small6
	}
	return small4
}

// see notes that a packet came in, or left, at an interface, and says whether that is where the machine routes it from or to.
// The same packet may be seen at others: at a bridge's port and then at the bridge, at a bond and then at what it sends by.
func (f *flow) see(way Way, at int32, s *segment) bool {
	same := f.lastSeq == s.seq && f.lastData == int32(s.data) && f.waiting
	switch {
	case way == Came && f.in != 0 && f.in != at:
		if same {
			f.in = at
		}
		return false
	case way == Came:
		f.in, f.waiting, f.cameOnce = at, true, true
		f.lastSeq, f.lastData = s.seq, int32(s.data)
	case f.out != 0 && f.out != at && !f.waiting:
		return false
	default:
		f.out, f.waiting, f.leftOnce = at, false, true
	}
	return true
}

// answer looks at what a segment says of what the other side sent.
func (w *Watcher) answer(i int32, side int, s *segment) {
	if s.flags&flagACK == 0 {
		return
	}
	c := w.table.at(i)
	f := &c.flows[1-side]
	f.heardAt, f.smallHeard = w.now, true
	f.shut = s.window == 0
	switch {
	case !f.acked:
		f.acknowledged, f.acked = s.ack, true
		f.answeredSmall = f.tries > 0 // its SYN
	case before(f.acknowledged, s.ack):
		f.acknowledged, f.answeredSmall = s.ack, true
		if s.ack == f.nextOut && f.begunOut {
			f.through = max(f.through, f.little)
		}
	}
	if f.probeSize != 0 && s.has(f.probe, 0) {
		w.gotThrough(i, 1-side, f.probeSize)
		f.probeSize = 0
	}
	for j := range f.large {
		if l := &f.large[j]; l.size != 0 && s.has(l.start, uint32(l.each)) {
			w.gotThrough(i, 1-side, l.size)
			*l = large{}
		}
	}
	if f.large == [heads]large{} {
		f.unanswered, f.small = 0, false
	}
	if f.gap.open && before(f.gap.start, s.ack) {
		f.gap = gap{}
	}
}

// has says whether a segment acknowledges so many bytes of the other flow from a number on, all at once or selectively.
func (s *segment) has(start, length uint32) bool {
	end := start + length
	if !before(s.ack, end) {
		return true
	}
	for _, block := range s.sacks[:s.sacked] {
		if !before(start, block[0]) && !before(block[1], end) {
			return true
		}
	}
	return false
}

// gotThrough notes that a segment of a size was answered.
func (w *Watcher) gotThrough(i int32, side int, size uint16) {
	c := w.table.at(i)
	f := &c.flows[side]
	f.through = max(f.through, size)
	w.reach.note(c.receiver(side), size, w.now)
	if f.hole != noHole {
		w.heal(i, side, size)
	}
}

// receiver is the address that a side sends to, as it is where the packets leave.
func (c *conn) receiver(side int) [16]byte {
	switch {
	case side == 1:
		return c.in.from.address
	case c.paired:
		return c.out.to.address
	}
	return c.in.to.address
}

// sender is the address of a side, as it is where its packets come in.
func (c *conn) sender(side int) [16]byte { return c.receiver(1 - side) }

// data looks at what a segment carries.
func (w *Watcher) data(i int32, side int, way Way, s *segment) {
	c := w.table.at(i)
	f := &c.flows[side]
	size := f.sizeOf(&c.flows[1-side], s)
	big := size > smallest(c.six) && s.data > 0 && !s.fragment
	if way == Came {
		w.arrives(i, side, s, size, big)
	}
	goes := way == Left || !f.leftOnce // what comes to stay is seen once
	if goes {
		f.flags(s)
	}
	if s.data == 0 && s.flags&flagFIN == 0 {
		return
	}
	end := s.seq + uint32(s.data)
	again := f.begunOut && before(s.seq, f.nextOut)
	if goes {
		if again && way == Left {
			f.repeats++
		}
		if !f.begunOut || before(f.nextOut, end) {
			f.nextOut, f.begunOut = end, true
		}
		f.passed = max(f.passed, uint16(size))
		if !big {
			f.little = max(f.little, uint16(size))
		}
	}
	switch {
	case big:
		w.big(i, side, way, s, uint16(size), again)
	case s.fragment:
		f.piece(way, s)
	case f.unanswered > 0 && !f.small:
		f.small, f.smallAt, f.smallHeard = true, w.now, false
	}
}

// sizeOf is how large a segment is, in bytes. What files have of a machine that merges segments is more than was ever sent:
// more than the other side has announced.
func (f *flow) sizeOf(back *flow, s *segment) int {
	announced := int(back.mssOut)
	if announced < 0 {
		announced = int(back.mssIn)
	}
	if announced > 0 && s.each > max(announced-s.options, 1) {
		s.each = max(announced-s.options, 1)
		return s.size - s.data + s.each
	}
	return s.size
}

func (f *flow) flags(s *segment) {
	switch {
	case s.fragment:
		f.fragmented = true
	case s.data == 0:
	case s.df:
		f.df = true
	default:
		f.may = true
	}
}

// piece notes that a large segment left in fragments. How large it is, a fragment does not say.
func (f *flow) piece(way Way, s *segment) {
	for j := range f.large {
		if l := &f.large[j]; way == Left && l.size != 0 && l.start == s.seq && l.left < l.came {
			l.left++
		}
	}
}

// again is how many milliseconds lie at least between a segment and its repetition. What comes again earlier was doubled on
// the way.
const again = 10

// big looks at a segment that may not fit everywhere. repeated says that its data left before.
func (w *Watcher) big(i int32, side int, way Way, s *segment, size uint16, repeated bool) {
	c := w.table.at(i)
	f := &c.flows[side]
	if way == Left && f.probeSize == 0 {
		f.probe, f.probeSize = s.seq+uint32(s.each), size
	}
	l := f.remembered(s)
	if l == nil {
		stuck := repeated && f.acked && s.seq == f.acknowledged
		if f.acked && before(s.seq, f.acknowledged) || size <= f.through && !stuck {
			return
		}
		if l = f.room(s, stuck); l == nil {
			if way == Left {
				f.unanswered++
			}
			return
		}
		*l = large{start: s.seq, first: w.now, last: w.now, size: size, each: uint16(s.each)}
	} else if size < l.size && s.seq == l.start {
		*l = large{start: s.seq, first: w.now, last: w.now, size: size, each: uint16(s.each)} // its sender tries a smaller one
	}
	l.note(way, f.in != 0, w.now)
	if way == Left {
		f.unanswered++
	}
	if l.times() == 3 && l.second == 0 {
		l.second = w.now
		w.suspect(i)
	}
}

// remembered is the large segment that begins in what a segment carries, nil if there is none.
func (f *flow) remembered(s *segment) *large {
	for j := range f.large {
		if l := &f.large[j]; l.size != 0 && l.start-s.seq < uint32(s.data) {
			return l
		}
	}
	return nil
}

// room is where to remember a segment, nil if there is none. One at which everything stops displaces another.
func (f *flow) room(s *segment, stuck bool) *large {
	for j := range f.large {
		if f.large[j].size == 0 {
			return &f.large[j]
		}
	}
	if stuck || f.acked && s.seq == f.acknowledged {
		return &f.large[heads-1]
	}
	return nil
}

// note counts that the segment came or left. forwarded says that its flow comes in and leaves.
func (l *large) note(way Way, forwarded bool, now uint32) {
	switch {
	case way == Came && (l.came == 0 || now-l.last >= again):
		l.came, l.last = min(l.came+1, 255), now
	case way == Left && forwarded && l.left < max(l.came, 1):
		l.left++
	case way == Left && !forwarded && (l.left == 0 || now-l.last >= again):
		l.left, l.last = min(l.left+1, 255), now
	}
}

// times is how often the segment was seen.
func (l *large) times() uint8 { return max(l.came, l.left) }

// arrives looks for what did not come.
func (w *Watcher) arrives(i int32, side int, s *segment, size int, big bool) {
	c := w.table.at(i)
	f := &c.flows[side]
	f.arrived = max(f.arrived, uint16(size))
	if big {
		w.arrive.note(c.sender(side), uint16(size), w.now)
	}
	end := s.seq + uint32(s.data)
	switch ahead := f.begunIn && before(f.nextIn, s.seq); {
	case f.gap.open && !before(f.gap.start, s.seq) && before(f.gap.start, end):
		f.gap.start, f.gap.since = end, w.now
		if !before(end, f.gap.end) {
			f.gap = gap{}
		}
	case f.gap.open:
		f.gap.heard = min(f.gap.heard+1, 255)
	case ahead:
		f.gap = gap{start: f.nextIn, end: s.seq, since: w.now, open: true}
		w.suspect(i)
	}
	if !f.begunIn || before(f.nextIn, end) {
		f.nextIn, f.begunIn = end, true
	}
}

// sizes are the largest that were seen lately, by address.
type sizes map[[16]byte]lately

type lately struct {
	at   uint32
	size uint16
}

// Bounds of sizes: addresses, and milliseconds after which a smaller one counts as well.
const mostAddresses, lateness = 1 << 13, 500

func (z *sizes) note(address [16]byte, size uint16, now uint32) {
	if *z == nil {
		*z = sizes{}
	}
	old, known := (*z)[address]
	if known && (size < old.size || now == old.at && size == old.size) && now-old.at < lateness {
		return
	}
	if !known && len(*z) >= mostAddresses {
		for one := range *z {
			delete(*z, one)
			break
		}
	}
	(*z)[address] = lately{now, size}
}

// since says whether a size, or a larger one, was seen at or after a time.
func (z sizes) since(address [16]byte, size int, at uint32) bool {
	one, known := z[address]
	return known && int(one.size) >= size && !before(one.at, at)
}
