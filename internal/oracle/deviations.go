package main

import (
	"regexp"
	"slices"
)

// deviation is a difference on purpose: what it is about, what firewalld and richwall say to it, each as a regular expression,
// and why. docs/deviations.md has them all for people. An outcome is a line "exit N", the output, and the lines of the error
// output behind "stderr: "; what of a state differs is told line by line.
type deviation struct{ what, theirs, ours, reason string }

var deviations = []deviation{
	{"^(\\$|offline)", "^exit 2\nstderr: usage:", "^exit 2\nstderr: ", "a wrong use of the commands is told in other words"},
	{"", "Traceback \\(most recent|BUG:|object has no attribute|KeyError|IndexError|ValueError|TypeError", "^exit [1-9]", "firewalld has an internal error, richwall says what is wrong"},
	{"^dbus", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "^exit 1\nstderr: org.freedesktop.DBus.Error.UnknownMethod", "what is not there is named in other words"},
	{"^ebtables-save", "_direct", "not there", "chains of ebtables without rules, which firewalld makes at each start with iptables"},
	{"Properties.Set .*NftablesFlowtable", "^exit 1", "^exit 0", "a property that is announced as one that can be set can be set"},
}

type matcher struct {
	what, theirs, ours *regexp.Regexp
	reason             string
}

var matchers = func() (out []matcher) {
	for _, d := range deviations {
		out = append(out, matcher{regexp.MustCompile("(?s)" + d.what), regexp.MustCompile("(?s)" + d.theirs), regexp.MustCompile("(?s)" + d.ours), d.reason})
	}
	return out
}()

// explain is the reason for a difference, or nothing.
func explain(d difference) string {
	for _, m := range matchers {
		if m.what.MatchString(d.what) && m.theirs.MatchString(d.theirs) && m.ours.MatchString(d.ours) {
			return m.reason
		}
	}
	return ""
}

// sortedByCount are the keys of a map, the greatest count first.
func sortedByCount(m map[string]int) []string {
	return slices.SortedFunc(keysOf(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return map[bool]int{true: -1, false: 1}[a < b]
	})
}
