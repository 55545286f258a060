package zones

import (
	"bytes"
	"cmp"
	"slices"
)

// blankRounds is how often a file is read anew for errors that were not kept before.
const blankRounds = 10

// mended makes an object of a file with errors. Items in which something is wrong are blanked, and what is left is read again. A
// zone or policy stays, and refuses everything if what is lost may have refused something; another object is there if nothing but
// its descriptions was wrong, and otherwise nil.
func mended[T any](l *loader, m Meta, data []byte, problems Problems, k *objectKind[T]) *T {
	problems = problems.errors()
	left, ways := blankBroken(data, problems)
	worst := slices.Max(ways)
	object, again := k.read(m.Name, left, m.Origin.Path)
	for round := 0; object != nil && again.Err() != nil && round < blankRounds; round++ { // there were more than are kept
		var more []Way
		left, more = blankBroken(left, again.errors())
		worst = max(worst, slices.Max(more))
		object, again = k.read(m.Name, left, m.Origin.Path)
	}
	for _, p := range again {
		p.Object = Object{k.kind, m.Name}
	}
	if object == nil || again.Err() != nil {
		object, worst, ways = new(T), Doubtful, repeated(Doubtful, len(problems))
		*k.meta(object) = Meta{Name: m.Name}
	}
	k.meta(object).Origin, k.meta(object).lossy = m.Origin, true
	for i, p := range problems {
		if k.refusing == nil {
			ways[i] = LeftOut // what it costs comes out where others refer to it
		}
		l.losses = append(l.losses, Loss{p, ways[i]})
	}
	switch {
	case worst == LeftOut:
		l.pass(again)
		return object
	case k.refusing == nil:
		return nil
	}
	return k.refusing(object)
}

// blankBroken is a file with blanks in place of each item in which there is an error, and what each of the errors costs. What stands
// behind a place where the file is no XML is left out.
func blankBroken(data []byte, errors Problems) ([]byte, []Way) {
	r := newReader(schema{}, data, "")
	root := r.tree()
	left := slices.Clone(r.data)
	switch {
	case r.top == nil:
		return nil, repeated(Doubtful, len(errors))
	case root == nil:
		end := r.top.place
		if n := len(r.top.children); n > 0 {
			end = r.top.children[n-1].place
		}
		cut := offsetOf(left, end)
		return append(left[:cut:cut], "</"+r.top.name+">"...), repeated(Doubtful, len(errors))
	}
	ways := make([]Way, len(errors))
	for i, p := range errors {
		at, found := slices.BinarySearchFunc(root.children, p.place(), func(n *node, at place) int { return comparePlaces(n.place, at) })
		if !found {
			at--
		}
		ways[i] = rootCost(p)
		if at < 0 {
			blankAttr(left, root, p)
		} else {
			ways[i] = itemCost(root, root.children[at])
			start, end := offsetOf(left, root.children[at].place), bytes.LastIndex(left, []byte("</"))
			if at+1 < len(root.children) {
				end = offsetOf(left, root.children[at+1].place)
			}
			blank(left[start:max(start, end)])
		}
	}
	return left, ways
}

// blankAttr overwrites the attribute of the root element at which a problem stands, if it stands at one.
func blankAttr(data []byte, root *node, p *Problem) {
	for _, a := range root.attrs {
		if a.place != p.place() {
			continue
		}
		start := offsetOf(data, a.place)
		if first := bytes.IndexAny(data[start:], `"'`); first >= 0 {
			first += start
			if last := bytes.IndexByte(data[first+1:], data[first]); last >= 0 {
				blank(data[start : first+1+last+1])
			}
		}
	}
}

func repeated(w Way, n int) []Way { return slices.Repeat([]Way{w}, n) }

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
}

// offsetOf is the position of a place in a file.
func offsetOf(data []byte, at place) int {
	start := 0
	for range at.line - 1 {
		start += bytes.IndexByte(data[start:], '\n') + 1
	}
	return start + int(at.column) - 1
}

// blank overwrites all but the ends of lines, so that everything else stays where it stands.
func blank(data []byte) {
	for i, c := range data {
		if c != '\n' {
			data[i] = ' '
		}
	}
}

// mendConf is firewalld.conf as a load reads it, with the strictest value in place of the one that cannot be used beside others. What a
// load passes over is a doubt: the line may have named the default zone, or turned on StrictForwardPorts. A line that sets a
// key by whose default nothing more is let in, or says once more what an earlier one says, costs nothing.
func mendConf(l *loader, data []byte, c *Conf, problems Problems) *Conf {
	if problems.Err() != nil {
		c.IPv6RPFilter = DefaultConf().IPv6RPFilter
	}
	file := ParseConfFile(data)
	l.noConf, l.conf = file.empty(), file
	for _, p := range problems {
		way := LeftOut
		if p.Severity == Warning {
			if file.harmless(p) {
				continue
			}
			way = Doubtful
		}
		p.Object = Object{Kind: KindConf}
		l.losses = append(l.losses, Loss{p, way})
	}
	return c
}

// mendOwnConf is richwall.conf with the defaults in place of what cannot be read. None of them lets more in.
func mendOwnConf(l *loader, _ []byte, c *OwnConf, problems Problems) *OwnConf {
	for _, p := range problems.errors() {
		p.Object = Object{Kind: KindConf}
		l.losses = append(l.losses, Loss{p, LeftOut})
	}
	return c
}

// mendDirect is direct.xml without the elements in which something is wrong.
func mendDirect(l *loader, data []byte, d *Direct, problems Problems) *Direct {
	for _, p := range problems {
		p.Object = Object{Kind: KindDirect}
	}
	errors := problems.errors()
	if len(errors) == 0 {
		l.pass(problems)
		return d
	}
	left, ways := blankBroken(data, errors)
	d, again := ReadDirect(left, errors[0].Path)
	if d == nil || again.Err() != nil {
		d, ways = &Direct{Origin: Origin{Path: errors[0].Path}}, repeated(Doubtful, len(errors))
	}
	d.lossy = true
	for _, p := range again {
		p.Object = Object{Kind: KindDirect}
	}
	l.pass(again)
	for i, p := range errors {
		l.losses = append(l.losses, Loss{p, ways[i]})
	}
	return d
}
