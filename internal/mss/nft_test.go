package mss

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The device of a chain's hook is in the JSON of newer versions of nft, as a name or a list, and for older ones in the text of their chains.
func TestChainDevices(t *testing.T) {
	const rule = `{"rule": {"family": "netdev", "table": "n", "chain": "c", "expr": [{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1300}}]}}`
	text := chainDevices("table inet x {\n\tchain c {\n\t}\n}\ntable netdev n {\n\tchain other {\n\t\ttype filter hook ingress devices = { \"lan\", \"b\" } priority filter; policy accept;\n\t}\n" +
		"\tchain c {\n\t\ttype filter hook egress device \"wan\" priority filter; policy accept;\n\t}\n}\n")
	for _, tt := range []struct {
		dev     string
		devices map[string][]string
		want    []int // of a SYN from lan to wan
	}{
		{`"wan"`, nil, []int{1300}},
		{`["a", "wan"]`, nil, []int{1300}},
		{`"lan"`, nil, nil},
		{`null`, text, []int{1300}},
		{`null`, nil, []int{-1300}},
	} {
		data := fmt.Sprintf(`{"nftables": [{"chain": {"family": "netdev", "table": "n", "name": "c", "type": "filter", "hook": "egress", "prio": 0, "dev": %s}}, %s]}`, tt.dev, rule)
		r, err := ParseNFT([]byte(data), tt.devices)
		if err != nil {
			t.Fatal(err)
		}
		if got := clampsOf(r, synOut); !slices.Equal(got, tt.want) {
			t.Errorf("%s, %v: got %v, want %v", tt.dev, tt.devices, got, tt.want)
		}
		if unknown := tt.dev == "null" && tt.devices == nil; unknown != (r.notes != nil) {
			t.Errorf("%s, %v: notes are %q", tt.dev, tt.devices, r.notes)
		}
	}
	if got := text["netdev n other"]; !slices.Equal(got, []string{"lan", "b"}) {
		t.Errorf("got %v", got)
	}
}

// A clamp whose size cannot be read, or that is behind verdicts which cannot, is no reason to say that there is none.
func TestUnreadRules(t *testing.T) {
	for expr, want := range map[string]string{
		`{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"numgen": {"mode": "inc", "mod": 2}}}}`:                     "it sets a size that is not a number",
		`{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"map": {"key": {"meta": {"key": "mark"}}, "data": "@x"}}}}`: "it sets sizes from a map that nft does not list",
		`{"vmap": {"key": {"meta": {"key": "mark"}}, "data": "@x"}}`:                                                                                   "it has a map of verdicts that nft does not list",
	} {
		r, err := ParseNFT([]byte(nftText(expr)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.notes) != 1 || !strings.HasSuffix(r.notes[0], "The chain f of the table inet t cannot be read: "+want+".") {
			t.Errorf("%s: got %q", expr, r.notes)
		}
	}
}

// attribute is an attribute of a message, padded.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// What a link's description says of a tunnel beside what the library reads: the encapsulation limit of GRE over IPv6, unless it is told not to have
// one, and marks.
func TestTunnelOf(t *testing.T) {
	number := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	for _, tt := range []struct {
		kind   string
		values []byte
		want   Link
	}{
		{"ip6gre", slices.Concat(attribute(greLimit, []byte{4}), attribute(greFlags, number(0)), attribute(greMark, number(7))), Link{Type: "ip6gre", Outside6: true, Extra: 8, Mark: 7}},
		{"ip6gre", slices.Concat(attribute(greLimit, []byte{4}), attribute(greFlags, number(1))), Link{Type: "ip6gre", Outside6: true}},
		{"ipip", attribute(ipMark, number(9)), Link{Mark: 9}},
		{"vti", attribute(vtiMark, number(9)), Link{Mark: 9}},
	} {
		var got Link
		tunnelOf(slices.Concat(attribute(infoKind, []byte(tt.kind+"\x00")), attribute(infoValues, tt.values)))(&got)
		if got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.kind, got, tt.want)
		}
	}
	if tunnelOf(attribute(infoKind, []byte("veth\x00"))) != nil || tunnelOf([]byte{3, 0}) != nil {
		t.Error("a link that is no tunnel is changed")
	}
}
