package mss

import (
	"net/netip"
	"slices"
	"testing"
)

// Of a segment that left with a smaller MSS, the rules that lowered it are named, and those that did not are not.
func TestLowered(t *testing.T) {
	rules, err := ParseNFT([]byte(`{"nftables": [
		{"table": {"family": "inet", "name": "t"}},
		{"chain": {"family": "inet", "table": "t", "name": "a", "hook": "forward", "prio": -150, "policy": "accept", "type": "filter"}},
		{"rule": {"family": "inet", "table": "t", "chain": "a", "expr": [
			{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "wan"}},
			{"match": {"op": "in", "left": {"payload": {"protocol": "tcp", "field": "flags"}}, "right": "syn"}},
			{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"rt": {"key": "mtu"}}}}]}},
		{"chain": {"family": "inet", "table": "t", "name": "b", "hook": "forward", "prio": 0, "policy": "accept", "type": "filter"}},
		{"rule": {"family": "inet", "table": "t", "chain": "b", "expr": [
			{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "192.0.2.1"}},
			{"match": {"op": "in", "left": {"payload": {"protocol": "tcp", "field": "flags"}}, "right": "syn"}},
			{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1300}}]}}
	]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	clamps := NewClamps([]*Rules{rules})
	from, one, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	path, fixed := "nft: table inet t, chain a", "nft: table inet t, chain b"
	for name, c := range map[string]struct {
		p    Passage
		want []string
	}{
		"by the path's MTU":          {Passage{In: "lan", Out: "wan", Source: from, Target: other, Came: 1460, Left: 1452}, []string{path}},
		"by a number":                {Passage{In: "lan", Out: "lan2", Source: from, Target: one, Came: 1460, Left: 1300}, []string{fixed}},
		"by either":                  {Passage{In: "lan", Out: "wan", Source: from, Target: one, Came: 1460, Left: 1300}, []string{path, fixed}},
		"by none that is there":      {Passage{In: "wan", Out: "lan", Source: from, Target: other, Came: 1460, Left: 1452}, nil},
		"not by a number of its own": {Passage{In: "lan", Out: "lan2", Source: from, Target: one, Came: 1460, Left: 1200}, nil},
	} {
		if got := clamps.Lowered(c.p); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
