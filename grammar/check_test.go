package grammar

import (
	"os"
	"strings"
	"testing"
)

// Rules that were not read from text are checked in the same way, but for what the text's form rules out.
func TestCheck(t *testing.T) {
	service := &Service{"ssh"}
	for why, c := range map[string]struct {
		rule Rule
		want string
	}{
		"A sound rule has no errors.": {
			Rule{Family: IPv4, Source: &Source{Address: "192.0.2.1"}, Element: service, Log: &Log{Limit: &Limit{3, 'm', 5}}, Action: &Reject{}}, "",
		},
		"A family is one of two.": {
			Rule{Family: "ipv5", Element: service, Action: &Accept{}}, "INVALID_FAMILY: cannot use family ipv5: it is not known, did you mean ipv4?",
		},
		"A source without a selector is none.": {
			Rule{Source: &Source{Invert: true}, Element: service, Action: &Accept{}}, "INVALID_RULE: cannot match a source without",
		},
		"Limits are checked where they stand.": {
			Rule{Element: service, Log: &NFLog{Limit: &Limit{1, 'd', 0}}, Audit: &Audit{&Limit{0, 's', 0}}, Action: &Drop{&Limit{1, 'w', 0}}},
			"INVALID_LIMIT: cannot limit to 1/d: the lowest rate is 2/d\n" +
				"INVALID_LIMIT: cannot limit to 0/s: the rate must be at least 1\n" +
				"INVALID_LIMIT: cannot limit by unit 'w': it must be s, m, h or d",
		},
		"A burst has a bound.": {
			Rule{Element: service, Action: &Mark{"1", &Limit{1, 's', 10000001}}}, "INVALID_LIMIT: cannot limit with burst 10000001",
		},
		"Numbers of nflog are 16 bits.": {
			Rule{Element: service, Log: &NFLog{Group: -1, QueueSize: 65536}},
			"INVALID_NFLOG_GROUP: cannot use group -1: it must be from 0 to 65535\n" +
				"INVALID_NFLOG_QUEUE: cannot use queue-size 65536: it must be from 0 to 65535",
		},
		"A prefix that the language cannot write is refused.": {
			Rule{Element: service, Log: &Log{Prefix: "a\nb"}}, `INVALID_LOG_PREFIX: cannot log with prefix "a\nb": a prefix holds no control characters`,
		},
		"So is such a name.": {
			Rule{Source: &Source{IPSet: "a\x00"}, Element: &ICMPType{"a\u0085"}, Action: &Accept{}},
			`INVALID_IPSET: cannot use ipset "a\x00": a name holds no control characters` + "\n" +
				`INVALID_RULE: cannot use icmp-type "a\u0085": a name holds no control characters`,
		},
		"Ranges of segment sizes are in order and in bounds.": {
			Rule{Element: &TCPMSS{MSSRange{5, 4}}, Action: &Drop{}}, "INVALID_RULE: cannot use range 5-4: the lower end comes first, as in 4-5",
		},
		"A clamp from a file may not say None either.": {
			Rule{Element: &TCPMSSClamp{Value: "None", MTU: 70000, Range: &MSSRange{-1, 5}}},
			"INVALID_RULE: cannot clamp to None: write value=pmtu, or leave value out\n" +
				"INVALID_RULE: cannot clamp to MTU 70000: an MTU is 576 to 65535 bytes\n" +
				"INVALID_RULE: cannot clamp to both a value and an MTU: the MTU is another way to say the value\n" +
				"INVALID_RULE: cannot use range -1-5: sizes are 0 to 65535 bytes",
		},
	} {
		list := c.rule.Check()
		if got := list.Error(); got != c.want && (c.want == "" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s\n got %s\nwant %s", why, got, c.want)
		}
		if (list.Err() == nil) != (c.want == "") {
			t.Errorf("%s: %v", why, list.Err())
		}
	}
}

// What Parse refuses for its meaning, Check refuses too; what Parse can read, it finds the same errors in.
func TestCheckAgreesWithParse(t *testing.T) {
	for _, e := range readExamples(t, "errors.txt") {
		tree, err := ParseTree(e.rule)
		if err != nil {
			continue
		}
		b := &builder{rule: &Rule{}}
		b.places = b.place
		b.read(tree.Words)
		if !b.vague {
			b.whole(b.rule)
		}
		parsed := b.errs.Error()
		for _, found := range b.rule.Check() {
			if !b.vague && !strings.Contains(parsed, found.Msg) {
				t.Errorf("%s\n%s\nCheck alone finds: %v", e.why, e.rule, found)
			}
		}
	}
}

// The examples of the manual are rules.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(manual)) {
		text, isExample := strings.CutPrefix(strings.TrimSpace(line), "//\trule ")
		if !isExample || strings.HasPrefix(strings.TrimSpace(text), "=") {
			continue
		}
		found++
		if _, err := Parse("rule " + text); err != nil {
			t.Errorf("rule %s\n%v", text, err)
		}
	}
	if found == 0 {
		t.Error("the manual has no examples")
	}
}
