package mss

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"richwall/internal/lab"
)

// Of the routing policy only rules that ask more of a TCP segment than its destination are read, and of links what they are a part of.
func TestReadPitfalls(t *testing.T) {
	if missing := lab.Missing("ip", "sh"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	shell(t, ns, `
		PATH=$PATH:/usr/sbin:/sbin
		ip link add br0 type bridge
		ip link add port1 master br0 type veth peer name port2
		ip link set port2 master br0
		ip rule add priority 90 to 10.0.0.0/8 table 90
		ip rule add priority 91 from 10.1.0.0/16 table 91
		ip rule add priority 92 fwmark 7 table 92
		ip -6 rule add priority 93 iif br0 table 93
		ip -6 rule add priority 94 ipproto tcp table 94
		ip -6 rule add priority 95 ipproto udp dport 53 table 95
	`)
	var m *Machine
	if err := ns.Do(func() (err error) { m, err = Read(); return err }); err != nil {
		t.Fatal(err)
	}
	want := []RoutingRule{{false, 91, 91}, {false, 92, 92}, {true, 93, 93}, {true, 94, 94}}
	if !slices.Equal(m.Rules, want) {
		t.Errorf("got rules %v, want %v", m.Rules, want)
	}
	for _, l := range m.Links {
		if bridge, ok := m.Master(l); ok != strings.HasPrefix(l.Name, "port") || ok && bridge.Name != "br0" {
			t.Errorf("%s is a part of %q", l.Name, bridge.Name)
		}
		if l.Name == "br0" {
			if ports := m.Ports(l); len(ports) != 2 || !slices.Contains(ports, "port1") || !slices.Contains(ports, "port2") {
				t.Errorf("its ports are %v", ports)
			}
		}
	}
}

// Routes have one MTU when their own and those of their links come to the same.
func TestOneMTU(t *testing.T) {
	to := netip.MustParsePrefix("0.0.0.0/0")
	links := []Link{{Index: 1, MTU: 65536, Up: true, Loopback: true}, {Index: 2, MTU: 1500, Up: true}, {Index: 3, MTU: 1400, Up: true}, {Index: 4, MTU: 900}}
	for _, c := range []struct {
		routes []Route
		want   bool
	}{
		{nil, true},
		{[]Route{{to, 1, 0}, {to, 2, 0}, {to, 4, 0}}, true},
		{[]Route{{to, 2, 0}, {to, 3, 0}}, false},
		{[]Route{{to, 2, 1400}, {to, 3, 0}, {to, 3, 9000}}, true},
		{[]Route{{to, 2, 0}, {to, 2, 1400}}, false},
	} {
		m := &Machine{Links: links, Routes: c.routes}
		if got := m.OneMTU(); got != c.want {
			t.Errorf("%s: got %v", fmt.Sprint(c.routes), got)
		}
	}
}
