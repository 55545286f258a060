package ir

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// CheckText says why no target can have a text: it is not UTF-8, or a character of it is a control character or none that is
// seen, such as one that turns the direction of writing. what is what the text is, for the error: "the log prefix".
func CheckText(what, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s %q is not UTF-8", what, text)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%s %q holds the character %U, which is not printable", what, text, r)
		}
	}
	return nil
}

// CheckName says why no target can have a name of a chain, set, interface or helper: it is empty, longer than highest bytes, no
// text, or holds a blank, a quote or a backslash. The tools have no escapes for these where names stand.
func CheckName(what, name string, highest int) error {
	if name == "" || len(name) > highest {
		return fmt.Errorf("%s %q has %d bytes: it must have 1 to %d", what, name, len(name), highest)
	}
	if err := CheckText(what, name); err != nil {
		return err
	}
	for _, r := range name {
		switch {
		case unicode.IsSpace(r), r == '"', r == '\'', r == '`', r == '\\':
			return fmt.Errorf("%s %q holds the character %q, which no name can have", what, name, r)
		}
	}
	return nil
}

// CheckSpan says why two numbers are no range: each must be from 0 to 65535, and the first not above the last.
func CheckSpan(what string, low, high int) error {
	if low < 0 || high > 65535 || low > high {
		return fmt.Errorf("%s %d-%d is no range within 0-65535", what, low, high)
	}
	return nil
}

// CheckNumber says why a number is out of its bounds, which are included.
func CheckNumber(what string, n, lowest, highest int) error {
	if n < lowest || n > highest {
		return fmt.Errorf("%s %d is not within %d-%d", what, n, lowest, highest)
	}
	return nil
}

// OneLine is a text that stands in a comment of what a target prints: what CheckText refuses is written as an escape, such as
// \n or \u202e.
func OneLine(text string) string {
	if CheckText("", text) == nil {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}
