package nft

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

// Elements are sent in pieces, as the kernel's attributes end at 65535 bytes. Both ends of an interval are in one piece.
func TestElementsInPieces(t *testing.T) {
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		set := &ir.Set{Name: "s", Type: "hash:net", Family: family}
		for i := range 10001 {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if family == ir.V6 {
				a = netip.AddrFrom16([16]byte{0: 0x20, 14: byte(i >> 8), 15: byte(i)})
			}
			set.Elements = append(set.Elements, ir.Element{Text: a.String(), Parts: []ir.Part{{Kind: ir.AddrPart, Low: a, High: a}}})
		}
		messages, err := (&Encoder{Table: "t"}).AddElements(set, set.Elements)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) < 6 { // two keys for each element, and 4000 in a message
			t.Errorf("%s: got %d messages", family, len(messages))
		}
		for i, m := range messages {
			if m.Type != unix.NFT_MSG_NEWSETELEM || len(m.Body) > maxAttribute {
				t.Errorf("%s: message %d is of type %d and has %d bytes", family, i, m.Type, len(m.Body))
			}
		}
	}
}

// What nftables has no place for is an error, with the reason.
func TestNoMessage(t *testing.T) {
	for _, test := range []struct {
		match  ir.Match
		action ir.Action
		want   string
	}{
		{ir.Iface{Name: "a-name-of-sixteen"}, ir.Accept, "at most 15 characters"},
		{ir.Iface{Name: "+", Invert: true}, ir.Accept, "never matches"},
		{ir.EtherAddr{MAC: "nonsense"}, ir.Accept, "nonsense"},
		{ir.Port{Protocol: "tpc", Low: 1, High: 1}, ir.Accept, "tpc"},
		{ir.CTState{States: []string{"stale"}}, ir.Accept, "stale"},
		{ir.PktType{Type: "anycast"}, ir.Accept, "anycast"},
		{ir.SYN{}, ir.Reject{With: "politely"}, "politely"},
		{ir.SYN{}, ir.Raw{Args: []string{"-j", "DROP"}}, "iptables"},
		{ir.SYN{}, ir.ClampMSS{Raise: true}, "needs a size"},
	} {
		_, err := (&Encoder{Table: "t"}).AddRule("c", &ir.Rule{Matches: []ir.Match{test.match}, Actions: []ir.Action{test.action}}, 0)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%T, %T: got %v, want something about %q", test.match, test.action, err, test.want)
		}
	}
}
