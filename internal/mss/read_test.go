package mss

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"richwall/internal/lab"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

// shell runs commands in a namespace, and skips the test if they need what this kernel has not.
func shell(t *testing.T, ns *lab.Namespace, script string) {
	t.Helper()
	if _, err := ns.Run(t.Context(), script, "sh", "-e"); err != nil {
		t.Skip(err)
	}
}

// A machine is read from its kernel: links, routes, IPsec, and what clamps.
func TestReadMachine(t *testing.T) {
	if missing := lab.Missing("ip", "nft", "sh"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	shell(t, ns, `
		PATH=$PATH:/usr/sbin:/sbin
		ip link add wan mtu 1492 type veth peer name isp mtu 1492
		ip link add lan type veth peer name pc
		for i in wan isp lan pc; do ip link set $i up; done
		ip address add 198.51.100.2/24 dev wan
		ip address add 192.168.1.1/24 dev lan
		ip route add default via 198.51.100.1
		ip route add 203.0.113.0/24 via 198.51.100.1 mtu 1400
		ip route add 10.0.0.0/8 nexthop via 198.51.100.1 nexthop via 192.168.1.2
		ip route add blackhole 172.16.0.0/12
		ip link add overlay type vxlan id 7 dstport 4789 remote 198.51.100.9
		ip link set overlay up
		ip address add 10.7.0.1/24 dev overlay
		ip xfrm policy add src 192.168.1.0/24 dst 10.9.0.0/16 dir out tmpl src 198.51.100.2 dst 198.51.100.5 proto esp mode tunnel
		nft -f - <<'END'
		table ip t {
			chain c {
				type filter hook forward priority mangle
				tcp flags syn tcp option maxseg size set rt mtu
			}
		}
END
	`)
	var m *Machine
	var rules []*Rules
	err = ns.Do(func() (err error) {
		var notes []string
		if m, err = Read(); err == nil {
			rules, notes = ReadRules(t.Context())
		}
		if notes != nil {
			t.Error(notes)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Forward4 = true // the namespace itself may not let it be set
	var got []string
	for _, p := range Advise(m, Options{Rules: rules}).Paths {
		got = append(got, fmt.Sprintf("%s %d %s %s", p.Name, p.Fit.MTU, p.Clamped, strings.Join(p.Routes, " ")))
	}
	want := []string{ // the way back to 10.0.0.0/8 may be found by lan
		"wan 1492 in part default (IPv4) 10.0.0.0/8 198.51.100.0/24",
		"wan (routes with mtu 1400) 1400 yes 203.0.113.0/24",
		"IPsec to 10.9.0.0/16 1392 no 10.9.0.0/16",
		"lan 1500 not needed 10.0.0.0/8 192.168.1.0/24",
		"overlay 1442 no 10.7.0.0/24",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// IPsec policies are read with what says which packets meet them.
func TestReadPolicies(t *testing.T) {
	if missing := lab.Missing("ip", "sh"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const tunnel = " tmpl src 198.51.100.2 dst 198.51.100.5 proto esp mode tunnel\n"
	shell(t, ns, "PATH=$PATH:/usr/sbin:/sbin\n"+
		"ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir out if_id 42"+tunnel+
		"ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir out mark 42 mask 0xff"+tunnel+
		"ip xfrm policy add src 192.168.1.0/24 dst 10.9.0.0/16 dir out"+tunnel+
		"ip xfrm policy add src 192.168.1.0/24 dst 10.9.0.0/16 dir in"+tunnel+
		"ip xfrm policy add src 192.168.1.0/24 dst 10.8.0.0/16 dir out action block"+tunnel+
		"ip xfrm policy add src 192.168.1.0/24 dst 10.7.0.0/16 dir out\n"+
		"ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 proto udp dport 4789 dir out tmpl proto esp mode transport\n")
	var m *Machine
	if err := ns.Do(func() (err error) { m, err = Read(); return err }); err != nil {
		t.Fatal(err)
	}
	all, local, remote := to("0.0.0.0/0"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.5")
	want := []Policy{
		{From: all, To: all, Local: local, Remote: remote, ID: 42},
		{From: all, To: all, Local: local, Remote: remote, Mark: 42, Mask: 255},
		{From: to("192.168.1.0/24"), To: to("10.9.0.0/16"), Local: local, Remote: remote},
		{From: all, To: all, Transport: true, Protocol: 17, Port: 4789},
	}
	for _, p := range want {
		if !slices.Contains(m.Policies, p) {
			t.Errorf("%+v is not among %+v", p, m.Policies)
		}
	}
	if len(m.Policies) != len(want) {
		t.Errorf("got %+v", m.Policies)
	}
}

// Next hops that are objects of their own are read, whether the kernel repeats them in routes or not, and also groups of them.
func TestReadNexthops(t *testing.T) {
	if missing := lab.Missing("ip", "sh"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	for _, repeats := range []string{"1", "0"} {
		ns, err := lab.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		shell(t, ns, plug+`
plug w1 1 1500
plug w2 2 1400
echo `+repeats+` >/proc/sys/net/ipv4/nexthop_compat_mode
ip nexthop add id 1 via 10.200.1.2 dev w1
ip nexthop add id 2 via 10.200.2.2 dev w2
ip nexthop add id 3 group 1/2
ip nexthop add id 4 via fd00:200:2::2 dev w2
ip nexthop add id 5 blackhole
ip route add 198.51.100.0/24 nhid 3
ip route add 203.0.113.0/24 nhid 2
ip route add 192.0.2.0/24 nhid 5
ip -6 route add 2001:db8::/32 nhid 4
`)
		var m *Machine
		if err := ns.Do(func() (err error) { m, err = Read(); return err }); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range m.Routes {
			if l, ok := m.link(int(r.Link)); ok && !l.Loopback && !strings.HasPrefix(r.To.String(), "10.200.") && !strings.HasPrefix(r.To.String(), "fd00:") {
				got = append(got, r.To.String()+" "+l.Name)
			}
		}
		slices.Sort(got)
		if want := []string{"198.51.100.0/24 w1", "198.51.100.0/24 w2", "2001:db8::/32 w2", "203.0.113.0/24 w2"}; !slices.Equal(got, want) {
			t.Errorf("nexthop_compat_mode %s: got %q, want %q", repeats, got, want)
		}
	}
}
