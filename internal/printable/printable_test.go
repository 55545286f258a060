package printable

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		why, text string
		max       int
		want      string
	}{
		{"plain text stays", "a b \\ äß 中", 0, "a b \\ äß 中"},
		{"a terminal obeys escape sequences, in seven and in eight bits", "\x1b[2J\u009b2J", 0, `\x1b[2J\u009b2J`},
		{"a line break would forge a line", "a\r\nb\u2028c\u0085d", 0, `a\r\nb\u2028c\u0085d`},
		{"text would run from right to left", "a\u202eb\u2066c\u200fd", 0, `a\u202eb\u2066c\u200fd`},
		{"what has no width hides", "pub\u200blic\ufeff", 0, `pub\u200blic\ufeff`},
		{"bytes that are no UTF-8", "a\xffb\xc3", 0, `a\xffb\xc3`},
		{"the character for what is no UTF-8 is one of its own", "\ufffd", 0, "\ufffd"},
		{"a tab would shift what follows", "a\tb", 0, `a\tb`},
		{"a build server obeys these anywhere in a line", "a ##[error]x ##vso[task] ###", 0, `a #\x23[error]x #\x23vso[task] #\x23\x23`},
		{"a cut is between characters", "äöü", 5, "äö…"},
		{"a cut is not within what a character is shown as", "ab\x1bc", 4, "ab…"},
		{"exactly as long as may be", "abc", 3, "abc"},
	} {
		if got := Text(c.text, c.max); got != c.want {
			t.Errorf("%s: Text(%q, %d) is %q, want %q", c.why, c.text, c.max, got, c.want)
		}
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"::error::x", `\x3a:error::x`},
		{"  ::set-output name=a::b", `  \x3a:set-output name=a::b`},
		{"\n::error::x", `\n\x3a:error::x`},
		{"::1 is an address", "::1 is an address"},
		{"not at its beginning ::error::x", "not at its beginning ::error::x"},
	} {
		if got := Line(c.text, 0); got != c.want {
			t.Errorf("Line(%q) is %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b\u202e\xff##[", 4)
	f.Fuzz(func(t *testing.T, text string, max int) {
		for _, shown := range []string{Text(text, max), Line(text, max)} {
			if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(c rune) bool { return !unicode.IsPrint(c) }) || strings.Contains(shown, "##") {
				t.Errorf("%q is shown as %q", text, shown)
			}
			if max > 0 && len(shown) > max+len("…") {
				t.Errorf("%q is shown in %d bytes, not %d", text, len(shown), max)
			}
		}
	})
}
