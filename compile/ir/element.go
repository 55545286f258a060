package ir

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"richwall/internal/boxes"
)

// NewElement is an element with its text and its parts.
func NewElement(text string, parts ...Part) Element { return NewVerdict(nil, text, parts...) }

// NewVerdict is an element of a map with its verdict, its text and its parts.
func NewVerdict(v Action, text string, parts ...Part) Element {
	return Element{Text: text, more: &more{parts: parts, verdict: v}}
}

// NewSize is an element of one of LinkMaps: an interface, and its segment size in bytes.
func NewSize(iface string, size int) Element {
	return Element{Text: iface, more: &more{parts: []Part{{Kind: IfacePart, Name: iface}}, size: size}}
}

// Maker makes many elements.
type Maker struct {
	more  []more // room for the next ones
	parts []Part // and their parts
}

// atOnce is how many elements have their room in one piece of memory.
const atOnce = 256

// Element is an element with its text, when it ends, nil for never, and its parts, which are copied.
func (m *Maker) Element(text string, until *time.Time, parts []Part) Element {
	if e, ok := small(text, parts); ok && until == nil {
		return e
	}
	if len(m.more) == 0 {
		m.more = make([]more, atOnce)
	}
	if len(m.parts) < len(parts) {
		m.parts = make([]Part, atOnce*len(parts))
	}
	e := Element{Text: text, more: &m.more[0]}
	e.more.parts, e.more.until = m.parts[:len(parts):len(parts)], until
	copy(e.more.parts, parts)
	m.more, m.parts = m.more[1:], m.parts[len(parts):]
	return e
}

// small is an element of parts that it can have in itself. ok is false where it cannot.
func small(text string, parts []Part) (e Element, ok bool) {
	if len(parts) != 1 || !parts[0].Low.Is4() || !parts[0].High.Is4() || parts[0] != (Part{Low: parts[0].Low, High: parts[0].High}) {
		return Element{}, false
	}
	low, high := parts[0].Low.As4(), parts[0].High.As4()
	return Element{Text: text, low: binary.BigEndian.Uint32(low[:]), high: binary.BigEndian.Uint32(high[:])}, true
}

// addr4 is an IPv4 address by its number.
func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// Fields is how many parts the element has.
func (e *Element) Fields() int {
	if e.more == nil {
		return 1
	}
	return len(e.more.parts)
}

// Part is one of the parts, each for one field of the set's type.
func (e *Element) Part(i int) Part {
	if e.more == nil {
		return Part{Low: addr4(e.low), High: addr4(e.high)}
	}
	return e.more.parts[i]
}

// Parts are all parts. They must not be changed.
func (e *Element) Parts() []Part {
	if e.more == nil {
		return []Part{e.Part(0)}
	}
	return e.more.parts
}

// Until is when an element of a set with a timeout that was added to a running firewall ends; nil for any other.
func (e *Element) Until() *time.Time {
	if e.more == nil {
		return nil
	}
	return e.more.until
}

// Verdict is what an element of a map says, a Verdict or a Jump; nil for any other.
func (e *Element) Verdict() Action {
	if e.more == nil {
		return nil
	}
	return e.more.verdict
}

// Size is the segment size in bytes that an element of one of LinkMaps has; 0 for any other.
func (e *Element) Size() int {
	if e.more == nil {
		return 0
	}
	return e.more.size
}

// Same says whether two elements of sets of one kind have the same text, and lead to the same.
func (e *Element) Same(other *Element) bool {
	return e.Text == other.Text && e.Verdict() == other.Verdict() && e.Size() == other.Size()
}

// WithVerdict is the element with a verdict.
func (e Element) WithVerdict(v Action) Element {
	e.more = &more{parts: e.Parts(), until: e.Until(), verdict: v, size: e.Size()}
	return e
}

// WithUntil is the element with a time to end at.
func (e Element) WithUntil(at *time.Time) Element {
	e.more = &more{parts: e.Parts(), until: at, verdict: e.Verdict(), size: e.Size()}
	return e
}

// Is says whether this is the other element, and not only one like it. That is known of elements of NewElement.
func (e *Element) Is(other *Element) bool {
	return e.more != nil && other.more != nil && len(e.more.parts) > 0 && len(other.more.parts) > 0 && &e.more.parts[0] == &other.more.parts[0]
}

// Wide says whether an element stands for more than one packet's fields: only such ones can overlap with others.
func (e Element) Wide() bool {
	if e.more == nil {
		return e.low != e.high
	}
	return slices.ContainsFunc(e.more.parts, func(p Part) bool {
		return p.Kind == AddrPart && p.Low != p.High || p.Kind == PortPart && p.First != p.Last
	})
}

// Left is how long an element still has, in milliseconds at least one; 0 for one that has no end of its own. ended says that its
// time has come.
func (e *Element) Left() (left time.Duration, ended bool) {
	until := e.Until()
	if until == nil {
		return 0, false
	}
	left = time.Until(*until).Truncate(time.Millisecond)
	return left, left <= 0
}

// Overlaps says whether there is a packet that both elements, of one set, stand for.
func (e Element) Overlaps(other Element) bool {
	if e.more == nil && other.more == nil {
		return e.low <= other.high && other.low <= e.high
	}
	for i := range e.Fields() {
		p, q := e.Part(i), other.Part(i)
		switch p.Kind {
		case AddrPart:
			if p.High.Less(q.Low) || q.High.Less(p.Low) {
				return false
			}
		case PortPart:
			if p.Name != q.Name || p.Last < q.First || q.Last < p.First {
				return false
			}
		default:
			if p.First != q.First || p.Name != q.Name {
				return false
			}
		}
	}
	return true
}

// Prefix is the addresses of an AddrPart as a prefix; ok is false for a range that is none.
func (p Part) Prefix() (prefix netip.Prefix, ok bool) {
	low, high := p.Low.As16(), p.High.As16()
	common := 0
	for i := range low {
		differ := bits.LeadingZeros8(low[i] ^ high[i])
		common += differ
		if differ < 8 {
			break
		}
	}
	prefix = netip.PrefixFrom(p.Low, common-128+p.Low.BitLen())
	return prefix, prefix.Masked().Addr() == p.Low && boxes.LastAddr(prefix) == p.High
}
