package watch

import (
	"fmt"
	"strconv"
	"strings"

	"richwall/internal/printable"
)

// Line says what happened, in one line without its end.
func (e Event) Line() string {
	c := e.Connection
	switch e.Kind {
	case KindConnection:
		return fmt.Sprintf("opened   %s  %s", c.ends(), c.announcements())
	case KindClosed:
		return fmt.Sprintf("closed   %s  there: %s; back: %s", c.ends(), c.There.text(), c.Back.text())
	case KindHole:
		return fmt.Sprintf("LOST     %s  %s", c.ends(), e.Hole.text())
	case KindWithdrawn:
		return fmt.Sprintf("arrived  %s  what seemed to be lost was answered after all", c.ends())
	case KindTooBig:
		return fmt.Sprintf("too big  %s  %s", c.ends(), e.TooBig.text())
	}
	return string(e.Kind)
}

// ends are both ends of a connection, and where it goes through.
func (c *Connection) ends() string {
	to := c.To
	if c.LeftTo != "" {
		to = fmt.Sprintf("%s (%s)", c.LeftTo, c.To)
	}
	from := c.From
	if c.LeftFrom != "" {
		from = fmt.Sprintf("%s (%s)", c.From, c.LeftFrom)
	}
	return fmt.Sprintf("%s → %s  %s → %s", from, to, c.In, c.Out)
}

// String is an interface and its zone.
func (p Place) String() string {
	switch {
	case p.Interface == "":
		return "this machine"
	case p.Zone == "":
		return printable.Item(p.Interface)
	}
	return fmt.Sprintf("%s (%s)", printable.Item(p.Interface), printable.Item(p.Zone))
}

// announcements are what SYN and SYN/ACK announced, what became of it, and by what.
func (c *Connection) announcements() string {
	var parts, clamps []string
	lowered := false
	for _, one := range []struct {
		name string
		a    *Announced
	}{{"SYN", c.SYN}, {"SYN/ACK", c.SYNACK}} {
		if one.a == nil {
			continue
		}
		parts = append(parts, one.name+" "+one.a.text())
		lowered = lowered || one.a.lowered()
		for _, rule := range one.a.Clamps {
			if text := printable.Line(rule, mostText); !contains(clamps, text) {
				clamps = append(clamps, text)
			}
		}
	}
	text := strings.Join(parts, ", ")
	switch {
	case len(clamps) > 0:
		text += "  by " + strings.Join(clamps, " and ")
	case lowered:
		text += "  lowered" + c.unknown
	case c.SYN.whole() || c.SYNACK.whole():
		text += "  no clamp"
	}
	if c.Note != "" {
		text += "  " + c.Note
	}
	return text
}

// mostText is how long the name of a rule may be, in characters.
const mostText = 300

func contains(list []string, text string) bool {
	for _, one := range list {
		if one == text {
			return true
		}
	}
	return false
}

func (a *Announced) lowered() bool { return a.whole() && *a.Left >= 0 && *a.Left < *a.Came }

// whole says that it was seen as it came and as it left.
func (a *Announced) whole() bool { return a != nil && a.Came != nil && a.Left != nil }

func (a *Announced) text() string {
	came, left := size(a.Came), size(a.Left)
	switch {
	case a.Came == nil:
		return left
	case a.Left == nil || came == left:
		return came
	}
	return came + " → " + left
}

// size is an MSS.
func size(n *int) string {
	switch {
	case n == nil:
		return ""
	case *n < 0:
		return "without an MSS"
	}
	return strconv.Itoa(*n)
}

func (s Segments) text() string {
	if s.Passed == 0 {
		return "nothing"
	}
	text := fmt.Sprintf("%d bytes answered", s.Answered)
	switch {
	case s.Answered == 0:
		text = fmt.Sprintf("%d bytes, no answer", s.Passed)
	case s.Answered < s.Passed:
		text += fmt.Sprintf(" of %d", s.Passed)
	}
	switch s.DF {
	case "yes":
		text += ", DF"
	case "no":
		text += ", no DF"
	case "both":
		text += ", with DF and without"
	}
	if s.Pieces {
		text += ", in fragments"
	}
	if s.Repeated > 0 {
		text += fmt.Sprintf(", %d repeated", s.Repeated)
	}
	return text
}

func (h *Hole) text() string {
	at := Place{h.Interface, h.Zone}.String()
	var text string
	switch h.Where {
	case here.String():
		text = fmt.Sprintf("packets of %d bytes from %s come in and do not leave by %s", h.Size, h.From, at)
	case ahead.String():
		text = fmt.Sprintf("packets of up to %d bytes from %s do not arrive at %s, though what follows them does", h.Size, h.From, at)
	default:
		text = fmt.Sprintf("packets of %d bytes to %s leave by %s and are not answered", h.Size, h.To, at)
	}
	if h.Seen > 0 {
		text += fmt.Sprintf(" (sent %d times)", h.Seen)
	}
	if h.Answered > 0 {
		text += fmt.Sprintf("; those of %d are", h.Answered)
	} else if h.Where != ahead.String() {
		text += "; small ones are"
	}
	if h.Told > 0 {
		text += fmt.Sprintf("; %s was told an MTU of %d, and does not heed it", h.From, h.Told)
	}
	return text
}

func (m *TooBig) text() string {
	mtu := "without an MTU"
	if m.MTU > 0 {
		mtu = fmt.Sprintf("MTU %d", m.MTU)
	}
	return fmt.Sprintf("%s, from %s for %s: %s", mtu, m.From, m.For, m.What)
}

// Text is a summary for people.
func (s *Summary) Text() string {
	var b strings.Builder
	t := s.Totals
	fmt.Fprintf(&b, "%s, %s; SYN: %s; SYN/ACK: %s; lowered: %d\n",
		counted(t.Packets, "packet"), counted(t.Connections, "connection"), t.SYN.text(), t.SYNACK.text(), t.Lowered)
	if t.TooBig+t.Stray > 0 {
		fmt.Fprintf(&b, "Packet Too Big or Fragmentation Needed: %d, and %d for segments that nobody was seen to send.\n", t.TooBig, t.Stray)
	}
	if s.Lost > 0 {
		fmt.Fprintf(&b, "%s came too fast to be looked at.\n", counted(s.Lost, "packet"))
	}
	if t.Unread > 0 {
		fmt.Fprintf(&b, "%s could not be understood: cut too short, or below something unknown.\n", counted(t.Unread, "packet"))
	}
	if t.Forgotten > 0 {
		fmt.Fprintf(&b, "%s could not be followed to the end: there were too many at a time.\n", counted(t.Forgotten, "connection"))
	}
	for i := range s.Holes {
		b.WriteString(s.Holes[i].text() + "\n")
	}
	for i := range s.Advice {
		s.Advice[i].text(&b, s.files)
	}
	if len(s.Keep) > 0 {
		b.WriteString("These are open, and keep the MSS that they began with, whatever is clamped from now on, until they are opened again:\n")
		for _, one := range s.Keep {
			fmt.Fprintf(&b, "  %s\n", one)
		}
		if s.More > 0 {
			fmt.Fprintf(&b, "  and %d more\n", s.More)
		}
	}
	return b.String()
}

func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (p Pairs) text() string {
	return fmt.Sprintf("%d came, %d left, %d both", p.Came, p.Left, p.Both)
}

func (l *Lossy) text() string {
	at := Place{l.Interface, l.Zone}.String()
	var where string
	switch l.Where {
	case here.String():
		where = fmt.Sprintf("between this machine's interfaces, on the way out by %s to %s", at, l.Peer)
	case ahead.String():
		where = fmt.Sprintf("before %s, from %s", at, l.Peer)
	default:
		where = fmt.Sprintf("beyond %s, to %s", at, l.Peer)
	}
	text := fmt.Sprintf("Packets of %d bytes and more are lost %s (%s).", l.Size, where, counted(int64(l.Connections), "connection"))
	if l.Answered > 0 {
		text += fmt.Sprintf(" Those of %d bytes arrive.", l.Answered)
	}
	return text
}

func (a *Advice) text(b *strings.Builder, files bool) {
	zone := a.Zone
	switch {
	case files:
		zone = "ZONE"
		fmt.Fprintf(b, "Add, where ZONE is that of the interface on the side \"%s\"; %s:\n", printable.Item(a.Interface), a.Why)
	case zone == "":
		zone = "ZONE"
		fmt.Fprintf(b, "Add, where ZONE is what firewall-cmd --get-zone-of-interface=%s says; %s:\n", printable.Item(a.Interface), a.Why)
	default:
		fmt.Fprintf(b, "Add; %s:\n", a.Why)
	}
	for _, rule := range a.Rules {
		fmt.Fprintf(b, "  firewall-cmd --permanent --zone=%s --add-rich-rule='%s'\n", printable.Item(zone), rule)
	}
}
