// Package printable makes text that others wrote fit to be shown: in a terminal, in a log, and in the output of a job that a
// build server reads for commands.
package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Value is a bound that suits a name, a path or a value within a message, in bytes.
const Value = 200

// Text is s as part of a line. What a terminal would obey or hide, and what ends a line, is shown as in a Go string: \n, \x1b,
// \u009b, \u202e; a byte that is no UTF-8 is \xff. The second of two # is \x23, since build servers obey "##[error]" and
// "##vso[…]" anywhere in a line. What is longer than max bytes when shown so is cut between characters, and ends with "…"; max
// does not count that. A max of 0 or less cuts nothing. A backslash stays as it is.
func Text(s string, max int) string {
	if max <= 0 {
		max = int(^uint(0) >> 1)
	}
	if clean(s) && len(s) <= max {
		return s
	}
	var b strings.Builder
	last := rune(0)
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		shown := shownAs(s[i:i+size], c, last)
		if b.Len()+len(shown) > max {
			b.WriteString("…")
			break
		}
		b.WriteString(shown)
		last, i = c, i+size
	}
	return b.String()
}

// clean tells whether a text is shown as it is: printable ASCII, at most one # in a row.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '#' && i > 0 && s[i-1] == '#' {
			return false
		}
	}
	return true
}

// shownAs is one character, given as its bytes and as a rune, behind another.
func shownAs(bytes string, c, before rune) string {
	switch {
	case c == utf8.RuneError && len(bytes) == 1:
		quoted := strconv.QuoteToASCII(bytes)
		return quoted[1 : len(quoted)-1]
	case c == '#' && before == '#':
		return `\x23`
	case unicode.IsPrint(c):
		return bytes
	}
	quoted := strconv.QuoteRuneToASCII(c)
	return quoted[1 : len(quoted)-1]
}

// Line is Text for what begins a line. The first colon of what looks like "::error::" is \x3a, since build servers obey that at
// the beginning of a line, behind blanks too; an address such as ::1 stays.
func Line(s string, max int) string {
	blanks := len(s) - len(strings.TrimLeft(s, " \t\r\n"))
	if rest, ok := strings.CutPrefix(s[blanks:], "::"); ok && strings.Contains(rest, "::") {
		return Text(s[:blanks]+`\x3a:`+rest, max)
	}
	return Text(s, max)
}
