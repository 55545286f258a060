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

func TestMessage(t *testing.T) {
	if got := Message("cannot use a\x1b: it is \n"); got != `cannot use a\x1b: it is \n` {
		t.Error(got)
	}
	got := Message("cannot use " + strings.Repeat("ä", 100_000) + ": the longest has 15")
	if len(got) > 2*(messageHead+messageTail) || !strings.HasPrefix(got, "cannot use ä") || !strings.HasSuffix(got, "ä: the longest has 15") {
		t.Error(got)
	}
}

func TestWriter(t *testing.T) {
	for _, c := range []struct {
		why    string
		writes []string
		want   string
	}{
		{"lines and tabs stay", []string{"a\tb\n", "c\n\n", "\td::e::f\n"}, "a\tb\nc\n\n\td::e::f\n"},
		{"what others wrote is shown", []string{"a\x1b[2J\u202e\r\nb"}, "a\\x1b[2J\\u202e\\r\nb"},
		{"colours of the program stay", []string{"\x1b[1mbold\x1b[0m\x1b[5m\n"}, "\x1b[1mbold\x1b[0m\\x1b[5m\n"},
		{"a command at the beginning of a line", []string{"x ::error::a\n\t::error::b\n", "::error::c\n"}, "x ::error::a\n\t\\x3a:error::b\n\\x3a:error::c\n"},
		{"the rest of a line is no beginning", []string{"x", "::error::a\n"}, "x::error::a\n"},
		{"a character in two parts", []string{"a\xe2\x86", "\x92b\n"}, "a→b\n"},
		{"a character without an end", []string{"a\xe2\x86\n", "b\xe2"}, "a\\xe2\\x86\nb\\xe2"},
		{"nothing", []string{""}, ""},
	} {
		var b strings.Builder
		w := NewWriter(&b)
		w.Colours = []string{"\x1b[1m", "\x1b[0m"}
		for _, text := range c.writes {
			if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("%s: %d bytes of %d, %v", c.why, n, len(text), err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
		if b.String() != c.want {
			t.Errorf("%s: %q is %q, want %q", c.why, c.writes, b.String(), c.want)
		}
	}
}
