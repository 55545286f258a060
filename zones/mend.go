package zones

import (
	"bytes"
	"path/filepath"
	"slices"
)

// Mend takes items out of the file of an object, by the words that stand there: items in which something is wrong, so that a load
// cannot read them and no edit finds them. problems are those of the file. Everything else of it stays, byte by byte. The error has
// code NOT_ENABLED where an item is none of those.
func (s Store) Mend(o Object, items []Item, problems Problems) error {
	name, data, err := s.brokenFile(o, problems)
	if err != nil {
		return err
	}
	gone := make([]span, len(items))
	for n, i := range items {
		if gone[n], err = brokenElement(data, i, problems); err != nil {
			return err
		}
	}
	slices.SortFunc(gone, func(a, b span) int { return b.start - a.start })
	for _, g := range slices.Compact(gone) {
		data = slices.Delete(data, g.start, g.end)
	}
	t := &transaction{store: s}
	return t.put([]file{{path: name, data: data, mode: objectMode}}, Always)
}

// mendable are the problems for whose sake a file is not written: errors, and warnings about what is passed over.
func (l Problems) mendable() Problems {
	return slices.DeleteFunc(slices.Clone(l), func(p *Problem) bool { return p.Severity != Error && !p.lost })
}

// span is a part of a file, by offsets in bytes; the end is behind it.
type span struct{ start, end int }

// Mendable tells whether Mend would take an item out.
func (s Store) Mendable(o Object, i Item, problems Problems) bool {
	_, data, err := s.brokenFile(o, problems)
	if err == nil {
		_, err = brokenElement(data, i, problems)
	}
	return err == nil
}

// brokenFile is the file of an object in which something is wrong, by its path below the administrator's folder.
func (s Store) brokenFile(o Object, problems Problems) (name string, data []byte, err error) {
	for _, p := range problems.mendable() {
		if rel, err := filepath.Rel(s.Dirs.System, p.Path); err == nil && filepath.IsLocal(rel) && p.Object == o {
			name = filepath.ToSlash(rel)
		}
	}
	if name == "" {
		return "", nil, refuse(NotEnabled, "%s", o.Name)
	}
	if data, err = s.ReadFile(name); err != nil {
		return "", nil, failed("read", filepath.Join(s.Dirs.System, name), err)
	}
	return name, data, nil
}

// brokenElement is the first element of a file in which something is wrong and that says what an item does.
func brokenElement(data []byte, i Item, problems Problems) (span, error) {
	r := newReader(schema{}, data, "")
	root := r.tree()
	if root == nil || !bytes.Equal(r.data, data) {
		return span{}, refuse(NotEnabled, "%s", i)
	}
	for at, n := range root.children {
		behind := root.children[at+1:]
		if !n.says(i) || !slices.ContainsFunc(problems.mendable(), func(p *Problem) bool { return n.holds(p, behind) }) {
			continue
		}
		next := bytes.LastIndex(data, []byte("</"))
		if len(behind) > 0 {
			next = offsetOf(data, behind[0].place)
		}
		return wholeLines(data, offsetOf(data, n.place), next), nil
	}
	return span{}, refuse(NotEnabled, "%s", i)
}

// wholeLines is an element that starts at an offset, without the comments and blanks between it and the next, but with its lines if
// it has them for itself.
func wholeLines(data []byte, start, next int) span {
	element := bytes.TrimSpace(data[start:next])
	for bytes.HasSuffix(element, []byte("-->")) {
		element = bytes.TrimSpace(element[:max(0, bytes.LastIndex(element, []byte("<!--")))])
	}
	line, end := len(bytes.TrimRight(data[:start], " \t")), start+len(element)
	if line > 0 && data[line-1] == '\n' && data[end] == '\n' {
		return span{line, end + 1}
	}
	return span{start, end}
}

// says tells whether an element of a file is an item: by its name, and by the values of its attributes or its text.
func (n *node) says(i Item) bool {
	if n.name != string(i.Key) {
		return false
	}
	var have []string
	for _, a := range n.attrs {
		have = append(have, a.value)
	}
	if len(have) == 0 {
		have = []string{n.text}
	}
	want := slices.DeleteFunc(slices.Clone(i.Args), func(a string) bool { return a == "" })
	return slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(want)))
}

// holds tells whether a problem is in an element, given those behind it.
func (n *node) holds(p *Problem, behind []*node) bool {
	at := p.place()
	return comparePlaces(n.place, at) <= 0 && (len(behind) == 0 || comparePlaces(at, behind[0].place) < 0)
}
