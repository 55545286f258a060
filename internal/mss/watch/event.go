package watch

import (
	"net/netip"
	"time"

	"richwall/grammar"
	"richwall/internal/mss"
)

// Kind is what an Event tells.
type Kind string

// The kinds.
const (
	KindConnection Kind = "connection" // its handshake is through, or got stuck
	KindClosed     Kind = "closed"     // it is over, or the watching is, or there was no room for it any more
	KindHole       Kind = "black_hole"
	KindWithdrawn  Kind = "withdrawn" // what was said to be lost was answered after all
	KindTooBig     Kind = "too_big"
)

// Event is something that happened to a connection.
type Event struct {
	Kind       Kind        `json:"event"`
	Time       time.Time   `json:"time"`
	Connection *Connection `json:"connection"`
	Hole       *Hole       `json:"black_hole,omitempty"`
	TooBig     *TooBig     `json:"too_big,omitempty"`
}

// Connection is what is known of one.
type Connection struct {
	Family   grammar.Family `json:"family"`
	From     string         `json:"from"` // who opened it, as the packets came in; or who was heard first, if that was not seen
	To       string         `json:"to"`
	LeftFrom string         `json:"translated_from,omitempty"` // the same as the packets left, if it is something else
	LeftTo   string         `json:"translated_to,omitempty"`
	In       Place          `json:"in"`
	Out      Place          `json:"out"`
	SYN      *Announced     `json:"syn,omitempty"`
	SYNACK   *Announced     `json:"syn_ack,omitempty"`
	Note     string         `json:"note,omitempty"`
	There    Segments       `json:"segments"`      // of who opened it
	Back     Segments       `json:"segments_back"` // of the other side
	unknown  string         // what is to be said of a lowered MSS if the rule is not known
}

// Place is where packets go through.
type Place struct {
	Interface string `json:"interface"` // "" is this machine itself
	Zone      string `json:"zone,omitempty"`
}

// Announced is the MSS of a SYN or SYN/ACK, in bytes: nil where it was not seen, −1 where it had none.
type Announced struct {
	Came   *int     `json:"came"`
	Left   *int     `json:"left"`
	Clamps []string `json:"clamps,omitempty"` // that lowered it
}

// Segments are what one side sent. Sizes are those of IP packets, in bytes.
type Segments struct {
	Answered int    `json:"largest_answered"` // the largest that is known to have arrived
	Passed   int    `json:"largest_passed"`   // the largest that was seen to go on
	Repeated int    `json:"repeated"`
	DF       string `json:"dont_fragment,omitempty"` // yes, no, or both
	Pieces   bool   `json:"fragments,omitempty"`     // it left, or came, in fragments
}

// Hole is where large segments are lost.
type Hole struct {
	Where     string `json:"where"` // beyond the interface, here, or before the interface
	Interface string `json:"interface"`
	Zone      string `json:"zone,omitempty"`
	From      string `json:"from"` // who sends them
	To        string `json:"to"`
	Size      int    `json:"size"`      // bytes of the IP packet that is lost
	Answered  int    `json:"answered"`  // of the largest that was not; 0 for small ones alone
	Seen      int    `json:"seen"`      // how often the same segment was sent; 0 if it was never seen
	Waited    int    `json:"waited_ms"` // since it was sent for the third time, or since it was missing
	Told      int    `json:"mtu,omitempty"`
}

// TooBig is a message that segments are too large: Fragmentation Needed, or Packet Too Big.
type TooBig struct {
	From string `json:"from"`
	For  string `json:"for"`
	MTU  int    `json:"mtu"`
	What string `json:"what"` // passed on, not passed on, sent by this machine, for this machine
}

func (w *Watcher) time() time.Time { return time.Unix(0, w.start+int64(w.now)*1e6) }

// shown is an address as people write it.
func shown(a [16]byte) string { return netip.AddrFrom16(a).Unmap().String() }

func (e end) addr() netip.Addr { return netip.AddrFrom16(e.address).Unmap() }

func (e end) String() string { return netip.AddrPortFrom(e.addr(), e.port).String() }

// opener is the side that opened a connection, or that was heard first.
func (c *conn) opener() int {
	if c.back {
		return 1
	}
	return 0
}

// both are the ends of what the opener sends, as it comes in and as it leaves.
func (c *conn) both() (in, out ends) {
	in, out = c.in, c.in
	if c.paired {
		out = c.out
	}
	if c.back {
		in, out = ends{out.to, out.from}, ends{in.to, in.from}
	}
	return in, out
}

// view is what an event says of a connection; false if it is not to be shown.
func (w *Watcher) view(c *conn) (*Connection, bool) {
	o := c.opener()
	f, g := &c.flows[o], &c.flows[1-o]
	in, out := c.both()
	from, to := f.in, f.out
	if from == 0 {
		from = g.out
	}
	if to == 0 {
		to = g.in
	}
	v := &Connection{
		Family: grammar.IPv4, From: in.from.String(), To: in.to.String(),
		In: w.place(from, in.from.addr()), Out: w.place(to, out.to.addr()),
		There: f.segments(), Back: g.segments(), Note: c.note(),
	}
	if w.o.Clamps != nil {
		v.unknown = " by a rule that is not known"
	}
	if c.six {
		v.Family = grammar.IPv6
	}
	if out.from != in.from {
		v.LeftFrom = out.from.String()
	}
	if out.to != in.to {
		v.LeftTo = out.to.String()
	}
	if w.o.Device != "" && v.In.Interface != w.o.Device && v.Out.Interface != w.o.Device {
		return v, false
	}
	for _, only := range w.o.Only {
		if !only.about(in) && !only.about(out) {
			return v, false
		}
	}
	v.SYN = w.announced(f, v.In, v.Out, in.from, out.to, false)
	v.SYNACK = w.announced(g, v.Out, v.In, out.to, in.from, true)
	return v, true
}

func (w *Watcher) place(index int32, a netip.Addr) Place {
	if index == 0 {
		return Place{}
	}
	name := w.o.Name(int(index))
	return Place{name, w.o.Zone(name, a)}
}

// announced is what a SYN, or SYN/ACK, announced; nil if none was seen.
func (w *Watcher) announced(f *flow, in, out Place, from, to end, reply bool) *Announced {
	if f.mssIn == unseen && f.mssOut == unseen {
		return nil
	}
	a := &Announced{Came: seen(f.mssIn), Left: seen(f.mssOut)}
	if f.lowered() && w.o.Clamps != nil {
		a.Clamps = w.o.Clamps(mss.Passage{
			In: in.Interface, Out: out.Interface, Source: from.addr(), Target: to.addr(), Reply: reply, Came: *a.Came, Left: *a.Left,
		})
	}
	return a
}

func seen(mss int32) *int {
	if mss == unseen {
		return nil
	}
	n := int(mss)
	return &n
}

// note says what is unusual about a connection's beginning.
func (c *conn) note() string {
	f, g := &c.flows[c.opener()], &c.flows[1-c.opener()]
	switch {
	case c.midway:
		return "it began earlier"
	case c.back:
		return "its SYN was not seen"
	case !f.leftOnce && g.leftOnce, !f.cameOnce && g.cameOnce: // with this machine
		return ""
	case f.cameOnce && !f.leftOnce:
		return "the SYN was not passed on"
	case !g.cameOnce:
		return "no answer"
	case !g.leftOnce:
		return "the answer was not passed on"
	}
	return ""
}

func (f *flow) segments() Segments {
	s := Segments{Answered: int(f.through), Passed: int(f.passed), Repeated: int(f.repeats), Pieces: f.fragmented}
	switch {
	case f.df && f.may:
		s.DF = "both"
	case f.df:
		s.DF = "yes"
	case f.may:
		s.DF = "no"
	}
	return s
}

// tell tells of a connection's beginning, once. Of one that began before anybody watched, only the end is told.
func (w *Watcher) tell(i int32) {
	c := w.table.at(i)
	if c.told {
		return
	}
	c.told = true
	if v, shown := w.view(c); shown && !c.midway {
		w.o.Event(Event{Kind: KindConnection, Time: w.time(), Connection: v})
	}
}

// closed tells of a connection's end.
func (w *Watcher) closed(i int32) {
	c := w.table.at(i)
	w.tellTooBig(i)
	if c.flows[0].passed == 0 && c.flows[1].passed == 0 {
		return // nothing but a handshake, which was told of
	}
	if v, shown := w.view(c); shown {
		w.o.Event(Event{Kind: KindClosed, Time: w.time(), Connection: v})
	}
}
