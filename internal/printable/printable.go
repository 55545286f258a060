// Package printable makes text that others wrote fit to be shown: in a terminal, in a log, and in the output of a job that a
// build server reads for commands.
package printable

import (
	"io"
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
func Line(s string, max int) string { return Text(guarded(s), max) }

// guarded is the text of a line without the colon by which build servers would take it for a command.
func guarded(s string) string {
	blanks := len(s) - len(strings.TrimLeftFunc(s, unicode.IsSpace))
	if rest, ok := strings.CutPrefix(s[blanks:], "::"); ok && strings.Contains(rest, "::") {
		return s[:blanks] + `\x3a:` + rest
	}
	return s
}

// The parts of a long message that are kept: what is wrong stands in front, and why behind the value that is so long.
const (
	messageHead = 600
	messageTail = 300
)

// Message is a whole message with values of others in it, as a part of a line: Text, without the middle of what is very long.
func Message(s string) string {
	if len(s) <= messageHead+messageTail {
		return Text(s, 0)
	}
	tail := s[len(s)-messageTail:]
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return Text(s, messageHead) + Text(tail, 0)
}

// Writer writes lines to another writer, each as Line shows it; tabs and the ends of lines stay. It is the last net under what
// a program prints: text within it should have been made printable before, when it was known what of it is a value.
type Writer struct {
	w       io.Writer
	Colours []string // sequences that are passed on as they are
	inLine  bool     // something of the line is written
	held    []byte   // the beginning of a character
}

// NewWriter is a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Unwrap is the other writer.
func (w *Writer) Unwrap() io.Writer { return w.w }

// Write writes whole or half lines. The beginning of a character waits for its end.
func (w *Writer) Write(data []byte) (int, error) {
	n := len(data)
	if len(w.held) > 0 {
		data = append(w.held, data...)
	}
	whole := len(data)
	for i := max(0, len(data)-utf8.UTFMax); i < len(data); i++ {
		if utf8.RuneStart(data[i]) && !utf8.FullRune(data[i:]) {
			whole = i
		}
	}
	w.held = append([]byte(nil), data[whole:]...)
	return n, w.write(data[:whole])
}

// Flush writes what waits for the end of a character.
func (w *Writer) Flush() error {
	held := w.held
	w.held = nil
	return w.write(held)
}

func (w *Writer) write(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if w.isClean(data) {
		w.inLine = data[len(data)-1] != '\n'
		_, err := w.w.Write(data)
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		text, end := strings.CutSuffix(line, "\n")
		if !w.inLine {
			text = guarded(text)
		}
		w.part(&b, text)
		if end {
			b.WriteByte('\n')
		}
		w.inLine = !end
	}
	_, err := io.WriteString(w.w, b.String())
	return err
}

// isClean tells whether lines are written as they are.
func (w *Writer) isClean(data []byte) bool {
	for i, c := range data {
		switch {
		case c == '\n' || c == '\t':
		case c < ' ' || c > '~' || c == '#' && i > 0 && data[i-1] == '#' || c == ':' && (i == 0 && !w.inLine || i > 0 && data[i-1] <= ' '):
			return false
		}
	}
	return true
}

// part writes what is within a line. Tabs and colours stay.
func (w *Writer) part(b *strings.Builder, text string) {
	for len(text) > 0 {
		next := len(text)
		kept := ""
		for _, keep := range append(w.Colours, "\t") {
			if i := strings.Index(text, keep); i >= 0 && i < next {
				next, kept = i, keep
			}
		}
		b.WriteString(Text(text[:next], 0))
		b.WriteString(kept)
		text = text[next+len(kept):]
	}
}
