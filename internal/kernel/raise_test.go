package kernel_test

import (
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// raised is a lab whose firewall raises the MSS of all it forwards and receives to 1440.
func raised(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	kernel.Needs(t, "nft")
	l, err := lab.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	rs := &ir.Ruleset{Backend: ir.NFTables}
	for _, hook := range []string{"forward", "input"} {
		rs.Chains = append(rs.Chains, &ir.Chain{
			Name: "mangle_" + strings.ToUpper(hook), Hook: &ir.Hook{Type: "filter", Hook: hook, Priority: -150}, Families: ir.Both,
			Rules: []*ir.Rule{{Families: ir.Both, Matches: []ir.Match{ir.SYN{}}, Actions: []ir.Action{ir.ClampMSS{Size: 1440, Raise: true}}}},
		})
	}
	commit(t, open(t, l.Firewall(), ir.NFTables), &kernel.Desired{Rules: rs})
	return l
}

// A SYN/ACK that offers what a link of 1280 carries comes back with 1440, over either family. What goes to the firewall
// is raised on arrival, before its kernel looks at the checksum: it would not answer a segment with a wrong one.
func TestRaisedPackets(t *testing.T) {
	l := raised(t, lab.Options{})
	for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
		results, err := l.Probe(t.Context(), []lab.Probe{
			{From: lab.Client, To: lab.Server, Family: f, Port: 80, MSS: 1460, ReplyMSS: 1240},
			{From: lab.Client, To: lab.Server, Family: f, Port: 80, MSS: 1220},
			{From: lab.Client, To: lab.FirewallHost, Family: f, Port: 80, MSS: 1240},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r := results[0]; r.MSS != 1440 || r.Offered != 1240 || r.Reply.Kind != lab.GotSYNACK || r.Reply.MSS != 1440 {
			t.Errorf("%s: %+v, want that 1240 come back as 1440", f, r)
		}
		if r := results[1]; r.MSS != 1440 || r.Reply.MSS != 0 {
			t.Errorf("%s: %+v, want 1440, and no option where none was", f, r)
		}
		if r := results[2]; r.MSS != 1440 || r.Reply.Kind != lab.GotSYNACK {
			t.Errorf("%s: %+v, want that the firewall's kernel answer", f, r)
		}
	}
}

// The rule above is more than nft can say: loaded from the text that nft lists, it leaves the checksum as it was, and the
// firewall's kernel answers nothing.
func TestRaisedByTextIsWrong(t *testing.T) {
	l := raised(t, lab.Options{})
	text := run(t, l.Firewall(), "", "nft", "list", "ruleset")
	run(t, l.Firewall(), "flush ruleset\n"+text, "nft", "-f", "-")
	for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
		results, err := l.Probe(t.Context(), []lab.Probe{{From: lab.Client, To: lab.FirewallHost, Family: f, Port: 80, MSS: 1240}})
		if err != nil {
			t.Fatal(err)
		}
		if r := results[0]; r.MSS != 1440 || r.Reply.Kind != lab.NoReply {
			t.Errorf("%s: %+v, want 1440 and no answer", f, r)
		}
	}
}

// The kernels' own TCP takes the segments for whole: connections over a link of 1280, whose SYN/ACKs offer less, are made
// and carry data both ways.
func TestRaisedConnections(t *testing.T) {
	l := raised(t, lab.Options{MTU: 1280})
	var transfers []lab.Transfer
	for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
		transfers = append(transfers, lab.Transfer{Family: f, Upload: true, Port: 80, Size: 100_000}, lab.Transfer{Family: f, Port: 80, Size: 100_000})
	}
	results, err := l.Transfer(t.Context(), transfers)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != lab.Finished || r.Arrived != 100_000 {
			t.Errorf("%+v: %+v", transfers[i], r)
		}
	}
}
