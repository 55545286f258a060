package zones

import (
	"errors"
	"testing"

	"richwall/grammar"
)

// What firewalld says of a bad item depends on where it was to go: of a zone of the running daemon it says the item alone,
// of files it names the zone, and of a policy it names that in either case.
func TestWire(t *testing.T) {
	c := must(t, prepared(t), New(Object{KindIPSet, "addresses"}, Settings{KeyType: "hash:ip"}), New(Object{KindIPSet, "pairs"}, Settings{KeyType: "hash:ip,port"}))
	policy, addresses, pairs := Object{KindPolicy, "p"}, Object{KindIPSet, "addresses"}, Object{KindIPSet, "pairs"}
	for _, w := range []struct {
		scope  Scope
		object Object
		item   string
		want   string
	}{
		{Runtime, publicZone, "service nosuch", "INVALID_SERVICE nosuch"},
		{Permanent, publicZone, "service nosuch", "INVALID_SERVICE Zone 'public': 'nosuch' not among existing services"},
		{Command, publicZone, "service nosuch", "INVALID_SERVICE Zone 'public': 'nosuch' not among existing services"},
		{Runtime, policy, "service nosuch", "INVALID_SERVICE Policy 'p': 'nosuch' not among existing services"},
		{Runtime, publicZone, "rule rule service name=nosuch accept", "INVALID_SERVICE nosuch"},
		{Permanent, publicZone, "rule rule service name=nosuch accept", "INVALID_SERVICE Zone 'public': 'nosuch' not among existing services"},
		{Runtime, publicZone, `rule rule service name="ssh`, "UNKNOWN_ERROR No closing quotation"},
		{Runtime, publicZone, "icmp-block nosuch", "INVALID_ICMPTYPE nosuch"},
		{Permanent, publicZone, "icmp-block nosuch", "INVALID_ICMPTYPE Zone 'public': 'nosuch' not among existing ICMP types"},
		{Runtime, publicZone, "rule rule source ipset=nosuch accept", "INVALID_IPSET nosuch"},
		{Runtime, publicZone, "source ipset:pairs2", "INVALID_IPSET pairs2"},
		{Runtime, publicZone, "interface a/b", "INVALID_INTERFACE a/b"},
		{Runtime, publicZone, "interface ", "INVALID_INTERFACE "},
		{Permanent, publicZone, "interface a/b", "INVALID_INTERFACE Zone 'public': invalid interface 'a/b'"},
		{Runtime, publicZone, "source 1.2.3", "INVALID_ADDR 1.2.3"},
		{Permanent, publicZone, "source 1.2.3", "INVALID_ADDR Zone 'public': invalid source '1.2.3'"},
		{Runtime, publicZone, "port 70000:tcp", "INVALID_PORT 70000"},
		{Runtime, publicZone, "port 80:icmp", "INVALID_PROTOCOL 'icmp' not in {'tcp'|'udp'|'sctp'|'dccp'}"},
		{Runtime, publicZone, "port 80:", "MISSING_PROTOCOL "},
		{Runtime, publicZone, "forward-port 80:tcp::", "INVALID_FORWARD port-forwarding is missing to-port AND to-addr"},
		{Runtime, publicZone, "forward-port 80:tcp::1.2.3", "INVALID_ADDR 1.2.3"},
		{Runtime, Object{KindZone, "nosuch"}, "service ssh", "INVALID_ZONE nosuch"},
		{Permanent, policy, "ingress-zone nosuch", "INVALID_ZONE Policy 'p': 'nosuch' not among existing zones"},
		{Permanent, addresses, "entry 1.2.3", "INVALID_ENTRY invalid address '1.2.3' in '1.2.3' for hash:ip (ipv4)"},
		{Permanent, addresses, "entry 1.2.3.4,5", "INVALID_ENTRY entry '1.2.3.4,5' does not match ipset type 'hash:ip'"},
		{Permanent, pairs, "entry 1.2.3.4,foo", "INVALID_ENTRY invalid port 'foo' in '1.2.3.4,foo'"},
		{Permanent, pairs, "entry 1.2.3.4,foo:80", "INVALID_ENTRY invalid protocol 'foo' in '1.2.3.4,foo:80'"},
	} {
		_, err := Apply(c, Add(w.scope, w.object, item(w.item)))
		if err == nil {
			t.Errorf("%s is added to %v", w.item, w.object)
			continue
		}
		code, detail := CodeOf(err)
		if got := string(code) + " " + detail; got != w.want {
			t.Errorf("adding %s to %v, scope %d:\ngot  %s\nwant %s", w.item, w.object, w.scope, got, w.want)
		}
	}
}

// The log and richwall's own commands say what is wrong and why.
func TestReasonOf(t *testing.T) {
	_, err := Apply(builtins(t), Add(Runtime, publicZone, item(`rule rule service name="ssh`)))
	if code, reason := ReasonOf(err); code != grammar.InvalidRule || reason != `cannot find the end of this quote: a further " is missing` {
		t.Errorf("%s: %s", code, reason)
	}
	if code, reason := ReasonOf(errors.New("else")); code != UnknownError || reason != "else" {
		t.Errorf("%s: %s", code, reason)
	}
}
