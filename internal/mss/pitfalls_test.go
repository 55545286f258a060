package mss

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"richwall/internal/lab"
)

// Of the routing policy it is read what rules ask for beside the destination, and of links what they are a part of.
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
	var got []string
	for _, r := range m.Rules {
		if r.Priority < 32766 && !r.plain() {
			got = append(got, fmt.Sprint(r.Priority, r.Table))
		}
	}
	if want := []string{"91 91", "92 92", "93 93", "94 94", "95 95"}; !slices.Equal(got, want) {
		t.Errorf("got rules %v, want %v", got, want)
	}
	for _, l := range m.Links {
		if bridge, ok := m.Master(l); ok != strings.HasPrefix(l.Name, "port") || ok && bridge.Name != "br0" {
			t.Errorf("%s is a part of %q", l.Name, bridge.Name)
		}
		if l.Name == "br0" {
			if ports := m.Ports(l); len(ports) != 2 {
				t.Errorf("its ports are %v", ports)
			}
		}
	}
}
