package printable

import (
	"testing"
	"unicode"
)

func TestBlockKeepsWhatIsReadAndShowsWhatIsObeyed(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""},
		{"Two lines,\n\tand a ## prefix: été, ü, 漢字\u00a0!", "Two lines,\n\tand a ## prefix: été, ü, 漢字\u00a0!"},
		{"می\u200cخواهم 👩\u200d💻", "می\u200cخواهم 👩\u200d💻"},
		{"a\x1b[2Jb", `a\x1b[2Jb`},
		{"a\rb\x7f", `a\rb\x7f`},
		{"a\u009b31mb", `a\u009b31mb`},
		{"a\u202eb\u2066c\u200b", `a\u202eb\u2066c\u200b`},
		{"a\u2028b", `a\u2028b`},
		{"a\xffb\ufffd", "a\\xffb\ufffd"},
	} {
		if got := Block(c[0]); got != c[1] {
			t.Errorf("Block(%q) = %q, want %q", c[0], got, c[1])
		}
	}
}

func FuzzBlock(f *testing.F) {
	f.Add("a\x1b]0;b\x07\xff\u009b")
	f.Fuzz(func(t *testing.T, s string) {
		got := Block(s)
		for _, c := range got {
			if unicode.IsControl(c) && c != '\n' && c != '\t' || unicode.Is(unicode.Bidi_Control, c) {
				t.Errorf("Block(%q) has %U", s, c)
			}
		}
		if again := Block(got); again != got {
			t.Errorf("Block is not stable: %q, then %q", got, again)
		}
	})
}
