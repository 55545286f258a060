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
			set.Elements = append(set.Elements, ir.NewElement(a.String(), ir.Part{Kind: ir.AddrPart, Low: a, High: a}))
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
		{ir.Iface{Name: "a-name-of-sixteen"}, ir.Accept, "1 to 15"},
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

// Elements of a verdict map say what becomes of the packet; those of a set without ranges have one key each.
func TestFoldedElements(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	element := ir.NewVerdict(ir.Jump{Chain: "somewhere"}, "192.0.2.1,tcp:22", ir.Part{Kind: ir.AddrPart, Low: addr, High: addr}, ir.Part{Kind: ir.PortPart, Name: "tcp", First: 22, Last: 22})
	set := &ir.Set{Name: "c/saddr4.dport.map", Type: "hash:ip,port", Family: ir.V4, Sides: []ir.Side{ir.Source, ir.Dest}, Exact: true, Verdicts: true}
	body := func(messages []Message, err error) string {
		t.Helper()
		if err != nil || len(messages) != 1 {
			t.Fatalf("got %d messages, %v", len(messages), err)
		}
		return string(messages[0].Body)
	}
	e := &Encoder{Table: "t"}
	key := string([]byte{192, 0, 2, 1, 6, 0, 0, 0, 0, 22, 0, 0})
	added := body(e.AddElements(set, []ir.Element{element}))
	if strings.Count(added, key) != 1 || !strings.Contains(added, "somewhere") {
		t.Errorf("an element is added as %q", added)
	}
	if removed := body(e.DeleteElements(set, []ir.Element{element})); strings.Count(removed, key) != 1 || strings.Contains(removed, "somewhere") {
		t.Errorf("an element is removed as %q", removed)
	}
	set.Exact = false
	if added := body(e.AddElements(set, []ir.Element{element})); strings.Count(added, key) != 2 {
		t.Errorf("an element among ranges is added as %q", added)
	}
}

// BenchmarkElements makes the messages that put 100,000 elements into a set.
func BenchmarkElements(b *testing.B) {
	list := make([]ir.Element, 100_000)
	for i := range list {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		list[i] = ir.NewElement("", ir.Part{Kind: ir.AddrPart, Low: a, High: a}, ir.Part{Kind: ir.PortPart, Name: "tcp", First: i % 65536, Last: i % 65536})
	}
	set := &ir.Set{Name: "s", Type: "hash:ip,port", Family: ir.V4, Sides: []ir.Side{ir.Source, ir.Dest}, Exact: true}
	for b.Loop() {
		if _, err := (&Encoder{Table: "t"}).AddElements(set, list); err != nil {
			b.Fatal(err)
		}
	}
}
