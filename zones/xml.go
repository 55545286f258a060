package zones

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

// node is an element of a file and where it stands.
type node struct {
	name     string
	attrs    []attr
	children []*node
	text     string // everything between its tags that is not in an element
	place
}

// plainText is an element below the root that has nothing but text.
type plainText struct {
	text string
	place
}

// attr is the value of an attribute and whether it is there.
func (n *node) attr(name string) (string, bool) {
	for i := range n.attrs {
		if n.attrs[i].name == name {
			return n.attrs[i].value, true
		}
	}
	return "", false
}

// get is the value of an attribute, "" when it is missing.
func (n *node) get(name string) string {
	value, _ := n.attr(name)
	return value
}

// shape is what an element may look like.
type shape struct {
	required []string
	optional []string
	ignored  []string // attributes of old versions: allowed, and without effect
	text     bool     // its text counts
	parent   bool     // it has elements of its own
	many     bool     // a file may have very many below its root: those with nothing but text are not made nodes of
}

// schema is what a file may look like.
type schema struct {
	root     string
	broken   grammar.Code     // the code of a file that is no XML
	elements map[string]shape // by name, the root among them
}

// The limits of a file's elements, which are more than any file has; a file that has more is not read on, as it only costs memory.
const (
	maxDepth    = 8       // levels
	maxElements = 600_000 // in one file
)

// manyErrors is how many errors of a file are looked for at least.
const manyErrors = 1000

// reader reads one file and collects everything that is wrong with it.
type reader struct {
	schema
	path     string
	data     []byte
	problems keeper
	shared   map[string]string // strings that were seen, so that equal ones take memory once
	seen     map[string]bool   // items that were seen, to find those given twice
	places   places
	top      *node       // the root element, with what was read of it
	plain    []plainText // the elements of which there may be many, in the order of the file, but for those that are nodes

	misshapen map[*node]bool // elements with others below them in which the schema has found an error
	latest    *Problem       // the last that was reported, also if it was one too many to be kept

	ports, sourcePorts portSet // of a zone or policy
}

func newReader(s schema, data []byte, path string) *reader {
	return &reader{
		schema: s, path: path, data: bytes.TrimPrefix(data, []byte("\ufeff")),
		shared: map[string]string{}, seen: map[string]bool{}, places: places{}, misshapen: map[*node]bool{},
	}
}

func (r *reader) add(at place, severity Severity, code grammar.Code, format string, args ...any) {
	r.keep(at, &Problem{Code: code, Severity: severity}, format, args...)
}

func (r *reader) keep(at place, p *Problem, format string, args ...any) {
	p.Path, p.Line, p.Column = r.path, int(at.line), int(at.column)
	r.latest = p
	if r.problems.keeps(p, keptProblems) {
		p.Msg = fmt.Sprintf(format, args...)
	}
}

// fail reports an error at an element.
func (r *reader) fail(n *node, code grammar.Code, format string, args ...any) {
	r.add(n.place, Error, code, format, args...)
}

// failSchema reports an element or attribute that the schema has no place for, or lacks. detail is what firewalld says of it.
func (r *reader) failSchema(at place, detail, format string, args ...any) {
	r.add(at, Error, ParseError, format, args...)
	r.detail("%s", detail)
}

// detail gives the problem that was just reported the detail that firewalld has for it.
func (r *reader) detail(format string, args ...any) {
	r.latest.worded(format, args...)
}

// warn reports a warning at an element.
func (r *reader) warn(n *node, code grammar.Code, format string, args ...any) {
	r.add(n.place, Warning, code, format, args...)
}

// lose reports a warning about something that is passed over, and that may have been meant to refuse something.
func (r *reader) lose(at place, code grammar.Code, format string, args ...any) {
	r.keep(at, &Problem{Code: code, Severity: Warning, lost: true}, format, args...)
}

// lostMore counts one more warning like the last one, where so many were reported that no more are kept; else it does nothing, and is false.
func (r *reader) lostMore() bool {
	if r.problems.found[Warning] <= keptProblems {
		return false
	}
	r.problems.keeps(r.latest, keptProblems)
	return true
}

// failAt reports an error at an attribute, or at its element when the attribute is missing.
func (r *reader) failAt(n *node, attr string, code grammar.Code, format string, args ...any) {
	r.add(n.placeOf(attr), Error, code, format, args...)
}

// notice gives the warning that was just reported firewalld's line for it.
func (r *reader) notice(format string, args ...any) {
	r.latest.Notice = fmt.Sprintf(format, args...)
}

// warnAt reports a warning at an attribute.
func (r *reader) warnAt(n *node, attr string, code grammar.Code, format string, args ...any) {
	r.add(n.placeOf(attr), Warning, code, format, args...)
}

// placeOf is where an attribute stands, or its element when it is missing.
func (n *node) placeOf(name string) place {
	for _, a := range n.attrs {
		if a.name == name {
			return a.place
		}
	}
	return n.place
}

// share is an equal string that may be held in memory already.
func (r *reader) share(s string) string {
	if known, ok := r.shared[s]; ok {
		return known
	}
	s = strings.Clone(s)
	r.shared[s] = s
	return s
}

// once is false, with a warning, for an item that was given before.
func (r *reader) once(n *node, item string) bool {
	if r.seen[item] {
		r.warn(n, AlreadyEnabled, "%s is given twice: this one is ignored", item)
		return false
	}
	r.seen[item] = true
	return true
}

// parse reads the file into its root element and checks it against the schema; nil when it is broken.
func (r *reader) parse() *node {
	root := r.tree()
	if root == nil {
		return nil
	}
	if root.name != r.root {
		r.failSchema(root.place, fmt.Sprintf("Unexpected element %s", root.name), "cannot read <%s>: this file is for a <%s>", root.name, r.root)
		return nil
	}
	r.check(root)
	return root
}

// tree reads the file into elements, without a look at what they mean.
func (r *reader) tree() *node {
	s := scanner{data: r.data, line: 1, shared: r.shared}
	if err := s.check(); err != nil {
		return r.unreadable(err)
	}
	var root *node
	var spare []node // room for elements, to make them many at a time
	var open []*node
	var texts [maxDepth]strings.Builder // of the elements that are open
	for elements := 0; ; {
		t, err := s.next(len(open) > 0 && r.elements[open[len(open)-1].name].text)
		if err != nil {
			return r.unreadable(err)
		}
		switch t.kind {
		case startTag, emptyTag:
			if elements++; elements > maxElements {
				return r.brokenAt(t.place, "there are more than %d elements", maxElements)
			}
			if len(open) == 1 && t.kind == startTag && len(t.attrs) == 0 && r.elements[t.name].many {
				if text, ok := s.plain(t.name); ok {
					r.keepPlain(t, text)
					continue
				}
			}
			if len(spare) == 0 {
				spare = make([]node, 256)
			}
			n := &spare[0]
			spare = spare[1:]
			*n = node{name: t.name, attrs: t.attrs, place: t.place}
			switch {
			case len(open) == maxDepth:
				return r.brokenAt(t.place, "elements are nested more than %d deep", maxDepth)
			case len(open) > 0:
				top := open[len(open)-1]
				if top.children == nil {
					top.children = make([]*node, 0, 4)
				}
				top.children = append(top.children, n)
			case root != nil:
				return r.brokenAt(t.place, "<%s> stands behind the end of <%s>", n.name, root.name)
			default:
				root, r.top = n, n
			}
			if t.kind == startTag {
				open = append(open, n)
			}
		case endTag:
			if len(open) == 0 || open[len(open)-1].name != t.name {
				return r.brokenAt(t.place, "</%s> closes nothing: %s", t.name, expected(open))
			}
			last := len(open) - 1
			open[last].text = texts[last].String()
			texts[last].Reset()
			open = open[:last]
		case charData:
			if len(open) > 0 {
				texts[len(open)-1].WriteString(t.text)
			} else if strings.TrimSpace(t.text) != "" {
				return r.brokenAt(t.place, "text stands outside of any element")
			}
		case endOfFile:
			switch {
			case root == nil:
				return r.brokenAt(t.place, "it is empty: there is no <%s>", r.root)
			case len(open) > 0:
				return r.brokenAt(open[len(open)-1].place, "<%s> is not closed", open[len(open)-1].name)
			}
			return root
		}
	}
}

// keepPlain keeps the text of an element that starts with a tag.
func (r *reader) keepPlain(t token, text string) {
	if r.plain == nil {
		r.plain = make([]plainText, 0, bytes.Count(r.data, []byte("<"+t.name+">")))
	}
	r.plain = append(r.plain, plainText{text, t.place})
}

// unreadable reports that the file is no XML.
func (r *reader) unreadable(err error) *node {
	var at *scanError
	if errors.As(err, &at) {
		return r.brokenAt(at.place, "%s", at.msg)
	}
	return nil
}

// brokenAt reports why the file is no XML.
func (r *reader) brokenAt(at place, format string, args ...any) *node {
	r.add(at, Error, r.broken, "cannot read the file as XML: "+format, args...)
	return nil
}

// expected says which end tag comes next.
func expected(open []*node) string {
	if len(open) == 0 {
		return "no element is open"
	}
	top := open[len(open)-1]
	return fmt.Sprintf("<%s> of line %d is still open", top.name, top.line)
}

// check compares an element and those below it with the schema. Unknown elements are reported and removed.
func (r *reader) check(n *node) {
	s, before := r.elements[n.name], r.problems.found[Error]
	defer func() {
		if s.parent && r.problems.found[Error] > before {
			r.misshapen[n] = true
		}
	}()
	r.checkAttrs(n, s)
	if s.text {
		n.text = newlines.Replace(n.text)
	} else if n.text != "" {
		r.warn(n, ParseError, "the text %q in <%s> is ignored", strings.TrimSpace(n.text), n.name)
	}
	n.children = slices.DeleteFunc(n.children, func(c *node) bool {
		if _, ok := r.elements[c.name]; !ok || c.name == r.root {
			r.failSchema(c.place, "Unexpected element "+c.name, "unknown element <%s>%s", c.name, hintKey(c.name, r.elements))
			return true
		}
		if !s.parent {
			r.warn(c, ParseError, "<%s> stands inside of <%s>: it is read as if it stood behind it", c.name, n.name)
		}
		r.check(c)
		return false
	})
}

// checkAttrs reports attributes that are unknown, missing or without effect.
func (r *reader) checkAttrs(n *node, s shape) {
	for _, a := range n.attrs {
		switch {
		case slices.Contains(s.required, a.name) || slices.Contains(s.optional, a.name):
		case slices.Contains(s.ignored, a.name):
			r.add(a.place, Warning, ParseError, "the attribute %s of <%s> is ignored", a.name, n.name)
		default:
			r.failSchema(a.place, fmt.Sprintf("%s: Unexpected attribute %s", n.name, a.name),
				"unknown attribute %s of <%s>%s", a.name, n.name, hint(a.name, s.required, s.optional))
		}
	}
	for _, name := range s.required {
		if _, ok := n.attr(name); !ok {
			r.failSchema(n.place, fmt.Sprintf("Missing attribute %s for %s", name, n.name), "missing attribute %s of <%s>", name, n.name)
		}
	}
}

// complete tells whether an element has all attributes that it must have.
func (r *reader) complete(n *node) bool {
	for _, name := range r.elements[n.name].required {
		if _, ok := n.attr(name); !ok {
			return false
		}
	}
	return true
}

// each calls f for the complete elements below n, in the order of the file. What stands inside of an element that has
// none of its own comes right after it.
func (r *reader) each(n *node, f func(*node)) {
	for _, c := range n.children {
		if r.problems.found[Error] > manyErrors {
			return // there is more than enough to mend
		}
		if r.complete(c) {
			f(c)
		}
		if !r.elements[c.name].parent {
			r.each(c, f)
		}
	}
}

// number is an attribute as a whole number within bounds, 0 and a problem when it is none.
func (r *reader) number(n *node, attr string, code grammar.Code, low, high int) int {
	text := n.get(attr)
	value, err := strconv.Atoi(strings.TrimSpace(text))
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		r.failAt(n, attr, code, "cannot read %s %q: it is not a whole number", attr, text)
	case err != nil || value < low || value > high:
		r.failAt(n, attr, code, "cannot use %s %s: it must be from %d to %d", attr, text, low, high)
	default:
		return value
	}
	return 0
}

// failWith reports the error of a value at its attribute, by the error's own code if it has one.
func (r *reader) failWith(n *node, attr string, otherwise grammar.Code, err error) {
	p, at := problemOf(err, otherwise), n.placeOf(attr)
	p.Path, p.Line, p.Column = r.path, int(at.line), int(at.column)
	r.latest = p
	r.problems.keeps(p, keptProblems)
}

// newlines makes one line of a text, as firewalld does.
var newlines = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ")
