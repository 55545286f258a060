package grammar

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePort(t *testing.T) {
	for text, want := range map[string][2]int{
		"22": {22, 22}, "0": {0, 0}, "65535": {65535, 65535}, "https": {443, 443},
		"20-22": {20, 22}, "22-20": {20, 22}, "22-22": {22, 22}, // either way round
		"http-alt": {8080, 8080}, "ssh-http-alt": {22, 8080}, "http-alt-ssh": {22, 8080}, // names hold dashes
		" 22 ": {22, 22}, "1 - 2": {1, 2}, "+22": {22, 22}, "022": {22, 22}, "1_0": {10, 10}, // as firewalld reads numbers
	} {
		if low, high, err := ParsePort(text); low != want[0] || high != want[1] || err != nil {
			t.Errorf("%q: %d to %d, %v; want %v", text, low, high, err, want)
		}
	}
	for text, why := range map[string]string{
		"": "it is no number", "65536": "the highest port is 65535", "-1": "the lowest port is 0", "1-2-3": "it is no number",
		"22-": "it needs both ends", "1-65536": "the highest port is 65535", "70000-1": "the highest port is 65535",
		"htpp": "did you mean http?", "_1": "it is no number", "1__0": "it is no number", "80:90": "it is no number",
	} {
		_, _, err := ParsePort(text)
		wantError(t, text, err, InvalidPort, why)
	}
}

// wantError checks the code of an error and a part of its message.
func wantError(t *testing.T, text string, err error, code Code, why string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Msg, why) || e.Pos != (Pos{}) {
		t.Errorf("%q: got %v, want %s: … %s", text, err, code, why)
	}
}

func TestParseProtocol(t *testing.T) {
	for text, want := range map[string]int{"tcp": 6, "TCP": 6, "gre": 47, "IPv6-ICMP": 58, "0": 0, "255": 255, "07": 7} {
		if got, err := ParseProtocol(text); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"256": "are 0 to 255", "-1": "are 0 to 255", "Tcp": "did you mean tcp?", "icmp6": "did you mean ipv6-icmp?", "": "it is no number",
	} {
		_, err := ParseProtocol(text)
		wantError(t, text, err, InvalidProtocol, why)
	}
	if ProtocolName(6) != "tcp" || ProtocolName(58) != "ipv6-icmp" || ProtocolName(253) != "" {
		t.Errorf("names: %q, %q, %q", ProtocolName(6), ProtocolName(58), ProtocolName(253))
	}
}

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		family     Family
		text, want string
	}{
		{IPv4, "192.0.2.1", "192.0.2.1/32"}, {IPv4, "192.0.2.1/24", "192.0.2.1/24"}, {AnyFamily, "0.0.0.0/0", "0.0.0.0/0"},
		{IPv4, "192.0.2.1/255.255.255.0", "192.0.2.1/24"}, {IPv4, "192.0.2.1/0.0.0.0", "192.0.2.1/0"}, {IPv4, "192.0.2.1/08", "192.0.2.1/8"},
		{IPv6, "2001:DB8::1", "2001:db8::1/128"}, {AnyFamily, "[2001:db8::]/32", "2001:db8::/32"}, {IPv6, "::ffff:192.0.2.1/96", "::ffff:192.0.2.1/96"},
	} {
		if got, err := ParseAddress(c.family, c.text); got.String() != c.want || err != nil {
			t.Errorf("%s %q: %v, %v; want %s", c.family, c.text, got, err, c.want)
		}
	}
	for _, c := range []struct {
		family    Family
		text, why string
	}{
		{IPv4, "", "it is no IPv4 address"}, {AnyFamily, "192.0.2", "it is no IP address"}, {IPv4, "192.0.2.01", "it is no IPv4 address"},
		{IPv6, "192.0.2.1", "it is IPv4, and the family is ipv6"}, {IPv4, "[192.0.2.1]", "it is no IPv4 address"},
		{IPv4, "192.0.2.1/33", "0 to 32"}, {IPv4, "192.0.2.1/", "0 to 32"}, {IPv4, "192.0.2.1/255.0.255.0", "all its ones before its zeros"},
		{IPv6, "::/129", "0 to 128"}, {IPv6, "::/255.0.0.0", "0 to 128"}, {IPv6, "fe80::1%eth0", "it is no IPv6 address"},
		{IPv6, "[::1/64]", "it is no IPv6 address"}, {IPv4, "192.0.2.1/24/24", "0 to 32"},
	} {
		_, err := ParseAddress(c.family, c.text)
		wantError(t, c.text, err, InvalidAddr, c.why)
	}
}

func TestParseMAC(t *testing.T) {
	if mac, err := ParseMAC("00:11:22:aA:Bb:55"); mac.String() != "00:11:22:aa:bb:55" || err != nil {
		t.Errorf("%v, %v", mac, err)
	}
	for _, text := range []string{"", "00-11-22-33-44-55", "0011.2233.4455", "00:11:22:33:44:5", "00:11:22:33:44:5g", "00:11:22:33:44:55:66:77"} {
		_, err := ParseMAC(text)
		wantError(t, text, err, InvalidMAC, "six pairs")
	}
}

func TestParseMark(t *testing.T) {
	for text, want := range map[string]parsedMark{
		"7": {7, 0, false}, "0x10/0xff": {16, 255, true}, "0b11": {3, 0, false}, "0o17": {15, 0, false}, "0": {0, 0, false}, "00": {0, 0, false},
		"4294967295/4294967295": {4294967295, 4294967295, true}, "+1": {1, 0, false}, "0X1f": {31, 0, false},
	} {
		value, mask, hasMask, err := ParseMark(text)
		if got := (parsedMark{value, mask, hasMask}); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "4294967296", "010", "1/", "/1", "1/2/3", "x", " 1", "0x"} {
		_, _, _, err := ParseMark(text)
		wantError(t, text, err, InvalidMark, "VALUE/MASK")
	}
}

// parsedMark is what ParseMark returns.
type parsedMark struct {
	value, mask uint32
	hasMask     bool
}

func TestParseMSS(t *testing.T) {
	for text, want := range map[string]int{"": 0, "pmtu": 0, "536": 536, "0536": 536, "65515": 65515} {
		if got, err := ParseMSS(text); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"0": "the lowest value is 536", "65516": "the highest value is 65515", "None": "write value=pmtu", "0x400": "is pmtu or a number",
		"+600": "is pmtu or a number", "６００": "is pmtu or a number", "ptmu": "did you mean pmtu?",
	} {
		_, err := ParseMSS(text)
		wantError(t, text, err, InvalidRule, why)
	}
}

func TestParseMSSRange(t *testing.T) {
	for text, want := range map[string]MSSRange{"1361-1536": {1361, 1536}, "0-0": {0, 0}, "1460": {1460, 1460}, "0-65535": {0, 65535}} {
		if got, err := ParseMSSRange(text); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"": "LOW-HIGH", "5-": "LOW-HIGH", "-5": "LOW-HIGH", "1-2-3": "LOW-HIGH", "2-1": "lower end", "65536": "0 to 65535",
	} {
		_, err := ParseMSSRange(text)
		wantError(t, text, err, InvalidRule, why)
	}
}

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]string{"3/m": "3/m", " 3 / minute ": "3/m", "10000/second": "10000/s", "2/day": "2/d", "36000000/hour": "36000000/h"} {
		if got, err := ParseLimit(text, 7); err != nil || got.Value() != want || got.Burst != 7 {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"": "RATE/UNIT", "3": "RATE/UNIT", "3/M": "RATE/UNIT", "3/m/s": "RATE/UNIT", "0x3/m": "RATE/UNIT", "0/m": "at least 1", "-1/m": "at least 1",
		"1/d": "the lowest rate is 2/d", "10001/s": "the highest rate is 10000/s", "600001/m": "the highest rate is 600000/m",
	} {
		_, err := ParseLimit(text, 0)
		wantError(t, text, err, InvalidLimit, why)
	}
	_, err := ParseLimit("1/s", -1)
	wantError(t, "burst -1", err, InvalidLimit, "0 to 10000000")
}

func TestListsOfWords(t *testing.T) {
	if len(RejectTypes(IPv4)) != 16 || len(RejectTypes(IPv6)) != 9 || RejectTypes(AnyFamily) != nil {
		t.Error("reject has 16 types for IPv4, 9 for IPv6 and none for both")
	}
}
