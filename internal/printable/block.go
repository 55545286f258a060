package printable

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Block is a text of several lines, such as a description, as a command prints it. Line breaks, tabs, every kind of blank and
// "##" stay, so that a script reads the very text. What a terminal would obey, or what would change the order in which it
// shows the rest, is shown as by Text: the other control characters, the directions of Unicode, invisible characters and bytes
// that are no UTF-8. The joiners of Persian and of emoji stay, as words are spelled with them.
func Block(s string) string {
	if strings.IndexFunc(s, obeyed) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		if bytes := s[i : i+size]; obeyed(c) || c == utf8.RuneError {
			b.WriteString(shownAs(bytes, c, 0))
		} else {
			b.WriteString(bytes)
		}
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
