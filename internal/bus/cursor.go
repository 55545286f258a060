package bus

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// cursor reads marshalled values out of bytes (D-Bus specification, "Marshaling"). Once something is malformed it is bad, and
// all that is read afterwards is zero. Alignment counts from the start of the data.
type cursor struct {
	data  []byte
	pos   int // of the next byte; never beyond the data
	order binary.ByteOrder
	bad   bool
}

// maxNesting is how deep values may be nested, variants included (D-Bus specification, "Valid Signatures" and "Container
// Types").
const maxNesting = 64

// take is the next n bytes, nil if there are less.
func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.data)-c.pos {
		c.bad = true
		return nil
	}
	c.pos += n
	return c.data[c.pos-n : c.pos]
}

func (c *cursor) align(n int) { c.take(-c.pos & (n - 1)) }

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number is an unsigned number of 2, 4 or 8 bytes.
func (c *cursor) number(size int) uint64 {
	c.align(size)
	b := c.take(size)
	switch {
	case b == nil:
		return 0
	case size == 2:
		return uint64(c.order.Uint16(b))
	case size == 4:
		return uint64(c.order.Uint32(b))
	}
	return c.order.Uint64(b)
}

func (c *cursor) uint32() uint32 { return uint32(c.number(4)) }

// length is a number of bytes that follow.
func (c *cursor) length() int {
	n := c.uint32()
	if uint64(n) > uint64(len(c.data)) {
		c.bad = true
		return 0
	}
	return int(n)
}

// text is a string or the path of an object.
func (c *cursor) text() string {
	n := c.length()
	return c.ended(n)
}

// signature is a signature. Whether it is valid is not checked.
func (c *cursor) signature() string {
	n := int(c.byte())
	return c.ended(n)
}

// ended is text of n bytes, with a NUL behind it and none in it.
func (c *cursor) ended(n int) string {
	b := c.take(n + 1)
	if b == nil {
		return ""
	}
	if bytes.IndexByte(b, 0) != n || !utf8.Valid(b) {
		c.bad = true
		return ""
	}
	return string(b[:n])
}

// variant is the signature of the value in a variant, which follows.
func (c *cursor) variant() string {
	sig := c.signature()
	if sig == "" || typeAt(sig, 0) != len(sig) {
		c.bad = true
		return ""
	}
	return sig
}

// alignments are the boundaries that values begin at, in bytes, by the first letter of their types.
var alignments = map[byte]int{
	'y': 1, 'g': 1, 'v': 1, 'n': 2, 'q': 2, 'b': 4, 'i': 4, 'u': 4, 'h': 4, 's': 4, 'o': 4, 'a': 4, 'x': 8, 't': 8, 'd': 8, '(': 8, '{': 8,
}

// array is the position behind an array, whose first element follows.
func (c *cursor) array(element string) (end int) {
	n := c.length()
	c.align(alignments[element[0]])
	if n > len(c.data)-c.pos {
		c.bad = true
		return c.pos
	}
	return c.pos + n
}

// skip goes past a value of one complete type. What is in texts and arrays is not looked at. depth is how deep the value is nested.
func (c *cursor) skip(sig string, depth int) {
	switch {
	case c.bad || depth > maxNesting:
		c.bad = true
	case sig[0] == 's' || sig[0] == 'o':
		c.take(c.length() + 1)
	case sig[0] == 'g':
		c.take(int(c.byte()) + 1)
	case sig[0] == 'v':
		if inner := c.variant(); !c.bad {
			c.skip(inner, depth+1)
		}
	case sig[0] == 'a':
		c.take(c.array(sig[1:]) - c.pos)
	case sig[0] == '(' || sig[0] == '{':
		c.align(8)
		for rest := sig[1 : len(sig)-1]; rest != "" && !c.bad; {
			n := typeLen(rest)
			c.skip(rest[:n], depth+1)
			rest = rest[n:]
		}
	default:
		size := alignments[sig[0]]
		c.align(size)
		c.take(size)
	}
}

// splitValid is the complete types of a signature that a client has written. It is not ok if the signature is invalid.
func splitValid(sig string) (types []string, ok bool) {
	for sig != "" {
		n := typeAt(sig, 0)
		if n == 0 {
			return nil, false
		}
		types, sig = append(types, sig[:n]), sig[n:]
	}
	return types, true
}

// typeAt is the length of the first complete type of a signature that a client has written; 0 if that is invalid or nested
// deeper than maxNesting.
func typeAt(sig string, depth int) int {
	if sig == "" || depth > maxNesting {
		return 0
	}
	switch sig[0] {
	case 'a':
		if len(sig) > 1 && sig[1] == '{' {
			return entryAt(sig, depth)
		}
		if n := typeAt(sig[1:], depth+1); n > 0 {
			return 1 + n
		}
		return 0
	case '(':
		n := 1
		for n < len(sig) && sig[n] != ')' {
			part := typeAt(sig[n:], depth+1)
			if part == 0 {
				return 0
			}
			n += part
		}
		if n == 1 || n == len(sig) { // without parts, or without an end
			return 0
		}
		return n + 1
	case '{':
		return 0 // an entry is in an array
	}
	if alignments[sig[0]] == 0 {
		return 0
	}
	return 1
}

// entryAt is typeAt for a dictionary: an array of entries, each of a key without parts and a value.
func entryAt(sig string, depth int) int {
	const key = len("a{")
	if len(sig) <= key || typeAt(sig[key:key+1], depth) != 1 || sig[key] == 'v' {
		return 0
	}
	value := typeAt(sig[key+1:], depth+2)
	end := key + 1 + value
	if value == 0 || end >= len(sig) || sig[end] != '}' {
		return 0
	}
	return end + 1
}
