package lab

import (
	"strings"
	"testing"
)

func trace(r Result) string {
	var b strings.Builder
	for _, f := range r.Trace {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// What passes the firewall is seen before and after the rules, with the addresses that they make of it.
func TestCapture(t *testing.T) {
	l := newLab(t, Options{Capture: true}, `
		table inet t {
			chain forward { type filter hook forward priority mangle; tcp flags syn tcp option maxseg size set 1360; udp dport 9 reject; udp dport 10 drop; }
			chain pre { type nat hook prerouting priority dstnat; ip daddr 10.1.0.1 tcp dport 8080 dnat ip to 10.2.0.2:80; }
		}
	`)
	results := l.mustProbe(t,
		Probe{From: Client, To: FirewallHost, Port: 8080, MSS: 1460, ReplyMSS: 1400},
		Probe{From: Server, To: Client, Family: IPv6, Protocol: UDP, Port: 9},
		Probe{From: Client, To: Server, Protocol: UDP, Port: 10, Payload: 100},
		Probe{From: Client, To: FirewallHost, Protocol: ICMP},
		Probe{From: Client, To: Server, Port: 80, Payload: 5},
		Probe{From: Client, To: FirewallHost, Port: 80, Flags: ACK},
	)
	for i, want := range []string{`
c0 In  IP 10.1.0.2.52832 > 10.1.0.1.8080: Flags [S], options [mss 1460], length 0
s0 Out IP 10.1.0.2.52832 > 10.2.0.2.80: Flags [S], options [mss 1360], length 0
s0 In  IP 10.2.0.2.80 > 10.1.0.2.52832: Flags [S.], options [mss 1400], length 0
c0 Out IP 10.1.0.1.8080 > 10.1.0.2.52832: Flags [S.], options [mss 1360], length 0
`, `
s0 In  IP6 fd00:2::2.52833 > fd00:1::2.9: UDP, length 4
s0 Out IP6 fd00:2::1 > fd00:2::2: ICMPv6 1/4, port unreachable, length 52
`, `
c0 In  IP 10.1.0.2.52834 > 10.2.0.2.10: UDP, length 100
`, `
c0 In  IP 10.1.0.2 > 10.1.0.1: ICMP echo request, length 4
c0 Out IP 10.1.0.1 > 10.1.0.2: ICMP echo reply, length 4
`, `
c0 In  IP 10.1.0.2.52836 > 10.2.0.2.80: Flags [S], length 5
s0 Out IP 10.1.0.2.52836 > 10.2.0.2.80: Flags [S], length 5
s0 In  IP 10.2.0.2.80 > 10.1.0.2.52836: Flags [S.], length 0
c0 Out IP 10.2.0.2.80 > 10.1.0.2.52836: Flags [S.], length 0
`, `
c0 In  IP 10.1.0.2.52837 > 10.1.0.1.80: Flags [.], length 0
c0 Out IP 10.1.0.1.80 > 10.1.0.2.52837: Flags [R], length 0
`} {
		if got := "\n" + trace(results[i]); got != want {
			t.Errorf("probe %d: got%swant%s", i, got, want)
		}
	}
}

func TestWithoutCaptureThereIsNoTrace(t *testing.T) {
	l := newLab(t, Options{}, "")
	if got := trace(l.mustProbe(t, Probe{From: Client, To: Server, Port: 80})[0]); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestFlagLetters(t *testing.T) {
	for flags, want := range map[Flags]string{SYN: "S", SYN | ACK: "S.", FIN | PSH | ACK: "FP.", RST: "R", 0: ""} {
		if got := flags.letters(); got != want {
			t.Errorf("%#x: got %q, want %q", flags, got, want)
		}
	}
}

// A second server is one more host to send from and to.
func TestDMZ(t *testing.T) {
	l := newLab(t, Options{DMZ: true}, "")
	for _, way := range [][2]Host{{Client, DMZ}, {DMZ, Server}, {DMZ, FirewallHost}, {FirewallHost, DMZ}} {
		for _, f := range []Family{IPv4, IPv6} {
			r := l.mustProbe(t, Probe{From: way[0], To: way[1], Family: f, Port: 80, MSS: 1400, ReplyMSS: 1400})[0]
			if r.At != way[1] || r.Reply.Kind != GotSYNACK {
				t.Errorf("%s, %s: %+v", way, f, r)
			}
		}
	}
}
