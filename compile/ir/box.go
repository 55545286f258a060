package ir

import (
	"slices"

	"richwall/internal/boxes"
)

// Box is an element as an interval of numbers in each of its fields. Those of the elements of one set can be compared.
func (e Element) Box() boxes.Box {
	var b boxes.Box
	for i := range e.Fields() {
		p := e.Part(i)
		switch p.Kind {
		case AddrPart:
			b.First[i], b.Last[i] = boxes.Addr(p.Low), boxes.Addr(p.High)
		case PortPart:
			name := pack(p.Name, 7)
			b.First[i], b.Last[i] = number(name, p.First), number(name, p.Last)
		case MarkPart:
			b.First[i].Low = uint64(p.First)
			b.Last[i] = b.First[i]
		case MACPart:
			b.First[i] = pack(p.Name, 7)
			b.Last[i] = b.First[i]
		case IfacePart:
			b.First[i] = pack(p.Name, 8)
			b.Last[i] = b.First[i]
		}
	}
	return b
}

// pack is the characters of a name as a number, another one for each name. Names are short: of protocols 16
// characters of 7 bits, which leaves room for a port, of MAC addresses 17, and of interfaces 15 of 8 bits.
func pack(name string, width uint) (p boxes.Point) {
	for i := range len(name) {
		p = shift(p, width)
		p.Low |= uint64(name[i])
	}
	return p
}

// number puts a port behind a protocol's name.
func number(name boxes.Point, port int) boxes.Point {
	p := shift(name, 16)
	p.Low |= uint64(port)
	return p
}

func shift(p boxes.Point, by uint) boxes.Point {
	return boxes.Point{High: p.High<<by | p.Low>>(64-by), Low: p.Low << by}
}

// Within is another element, cut or widened to a box of its set, in the fields where that differs.
func (e Element) Within(b boxes.Box) Element {
	whole := e.Box()
	e.more = &more{parts: slices.Clone(e.Parts()), until: e.Until(), verdict: e.Verdict(), size: e.Size()}
	for i := range e.more.parts {
		p := &e.more.parts[i]
		if whole.First[i] == b.First[i] && whole.Last[i] == b.Last[i] {
			continue
		}
		switch p.Kind {
		case AddrPart:
			p.Low, p.High = b.First[i].Addr(p.Low.Is4()), b.Last[i].Addr(p.Low.Is4())
		case PortPart:
			p.First, p.Last = int(uint16(b.First[i].Low)), int(uint16(b.Last[i].Low))
		case MarkPart, MACPart, IfacePart: // never wide
		}
	}
	return e
}
