package grammar

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/participle/v2"
)

// example is one rule of the files in testdata.
type example struct {
	why   string   // the sentence before it
	rule  string   // the rule's text
	lines []string // what follows it
}

// readExamples reads blank-line separated blocks of a sentence (which later blocks may leave out), a rule, and lines that
// start with "=" or contain "^".
func readExamples(t testing.TB, name string) []example {
	t.Helper()
	content, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var list []example
	why := ""
	for block := range strings.SplitSeq(string(content), "\n\n") {
		lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
		if strings.HasPrefix(lines[0], "#") {
			continue
		}
		expectation := func(line string) bool {
			return strings.HasPrefix(line, "=") || strings.HasPrefix(strings.TrimLeft(line, " "), "^ ")
		}
		first := slices.IndexFunc(lines, expectation)
		switch first {
		case 2:
			why = lines[0]
		case 1:
		default:
			t.Fatalf("%s: a block is a sentence, a rule and what to expect, not:\n%s", name, block)
		}
		list = append(list, example{why, lines[first-1], lines[first:]})
	}
	if len(list) == 0 {
		t.Fatalf("%s holds no examples", name)
	}
	return list
}

func TestRules(t *testing.T) {
	for _, e := range readExamples(t, "rules.txt") {
		want := strings.TrimPrefix(strings.TrimPrefix(e.lines[0], "="), " ")
		if want == "" {
			want = e.rule
		}
		rule, err := Parse(e.rule)
		if err != nil {
			t.Errorf("%s\n%s\n%v", e.why, e.rule, err)
			continue
		}
		if got := rule.String(); got != want {
			t.Errorf("%s\n%s\n got %s\nwant %s", e.why, e.rule, got, want)
		}
		roundTrip(t, rule)
	}
}

// roundTrip checks that printing and parsing undo each other, and that what was parsed passes the checks.
func roundTrip(t *testing.T, rule *Rule) {
	t.Helper()
	text := rule.String()
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("canonical text does not parse: %s\n%v", text, err)
	}
	if !again.Equal(rule) {
		t.Errorf("parsing canonical text gives another rule:\n%s\n%s", text, again)
	}
	if again.String() != text {
		t.Errorf("printing is not stable:\n%s\n%s", text, again)
	}
	if err := rule.Check().Err(); err != nil {
		t.Errorf("%s\nparses, and fails the checks: %v", text, err)
	}
}

func TestErrors(t *testing.T) {
	for _, e := range readExamples(t, "errors.txt") {
		_, err := Parse(e.rule)
		var list ErrorList
		if !errors.As(err, &list) {
			t.Errorf("%s\n%s\nparses, or fails with no list: %v", e.why, e.rule, err)
			continue
		}
		for i := range max(len(list), len(e.lines)) {
			switch {
			case i >= len(list):
				t.Errorf("%s\n%s\n%s\nthis error is missing", e.why, e.rule, e.lines[i])
			case i >= len(e.lines):
				t.Errorf("%s\n%s\nunexpected error: %v", e.why, e.rule, list[i])
			default:
				compareError(t, e, e.lines[i], list[i])
			}
		}
	}
}

// compareError checks one error against a line such as "     ^ INVALID_PORT the highest port".
func compareError(t *testing.T, e example, line string, got *Error) {
	t.Helper()
	column := strings.Index(line, "^") + 1
	code, part, _ := strings.Cut(line[column+1:], " ")
	if got.Pos.Column != column || got.Pos.Offset != column-1 || got.Pos.Line != 1 {
		t.Errorf("%s\n%s\n%s\nthe place is wrong: %+v of %v", e.why, e.rule, line, got.Pos, got)
	}
	if got.Code != Code(code) || !strings.Contains(got.Msg, part) {
		t.Errorf("%s\n%s\n%s\ngot: %v", e.why, e.rule, line, got)
	}
}

// Everything the language has must occur in the examples: a keyword or an attribute that is added without one fails here.
func TestExamplesCoverTheLanguage(t *testing.T) {
	accepted := map[string]bool{}
	for _, e := range readExamples(t, "rules.txt") {
		tree, err := ParseTree(e.rule)
		if err != nil {
			t.Fatal(err)
		}
		keyword := ""
		for _, w := range tree.Words {
			if !w.isPair() {
				keyword = w.Name
			}
			accepted[w.Name] = true
			accepted[w.Key] = true
			accepted[keyword+" "+w.Key] = true
		}
	}
	for word, k := range keywords {
		if !accepted[word] {
			t.Errorf("no rule in rules.txt has %s", word)
		}
		for _, attr := range k.attrs {
			if !accepted[word+" "+attr] {
				t.Errorf("no rule in rules.txt has %s %s=", word, attr)
			}
		}
	}
	for _, word := range slices.Concat(knownWords, knownAttrs) {
		if !accepted[word] {
			t.Errorf("no rule in rules.txt has %s", word)
		}
	}
}

// Every code that a rule can have must be among the expected errors.
func TestExamplesCoverTheCodes(t *testing.T) {
	content, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []Code{
		InvalidRule, MissingFamily, InvalidPriority, InvalidAddr, InvalidMAC, InvalidIPSet, InvalidDestination, InvalidPort,
		InvalidProtocol, InvalidLogLevel, InvalidLogPrefix, InvalidNFLogGroup, InvalidNFLogQueue, InvalidLimit, InvalidMark,
		InvalidAuditType,
	} {
		if !strings.Contains(string(content), "^ "+string(code)) {
			t.Errorf("no rule in errors.txt has %s", code)
		}
	}
}

// Text.Parse does by hand what the tags declare.
func TestTreeIsAsDeclared(t *testing.T) {
	type declared struct {
		Words []*Word `parser:"@@*"`
	}
	parser := participle.MustBuild[declared](participle.Lexer(words{}))
	for _, e := range slices.Concat(readExamples(t, "rules.txt"), readExamples(t, "errors.txt")) {
		want, wantErr := parser.ParseString("", e.rule)
		got, err := ParseTree(e.rule)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, declared: %v", e.rule, err, wantErr)
		}
		if err == nil && got.String() != (&Text{want.Words}).String() {
			t.Errorf("%s:\n%s\ndeclared:\n%s", e.rule, got, &Text{want.Words})
		}
	}
}

func TestTreeShowsHowARuleWasRead(t *testing.T) {
	tree, err := ParseTree("rule  family=ipv4\n source 'address=192.0.2.1' log prefix=a=\"b c\"")
	if err != nil {
		t.Fatal(err)
	}
	want := `1:1     rule
1:7       family = "ipv4"
2:2     source
2:9       address = "192.0.2.1"
2:29    log
2:33      prefix = "a" = "b c"
`
	if tree.String() != want {
		t.Errorf("got:\n%swant:\n%s", tree, want)
	}
}

// Characters that cannot stand in a line of testdata.
func TestCharacters(t *testing.T) {
	const canonical = `rule port port="22" protocol="tcp" accept`
	for why, c := range map[string]struct{ text, want string }{
		"Tabs and line ends separate words.":                {"rule\tport\nport=22\r\nprotocol=tcp\taccept\n", canonical},
		"So do all other control characters.":               {"rule\x00port\x1fport=22\x7fprotocol=tcp\u0085accept\u009f", canonical},
		"A control character within quotes is refused.":     {"rule priority=1\n log prefix='a\tb'", "2:15: INVALID_RULE: cannot take control character U+0009 within quotes"},
		"An escaped one too.":                               {"rule priority=1 log prefix=a\\\tb", "1:29: INVALID_RULE: cannot read \\ before a control character"},
		"Letters are UTF-8, and columns count their bytes.": {"rule priority=1 log prefix=é x", "1:31: INVALID_RULE: cannot read x"},
		"What is no UTF-8 is refused.":                      {"rule service name=\xff accept", "1:19: INVALID_RULE: cannot read byte 0xff"},
		"Digits are ASCII.":                                 {"rule port port=２２ protocol=tcp accept", "1:11: INVALID_PORT: "},
		"An empty text is no rule.":                         {" \n", `1:1: INVALID_RULE: cannot read an empty rule`},
		"A lone # starts no comment.":                       {"rule priority=1 accept # why", "1:24: INVALID_RULE: cannot read #: "},
	} {
		rule, err := Parse(c.text)
		if err != nil && !strings.HasPrefix(err.Error(), c.want) || err == nil && rule.String() != c.want {
			t.Errorf("%s\n%q\n got %v %v\nwant %s", why, c.text, rule, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"rules.txt", "errors.txt"} {
		for _, e := range readExamples(f, name) {
			f.Add(e.rule)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := Parse(text)
		if err == nil {
			roundTrip(t, rule)
			return
		}
		var list ErrorList
		if !errors.As(err, &list) || len(list) == 0 {
			t.Fatalf("%q fails with no list: %v", text, err)
		}
		for _, e := range list {
			if e.Code == "" || e.Msg == "" || e.Pos.Line < 1 || e.Pos.Column < 1 || e.Pos.Offset > len(text) {
				t.Errorf("%q: %+v", text, e)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var rules []string
	for _, e := range readExamples(b, "rules.txt") {
		rules = append(rules, e.rule)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := Parse(rules[i%len(rules)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rules/s")
}
