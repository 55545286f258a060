package zones

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

// node is an element of a file and where it stands.
type node struct {
	name     string
	attrs    []xml.Attr
	children []*node
	text     string // everything between its tags that is not in an element
	offset   int    // of its "<", in bytes
	line     int
	column   int
}

// attr is the value of an attribute and whether it is there.
func (n *node) attr(name string) (string, bool) {
	for i := range n.attrs {
		if n.attrs[i].Name.Local == name {
			return n.attrs[i].Value, true
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
}

// schema is what a file may look like.
type schema struct {
	root     string
	broken   grammar.Code     // the code of a file that is no XML, or another kind of file
	elements map[string]shape // by name, the root among them
}

// maxDepth is more levels than any file has; a file that has more is not read on, as it only costs memory.
const maxDepth = 8

// reader reads one file and collects everything that is wrong with it.
type reader struct {
	schema
	path     string
	data     []byte
	problems Problems
	shared   map[string]string // strings that were seen, so that equal ones take memory once
	seen     map[string]bool   // items that were seen, to find those given twice
	places   places

	ports, sourcePorts []portRange // of a zone or policy
}

func newReader(s schema, data []byte, path string) *reader {
	return &reader{
		schema: s, path: path, data: bytes.TrimPrefix(data, []byte("\ufeff")),
		shared: map[string]string{}, seen: map[string]bool{}, places: places{},
	}
}

func (r *reader) add(line, column int, severity Severity, code grammar.Code, format string, args ...any) {
	r.problems = append(r.problems, &Problem{
		Path: r.path, Line: line, Column: column, Code: code, Severity: severity, Msg: fmt.Sprintf(format, args...),
	})
}

// fail reports an error at an element.
func (r *reader) fail(n *node, code grammar.Code, format string, args ...any) {
	r.add(n.line, n.column, Error, code, format, args...)
}

// warn reports a warning at an element.
func (r *reader) warn(n *node, code grammar.Code, format string, args ...any) {
	r.add(n.line, n.column, Warning, code, format, args...)
}

// failAt reports an error at an attribute, or at its element when the attribute is missing.
func (r *reader) failAt(n *node, attr string, code grammar.Code, format string, args ...any) {
	line, column := r.place(n, attr)
	r.add(line, column, Error, code, format, args...)
}

// warnAt reports a warning at an attribute.
func (r *reader) warnAt(n *node, attr string, code grammar.Code, format string, args ...any) {
	line, column := r.place(n, attr)
	r.add(line, column, Warning, code, format, args...)
}

// place finds where an attribute stands. It is only looked for when there is something to say about it.
func (r *reader) place(n *node, attr string) (line, column int) {
	var quote byte
	for i := n.offset; i < len(r.data); i++ {
		c := r.data[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return n.line, n.column
		case strings.IndexByte(" \t\r\n", c) >= 0 && isAttr(r.data[i+1:], attr):
			before := r.data[n.offset : i+1]
			if lf := bytes.LastIndexByte(before, '\n'); lf >= 0 {
				return n.line + bytes.Count(before, []byte("\n")), len(before) - lf
			}
			return n.line, n.column + len(before)
		}
	}
	return n.line, n.column
}

// isAttr tells whether a text begins with an attribute's name and the equals sign.
func isAttr(text []byte, name string) bool {
	rest, found := bytes.CutPrefix(text, []byte(name))
	return found && bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte("="))
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
		r.fail(root, r.broken, "cannot read <%s>: this file is for a <%s>", root.name, r.root)
		return nil
	}
	r.check(root)
	return root
}

// tree reads the file into elements, without a look at what they mean.
func (r *reader) tree() *node {
	d := xml.NewDecoder(bytes.NewReader(r.data))
	d.CharsetReader = charset
	var root *node
	var open []*node
	for {
		line, column := d.InputPos()
		offset := int(d.InputOffset())
		token, err := d.RawToken()
		if err != nil {
			return r.end(root, open, d, err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			n := &node{name: r.elementName(t.Name), attrs: slices.Clone(t.Attr), offset: offset, line: line, column: column}
			switch {
			case len(open) == maxDepth:
				r.fail(n, r.broken, "cannot read on: elements are nested more than %d deep", maxDepth)
				return nil
			case len(open) > 0:
				top := open[len(open)-1]
				top.children = append(top.children, n)
			case root != nil:
				r.fail(n, r.broken, "cannot read <%s>: the file ended with </%s>", n.name, root.name)
				return nil
			default:
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].name != qualified(t.Name) {
				r.add(line, column, Error, r.broken, "cannot read </%s>: %s", qualified(t.Name), expected(open))
				return nil
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				top := open[len(open)-1]
				if r.elements[top.name].text || strings.TrimSpace(string(t)) != "" {
					top.text += string(t)
				}
			} else if strings.TrimSpace(string(t)) != "" {
				r.add(line, column, Error, r.broken, "cannot read text outside of the file's element")
				return nil
			}
		}
	}
}

// end is the root of a file that was read to its end, or nil and what is wrong with it.
func (r *reader) end(root *node, open []*node, d *xml.Decoder, err error) *node {
	line, column := d.InputPos()
	var syntax *xml.SyntaxError
	switch {
	case err != io.EOF && errors.As(err, &syntax):
		r.add(line, column, Error, r.broken, "cannot read the file as XML: %s", syntax.Msg)
	case err != io.EOF:
		r.add(line, column, Error, r.broken, "cannot read the file as XML: %s", strings.TrimPrefix(err.Error(), "xml: "))
	case root == nil:
		r.add(line, column, Error, r.broken, "cannot read an empty file: there is no <%s>", r.root)
	case len(open) > 0:
		r.add(line, column, Error, r.broken, "cannot read the file: it ends here, but %s", expected(open))
	default:
		return root
	}
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

// charset lets files pass that call their encoding by a name for a part of UTF-8.
func charset(label string, input io.Reader) (io.Reader, error) {
	if strings.EqualFold(label, "us-ascii") || strings.EqualFold(label, "ascii") {
		return input, nil
	}
	return nil, errors.New("save the file as UTF-8")
}

// elementName is a name, shared with the schema where it is known there.
func (r *reader) elementName(name xml.Name) string {
	if _, ok := r.elements[name.Local]; ok && name.Space == "" {
		return r.share(name.Local)
	}
	return qualified(name)
}

// qualified is a name with its prefix: the files have no name spaces.
func qualified(name xml.Name) string {
	if name.Space == "" {
		return name.Local
	}
	return name.Space + ":" + name.Local
}

// check compares an element and those below it with the schema. Unknown elements are reported and removed.
func (r *reader) check(n *node) {
	s := r.elements[n.name]
	r.checkAttrs(n, s)
	if s.text {
		n.text = newlines.Replace(n.text)
	} else if n.text != "" {
		r.warn(n, ParseError, "the text %q in <%s> is ignored", strings.TrimSpace(n.text), n.name)
	}
	n.children = slices.DeleteFunc(n.children, func(c *node) bool {
		if _, ok := r.elements[c.name]; !ok || c.name == r.root {
			r.fail(c, ParseError, "unknown element <%s>%s", c.name, hint(c.name, Names(r.elements)))
			return true
		}
		if !s.parent {
			r.warn(c, ParseError, "<%s> stands inside of <%s>: it is read as if it stood behind it", c.name, n.name)
		}
		r.check(c)
		return false
	})
}

// checkAttrs reports attributes that are unknown, missing, without effect or given twice.
func (r *reader) checkAttrs(n *node, s shape) {
	for i := range n.attrs {
		a := &n.attrs[i]
		name := qualified(a.Name)
		a.Value = oneLine(a.Value)
		switch {
		case slices.Contains(s.required, name) || slices.Contains(s.optional, name):
		case slices.Contains(s.ignored, name):
			r.warnAt(n, name, ParseError, "the attribute %s of <%s> is ignored", name, n.name)
		default:
			r.failAt(n, name, ParseError, "unknown attribute %s of <%s>%s", name, n.name, hint(name, slices.Concat(s.required, s.optional)))
		}
		for _, b := range n.attrs[:i] {
			if b.Name == a.Name {
				r.failAt(n, name, r.broken, "the attribute %s of <%s> is given twice", name, n.name)
			}
		}
	}
	for _, name := range s.required {
		if _, ok := n.attr(name); !ok {
			r.fail(n, ParseError, "missing attribute %s of <%s>", name, n.name)
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
	code, msg := codeOf(err, otherwise)
	r.failAt(n, attr, code, "%s", msg)
}

// newlines makes one line of a text, as firewalld does.
var newlines = strings.NewReplacer("\n", " ", "\r", " ")

// oneLine replaces line breaks and tabs by blanks, which is how XML reads the value of an attribute.
func oneLine(value string) string {
	if strings.ContainsAny(value, "\n\r\t") {
		return strings.ReplaceAll(newlines.Replace(value), "\t", " ")
	}
	return value
}
