package watch

import (
	"cmp"
	"net/netip"
	"slices"

	"richwall/grammar"
)

// holeKey is where large segments are lost, for one address.
type holeKey struct {
	where hole
	six   bool
	iface int32
	peer  [16]byte // beyond the interface
}

// holeFound is what is known of it.
type holeFound struct {
	size    uint16 // the smallest that was lost
	fits    uint16 // the largest that was answered
	told    int32  // the smallest MTU that somebody told; 0 if nobody did
	named   int
	healed  int
	opens   bool // the peer opens connections
	accepts bool // and accepts them
	zone    string
}

// mostHoles is how many places are remembered, the first ones.
const mostHoles = 1 << 10

// fall notes that large segments of a side are lost, and tells of it.
func (w *Watcher) fall(i int32, side int, h hole, size uint16) {
	c := w.table.at(i)
	f := &c.flows[side]
	f.hole, f.holeSize = h, size
	key := holeKey{h, c.six, f.out, c.receiver(side)}
	peer := 1 - side
	if h == ahead {
		key.iface, key.peer, peer = f.in, c.sender(side), side
	}
	found := w.found[key]
	if found == nil && len(w.holes) < mostHoles {
		found = &holeFound{size: size}
		w.found[key] = found
		w.holes = append(w.holes, key)
	}
	told := int32(0)
	if c.big.known && int(c.big.side) == side {
		told = c.big.mtu
	}
	zone := w.o.Zone(w.o.Name(int(key.iface)), netip.AddrFrom16(key.peer).Unmap())
	if found != nil {
		found.named++
		found.size, found.fits = min(found.size, size), max(found.fits, f.through)
		if told > 0 && (found.told == 0 || told < found.told) {
			found.told = told
		}
		found.zone = zone
		found.opens = found.opens || peer == c.opener()
		found.accepts = found.accepts || peer != c.opener()
	}
	v, shows := w.view(c)
	if !shows {
		return
	}
	e := Hole{
		Where: h.String(), Interface: w.o.Name(int(key.iface)), Zone: zone, From: shown(c.sender(side)), To: shown(c.receiver(side)),
		Size: int(size), Answered: int(f.through), Told: int(told),
	}
	if l := f.first(); l != nil && h != ahead {
		e.Seen, e.Waited = int(l.times()), int(w.now-l.second)
	} else {
		e.Waited = int(w.now - f.gap.since)
	}
	w.o.Event(Event{Kind: KindHole, Time: w.time(), Connection: v, Hole: &e})
}

// heal notes that a segment of a size was answered on a side of which was said that large ones are lost.
func (w *Watcher) heal(i int32, side int, size uint16) {
	c := w.table.at(i)
	f := &c.flows[side]
	key := holeKey{f.hole, c.six, f.out, c.receiver(side)}
	if f.hole == ahead {
		key.iface, key.peer = f.in, c.sender(side)
	}
	found := w.found[key]
	if size < f.holeSize {
		if found != nil {
			found.fits = max(found.fits, size)
		}
		return
	}
	f.hole = noHole
	if found != nil {
		found.healed++
	}
	if v, shows := w.view(c); shows {
		w.o.Event(Event{Kind: KindWithdrawn, Time: w.time(), Connection: v})
	}
}

// Summary is what is known at the end.
type Summary struct {
	Event  string   `json:"event"` // "summary"
	Totals Totals   `json:"totals"`
	Lost   int64    `json:"lost,omitempty"` // packets that were too fast to be looked at
	Holes  []Lossy  `json:"black_holes,omitempty"`
	Advice []Advice `json:"advice,omitempty"`
	Keep   []string `json:"keep_their_mss,omitempty"` // open connections that a clamp comes too late for, no more than 20
	More   int      `json:"more_keep_their_mss,omitempty"`
	files  bool
}

// Lossy is a place where large segments are lost.
type Lossy struct {
	Where       string `json:"where"`
	Interface   string `json:"interface"`
	Zone        string `json:"zone,omitempty"`
	Peer        string `json:"peer"`
	Size        int    `json:"size"`     // the smallest packet that was lost, in bytes
	Answered    int    `json:"answered"` // the largest that was not
	MTU         int    `json:"mtu,omitempty"`
	Connections int    `json:"connections"`
}

// Advice is a rule to add.
type Advice struct {
	Interface string   `json:"interface"`
	Zone      string   `json:"zone,omitempty"` // of the interface; "" if it is not known
	Rules     []string `json:"rules"`
	Why       string   `json:"why"`
}

// Summary is what is known now. lost is how many packets the caller could not hand over.
func (w *Watcher) Summary(lost int64) Summary {
	s := Summary{Event: "summary", Totals: w.totals, Lost: lost, files: w.files, Keep: w.keep, More: w.more}
	byPlace := map[holeKey][]holeKey{}
	var places []holeKey
	for _, key := range w.holes {
		found := w.found[key]
		if found.healed >= found.named {
			continue
		}
		s.Holes = append(s.Holes, Lossy{
			Where: key.where.String(), Interface: w.o.Name(int(key.iface)), Zone: found.zone, Peer: shown(key.peer),
			Size: int(found.size), Answered: int(found.fits), MTU: int(found.told), Connections: found.named - found.healed,
		})
		place := key
		place.peer = [16]byte{}
		if byPlace[place] == nil {
			places = append(places, place)
		}
		byPlace[place] = append(byPlace[place], key)
	}
	for _, place := range places {
		s.Advice = append(s.Advice, w.advise(byPlace[place]))
	}
	return s
}

// advise is a rule for a place: for its only address, or for all behind the interface.
func (w *Watcher) advise(keys []holeKey) Advice {
	first := *w.found[keys[0]]
	for _, key := range keys[1:] {
		f := w.found[key]
		first.size, first.fits = min(first.size, f.size), max(first.fits, f.fits)
		if f.told > 0 && (first.told == 0 || f.told < first.told) {
			first.told = f.told
		}
	}
	a := Advice{Interface: w.o.Name(int(keys[0].iface)), Zone: first.zone}
	clamp := &grammar.TCPMSSClamp{}
	switch {
	case keys[0].where == here:
		clamp.Value = "pmtu"
		a.Why = "they do not fit the route, and who sends them is not told, or does not heed it"
	case first.told >= grammar.MinMTU:
		clamp.MTU = int(first.told)
		a.Why = "this is the MTU that was told"
	default:
		clamp.MTU = customary(int(first.size), int(first.fits))
		a.Why = "this is customary, because nobody told what fits"
		if int(first.fits) == clamp.MTU {
			a.Why = "this is the largest that got through"
		}
	}
	a.Rules = ruleTexts(keys, first, clamp)
	return a
}

// customary is an MTU that fits where packets of a size are lost, as a rule: the largest that got through, or what tunnels
// have by custom, or what each link must carry.
func customary(lost, got int) int {
	list := []int{1400, small6, grammar.MinMTU}
	if got >= small6 {
		list = append(list, got)
	}
	slices.SortFunc(list, func(a, b int) int { return cmp.Compare(b, a) })
	for _, n := range list {
		if n < lost {
			return n
		}
	}
	return grammar.MinMTU
}

func ruleTexts(keys []holeKey, f holeFound, clamp *grammar.TCPMSSClamp) []string {
	if len(keys) > 1 || keys[0].where == here {
		return []string{(&grammar.Rule{Element: clamp}).String()}
	}
	family := grammar.IPv4
	if keys[0].six {
		family = grammar.IPv6
	}
	peer := shown(keys[0].peer)
	var list []string
	if f.accepts {
		list = append(list, (&grammar.Rule{Family: family, Destination: &grammar.Destination{Address: peer}, Element: clamp}).String())
	}
	if f.opens {
		list = append(list, (&grammar.Rule{Family: family, Source: &grammar.Source{Address: peer}, Element: clamp}).String())
	}
	return list
}

// mostKept is how many connections are named that a clamp comes too late for.
const mostKept = 20

// tooLate notes the open connections that may send what is lost, because each side has told the other a larger MSS: they keep
// it until they are opened again.
func (w *Watcher) tooLate() {
	for i := range w.table.slots() {
		c := w.table.at(i)
		if !c.used || c.over || !w.risks(c, 0) && !w.risks(c, 1) {
			continue
		}
		v, shows := w.view(c)
		switch {
		case !shows:
		case len(w.keep) < mostKept:
			w.keep = append(w.keep, v.From+" → "+v.To)
		default:
			w.more++
		}
	}
}

// risks says whether a side was told an MSS with which segments are as large as those that are lost where it sends to.
func (w *Watcher) risks(c *conn, side int) bool {
	f := &c.flows[side]
	told := int(c.flows[1-side].mssOut)
	if told < 0 {
		told = int(c.flows[1-side].mssIn)
	}
	for _, key := range []holeKey{
		{beyond, c.six, f.out, c.receiver(side)}, {here, c.six, f.out, c.receiver(side)}, {ahead, c.six, f.in, c.sender(side)},
	} {
		if found := w.found[key]; found != nil && found.healed < found.named && told+headers(c.six) >= int(found.size) {
			return true
		}
	}
	return false
}
