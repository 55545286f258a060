package zones

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The scanner reads the part of XML 1.0 that configuration files are made of: one root, elements, attributes, text, CDATA,
// comments, and references to characters. It knows where everything stands, attributes too, and it takes half the time of
// encoding/xml, which counts for a zone of many thousand rules.

// maxAttrs is more attributes than any element has.
const maxAttrs = 32

// tokenKind is what a token is.
type tokenKind int

const (
	startTag tokenKind = iota
	emptyTag           // a start tag that is its own end tag
	endTag
	charData
	endOfFile
)

// token is a tag, or the text between two tags.
type token struct {
	kind  tokenKind
	name  string // of a tag
	attrs []attr
	text  string // of charData; "" when it is only blanks and was not asked for
	place
}

// attr is an attribute of an element.
type attr struct {
	name, value string // the value is one line
	place
}

// scanError is where and why a file is not XML.
type scanError struct {
	place
	msg string
}

func (e *scanError) Error() string { return e.msg }

// scanner splits a file into tokens.
type scanner struct {
	data      []byte
	pos       int // of the next byte
	line      int // of pos, from 1
	lineStart int // position of the first byte of that line
	shared    map[string]string
	spare     []attr          // room for attributes, to make them many at a time
	texts     strings.Builder // that of plain elements, many in one piece of memory
}

func (s *scanner) here() place { return place{int32(s.line), int32(s.pos - s.lineStart + 1)} }

// fail is an error at the next byte.
func (s *scanner) fail(format string, args ...any) error {
	return &scanError{s.here(), fmt.Sprintf(format, args...)}
}

// advance moves on by n bytes.
func (s *scanner) advance(n int) {
	passed := s.data[s.pos : s.pos+n]
	if lines := bytes.Count(passed, []byte{'\n'}); lines > 0 {
		s.line += lines
		s.lineStart = s.pos + bytes.LastIndexByte(passed, '\n') + 1
	}
	s.pos += n
}

// share is the text of some bytes; equal ones are held in memory once.
func (s *scanner) share(b []byte) string {
	if known, ok := s.shared[string(b)]; ok {
		return known
	}
	text := string(b)
	s.shared[text] = text
	return text
}

// isText tells whether XML can hold a character (XML 1.0, 2.2): all but most control characters.
func isText(c rune) bool {
	return (c >= ' ' || c == '\t' || c == '\n' || c == '\r') && c != '\ufffe' && c != '\uffff'
}

// check finds the first byte that is no UTF-8 or that XML cannot hold.
func (s *scanner) check() error {
	for i := 0; i < len(s.data); {
		c, width := rune(s.data[i]), 1
		if c >= utf8.RuneSelf {
			c, width = utf8.DecodeRune(s.data[i:])
		}
		if c == utf8.RuneError && width == 1 || !isText(c) {
			s.advance(i)
			return s.fail("the byte 0x%02x is no UTF-8 text", s.data[i])
		}
		i += width
	}
	return nil
}

// next is the next token. Blank text is left out unless it is wanted.
func (s *scanner) next(wantBlanks bool) (token, error) {
	for s.pos < len(s.data) {
		rest := s.data[s.pos:]
		var err error
		switch {
		case rest[0] != '<' || bytes.HasPrefix(rest, []byte("<![CDATA[")):
			t := token{kind: charData, place: s.here()}
			t.text, err = s.text(wantBlanks)
			if t.text != "" || err != nil {
				return t, err
			}
			continue
		case bytes.HasPrefix(rest, []byte("<!--")):
			err = s.skip("<!--", "-->", "comment")
		case bytes.HasPrefix(rest, []byte("<?")):
			err = s.instruction()
		case bytes.HasPrefix(rest, []byte("<!")):
			err = s.fail("a document type is not needed, and not read")
		case bytes.HasPrefix(rest, []byte("</")):
			return s.endTag()
		default:
			return s.startTag()
		}
		if err != nil {
			return token{}, err
		}
	}
	return token{kind: endOfFile, place: s.here()}, nil
}

// skip passes what starts and ends with two marks.
func (s *scanner) skip(start, end, what string) error {
	length := bytes.Index(s.data[s.pos+len(start):], []byte(end))
	if length < 0 {
		return s.fail("the %s is not closed by %s", what, end)
	}
	s.advance(len(start) + length + len(end))
	return nil
}

// instruction passes <?…?>. It refuses an XML declaration that is not at the start of the file (XML 1.0, 2.8 and 2.6), and in it
// encodings but UTF-8.
func (s *scanner) instruction() error {
	start := s.pos
	at := s.here()
	if err := s.skip("<?", "?>", "instruction"); err != nil {
		return err
	}
	header := string(s.data[start:s.pos])
	name, _, _ := strings.Cut(strings.TrimSuffix(header[len("<?"):], "?>"), " ")
	switch name = strings.TrimRight(name, "\t\r\n"); {
	case !strings.EqualFold(name, "xml"):
		return nil
	case start > 0:
		return &scanError{at, "an XML declaration stands at the start of the file alone: nothing may be before it, not even blanks or an empty line"}
	}
	if !strings.Contains(header, "version") {
		return &scanError{at, "the XML declaration has no version: write <?xml version=\"1.0\"?>"}
	}
	_, encoding, ok := strings.Cut(header, "encoding=")
	if !ok {
		return nil
	}
	encoding = strings.Trim(strings.TrimSuffix(encoding, "?>"), " \t\r\n'\"")
	switch strings.ToLower(encoding) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return nil
	}
	return &scanError{at, fmt.Sprintf("the encoding %s is not read: save the file as UTF-8", encoding)}
}

// text reads up to the next tag.
func (s *scanner) text(wantBlanks bool) (string, error) {
	var b strings.Builder
	for s.pos < len(s.data) {
		rest := s.data[s.pos:]
		switch {
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			start := s.pos + len("<![CDATA[")
			if err := s.skip("<![CDATA[", "]]>", "CDATA section"); err != nil {
				return "", err
			}
			b.Write(s.data[start : s.pos-len("]]>")])
		case rest[0] == '<':
			return b.String(), nil
		case rest[0] == '&':
			c, err := s.reference()
			if err != nil {
				return "", err
			}
			b.WriteRune(c)
		default:
			n := bytes.IndexAny(rest, "<&")
			if n < 0 {
				n = len(rest)
			}
			if wantBlanks || len(bytes.TrimSpace(rest[:n])) > 0 {
				b.Write(rest[:n])
			}
			s.advance(n)
		}
	}
	return b.String(), nil
}

// textRoom is how many bytes of text are kept in one piece.
const textRoom = 32 << 10

// plain reads the text of an element and its end tag, behind its start tag. ok is false, and nothing is read, where it has anything
// but one line of characters that stand for themselves.
func (s *scanner) plain(name string) (text string, ok bool) {
	rest := s.data[s.pos:]
	end := bytes.IndexByte(rest, '<')
	if end <= 0 || end > textRoom || bytes.ContainsAny(rest[:end], "&\r\n") {
		return "", false
	}
	tail, ok := bytes.CutPrefix(rest[end:], []byte("</"))
	if !ok || len(tail) <= len(name) || string(tail[:len(name)]) != name || tail[len(name)] != '>' {
		return "", false
	}
	s.pos += end + len("</") + len(name) + len(">")
	if s.texts.Cap()-s.texts.Len() < end {
		s.texts = strings.Builder{}
		s.texts.Grow(textRoom)
	}
	from := s.texts.Len()
	s.texts.Write(rest[:end])
	return s.texts.String()[from:], true
}

var references = map[string]rune{"amp": '&', "lt": '<', "gt": '>', "quot": '"', "apos": '\''}

// reference reads &name; or the number of a character.
func (s *scanner) reference() (rune, error) {
	rest := s.data[s.pos+1:]
	end := bytes.IndexByte(rest[:min(len(rest), 12)], ';')
	if end < 0 {
		return 0, s.fail("an & stands alone: write it as &amp;")
	}
	name := string(rest[:end])
	c, ok := references[name]
	if digits, isNumber := strings.CutPrefix(name, "#"); isNumber {
		base := 10
		if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
			digits, base = hex, 16
		}
		n, err := strconv.ParseUint(digits, base, 21)
		c = rune(n)
		ok = err == nil && utf8.ValidRune(c) && isText(c)
	}
	if !ok {
		return 0, s.fail("&%s; stands for no character", name)
	}
	s.advance(end + 2)
	return c, nil
}

// name reads the name of an element or attribute.
func (s *scanner) name() (string, error) {
	end := s.pos
	for end < len(s.data) && isNameByte(s.data[end]) {
		end++
	}
	if end == s.pos || strings.IndexByte("-.0123456789", s.data[s.pos]) >= 0 {
		return "", s.fail("a name is missing here")
	}
	name := s.share(s.data[s.pos:end])
	s.pos = end
	return name, nil
}

// isNameByte takes all bytes above ASCII: names that have such are not known anyway.
func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80 || strings.IndexByte("-._:", c) >= 0
}

func (s *scanner) blanks() {
	for ; s.pos < len(s.data); s.pos++ {
		switch s.data[s.pos] {
		case '\n':
			s.line++
			s.lineStart = s.pos + 1
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// expect passes a mark, or reports that it is missing.
func (s *scanner) expect(mark string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(mark)) {
		return s.fail("%s is missing here", mark)
	}
	s.pos += len(mark)
	return nil
}

func (s *scanner) endTag() (token, error) {
	t := token{kind: endTag, place: s.here()}
	s.pos += len("</")
	var err error
	if t.name, err = s.name(); err != nil {
		return t, err
	}
	s.blanks()
	return t, s.expect(">")
}

func (s *scanner) startTag() (token, error) {
	t := token{kind: startTag, place: s.here()}
	s.pos += len("<")
	var err error
	if t.name, err = s.name(); err != nil {
		return t, err
	}
	if cap(s.spare)-len(s.spare) < 8 {
		s.spare = make([]attr, 0, 512)
	}
	first := len(s.spare)
	for {
		before := s.pos
		s.blanks()
		switch {
		case s.pos == len(s.data):
			return t, s.fail("the tag <%s> is not closed", t.name)
		case s.data[s.pos] == '>':
			s.pos++
			return t, nil
		case s.data[s.pos] == '/':
			t.kind = emptyTag
			return t, s.expect("/>")
		case s.pos == before:
			return t, s.fail("a blank is missing before this attribute")
		}
		a, err := s.attr()
		if err != nil {
			return t, err
		}
		if len(t.attrs) == maxAttrs {
			return t, &scanError{a.place, fmt.Sprintf("<%s> has more than %d attributes", t.name, maxAttrs)}
		}
		for _, other := range t.attrs {
			if other.name == a.name {
				return t, &scanError{a.place, fmt.Sprintf("<%s> has the attribute %s twice", t.name, a.name)}
			}
		}
		s.spare = append(s.spare, a)
		t.attrs = s.spare[first:len(s.spare):len(s.spare)]
	}
}

func (s *scanner) attr() (attr, error) {
	a := attr{place: s.here()}
	var err error
	if a.name, err = s.name(); err != nil {
		return a, err
	}
	s.blanks()
	if err = s.expect("="); err != nil {
		return a, err
	}
	s.blanks()
	if s.pos == len(s.data) || s.data[s.pos] != '"' && s.data[s.pos] != '\'' {
		return a, s.fail("the value of %s is not in quotes", a.name)
	}
	quote := s.data[s.pos]
	s.pos++
	a.value, err = s.value(quote)
	return a, err
}

// value reads up to a closing quote. Line breaks and tabs become blanks (XML 1.0, 3.3.3).
func (s *scanner) value(quote byte) (string, error) {
	rest := s.data[s.pos:]
	end := bytes.IndexByte(rest, quote)
	if end < 0 {
		return "", s.fail("the quote is not closed")
	}
	if !bytes.ContainsAny(rest[:end], "&<\t\r\n") {
		value := s.share(rest[:end])
		s.pos += end + 1
		return value, nil
	}
	var b []byte
	for stop := s.pos + end; s.pos < stop; {
		switch c := s.data[s.pos]; c {
		case '&':
			r, err := s.reference()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
		case '<':
			return "", s.fail("< stands in a value: write it as &lt;")
		default:
			b = append(b, c)
			s.advance(1)
		}
	}
	s.advance(1)
	for i, c := range b {
		if c == '\t' || c == '\r' || c == '\n' {
			b[i] = ' '
		}
	}
	return s.share(b), nil
}
