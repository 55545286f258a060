package zones

import (
	"encoding/binary"
	"fmt"
	"strings"

	"richwall/internal/boxes"
)

// Overlap is an entry of a set that has something in common with another one.
type Overlap struct{ Entry, With string }

// Overlaps finds the entries of a set that have something in common with another one, each of them once, with the larger one
// of the two as the other. Entries that are not valid are passed over.
func (s *IPSet) Overlaps() []Overlap {
	list := s.boxes(len(s.Entries))
	for i, text := range s.Entries {
		if entry, err := ParseEntry(s, text); err == nil {
			list.add(entry, i)
		}
	}
	return list.overlaps(s.Entries)
}

// entryBoxes are the entries of a set as boxes, or as spans where they have one field.
type entryBoxes struct {
	single bool
	spans  []boxes.Span
	boxes  []boxes.Box
}

// boxes is an empty list with room for n entries of a set.
func (s *IPSet) boxes(n int) *entryBoxes {
	if len(entryKinds[s.Type]) == 1 {
		return &entryBoxes{single: true, spans: make([]boxes.Span, 0, n)}
	}
	return &entryBoxes{boxes: make([]boxes.Box, 0, n)}
}

// add adds the entry that stands at a place among those of the set.
func (l *entryBoxes) add(e Entry, of int) {
	if l.single {
		first, last := ends(e[0])
		l.spans = append(l.spans, boxes.Span{First: first, Last: last, Of: int32(of)})
		return
	}
	b := boxes.Box{Of: of}
	for i, part := range e {
		b.First[i], b.Last[i] = ends(part)
	}
	l.boxes = append(l.boxes, b)
}

// overlaps are those among the entries, given by their texts. The list is overwritten.
func (l *entryBoxes) overlaps(texts []string) (found []Overlap) {
	if l.single {
		boxes.Join(l.spans, func(into, s boxes.Span) { found = append(found, Overlap{texts[s.Of], texts[into.Of]}) })
	} else {
		boxes.Disjoint(l.boxes, func(into, b boxes.Box) { found = append(found, Overlap{texts[b.Of], texts[into.Of]}) })
	}
	return found
}

// shownOverlaps is how many entries a message names.
const shownOverlaps = 5

// OverlapText says which entries of a set overlap, for a person: the first few by name, and how many more there are. It is
// empty if none do.
func OverlapText(list []Overlap) string {
	if len(list) == 0 {
		return ""
	}
	var names []string
	for _, o := range list[:min(len(list), shownOverlaps)] {
		names = append(names, fmt.Sprintf("%s with %s", o.Entry, o.With))
	}
	text := "entries overlap, and what they have in common counts once: " + strings.Join(names, ", ")
	if more := len(list) - shownOverlaps; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// ends are the first and the last of what a part of an entry stands for, as numbers.
func ends(part EntryPart) (first, last boxes.Point) {
	switch part := part.(type) {
	case AddrPart:
		return boxes.Addr(part.Low), boxes.Addr(part.High)
	case PortPart:
		return boxes.Point{Low: uint64(part.Protocol<<16 | part.Low)}, boxes.Point{Low: uint64(part.Protocol<<16 | part.High)}
	case MarkPart:
		first.Low = uint64(part)
	case MACPart:
		first = textPoint(string(part.HardwareAddr))
	case IfacePart:
		first = textPoint(string(part))
	}
	return first, first
}

// textPoint is up to 16 bytes as a number; names of interfaces have 15.
func textPoint(text string) boxes.Point {
	var b [16]byte
	copy(b[:], text)
	return boxes.Point{High: binary.BigEndian.Uint64(b[:8]), Low: binary.BigEndian.Uint64(b[8:])}
}
