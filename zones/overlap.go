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
	list := make([]boxes.Box, 0, len(s.Entries))
	for i, text := range s.Entries {
		if entry, err := ParseEntry(s, text); err == nil {
			b := entry.box()
			b.Of = i
			list = append(list, b)
		}
	}
	return s.overlaps(list)
}

// overlaps does so for entries that have been read. The list is overwritten.
func (s *IPSet) overlaps(list []boxes.Box) (found []Overlap) {
	merged := func(into, b boxes.Box) {
		found = append(found, Overlap{s.Entries[b.Of], s.Entries[into.Of]})
	}
	if len(entryKinds[s.Type]) == 1 {
		boxes.Join(list, merged)
	} else {
		boxes.Disjoint(list, merged)
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

// box is an entry as an interval of numbers in each of its fields.
func (e Entry) box() boxes.Box {
	var b boxes.Box
	for i, part := range e {
		first, last := &b.First[i], &b.Last[i]
		switch part := part.(type) {
		case AddrPart:
			*first, *last = boxes.Addr(part.Low), boxes.Addr(part.High)
		case PortPart:
			first.Low, last.Low = uint64(part.Protocol<<16|part.Low), uint64(part.Protocol<<16|part.High)
		case MarkPart:
			first.Low = uint64(part)
			*last = *first
		case MACPart:
			*first = textPoint(string(part.HardwareAddr))
			*last = *first
		case IfacePart:
			*first = textPoint(string(part))
			*last = *first
		}
	}
	return b
}

// textPoint is up to 16 bytes as a number; names of interfaces have 15.
func textPoint(text string) boxes.Point {
	var b [16]byte
	copy(b[:], text)
	return boxes.Point{High: binary.BigEndian.Uint64(b[:8]), Low: binary.BigEndian.Uint64(b[8:])}
}
