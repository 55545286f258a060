package bus

import (
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// These are the calls that well-known programs make, in their words and types, with what they look at in the answers.

// NetworkManager binds interfaces when a connection comes up. It looks at how an error starts.
func TestNetworkManager(t *testing.T) {
	b := newBed(t, nil)
	if reply, err := b.client.RequestName("org.freedesktop.NetworkManager", dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	b.must("", "zone.changeZoneOfInterface", "", "eth0")
	b.must("", "zone.addInterface", "home", "wlan0")
	if err := b.call("", "zone.addInterface", "home", "wlan0").Err; err == nil || !strings.HasPrefix(err.Error(), "ZONE_ALREADY_SET:") {
		t.Errorf("binding twice: %v", err)
	}
	b.must("", "zone.removeInterface", "", "eth0")
	if err := b.call("", "zone.removeInterface", "", "eth0").Err; err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN_INTERFACE:") {
		t.Errorf("unbinding twice: %v", err)
	}
	b.tell(
		`zone.ZoneChanged("public" "eth0")`, `zone.ZoneOfInterfaceChanged("public" "eth0")`,
		`zone.InterfaceAdded("home" "wlan0")`, `zone.InterfaceRemoved("public" "eth0")`)
	b.rules("wlan0")
	// What it binds it binds again by itself: that does not go into the files.
	b.must("", "runtimeToPermanent")
	if got := b.must("config", "config.getZoneOfInterface", "wlan0"); got != `""` {
		t.Errorf("wlan0 was written to zone %s", got)
	}
	b.told()
	b.must("", "reload")
	b.tell("Reloaded()")
}

// libvirt asks which back end it can use, waits for its turn with a command that changes nothing, and binds its bridges.
func TestLibvirt(t *testing.T) {
	b := newBed(t, map[string]string{
		"zones/libvirt.xml":               `<zone target="ACCEPT"><short>libvirt</short><rule priority="32767"><reject/></rule></zone>`,
		"policies/libvirt-routed-out.xml": `<policy target="ACCEPT"><ingress-zone name="libvirt"/><egress-zone name="ANY"/></policy>`,
	})
	if got := b.must("", propertiesName+".Get", base, "version"); got != `<"2.5.2">` {
		t.Errorf("the version is %s", got)
	}
	if got := b.must("config", propertiesName+".Get", base+".config", "FirewallBackend"); got != `<"nftables">` {
		t.Errorf("the back end is %s", got)
	}
	if got := b.must("", "zone.getZones"); !strings.Contains(got, `"libvirt"`) {
		t.Errorf("the zones are %s", got)
	}
	if got := b.must("", "policy.getPolicies"); !strings.Contains(got, `"libvirt-routed-out"`) {
		t.Errorf("the policies are %s", got)
	}
	if got := b.must("", "direct.passthrough", "ipv4", []string{"-V"}); !strings.HasPrefix(got, `"iptables v`) {
		t.Errorf("passthrough answers %s", got)
	}
	if got := b.refused("", "direct.passthrough", "ipv4", []string{"--nonsense"}); got != "COMMAND_FAILED" {
		t.Errorf("a wrong command is refused with %s", got)
	}
	b.must("", "zone.changeZoneOfInterface", "libvirt", "virbr0")
	b.rules("virbr0", "libvirt")
}

// Docker sends the settings of a zone as an array of variants, since its library knows no structures.
func TestDocker(t *testing.T) {
	b := newBed(t, nil)
	b.must("", "getDefaultZone")
	settings := []dbus.Variant{}
	for _, value := range []any{
		"", "docker", "zone for docker bridge network interfaces", false, "ACCEPT",
		[]string{}, [][]string{}, []string{}, false, [][]string{}, []string{}, []string{}, []string{}, []string{}, [][]string{}, false,
	} {
		settings = append(settings, dbus.MakeVariant(value))
	}
	b.must("config", "config.addZone", "docker", settings)
	if got := b.refused("config", "config.addZone", "docker", settings); got != "NAME_CONFLICT" {
		t.Errorf("a second zone docker is refused with %s", got)
	}
	b.must("config", "config.addPolicy", "docker-forwarding", map[string]any{
		"version": "1.0", "description": "allow forwarding to the docker zone",
		"ingress_zones": []string{"ANY"}, "egress_zones": []string{"docker"}, "target": "ACCEPT",
	})
	b.must("", "reload")
	b.tell(`config config.ZoneAdded("docker")`, `config config.PolicyAdded("docker-forwarding")`, "Reloaded()")
	b.must("", "zone.addInterface", "docker", "docker0")
	if got := b.must("", "zone.getInterfaces", "docker"); got != `["docker0"]` {
		t.Errorf("the interfaces are %s", got)
	}
	if got := b.refused("", "zone.addInterface", "docker", "docker0"); got != "ZONE_ALREADY_SET" {
		t.Errorf("binding twice is refused with %s", got)
	}
	b.must("", "zone.addInterface", "public", "docker1")
	if got := b.refused("", "zone.addInterface", "docker", "docker1"); got != "ZONE_CONFLICT" {
		t.Errorf("binding what another zone has is refused with %s", got)
	}
	b.rules("docker0", "filter_FWD_docker", "docker-forwarding")
}

// Podman's netavark sets forward ports and rich rules of a policy and nothing else of it, finds its rules by a part of their
// text, and puts the addresses of containers into the zone trusted.
func TestNetavark(t *testing.T) {
	b := newBed(t, nil)
	if got := b.must("config", propertiesName+".Get", base+".config", "StrictForwardPorts"); got != `<"no">` {
		t.Errorf("StrictForwardPorts is %s", got)
	}
	b.must("config", "config.addZone2", "netavark_zone", map[string]any{"target": "ACCEPT"})
	b.must("config", "config.addPolicy", "netavark_policy", map[string]any{
		"ingress_zones": []string{"netavark_zone"}, "egress_zones": []string{"ANY"}, "target": "ACCEPT", "masquerade": false,
	})
	b.must("config", "config.addPolicy", "netavark_portfwd", map[string]any{
		"ingress_zones": []string{"ANY"}, "egress_zones": []string{"HOST"}, "target": "CONTINUE",
	})
	b.must("", "reload")
	b.must("", "zone.changeZoneOfSource", "netavark_zone", "10.88.0.0/16")
	b.told()
	type forwardPort struct{ Port, Protocol, ToPort, ToAddr string }
	b.must("", "policy.setPolicySettings", "netavark_portfwd", map[string]any{
		"forward_ports": []forwardPort{{"8080", "tcp", "80", "10.88.0.2"}},
		"rich_rules":    []string{`rule family=ipv4 destination address=192.0.2.1 forward-port port=81 protocol=tcp to-port=80 to-addr=10.88.0.3`},
	})
	if got := b.told(); len(got) != 1 || !strings.HasPrefix(got[0], `policy.PolicyUpdated("netavark_portfwd" {"forward_ports": `) {
		t.Errorf("the signals are %v", got)
	}
	got := b.must("", "policy.getPolicySettings", "netavark_portfwd")
	for _, part := range []string{`"ingress_zones": <["ANY"]>`, `"egress_zones": <["HOST"]>`, `to-addr=\"10.88.0.3\"`} {
		if !strings.Contains(got, part) {
			t.Errorf("the settings have no %s: %s", part, got)
		}
	}
	b.rules("10.88.0.2", "10.88.0.3")
	if got := b.must("", "zone.getZoneOfSource", "10.88.0.0/16"); got != `"netavark_zone"` {
		t.Errorf("the zone is %s", got)
	}
	b.must("", "zone.removeSource", "netavark_zone", "10.88.0.0/16")
}

// Cockpit shows services and zones, updates a part of them, and follows the signals.
func TestCockpit(t *testing.T) {
	b := newBed(t, nil)
	for _, part := range []string{`"short": <"SSH">`, `"ports": `} {
		if got := b.must("", "getServiceSettings2", "ssh"); !strings.Contains(got, part) {
			t.Errorf("the settings of ssh have no %s: %s", part, got)
		}
	}
	b.must("config", "config.addService2", "custom--8000", map[string]any{"ports": [][]string{{"8000", "tcp"}}, "short": "Mine"})
	b.must("", "reload")
	b.told()
	b.must("", "zone.addService", "public", "custom--8000", 0)
	b.must("", "zone.addInterface", "work", "eth1")
	b.must("", "zone.removeService", "public", "ssh")
	b.tell(`zone.ServiceAdded("public" "custom--8000" 0)`, `zone.InterfaceAdded("work" "eth1")`, `zone.ServiceRemoved("public" "ssh")`)
	var path dbus.ObjectPath
	if err := b.call("config", "config.getZoneByName", "work").Store(&path); err != nil {
		t.Fatal(err)
	}
	work := strings.TrimPrefix(string(path), root+"/")
	b.must(work, "config.zone.update2", map[string]any{"interfaces": []string{"eth1"}, "sources": []string{"192.0.2.0/24"}})
	got := b.must(work, "config.zone.getSettings2")
	for _, part := range []string{`"interfaces": <["eth1"]>`, `"sources": <["192.0.2.0/24"]>`, `"services": <["ssh", "dhcpv6-client"]>`} {
		if !strings.Contains(got, part) {
			t.Errorf("the settings have no %s: %s", part, got)
		}
	}
	if err := b.call("", "zone.nosuch").Err; err == nil || err.(dbus.Error).Name != unknownMethod {
		t.Errorf("a method that does not exist: %v", err)
	}
	b.rules("8000")
}

// ansible's module reads a zone's settings as a structure, changes some, and writes it back.
func TestAnsible(t *testing.T) {
	b := newBed(t, nil)
	if got := b.must("", "zone.queryService", "public", "https"); got != "false" {
		t.Errorf("https is there: %s", got)
	}
	b.must("", "zone.addService", "public", "https", 300)
	var path dbus.ObjectPath
	if err := b.call("config", "config.getZoneByName", "public").Store(&path); err != nil {
		t.Fatal(err)
	}
	public := strings.TrimPrefix(string(path), root+"/")
	var settings []any
	if err := b.call(public, "config.zone.getSettings").Store(&settings); err != nil {
		t.Fatal(err)
	}
	settings[5] = append(settings[5].([]string), "https")
	settings[12] = []string{"rule protocol value=esp accept"}
	type structure struct { // as Python's library sends it, by the introspection
		Version, Short, Description string
		Unused                      bool
		Target                      string
		Services                    []string
		Ports                       []struct{ Port, Protocol string }
		ICMPBlocks                  []string
		Masquerade                  bool
		ForwardPorts                []struct{ Port, Protocol, ToPort, ToAddr string }
		Interfaces, Sources, Rules  []string
		Protocols                   []string
		SourcePorts                 []struct{ Port, Protocol string }
		Inversion                   bool
	}
	var s structure
	if err := dbus.Store([]any{settings}, &s); err != nil {
		t.Fatal(err)
	}
	b.must(public, "config.zone.update", s)
	got := b.must(public, "config.zone.getSettings2")
	for _, part := range []string{`"services": <["ssh", "dhcpv6-client", "https"]>`, `protocol value=\"esp\" accept`, `"forward": <true>`} {
		if !strings.Contains(got, part) {
			t.Errorf("the settings have no %s: %s", part, got)
		}
	}
	b.must("", "reload")
	b.rules("esp", "443")
}

// fail2ban's older actions keep chains of their own in the direct interface.
func TestFail2ban(t *testing.T) {
	b := newBed(t, nil)
	rule := []string{"-s", "192.0.2.1", "-j", "REJECT"}
	b.must("", "direct.addChain", "ipv4", "filter", "f2b-sshd")
	b.must("", "direct.addRule", "ipv4", "filter", "f2b-sshd", 1000, []string{"-j", "RETURN"})
	b.must("", "direct.addRule", "ipv4", "filter", "INPUT", 0, []string{"-p", "tcp", "-m", "multiport", "--dports", "22", "-j", "f2b-sshd"})
	if got := b.must("", "direct.getChains", "ipv4", "filter"); got != `["f2b-sshd"]` {
		t.Errorf("the chains are %s", got)
	}
	b.must("", "direct.addRule", "ipv4", "filter", "f2b-sshd", 0, rule)
	b.rules("f2b-sshd", "192.0.2.1")
	b.must("", "direct.removeRule", "ipv4", "filter", "f2b-sshd", 0, rule)
	b.told()
	b.must("", "direct.removeRule", "ipv4", "filter", "INPUT", 0, []string{"-p", "tcp", "-m", "multiport", "--dports", "22", "-j", "f2b-sshd"})
	b.must("", "direct.removeRules", "ipv4", "filter", "f2b-sshd")
	b.must("", "direct.removeChain", "ipv4", "filter", "f2b-sshd")
	b.tell(
		`direct.RuleRemoved("ipv4" "filter" "INPUT" 0 ["-p", "tcp", "-m", "multiport", "--dports", "22", "-j", "f2b-sshd"])`,
		`direct.RuleRemoved("ipv4" "filter" "f2b-sshd" 1000 ["-j", "RETURN"])`,
		`direct.ChainRemoved("ipv4" "filter" "f2b-sshd")`)
	if got := b.refused("", "direct.removeChain", "ipv4", "filter", "f2b-sshd"); got != "NOT_ENABLED" {
		t.Errorf("removing twice is refused with %s", got)
	}
	// Its newer ones add rich rules with single quotes.
	text := "rule family='ipv4' source address='192.0.2.66' port port='22' protocol='tcp' reject type='icmp-port-unreachable'"
	b.must("", "zone.addRichRule", "", text, 0)
	b.rules("192.0.2.66")
	b.must("", "zone.removeRichRule", "", text)
}

// puppet makes objects by the permanent interface, field by field, and asks by query.
func TestPuppet(t *testing.T) {
	b := newBed(t, nil)
	b.must("config", "config.addIPSet", "banned", tuple("", "", "", "hash:ip", map[string]string{"family": "inet"}, []string{}))
	b.must("config/ipset/0", "config.ipset.setEntries", []string{"192.0.2.1", "192.0.2.2"})
	b.must("config/ipset/0", "config.ipset.addOption", "maxelem", "100")
	b.must("config", "config.addHelper", "mine", tuple("", "", "", "", "nf_conntrack_ftp", tuple(tuple("2121", "tcp"))))
	b.must("config", "config.addIcmpType", "mine", tuple("", "", "", []string{"ipv4"}))
	b.must("config", "config.addService", "mine", tuple("", "Mine", "", tuple(tuple("77", "tcp")), []string{}, map[string]string{}, []string{}, tuple()))
	var service dbus.ObjectPath
	if err := b.call("config", "config.getServiceByName", "mine").Store(&service); err != nil {
		t.Fatal(err)
	}
	mine := strings.TrimPrefix(string(service), root+"/")
	b.must(mine, "config.service.setDestination", "ipv4", "192.0.2.0/24")
	if got := b.must(mine, "config.service.getDestinations"); got != `{"ipv4": "192.0.2.0/24"}` {
		t.Errorf("the destinations are %s", got)
	}
	if got := b.must(mine, "config.service.queryPort", "77", "tcp"); got != "true" {
		t.Errorf("port 77 is there: %s", got)
	}
	b.must("", "reload")
	b.must("", "zone.addRichRule", "", "rule source ipset=banned drop", 0)
	b.must("", "zone.addService", "", "mine", 0)
	b.must("", "ipset.addEntry", "banned", "192.0.2.3")
	b.told()
	b.must("", "ipset.setEntries", "banned", []string{"192.0.2.3", "192.0.2.4"})
	b.tell(`ipset.EntryAdded("banned" "192.0.2.4")`, `ipset.EntryRemoved("banned" "192.0.2.1")`, `ipset.EntryRemoved("banned" "192.0.2.2")`)
	b.rules("banned", "192.0.2.4", "77")
}

// KDE's firewall module names no zone, and writes the running firewall to the files in the end.
func TestKDE(t *testing.T) {
	b := newBed(t, nil)
	b.must("", "authorizeAll")
	b.must("", "listServices")
	if got := b.must("", "zone.getServices", ""); got != `["ssh", "dhcpv6-client"]` {
		t.Errorf("the services are %s", got)
	}
	b.must("", "zone.addService", "", "kdeconnect", 0)
	b.must("", "zone.getZoneSettings2", "")
	b.must("", "direct.addRule", "ipv4", "filter", "INPUT", 5, []string{"-p", "udp", "-j", "DROP"})
	if got := b.call("", "direct.getAllRules").Body; !slices.EqualFunc(got[0].([][]any)[0][:4], []any{"ipv4", "filter", "INPUT", int32(5)}, func(a, b any) bool { return a == b }) {
		t.Errorf("the direct rules are %v", got)
	}
	b.must("", "runtimeToPermanent")
	got := b.told()
	for _, want := range []string{`config/zone/6 config.zone.Updated("public")`, "config config.direct.Updated()"} {
		if !slices.Contains(got, want) {
			t.Errorf("the signals have no %s: %v", want, got)
		}
	}
	if got := b.must("config/zone/6", "config.zone.getServices"); got != `["ssh", "dhcpv6-client", "kdeconnect"]` {
		t.Errorf("the permanent services are %s", got)
	}
}
