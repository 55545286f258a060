package printable

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
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

func TestItemIsOneValue(t *testing.T) {
	if got, want := Item("a\nb\tc ## d\x1b"), `a\nb\tc ## d\x1b`; got != want {
		t.Errorf("Item has %q, want %q", got, want)
	}
}

func FuzzBlock(f *testing.F) {
	for _, s := range []string{"a\x1b]0;b\x07\xff\u009b", "\x7f\u202e\U000e0041\n\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Block(s)
		for _, c := range got {
			if unicode.IsControl(c) && c != '\n' && c != '\t' || unicode.Is(unicode.Bidi_Control, c) {
				t.Errorf("Block(%q) has %U", s, c)
			}
		}
		if item := Item(s); strings.ContainsAny(item, "\n\t") {
			t.Errorf("Item(%q) = %q", s, item)
		}
		if utf8.ValidString(s) {
			checkJSON(t, s)
		}
		if again := Block(got); again != got {
			t.Errorf("Block is not stable: %q, then %q", got, again)
		}
	})
}

// checkJSON checks that a text reads back from JSON in which a terminal obeys nothing.
func checkJSON(t *testing.T, s string) {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	shown := JSON(string(data))
	var back string
	if err := json.Unmarshal([]byte(shown), &back); err != nil || back != s || strings.IndexFunc(shown, obeyed) >= 0 {
		t.Errorf("%q is %s in JSON, which means %q: %v", s, shown, back, err)
	}
}
