package grammar

import (
	"slices"
	"testing"
)

func TestCompareOrder(t *testing.T) {
	want := []string{
		`rule priority="-1" service name="ssh" accept`, // lower priorities come first
		`rule icmp-block name="a"`,                     // elements by keyword
		`rule icmp-type name="a" accept`,
		`rule masquerade`,
		`rule masquerade log`, // no log before a log
		`rule port port="22" protocol="tcp" accept`,
		`rule port port="22" protocol="udp" accept`,
		`rule port port="3" protocol="tcp" accept`, // as text
		`rule protocol value="gre" accept`,
		`rule service name="ssh" accept`, // no logging before logging, actions by keyword
		`rule service name="ssh" accept limit value="1/h"`,
		`rule service name="ssh" accept limit value="1/m"`,
		`rule service name="ssh" accept limit value="2/m"`,
		`rule service name="ssh" accept limit value="1/m" burst=5`, // the burst before the rate
		`rule service name="ssh" drop`,
		`rule service name="ssh" mark set=10`,
		`rule service name="ssh" mark set=2`,
		`rule service name="ssh" reject`,
		`rule service name="ssh" reject limit value="1/m"`,
		`rule service name="ssh" audit accept`,
		`rule service name="ssh" audit limit value="1/m" accept`,
		`rule service name="ssh" log accept`,
		`rule service name="ssh" log level="info" accept`,
		`rule service name="ssh" log prefix="a" accept`,
		`rule service name="ssh" nflog accept`, // log before nflog
		`rule service name="ssh" nflog prefix="z" accept`,
		`rule service name="ssh" nflog group="1" accept`,
		`rule source-port port="1" protocol="tcp" accept`,
		`rule tcp-mss value="0-400" drop`,
		`rule tcp-mss value="0-500" drop`,
		`rule tcp-mss-clamp`,
		`rule tcp-mss-clamp range="1-2"`,
		`rule tcp-mss-clamp mtu="1400"`,
		`rule tcp-mss-clamp value="1000"`,
		`rule tcp-mss-clamp value="1440"`,
		`rule tcp-mss-clamp value="1440" raise="yes"`,
		`rule tcp-mss-clamp value="pmtu"`,
		`rule source ipset="a" drop`, // a source behind none; what is not given before what is
		`rule source mac="00:11:22:33:44:55" drop`,
		`rule source NOT mac="00:11:22:33:44:55" drop`,
		`rule family="ipv4" forward-port port="1" protocol="tcp" to-addr="192.0.2.1"`, // a family behind none
		`rule family="ipv4" forward-port port="1" protocol="tcp" to-port="2"`,
		`rule family="ipv4" service name="ssh" reject type="tcp-reset"`,
		`rule family="ipv4" destination ipset="a" drop`,
		`rule family="ipv4" destination address="192.0.2.1" drop`,
		`rule family="ipv4" destination NOT address="192.0.2.1" drop`,
		`rule family="ipv6" service name="ssh" drop`,
		`rule priority="1" accept`,
	}
	rules := make([]*Rule, len(want))
	for i, text := range want {
		rule, err := Parse(text)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		rules[len(want)-1-i] = rule
	}
	slices.SortFunc(rules, Compare)
	for i, rule := range rules {
		if rule.String() != want[i] {
			t.Errorf("place %d: got %s, want %s", i, rule, want[i])
		}
	}
}

// Compare is a total order that is 0 exactly for rules with the same canonical text.
func TestCompareIsATotalOrder(t *testing.T) {
	var rules []*Rule
	for _, e := range readExamples(t, "rules.txt") {
		rule, err := Parse(e.rule)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, rule)
	}
	rules = append(rules, variants(rules)...)
	for _, a := range rules {
		for _, b := range rules {
			ab := Compare(a, b)
			if (ab == 0) != (a.String() == b.String()) || a.Equal(b) != (ab == 0) {
				t.Fatalf("equality and canonical text disagree:\n%s\n%s", a, b)
			}
			if ab != -Compare(b, a) {
				t.Fatalf("not antisymmetric:\n%s\n%s", a, b)
			}
			for _, c := range rules {
				if ab <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
					t.Fatalf("not transitive:\n%s\n%s\n%s", a, b, c)
				}
			}
		}
	}
}

// variants puts the parts of neighbouring rules together: such rules need not be sound, but they have an order.
func variants(rules []*Rule) []*Rule {
	var list []*Rule
	for i, a := range rules {
		b := rules[(i+1)%len(rules)]
		mixed := *a
		mixed.Log, mixed.Action, mixed.Source = b.Log, b.Action, b.Source
		list = append(list, &mixed, &Rule{Element: a.Element, Action: b.Action}, &Rule{Element: a.Element, Audit: b.Audit})
	}
	return list
}
