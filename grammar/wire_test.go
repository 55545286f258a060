package grammar

import (
	"errors"
	"testing"
)

// Scripts and clients of firewalld compare what it says of a bad rule, to the letter.
func TestWire(t *testing.T) {
	for _, c := range []struct{ rule, code, detail string }{
		{`rule`, "INVALID_RULE", "no element, no action"},
		{`rule accept`, "INVALID_RULE", "no element, no source, no destination"},
		{`rule frobnicate`, "INVALID_RULE", "unknown element frobnicate"},
		{`rule service`, "INVALID_RULE", "invalid 'service' element"},
		{`rule service foo=b accept`, "INVALID_RULE", "bad attribute 'foo'"},
		{`rule service name=ssh`, "INVALID_RULE", "no action, no log, no audit"},
		{`rule service name=ssh accept drop`, "INVALID_RULE",
			"more than one 'action' element. There cannot be both 'drop' and 'accept' in one rule."},
		{`rule service name=ssh port port=80 protocol=tcp accept`, "INVALID_RULE",
			`more than one element. There cannot be both 'port' and 'service name="ssh"' in one rule.`},
		{`rule service name=ssh log nflog accept`, "INVALID_RULE", "more than one logging element"},
		{`rule service name=ssh audit audit accept`, "INVALID_RULE", "more than one 'audit' element"},
		{`rule family=ipv5 accept`, "INVALID_RULE", "'family' attribute cannot have 'ipv5' value. Use 'ipv4' or 'ipv6' instead."},
		{`rule source address=192.0.2.1 accept`, "MISSING_FAMILY", ""},
		{`rule source accept`, "INVALID_RULE", "no address, mac and ipset"},
		{`rule source mac=00:11:22:33:44:55 ipset=x accept`, "INVALID_RULE", "mac and ipset"},
		{`rule source mac=zz accept`, "INVALID_MAC", "zz"},
		{`rule family=ipv4 destination accept`, "INVALID_DESTINATION", "no address or ipset"},
		{`rule family=ipv4 source address=2001:db8::1 accept`, "INVALID_ADDR", "2001:db8::1"},
		{`rule family=ipv4 source address=192.0.2.1/33 accept`, "INVALID_ADDR", "192.0.2.1/33"},
		{`rule port port=70000 protocol=tcp accept`, "INVALID_PORT", "70000"},
		{`rule port port=80 protocol=icmp accept`, "INVALID_PROTOCOL", "icmp"},
		{`rule port port=80 accept`, "INVALID_PROTOCOL", ""},
		{`rule protocol value=nosuch accept`, "INVALID_PROTOCOL", "nosuch"},
		{`rule family=ipv4 forward-port port=80 protocol=tcp`, "INVALID_PORT", ""},
		{`rule priority=40000 service name=ssh accept`, "INVALID_PRIORITY", "'priority' attribute must be between -32768 and 32767."},
		{`rule priority=x accept`, "INVALID_PRIORITY", "invalid 'priority' attribute value 'x'."},
		{`rule service name=ssh log level=loud accept`, "INVALID_LOG_LEVEL", "loud"},
		{`rule service name=ssh accept limit`, "INVALID_RULE", "invalid 'limit' element"},
		{`rule service name=ssh accept limit value=10/w`, "INVALID_LIMIT", "10/w"},
		{`rule service name=ssh accept limit value=10001/s`, "INVALID_LIMIT", "10001/s too fast"},
		{`rule service name=ssh accept limit value=1/s burst=x`, "INVALID_LIMIT", "x"},
		{`rule service name=ssh mark`, "INVALID_MARK", "no value set"},
		{`rule service name=ssh mark set=x`, "INVALID_MARK", "x"},
		{`rule masquerade accept`, "INVALID_RULE", "masquerade and action"},
		{`rule tcp-mss-clamp value=535`, "INVALID_RULE", `tcp-mss-clamp value="535"`},
		{`rule tcp-mss-clamp accept limit value=1/s`, "INVALID_RULE", `tcp-mss-clamp and accept limit value="1/s" are mutually exclusive`},
		{`rule service name="ssh`, "UNKNOWN_ERROR", "No closing quotation"},
		{`rule service name=ssh accept \`, "UNKNOWN_ERROR", "No escaped character"},
	} {
		_, err := Parse(c.rule)
		var list ErrorList
		if !errors.As(err, &list) {
			t.Errorf("%s\nparses, or fails with no list: %v", c.rule, err)
			continue
		}
		if code, detail := list[0].Wire(); string(code) != c.code || detail != c.detail {
			t.Errorf("%s\nis %s %q, not %s %q", c.rule, code, detail, c.code, c.detail)
		}
	}
}

// Of what richwall alone refuses, firewalld's clients are told why in richwall's words.
func TestWireWithoutWording(t *testing.T) {
	_, err := ParseMSS("70000")
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal("70000 is taken")
	}
	if code, detail := e.Wire(); code != e.Code || detail != e.Msg {
		t.Errorf("%s %q is not %s %q", code, detail, e.Code, e.Msg)
	}
}
