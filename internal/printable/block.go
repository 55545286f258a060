package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Block is a text of several lines, such as a description, as a command prints it. Line breaks, tabs, every kind of blank and
// "##" stay, so that a script reads the very text. What a terminal would obey, or what would change the order in which it
// shows the rest, is shown as by Text: the other control characters, the directions of Unicode, invisible characters and bytes
// that are no UTF-8. The joiners of Persian and of emoji stay, as words are spelled with them.
func Block(s string) string {
	return replace(s, obeyed, shown)
}

// Item is one value of a listing as a command prints it: as in a Block, but without line breaks and tabs, which would make two
// values of one.
func Item(s string) string {
	return replace(s, func(c rune) bool { return c == '\n' || c == '\t' || obeyed(c) }, shown)
}

// JSON is a JSON text that means the same, without what a terminal would obey: it is escaped as JSON does that. The text has
// control characters, as it must, only between its values.
func JSON(s string) string {
	return replace(s, obeyed, func(_ string, c rune) string {
		if c <= 0xffff {
			return fmt.Sprintf(`\u%04x`, c)
		}
		high, low := utf16.EncodeRune(c)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	})
}

func shown(bytes string, c rune) string { return shownAs(bytes, c, 0) }

// replace is s with other characters in place of some, and of bytes that are no UTF-8.
func replace(s string, wrong func(rune) bool, by func(bytes string, c rune) string) string {
	if strings.IndexFunc(s, wrong) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		bytes := s[i : i+size]
		if wrong(c) || c == utf8.RuneError && size == 1 {
			bytes = by(bytes, c)
		}
		b.WriteString(bytes)
		i += size
	}
	return b.String()
}

// obeyed tells whether a terminal does something with a character beside showing it.
func obeyed(c rune) bool {
	switch c {
	case '\n', '\t', '\u00ad', '\u200c', '\u200d':
		return false
	}
	return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
