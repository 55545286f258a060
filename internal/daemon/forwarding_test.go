package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"richwall/zones"
)

// forwarding is a kernel that can forward IPv4 and IPv6: "1" is on.
type forwarding struct {
	v4, v6 string
	refuse error
}

func (f *forwarding) sysctl(name, value string) (string, error) {
	setting := map[string]*string{"net.ipv4.ip_forward": &f.v4, "net.ipv6.conf.all.forwarding": &f.v6}[name]
	if setting == nil {
		return "", errors.New("nothing asks for " + name)
	}
	was := *setting
	if value != "" && f.refuse != nil {
		return "", f.refuse
	}
	if value != "" {
		*setting = value
	}
	return was, nil
}

// took is what was switched on since the last call, such as "10" for IPv4 alone; it is off again.
func (f *forwarding) took() string {
	defer func() { f.v4, f.v6 = "0", "0" }()
	return f.v4 + f.v6
}

func zoneNamed(name string) zones.Object { return zones.Object{Kind: zones.KindZone, Name: name} }

func runtimeItem(o zones.Object, key zones.Key, args ...string) Change {
	return Change{Edit: zones.Add(zones.Runtime, o, zones.Item{Key: key, Args: args})}
}

// Masquerade and forward-ports switch on the forwarding of the families that they are for, as soon as their zone or policy is
// in use, and not before.
func TestForwardingIsSwitchedOn(t *testing.T) {
	nat, pol := zoneNamed("nat"), zones.Object{Kind: zones.KindPolicy, Name: "pol"}
	rule := func(text string) Change { return runtimeItem(public, zones.KeyRule, text) }
	for _, c := range []struct {
		says   string
		change Change
		want   string
	}{
		{"a service", runtimeItem(public, zones.KeyService, "http"), "00"},
		{"masquerade", runtimeItem(public, zones.KeyMasquerade), "10"},
		{"masquerade for IPv6", rule(`rule family="ipv6" masquerade`), "01"},
		{"masquerade for both", rule(`rule masquerade`), "11"},
		{"masquerade for what is in an ipset of IPv4", rule(`rule source ipset="v4" masquerade`), "10"},
		{"masquerade for what is in an ipset of IPv6", rule(`rule source ipset="v6" masquerade`), "01"},
		{"masquerade for all but what is in an ipset of IPv6", rule(`rule source not ipset="v6" masquerade`), "01"},
		{"masquerade for what is in an ipset of MAC addresses", rule(`rule source ipset="macs" masquerade`), "11"},
		{"a port of this machine", runtimeItem(public, zones.KeyForwardPort, "80", "tcp", "81", ""), "00"},
		{"a port of another machine", runtimeItem(public, zones.KeyForwardPort, "80", "tcp", "", "192.0.2.1"), "10"},
		{"a port of another IPv6 machine", runtimeItem(public, zones.KeyForwardPort, "80", "tcp", "", "2001:db8::1"), "01"},
		{"a port of this machine, as a rule", rule(`rule family="ipv6" forward-port port="80" protocol="tcp" to-port="81"`), "00"},
		{"a port of another IPv6 machine, as a rule", rule(`rule family="ipv6" forward-port port="80" protocol="tcp" to-addr="2001:db8::1"`), "01"},
		{"a zone with masquerade comes into use", runtimeItem(nat, zones.KeyInterface, "eth0"), "10"},
		{"masquerade in a zone that is not in use", runtimeItem(zoneNamed("work"), zones.KeyMasquerade), "00"},
		{"a policy that comes into use", runtimeItem(zoneNamed("dmz"), zones.KeyInterface, "eth0"), "01"},
		{"a port in a policy that is not in use", runtimeItem(pol, zones.KeyForwardPort, "80", "tcp", "", "192.0.2.1"), "00"},
	} {
		k := &forwarding{v4: "0", v6: "0"}
		b := startOn(t, k.sysctl, map[string]string{
			"ipsets/v4.xml":   `<ipset type="hash:ip"/>`,
			"ipsets/v6.xml":   `<ipset type="hash:ip"><option name="family" value="inet6"/></ipset>`,
			"ipsets/macs.xml": `<ipset type="hash:mac"/>`,
			"zones/nat.xml":   `<zone><masquerade/></zone>`,
			"policies/pol.xml": `<policy target="CONTINUE"><ingress-zone name="dmz"/><egress-zone name="HOST"/>` +
				`<forward-port port="80" protocol="tcp" to-addr="2001:db8::1"/></policy>`,
		})
		if got := k.took(); got != "00" {
			t.Errorf("%s: the start has switched on %s", c.says, got)
		}
		if err := b.ChangeRuntime(context.Background(), c.change); err != nil {
			t.Fatalf("%s: %v", c.says, err)
		}
		if got := k.took(); got != c.want {
			t.Errorf("%s: IPv4 and IPv6 are %s, want %s", c.says, got, c.want)
		}
	}
}

// A start and each reload switch forwarding on for what is in use. What an administrator switches off in between stays off
// until something new asks for it, and nothing gives it back.
func TestForwardingOverTime(t *testing.T) {
	k := &forwarding{v4: "0", v6: "0"}
	b := startOn(t, k.sysctl, map[string]string{"firewalld.conf": "DefaultZone=external\n"})
	if got := k.took(); got != "10" {
		t.Errorf("the start: %s", got)
	}
	external := zoneNamed("external")
	for _, step := range []struct {
		says string
		do   func() error
		want string
	}{
		{"a port", func() error { return b.ChangeRuntime(t.Context(), runtimeItem(external, zones.KeyPort, "80", "tcp")) }, "00"},
		{"a reload", func() error { return b.Reload(t.Context()) }, "10"},
		{"panic mode", func() error { return b.SetPanic(t.Context(), true) }, "00"},
		{"its end", func() error { return b.SetPanic(t.Context(), false) }, "00"},
		{"another default zone", func() error { return b.SetDefaultZone(t.Context(), "public") }, "00"},
		{"and back", func() error { return b.SetDefaultZone(t.Context(), "external") }, "10"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.says, err)
		}
		if got := k.took(); got != step.want {
			t.Errorf("%s: IPv4 and IPv6 are %s, want %s", step.says, got, step.want)
		}
	}
	k.v4 = "1"
	if err := b.Stop(t.Context()); err != nil || k.v4 != "1" {
		t.Errorf("after the end forwarding is %s, want 1; %v", k.v4, err)
	}
}

// A kernel that does not take the setting, as in a container, does not keep the rules out of it; the log has the reason.
func TestForwardingRefused(t *testing.T) {
	k := &forwarding{v4: "0", refuse: errors.New("read-only file system")}
	b := startOn(t, k.sysctl, map[string]string{"firewalld.conf": "DefaultZone=external\n"})
	if b.Snapshot().State != Running || b.kernel.commits != 1 {
		t.Error("the firewall is not in the kernel")
	}
	if !strings.Contains(b.log.String(), "read-only file system") {
		t.Errorf("the log does not say why nothing is forwarded: %s", b.log.String())
	}
}
