package mss

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// clampedRouter is a router with a LAN of 1500 bytes, an uplink of 1400, and a clamp to the path's MTU for both families.
const clampedRouter = "plug lan 1 1500\nplug w1 2 1400\nip route add default via 10.200.2.2\nip -6 route add default via fd00:200:2::2\n" +
	"nft add table inet t\nnft add chain inet t c '{ type filter hook forward priority mangle; }'\nnft add rule inet t c tcp flags syn tcp option maxseg size set rt mtu\n"

// verifiedPath is the path of a name.
func verifiedPath(t *testing.T, v *Verification, name string) Verified {
	t.Helper()
	i := slices.IndexFunc(v.Paths, func(p Verified) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("there is no path %s in %+v", name, v.Paths)
	}
	return v.Paths[i]
}

// A clamp that is there is measured: each kind of segment has come, and none with more than fits. The MTU is what it is said to be.
func TestVerifyClamp(t *testing.T) {
	w := newWorld(t, clampedRouter, map[string]string{"lan": "lan", "w1": "w1"})
	v := w.verify(500)
	p := verifiedPath(t, v, "w1")
	if v.Disagrees || !v.Whole || p.Says != Clamped || p.MeasuredMTU != 1400 || p.OrMore || len(p.Segments) != 8 {
		t.Fatalf("%+v", v)
	}
	for _, m := range p.Segments {
		if m.Measured != Clamped || m.Count == 0 || m.High > m.Fits {
			t.Errorf("%+v", m)
		}
	}
	if lan := verifiedPath(t, v, "lan"); !lan.OrMore || lan.MeasuredMTU != 1400 {
		t.Errorf("of the LAN no more is known than what comes to it from the uplink: %+v", lan)
	}
}

// What richwall mss says is not believed: told of a clamp that the machine does not have, or of another MTU, verify disagrees, and says with which
// packet.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	w := newWorld(t, clampedRouter, map[string]string{"lan": "lan", "w1": "w1"})
	for name, tt := range map[string]struct {
		change func(m *Machine, o *Options)
		before string // commands on the machine
		path   string
		finds  string
	}{
		"a clamp that is not there": {func(*Machine, *Options) {}, "nft flush ruleset", "w1",
			"It says yes for SYN out of ipv4, but a SYN from 10.200.1.77 by lan to 198.51.100.77 by w1, offering 1460, has left with 1460: 1360 fit."},
		"a clamp that is there and is not known": {func(_ *Machine, o *Options) { o.Rules = nil }, "", "w1",
			"It says no for SYN out of ipv4, but a SYN from 10.200.1.77 by lan to 198.51.100.77 by w1, offering 1460, has left with 1360: 1360 fit."},
		"a link that carries less": {func(m *Machine, _ *Options) {
			for i := range m.Links {
				if l := &m.Links[i]; l.Name == "w1" || l.Name == "w1-far" {
					l.MTU = 1450
				}
			}
		}, "", "w1", "It says that 1450 bytes get through, and of what goes from 10.200.1.77 to 198.51.100.77 no more than 1400 do."},
		"nothing is forwarded": {func(m *Machine, _ *Options) { m.Forward4 = false; m.Forward6 = false }, "", "w1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var v *Verification
			err := w.ns.Do(func() error {
				m, err := Read()
				if err != nil {
					return err
				}
				rules, _ := ReadRules(t.Context())
				o := Options{Rules: rules}
				tt.change(m, &o)
				if tt.before != "" {
					if _, err := w.ns.Run(t.Context(), tt.before, "sh"); err != nil {
						return err
					}
				}
				v, err = Verify(t.Context(), m, o, Bounds{Connections: 200})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			p := verifiedPath(t, v, tt.path)
			if v.Disagrees != (tt.finds != "") || tt.finds != "" && !slices.Contains(p.Disagreements, tt.finds) {
				t.Errorf("it finds %q, want %q", p.Disagreements, tt.finds)
			}
		})
		if tt.before != "" {
			shell(t, w.ns, clampedRouter[strings.Index(clampedRouter, "nft"):])
		}
	}
}

// What goes through NAT is measured by the addresses that it has, and a filter's refusal is no measurement.
func TestVerifyBehindNAT(t *testing.T) {
	w := newWorld(t, clampedRouter+"iptables -t nat -A POSTROUTING -o w1 -j MASQUERADE\niptables -A FORWARD -i w1 -m conntrack --ctstate NEW -j DROP\n",
		map[string]string{"lan": "lan", "w1": "w1"})
	p := verifiedPath(t, w.verify(500), "w1")
	if len(p.Disagreements) > 0 {
		t.Errorf("%q", p.Disagreements)
	}
	for _, m := range p.Segments {
		seen := m.Family == "ipv6" || m.Segment == "SYN out" || m.Segment == "SYN/ACK in" // those of connections from the LAN
		if seen != (m.Count > 0) || !seen && m.Measured != NotSeen || seen && m.Measured != Clamped {
			t.Errorf("%+v", m)
		}
	}
}

// A machine is as it was before: verify has changed nothing of it.
func TestVerifyChangesNothing(t *testing.T) {
	w := newWorld(t, clampedRouter+"iptables-legacy -A FORWARD -j ACCEPT\nip rule add from 10.1.0.0/16 lookup 7\nipset create s hash:ip\n", map[string]string{"lan": "lan"})
	list := func() string {
		out, err := w.ns.Run(t.Context(), `PATH=$PATH:/usr/sbin:/sbin
ip link; ip address; ip route show table all; ip -6 route show table all; ip rule; ip neighbour; ip xfrm policy
nft list ruleset; iptables-legacy-save | sed '/^#/d'; ipset save | sed 's/initval.*//'; cat /proc/sys/net/ipv4/conf/*/*filter`, "sh")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := list()
	w.verify(100)
	if after := list(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// It ends when it is told to, and leaves nothing behind.
func TestVerifyEnds(t *testing.T) {
	w := newWorld(t, clampedRouter, nil)
	ctx, stop := context.WithCancel(t.Context())
	var said []string
	err := w.ns.Do(func() error {
		m, err := Read()
		if err != nil {
			return err
		}
		_, err = Verify(ctx, m, Options{}, Bounds{Connections: 100, Progress: func(text string) {
			if said = append(said, text); strings.HasPrefix(text, "connections") {
				stop()
			}
		}})
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v after %q", err, said)
	}
}
