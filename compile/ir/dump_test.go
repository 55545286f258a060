package ir

import (
	"net/netip"
	"testing"
)

// The quick dump of common matches is the same text as the general one.
func TestAppendValueIsDumpValue(t *testing.T) {
	for _, v := range []any{
		Addr{Side: Source, Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		Addr{Side: Dest, Prefix: netip.MustParsePrefix("2001:db8::1/128"), Invert: true},
		Port{Side: Dest, Protocol: "tcp", Low: 22, High: 22},
		Port{Side: Source, Protocol: "udp", Low: 0, High: 7},
		NFProto{Family: V6},
		Accept,
		Jump{Chain: "filter_IN_public"},
		Limit{Rate: 3, Unit: 'm'},
		Reject{},
	} {
		if got, want := string(appendValue(nil, v)), dumpValue(v); got != want {
			t.Errorf("appendValue gives %s, dumpValue %s", got, want)
		}
	}
}
