package mss

import (
	"fmt"
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
