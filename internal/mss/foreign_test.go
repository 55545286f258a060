package mss

import (
	"fmt"
	"strings"
	"testing"
)

// Each case is rules that people have, on a router whose uplink w1 carries 1400 bytes and whose LAN 1500, and what is said of w1. What comes out
// of the router must agree: "yes" where every announcement fits.
func TestForeignRulesByPackets(t *testing.T) {
	const syn = " tcp flags syn "
	chain := func(hook, rules string) string {
		return "nft -f - <<'END'\ntable inet t {\n chain c {\n type filter hook " + hook + "\n" + rules + "\n }\n}\nEND\n"
	}
	device := func(hook, dev string, size int) string {
		return fmt.Sprintf(" chain %s_%s {\n type filter hook %s device %s priority 0\n tcp flags syn tcp option maxseg size set %d\n }\n", hook, dev, hook, dev, size)
	}
	for _, tt := range []struct {
		name, script string
		says         State
	}{
		{"a size that is asked for first", chain("forward priority mangle", syn+"tcp option maxseg size > 1340 tcp option maxseg size set 1340"), Clamped},
		{"a size that is asked for first, and too large", chain("forward priority mangle", syn+"tcp option maxseg size > 1400 tcp option maxseg size set 1340"), InPart},
		{"a range that leaves out what fits not", chain("forward priority mangle", syn+"tcp option maxseg size 1300-1420 tcp option maxseg size set 1300"), InPart},
		{"two clamps, each for a range", chain("forward priority mangle", syn+"tcp option maxseg size 1430-65535 tcp option maxseg size set 1400\n"+syn+"tcp option maxseg size 1330-1430 tcp option maxseg size set 1300"), Clamped},
		{"a size that is not one", chain("forward priority mangle", syn+"tcp option maxseg size != 1460 tcp option maxseg size set 1300"), InPart},
		{"a map of verdicts that has a name", `nft -f - <<'END'
table inet t {
 map v { type ifname : verdict; elements = { "w1" : jump clamp, "lan" : jump clamp }
 }
 chain clamp {
  tcp flags syn tcp option maxseg size set 1340
 }
 chain c {
  type filter hook forward priority mangle
  iifname vmap @v
 }
}
END
`, Clamped},
		{"a map of verdicts for one interface", `nft -f - <<'END'
table inet t {
 map v { type ifname : verdict; elements = { "w1" : jump clamp }
 }
 chain clamp {
  tcp flags syn tcp option maxseg size set 1340
 }
 chain c {
  type filter hook forward priority mangle
  oifname vmap @v
 }
}
END
`, InPart},
		{"a map of two interfaces", `nft -f - <<'END'
table inet t {
 map v { type ifname . ifname : verdict; elements = { "w1" . "lan" : jump clamp, "lan" . "w1" : jump clamp }
 }
 chain clamp {
  tcp flags syn tcp option maxseg size set 1340
 }
 chain c {
  type filter hook forward priority mangle
  iifname . oifname vmap @v
 }
}
END
`, Clamped},
		{"sizes from a map", chain("forward priority mangle", syn+`tcp option maxseg size set oifname map { "w1" : 1340, "lan" : 1300 }`), Clamped},
		{"sizes from a map, one too large", chain("forward priority mangle", syn+`tcp option maxseg size set oifname map { "w1" : 1340, "lan" : 1450 }`), InPart},
		{"a set of interfaces", "nft -f - <<'END'\ntable inet t {\n set w { type ifname; elements = { w1, ppp0 }\n }\n chain c {\n type filter hook forward priority mangle\n" +
			" oifname @w tcp flags syn tcp option maxseg size set 1340\n iifname @w tcp flags syn tcp option maxseg size set 1340\n }\n}\nEND\n", Clamped},
		{"the hooks of devices", "nft -f - <<'END'\ntable netdev n {\n" + device("egress", "w1", 1340) + device("ingress", "w1", 1340) + "}\nEND\n", Clamped},
		{"the hook of a device for one direction", "nft -f - <<'END'\ntable netdev n {\n" + device("egress", "w1", 1340) + "}\nEND\n", InPart},
		{"the hook of another device", "nft -f - <<'END'\ntable netdev n {\n" + device("egress", "lo", 1340) + "}\nEND\n", Unclamped},
		{"a table of bridges", "nft -f - <<'END'\ntable bridge n {\n chain c {\n type filter hook forward priority 0\n tcp flags syn tcp option maxseg size set 1340\n }\n}\nEND\n", Unclamped},
		{"older iptables", "iptables-legacy -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n" +
			"ip6tables-legacy -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n", Clamped},
		{"a chain before routing that asks where it goes", chain("prerouting priority mangle", `oifname "w1"`+syn+"tcp option maxseg size set 1340"), Unclamped},
		{"a chain after routing that asks where it came from", chain("postrouting priority mangle", `iifname { w1, lan }`+syn+"tcp option maxseg size set 1340"), Clamped},
		{"connections that are not tracked", chain("prerouting priority raw", "notrack") + strings.Replace(chain("forward priority mangle", "ct direction original"+syn+"tcp option maxseg size set rt mtu\n"+
			"ct direction reply"+syn+"tcp option maxseg size set rt mtu"), "table inet t", "table inet u", 1), Unclamped},
		{"connections that are not tracked, by iptables", "iptables -t raw -A PREROUTING -j CT --notrack\nip6tables -t raw -A PREROUTING -j CT --notrack\n" +
			chain("forward priority mangle", "ct state new,established"+syn+"tcp option maxseg size set rt mtu"), Unclamped},
		{"a chain for addresses", strings.Replace(chain("postrouting priority -150", syn+"tcp option maxseg size set 1340"), "type filter", "type nat", 1), InPart},
		{"a set that is filled, up to a limit", "nft -f - <<'END'\ntable inet t {\n set s { type inet_service; flags dynamic; size 2; timeout 1h;\n }\n chain c {\n type filter hook forward priority mangle\n" +
			" add @s { tcp sport } tcp flags syn tcp option maxseg size set 1340\n }\n}\nEND\n", InPart},
		{"a rule that accepts what is established", chain("forward priority mangle", "ct state established accept\n"+syn+"tcp option maxseg size set rt mtu"), InPart},
		{"a range, as guides have it", "iptables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss --mss 1361:1536 -j TCPMSS --set-mss 1360\n" +
			"ip6tables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss --mss 1341:1536 -j TCPMSS --set-mss 1340\n", Clamped},
		{"all but a size", "iptables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss ! --mss 0:1360 -j TCPMSS --set-mss 1360\n" +
			"ip6tables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss ! --mss 0:1340 -j TCPMSS --set-mss 1340\n", Clamped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "plug lan 1 1500\nip route add 10.1.0.0/16 via 10.200.1.2\nip -6 route add fd01::/16 via fd00:200:1::2\n"+
				"plug w1 2 1400\nip route add default via 10.200.2.2\nip -6 route add default via fd00:200:2::2\n"+tt.script, map[string]string{"lan": "lan", "w1": "w1"})
			p := pathNamed(t, w.advise(), "w1")
			if p.Clamped != tt.says {
				t.Errorf("says %s, want %s: %+v", p.Clamped, tt.says, p.Segments)
			}
			w.mustAgree(p)
		})
	}
}

// mustAgree sends connections from either side of a path, which announce sizes around what fits, and compares with what is said of each segment.
// What is clamped must fit, and what is not clamped at all must not, if it began too large.
func (w *world) mustAgree(p Path) {
	w.t.Helper()
	for _, six := range p.families {
		fits, plain := p.fits(six), ethernet(six)("")
		for _, offer := range []int{fits + 1, fits + 21, plain - 29, plain} {
			for leg, got := range w.legs(six, offer) {
				for _, m := range p.Segments {
					if m.Segment == leg && (m.Family == "ipv6") == six && (m.Clamped == Clamped && got > fits || m.Clamped == Unclamped && got <= fits) {
						w.t.Errorf("%s of %s, IPv6 %v, announces %d, then %d; %d fits; it says %s", leg, p.Name, six, offer, got, fits, m.Clamped)
					}
				}
			}
		}
	}
}

// legs are what is left of an MSS in each of the four kinds of segments.
func (w *world) legs(six bool, offer int) map[string]int {
	w.t.Helper()
	all := func(string) int { return offer }
	near, far := hosts[six][0], hosts[six][1]
	out, answerIn, ok := w.handshake("lan", near, far, all)
	in, answerOut, also := w.handshake("w1", far, near, all)
	if !ok || !also {
		w.t.Fatalf("a segment is lost: %v %v", out, in)
	}
	return map[string]int{"SYN out": out.mss, "SYN/ACK in": answerIn.mss, "SYN in": in.mss, "SYN/ACK out": answerOut.mss}
}
