package lab

import (
	"encoding/json"
	"strings"
	"testing"
)

// A report of a SYN that is clamped, one that is refused once the rules are there, and a datagram.
func example() Report {
	probes := []Probe{
		{From: Client, To: Server, Port: 80, MSS: 1460, ReplyMSS: 1400},
		{From: Client, To: FirewallHost, Family: IPv6, Port: 22, MSS: 1440},
		{From: Server, To: Client, Protocol: UDP, Port: 53},
	}
	before := []Result{
		{At: Server, MSS: 1460, Offered: 1400, Reply: Reply{Kind: GotSYNACK, MSS: 1400}},
		{At: FirewallHost, MSS: 1440, Offered: 8940, Reply: Reply{Kind: GotSYNACK, MSS: 8940}},
		{At: Client, Reply: Reply{Kind: GotData}},
	}
	after := []Result{
		{At: Server, MSS: 1360, Offered: 1400, Reply: Reply{Kind: GotSYNACK, MSS: 1360}},
		{Reply: Reply{Kind: GotICMP, Type: 1, Code: 1, From: server6}},
		{},
	}
	r := Compare(probes, before, after)
	r.Rows[0].Rules = []string{"tcp-mss-clamp value=1360"}
	r.Rows[1].Rules = []string{"tcp-mss-clamp value=1360"}
	r.Rows = append(r.Rows, r.Rows[0]) // a line that is there already
	return r
}

func TestReportText(t *testing.T) {
	want := `
   FAMILY  PACKET   DIRECTION          MSS   BEFORE   AFTER
*  ipv4    SYN      client → server    1460  1460     1360 [1]
*  ipv4    SYN/ACK  server → client    1400  1400     1360 [1]
*  ipv6    SYN      client → firewall  1440  1440     rejected: ICMPv6 1/1, administratively prohibited
*  ipv6    SYN/ACK  firewall → client  8940  8940     not sent
*  ipv4    UDP      server → client    –     arrived  not forwarded

[1] tcp-mss-clamp value=1360
`
	var got strings.Builder
	if err := example().Text(&got); err != nil {
		t.Fatal(err)
	}
	if "\n"+got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestReportJSON(t *testing.T) {
	got, err := json.Marshal(example().Rows[2])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"family":"ipv6","packet":"SYN","from":"client","to":"firewall","port":22,"offered":1440,` +
		`"before":{"arrived":true,"mss":1440},"after":{"arrived":false,"reason":"rejected: ICMPv6 1/1, administratively prohibited"},` +
		`"changed":true,"probe":1}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A port that rules forward elsewhere, a SYN/ACK that they drop, and a SYN whose MSS they remove.
func TestOutcomes(t *testing.T) {
	probe := Probe{From: Client, To: FirewallHost, Port: 80, MSS: 1460}
	for _, c := range []struct {
		result    Result
		way, back string
	}{
		{Result{At: Server, MSS: 1460, Reply: Reply{Kind: GotSYNACK, MSS: 1400}}, "1460 at the server", "1400"},
		{Result{At: Server, MSS: 1460}, "1460 at the server", "not forwarded"},
		{Result{At: FirewallHost, Reply: Reply{Kind: GotSYNACK}}, "no MSS", "no MSS"},
		{Result{At: FirewallHost, MSS: 1460}, "1460", "not let out"},
		{Result{}, "not let in", "not sent"},
		{Result{Reply: Reply{Kind: GotRST}}, "rejected: RST", "not sent"},
	} {
		if got := probe.way(c.result).String(); got != c.way {
			t.Errorf("%+v: the SYN is %q, want %q", c.result, got, c.way)
		}
		if got := probe.wayBack(c.result).String(); got != c.back {
			t.Errorf("%+v: the SYN/ACK is %q, want %q", c.result, got, c.back)
		}
	}
}

func TestTransferReportText(t *testing.T) {
	transfers := []Transfer{{Port: 80, Size: 1000}, {Family: IPv6, Upload: true, Port: 80, Size: 1000}}
	before := []TransferResult{{Outcome: Stalled, Packet: 1500}, {Outcome: NotConnected}}
	after := []TransferResult{{Outcome: Finished, Arrived: 1000, Packet: 1280}, {Outcome: NotConnected}}
	want := `
   FAMILY  TRANSFER  BEFORE                              AFTER
*  ipv4    download  stalls, with packets of 1500 bytes  finishes, with packets of 1280 bytes
   ipv6    upload    no connection                       no connection
`
	var got strings.Builder
	if err := CompareTransfers(transfers, before, after).Text(&got); err != nil {
		t.Fatal(err)
	}
	if "\n"+got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}
