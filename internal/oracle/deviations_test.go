package main

import (
	"strings"
	"testing"
)

// lines are the lines of a text; an empty one has none.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// stepThat is the difference of a step's outcomes.
func stepThat(what, theirs, ours string) difference {
	shape, _, _ := strings.Cut(what, "=")
	return difference{what: what, shape: shape, theirs: theirs, ours: ours}
}

// A lost or changed setting is not excused by a row about something else in the same place.
func TestStepIsNotExcused(t *testing.T) {
	for _, d := range []difference{
		stepThat("$ --reload", "exit 13\nstderr: Error: COMMAND_FAILED: Direct: '/usr/sbin/iptables-restore -w -n' failed", "exit 0\nsuccess"),
		stepThat("$ --zone=public --add-service=x", "exit 101\nstderr: Error: INVALID_SERVICE: x", "exit 13\nstderr: Error: COMMAND_FAILED: the kernel says no"),
		stepThat("$ --permanent --path-zone=public", "exit 0\n/x/etc/zones/public.xml", "exit 0\n/usr/lib/firewalld/zones/work.xml"),
		stepThat("dbus config/service/x org.fedoraproject.FirewallD1.config.service.removeModule x", "exit 0", "exit 1\nstderr: org.freedesktop.DBus.Error.NoReply: gone"),
		stepThat("dbus config config.getZoneByName x", "exit 0\n/org/fedoraproject/FirewallD1/config/zone/3", "exit 0\n/org/fedoraproject/FirewallD1/config/service/99"),
		stepThat("$ --zone=work --query-service=http", "exit 1\nno", "exit 112\nstderr: Error: INVALID_ZONE: work"),
		stepThat("$ --zone=work --query-service=http", "exit 1\nno\nstderr: Warning: NOT_ENABLED: x", "exit 13\nstderr: Error: COMMAND_FAILED: x"),
		stepThat("offline --remove-rich-rule=a --remove-rich-rule=b", "exit 0\nsuccess\nstderr: Warning: NOT_ENABLED: a\nstderr: Warning: INVALID_RULE: b", "exit 0\nsuccess\nstderr: Warning: NOT_ENABLED: b\nstderr: Warning: NOT_ENABLED: a"),
		stepThat("$ --add-rich-rule=rule a --add-rich-rule=rule b", "exit 0\nsuccess\nstderr: Warning: COMMAND_FAILED: argument of type 'int' is not iterable", "exit 0\nsuccess"),
		stepThat("$ --zone=work --add-source=ipset:ips", "exit 0\nsuccess", "exit 135\nstderr: Error: INVALID_IPSET: Zone 'work': ipset 'ips' with type 'hash:ip,port,net' not usable as source"),
		stepThat("$ --list-all", "exit 2\nstderr: usage: x", "exit 2"),
		stepThat("$ --list-services --zone=x", "exit 0\nssh\nstderr: Warning: ALREADY_ENABLED: x", "exit 0\n\nstderr: Warning: ALREADY_ENABLED: y"),
		stepThat("dbus / setDefaultZone work", "exit 1\nstderr: x: COMMAND_FAILED: 'python-nftables' failed: internal:0:0-0: Error: Could not process rule: No such file or directory", "exit 0"),
		stepThat("$ --get-zone-of-source=a --get-zone-of-source=b", "exit 0\npublic", "exit 0\nwork\nhome"),
		stepThat("$ --get-zone-of-source=a --get-zone-of-source=b", "exit 135\nstderr: Error: INVALID_IPSET: a", "exit 0\na: no zone\nb: no zone"),
		stepThat("$ --reload", "exit 13\nstderr: Error: COMMAND_FAILED: argument of type 'int' is not iterable", "exit 0\nsuccess"),
		stepThat("dbus config org.freedesktop.DBus.Properties.Get c IPv4ICMPTypes", "exit 0\n[\"echo-request\", \"x\"]", "exit 0\n[\"x\"]"),
		stepThat("dbus / org.freedesktop.DBus.Properties.Get d IPv6ICMPTypes", "exit 0\n[\"echo-request\", \"timestamp-request\"]", "exit 0\n[\"echo-request\"]"),
		stepThat("dbus / org.freedesktop.DBus.Properties.Get d IPv4ICMPTypes", "exit 0\n[\"echo-request\", \"echo-reply\", \"ping\"]", "exit 0\n[\"echo-request\"]"),
		stepThat("dbus / org.freedesktop.DBus.Properties.Get d IPv4ICMPTypes", "exit 0\n[\"echo-request\", \"ping\"]", "exit 0\n[\"echo-request\", \"weird\"]"),
		stepThat("dbus / direct.addChain ipv4 filter \"'a b'\"", "exit 0", "exit 1\nstderr: x: INVALID_CHAIN: cannot use chain \"a b\": x"),
		stepThat("$ --reload", "exit 0\nsuccess", "exit 135\nstderr: Error: INVALID_IPSET: Zone 'public': 'ports' not among existing ipsets"),
		stepThat("$ --zone=drop --add-source=aa:bb:cc:dd:ee:ff", "exit 0\nsuccess", "exit 18\nstderr: Error: ZONE_CONFLICT: 'AA:BB:CC:DD:EE:FF' already bound to a zone"),
		stepThat("$ --complete-reload", "exit 254\nstderr: dictionary changed size during iteration", "exit 13\nstderr: Error: COMMAND_FAILED: x"),
	} {
		if reason := explain(d); reason != "" {
			t.Errorf("%s: %q and %q are excused: %s", d.what, d.theirs, d.ours, reason)
		}
	}
}

// A difference that a row is about is excused, where the row's reason is one.
func TestStepIsExcused(t *testing.T) {
	on := scene{session: &session{conf: map[string]string{"StrictForwardPorts": "yes"}}}
	failed := stepThat("$ --set-default-zone=work", "exit 13\nstderr: Error: COMMAND_FAILED: 'python-nftables' failed: internal:0:0-0: Error: Could not process rule: No such file or directory", "exit 0\nsuccess")
	failed.scene = on
	removed := stepThat("$ --zone=nosuch --remove-service=http", "exit 0\nsuccess\nstderr: Warning: NOT_ENABLED: x", "exit 112\nstderr: Error: INVALID_ZONE: nosuch")
	removed.wrong = 1
	for _, d := range []difference{
		failed, removed,
		stepThat("dbus config/icmptype/x org.freedesktop.DBus.Properties.Get c path", "exit 0\n\"/x/etc/icmptypes\"", "exit 0\n\"/y/usr/lib/firewalld/icmptypes\""),
		stepThat("$ --permanent --path-zone=public", "exit 0\n/x/etc/zones/public.xml", "exit 0\n/y/usr/lib/firewalld/zones/public.xml"),
		stepThat("dbus config config.getZoneByName x", "exit 0\n/org/fedoraproject/FirewallD1/config/zone/3", "exit 0\n/org/fedoraproject/FirewallD1/config/zone/99"),
		stepThat("$ --get-zone-of-source=a --get-zone-of-source=b", "exit 0\npublic", "exit 0\npublic\nhome"),
		stepThat("$ --get-zone-of-source=a --get-zone-of-source=b", "exit 0\nstderr: a: no zone", "exit 0\nsuccess\nstderr: a: no zone\nstderr: b: no zone"),
		stepThat("$ --get-zone-of-source=a --get-zone-of-source=b", "exit 135\nstderr: Error: INVALID_IPSET: a", "exit 0\nsuccess\nstderr: Warning: INVALID_IPSET: a\nstderr: b: no zone"),
		stepThat("dbus config org.freedesktop.DBus.Properties.Get c IPv4ICMPTypes", "exit 0\n[\"echo-request\", \"ping\"]", "exit 0\n[\"echo-request\"]"),
		stepThat("dbus / direct.addChain eb filter \"'a b'\"", "exit 0", "exit 1\nstderr: x: INVALID_CHAIN: cannot use chain \"a b\": x"),
		stepThat("dbus / direct.addChain eb filter \"'a b'\"", "exit 0", "exit 1\nstderr: x: \"INVALID_CHAIN: cannot use chain \\\"a b\\\": x\""),
		stepThat("offline --remove-rich-rule=a --remove-rich-rule=b", "exit 0\nsuccess\nstderr: Warning: NOT_ENABLED: a\nstderr: Warning: INVALID_RULE: b", "exit 0\nsuccess\nstderr: Warning: INVALID_RULE: b\nstderr: Warning: NOT_ENABLED: a"),
		stepThat("$ --permanent --zone=work --add-source=ipset:ips", "exit 0\nsuccess", "exit 135\nstderr: Error: INVALID_IPSET: Zone 'work': ipset 'ips' with type 'hash:ip,port,net' not usable as source"),
		stepThat("dbus / resetToDefaults", "exit 1\nstderr: x: \"COMMAND_FAILED: Direct: '/usr/sbin/iptables-restore -w -n' failed: iptables-restore: line 2 failed\"", "exit 0"),
		stepThat("$ --reload", "exit 13\nstderr: Error: COMMAND_FAILED: '/usr/sbin/ipset restore' failed: ipset v7.17: Error in line 1: Kernel error received: set type not supported", "exit 135\nstderr: Error: INVALID_IPSET: Zone 'public': 'ports' not among existing ipsets"),
	} {
		if explain(d) == "" {
			t.Errorf("%s: %q and %q have no reason", d.what, d.theirs, d.ours)
		}
	}
}

// What both sides have printed is the same in another order only if each line of it has the same words, below the same object.
func TestOrderOfOutput(t *testing.T) {
	for _, c := range []struct {
		words, theirs, ours string
		want                bool
	}{
		{"--list-all", "public\n  services: ssh http\n  masquerade: no", "public\n  services: http ssh\n  masquerade: no", true},
		{"--list-all", "public\n  masquerade: yes\n  forward: no", "public\n  masquerade: no\n  forward: yes", false},
		{"--get-active-zones", "public\n  interfaces: eth0\nwork\n  interfaces: eth1", "work\n  interfaces: eth1\npublic\n  interfaces: eth0", true},
		{"--get-active-zones", "public\n  interfaces: eth0\nwork\n  interfaces: eth1", "public\n  interfaces: eth1\nwork\n  interfaces: eth0", false},
		{"--get-all-rules", "ipv4 filter INPUT 0 -s 1.1.1.1 -j DROP\nipv4 filter INPUT 1 -j ACCEPT", "ipv4 filter INPUT 1 -s 1.1.1.1 -j DROP\nipv4 filter INPUT 0 -j ACCEPT", false},
		{"--list-rich-rules", "rule source address=1.1.1.1 destination address=2.2.2.2 drop", "rule source address=2.2.2.2 destination address=1.1.1.1 drop", false},
		{"--list-services", "ssh http", "http ssh", true},
		{"--list-services", "ssh http", "http", false},
	} {
		words := []string{"firewall-cmd", c.words}
		if got := sortedListing(words, c.theirs) == sortedListing(words, c.ours); got != c.want {
			t.Errorf("%s: %q and %q are the same is %v, want %v", c.words, c.theirs, c.ours, got, c.want)
		}
	}
}

// On the bus the elements of a list have no order. Whose they are, and the words of a direct rule, have one.
func TestOrderOnTheBus(t *testing.T) {
	zones := func(public, work []string) map[string]map[string][]string {
		return map[string]map[string][]string{"public": {"interfaces": public}, "work": {"interfaces": work}}
	}
	rules := func(words ...string) [][]any { return [][]any{{"ipv4", "filter", "INPUT", int32(0), words}} }
	for _, c := range []struct {
		method       string
		theirs, ours any
		want         bool
	}{
		{".zone.getActiveZones", zones([]string{"a", "b"}, nil), zones([]string{"b", "a"}, nil), true},
		{".zone.getActiveZones", zones([]string{"a"}, []string{"b"}), zones([]string{"b"}, []string{"a"}), false},
		{".direct.getAllRules", rules("-s", "a", "-d", "b"), rules("-s", "b", "-d", "a"), false},
		{".direct.getAllRules", append(rules("x"), rules("y")...), append(rules("y"), rules("x")...), true},
		{".policy.getPolicies", []string{"a", "b"}, []string{"b", "a"}, true},
	} {
		a, b := state{"bus x": asLines([]any{c.theirs}, unordered(c.method))}, state{"bus x": asLines([]any{c.ours}, unordered(c.method))}
		if got := len(compare(a, b, "")) == 0; got != c.want {
			t.Errorf("%s: %v and %v are the same is %v, want %v", c.method, c.theirs, c.ours, got, c.want)
		}
	}
}

// lostLines are the differences without a reason of two states; a text is the lines of a thing, or gone.
func lostLines(what, theirs, ours string, also scene) (out []difference) {
	states := [2]state{{}, {}}
	for i, from := range []state{also.theirs, also.ours} {
		for key, value := range from {
			states[i][key] = value
		}
		if text := []string{theirs, ours}[i]; text != gone {
			states[i][what] = elementsOf(lines(text))
		}
		states[i].bridges()
	}
	if also.session == nil {
		also.session = &session{}
	}
	for _, d := range compare(states[0], states[1], "") {
		d.scene = scene{also.session, also.before, states[0], states[1]}
		if explain(d) == "" {
			out = append(out, d)
		}
	}
	return out
}

// A rule or a setting that richwall has lost, or has beyond what firewalld has, is not excused by what else differs beside it.
func TestLostIsNotExcused(t *testing.T) {
	for _, c := range []struct{ what, theirs, ours string }{
		{"ebtables-save filter FORWARD_direct", "RETURN\n-A FORWARD_direct -s 00:11:22:33:44:55 -j DROP", gone},
		{"ebtables-save filter FORWARD_direct", "ACCEPT\n-A FORWARD_direct -s 00:11:22:33:44:55 -j DROP\n-A FORWARD_direct -j RETURN", "RETURN"},
		{"ebtables-save filter INPUT", "ACCEPT\n-A INPUT -j INPUT_direct", "ACCEPT"},
		{"ebtables-save filter mychain", "ACCEPT\n-A mychain -s 00:11:22:33:44:55 -j DROP\n-A mychain -j RETURN", "RETURN"},
		{"ebtables-save filter INPUT", "DROP", "ACCEPT"},
		{"file zones/public.xml", "  <port port=\"1000-2000\" protocol=\"tcp\"/>", ""},
		{"file zones/public.xml", "  <port port=\"1000-2000\" protocol=\"tcp\"/>\n  <port port=\"1500-2010\" protocol=\"tcp\"/>", "  <port port=\"1000-2000\" protocol=\"tcp\"/>"},
		{"file zones/public.xml", "", "  <interface name=\"eth0\"/>"},
		{"file zones/public.xml", "  <rule>\n    <service name=\"a\"/>\n    <accept/>\n  </rule>\n  <rule>\n    <service name=\"b\"/>\n    <drop/>\n  </rule>",
			"  <rule>\n    <service name=\"b\"/>\n    <accept/>\n  </rule>\n  <rule>\n    <service name=\"a\"/>\n    <drop/>\n  </rule>"},
		{"file services/x.xml", "  <module name=\"nf_conntrack_ftp\"/>\n  <port port=\"21\" protocol=\"tcp\"/>", "  <module name=\"ftp\"/>"},
		{"file services/x.xml", "  <module name=\"nf_conntrack_ftp\"/>", ""},
		{"file direct.xml", "<direct>\n  <rule>x</rule>\n</direct>", gone},
		{"bus listServices", "\"ssh\"\n\"http\"", ""},
		{"bus getDefaultZone", "\"x COMMAND_FAILED: 'handle'\"", "\"anything\""},
		{"nft chain nat_PRE_public_allow", "tcp dport 1 redirect to :0\nip saddr 1.2.3.4 tcp dport 80 dnat ip to 10.0.0.1:80", "tcp dport 1 redirect"},
		{"nft chain nat_PRE_public_allow", "tcp dport 80 dnat ip to 10.0.0.1:8080", "tcp dport 80 dnat ip to 10.0.0.1:80"},
		{"nft chain mangle_PRE_public_allow", "meta mark set meta mark & 0xffffffef ^ 0x10", "meta mark set meta mark & 0xffffffef ^ 0x20"},
		{"nft chain raw_output", gone, "type filter hook output priority raw; policy drop;"},
		{"ipset nets", "create nets hash:net\nadd nets 192.0.2.0/24", gone},
		{"iptables-save filter INPUT_direct", "-A INPUT_direct -j DROP", ""},
		{"iptables-save filter mychain", gone, "-\n-A mychain -j ACCEPT"},
	} {
		if len(lostLines(c.what, c.theirs, c.ours, scene{theirs: state{"bus direct.getAllChains": {`("ipv4", "filter", "mychain")`}}, ours: state{"bus direct.getAllChains": {`("ipv4", "filter", "mychain")`}}})) == 0 {
			t.Errorf("%s: %q and %q are excused", c.what, c.theirs, c.ours)
		}
	}
}

// Where a restart has to take out what a process before has left, the rules of the direct interface have to be there.
func TestRestartKeepsDirectRules(t *testing.T) {
	at := func(rules ...string) scene {
		s := state{"bus direct.getAllRules": rules}
		return scene{session: &session{conf: map[string]string{"CleanupOnExit": "no"}}, before: []step{{verb: "restart"}}, theirs: s, ours: s}
	}
	rule := `("ipv4", "filter", "INPUT", 0, ["-j", "DROP"])`
	if len(lostLines("iptables-save filter INPUT_direct", "-A INPUT_direct -j DROP", "", at(rule))) == 0 {
		t.Error("a rule that the direct interface has is lost, and excused")
	}
	if found := lostLines("iptables-save filter INPUT_direct", "-A INPUT_direct -j DROP", "", at()); len(found) > 0 {
		t.Errorf("a rule that the direct interface does not have is not excused: %v", found)
	}
}

// What only is told in another way is excused.
func TestOtherSpellingIsExcused(t *testing.T) {
	for _, c := range []struct{ what, theirs, ours string }{
		{"ebtables-save filter FORWARD_direct", "ACCEPT\n-A FORWARD_direct -j RETURN", gone},
		{"ebtables-save filter mychain", "ACCEPT\n-A mychain -s 00:11:22:33:44:55 -j DROP\n-A mychain -j RETURN", "RETURN\n-A mychain -s 00:11:22:33:44:55 -j DROP"},
		{"file zones/public.xml", "  <source-port port=\"1990-2010\" protocol=\"udp\"/>\n  <source-port port=\"1000-2000\" protocol=\"udp\"/>", "  <source-port port=\"1000-2010\" protocol=\"udp\"/>"},
		{"file zones/public.xml", "  <forward-port port=\"ssh-http\" protocol=\"tcp\" to-port=\"80-80\"/>", "  <forward-port port=\"22-80\" protocol=\"tcp\" to-port=\"80\"/>"},
		{"file services/x.xml", "  <module name=\"nf_conntrack_netbios_ns\"/>", "  <module name=\"netbios-ns\"/>"},
		{"file direct.xml", "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<direct>\n</direct>", gone},
		{"nft chain mangle_PRE_public_allow", "meta mark set meta mark & 0x00000000 ^ 0x10", "meta mark set meta mark & 0xffffffef ^ 0x10"},
	} {
		if found := lostLines(c.what, c.theirs, c.ours, scene{}); len(found) > 0 {
			t.Errorf("%s: %q and %q have no reason", c.what, c.theirs, c.ours)
		}
	}
}

// In panic mode the policies of ebtables are excused where richwall drops what is bridged by a table of its own, and only there.
func TestPanicModeOfBridges(t *testing.T) {
	drop := []string{"type filter hook prerouting priority dstnat + 9; policy drop;"}
	on, off := []string{"true"}, []string{"false"}
	table := func(panic []string, out []string) state {
		return state{"bus queryPanicMode": panic, "nft bridge firewalld_policy_drop chain raw_prerouting": drop, "nft bridge firewalld_policy_drop chain raw_output": out}
	}
	for _, c := range []struct {
		what, theirs, ours string
		they, we           state
		want               bool
	}{
		{"ebtables-save filter FORWARD", "DROP", gone, state{"bus queryPanicMode": on}, table(on, drop), true},
		{"ebtables-save nat PREROUTING", "DROP", "ACCEPT", state{"bus queryPanicMode": on}, table(on, drop), true},
		{"ebtables-save filter FORWARD", "DROP", gone, state{"bus queryPanicMode": on}, table(off, drop), false},
		{"ebtables-save filter FORWARD", "DROP", gone, state{"bus queryPanicMode": off}, table(on, drop), false},
		{"ebtables-save filter FORWARD", "DROP", gone, state{"bus queryPanicMode": on}, table(on, nil), false},
		{"ebtables-save filter FORWARD", "DROP", gone, state{"bus queryPanicMode": on}, table(on, append(drop, "accept")), false},
		{"ebtables-save filter FORWARD", "DROP\n-A FORWARD -s 00:11:22:33:44:55 -j DROP", gone, state{"bus queryPanicMode": on}, table(on, drop), false},
		{"nft bridge firewalld_policy_drop chain raw_output", gone, drop[0], state{}, table(on, drop), true},
		{"nft bridge firewalld_policy_drop chain raw_output", gone, drop[0], state{}, table(off, drop), false},
	} {
		d := difference{what: c.what, theirs: c.theirs, ours: c.ours, lost: lines(c.theirs), more: lines(c.ours), scene: scene{session: &session{backend: "iptables"}, theirs: c.they, ours: c.we}}
		if got := explain(d) != ""; got != c.want {
			t.Errorf("%s: %q and %q are excused is %v, want %v", c.what, c.theirs, c.ours, got, c.want)
		}
	}
}

// A MAC address in small letters of a zone is the same as one in capitals, but nothing else is found in another zone.
func TestMACAddressInOtherCase(t *testing.T) {
	d := stepThat("$ --zone=drop --add-source=aa:bb:cc:dd:ee:ff", "exit 0\nsuccess", "exit 18\nstderr: Error: ZONE_CONFLICT: 'AA:BB:CC:DD:EE:FF' already bound to a zone")
	d.before = []step{{verb: "$", words: []string{"--permanent", "--zone=work", "--add-source=aa:bb:cc:dd:ee:ff"}}}
	if explain(d) == "" {
		t.Error("a MAC address that a zone has in small letters has no reason")
	}
	d.before[0].words[2] = "--add-source=AA:BB:CC:DD:EE:FF"
	if reason := explain(d); reason != "" {
		t.Errorf("a MAC address that both have in capitals is excused: %s", reason)
	}
}

// A module that a service has under two names is one, but none of them is lost.
func TestModulesUnderTwoNames(t *testing.T) {
	both := []string{`  <module name="nf_conntrack_ftp"/>`, `  <module name="ftp"/>`, `  <module name="sip"/>`}
	if same("file services/app.xml", both, []string{`  <module name="ftp"/>`, `  <module name="sip"/>`}) == "" {
		t.Error("a module that is named twice has no reason")
	}
	if reason := same("file services/app.xml", both, []string{`  <module name="ftp"/>`}); reason != "" {
		t.Errorf("a module that is lost is excused: %s", reason)
	}
}

// Where firewalld crashes as something has a timeout, richwall may refuse a reload for a direct rule of a chain that is not there, and for
// nothing else.
func TestReloadThatBothRefuse(t *testing.T) {
	const crash = "exit 1\nstderr: x: \"dictionary changed size during iteration\""
	timed := []step{{verb: "$", words: []string{"--timeout=10m", "--add-service=ssh"}}}
	for _, c := range []struct {
		ours   string
		before []step
		want   bool
	}{
		{"exit 1\nstderr: x: \"COMMAND_FAILED: direct: direct.xml:3: -A x: chain x: there is no such chain in table raw of ip6tables\"", timed, true},
		{"exit 1\nstderr: x: \"COMMAND_FAILED: direct: direct.xml:3: -A x: chain x: there is no such chain in table raw of ip6tables\"", nil, false},
		{"exit 1\nstderr: x: \"COMMAND_FAILED: cannot change the rules of bridges in table filter: ebtables-restore v1.8.9 (nf_tables): Problem with the specified Ethernet protocol 'tcp'\"", timed, true},
		{"exit 1\nstderr: x: \"COMMAND_FAILED: cannot change the rules of bridges in table filter: ebtables-restore v1.8.9 (nf_tables): Problem with the specified Ethernet protocol 'tcp'\"", nil, false},
		{"exit 1\nstderr: x: \"COMMAND_FAILED: the kernel says no\"", timed, false},
	} {
		d := stepThat("dbus / setLogDenied all", crash, c.ours)
		d.before = c.before
		if got := explain(d) != ""; got != c.want {
			t.Errorf("%q is excused is %v, want %v", c.ours, got, c.want)
		}
	}
}

// A service is excused to be gone from a policy where its helper is not there, and no other one.
func TestServiceWithoutItsHelper(t *testing.T) {
	theirs := state{"bus getHelpers": {`"tftp"`}, "file services/ftp.xml": {`  <helper name="a b"/>`}, "file services/tftp.xml": {`  <helper name="tftp"/>`}}
	for ours, want := range map[string]bool{`services: ["tftp"]`: true, `services: ["ftp"]`: false, `services: []`: false, `services: ["tftp", "ssh"]`: false} {
		const both = `services: ["ftp", "tftp"]`
		d := difference{what: "bus policy.getPolicySettings x", theirs: both, ours: ours, lost: lines(both), more: lines(ours), scene: scene{theirs: theirs}}
		if got := explain(d) != ""; got != want {
			t.Errorf("%s and %s are excused is %v, want %v", both, ours, got, want)
		}
	}
}

// A start is excused to fail for a service whose helper is not there, and for no other service, nor for anything else.
func TestStartWithoutAHelper(t *testing.T) {
	theirs := state{"bus getHelpers": {`"tftp"`}, "file services/ftp.xml": {`  <helper name="a b"/>`}, "file services/tftp.xml": {`  <helper name="tftp"/>`}}
	for message, want := range map[string]bool{
		"p.xml:19:3: INVALID_SERVICE: cannot use service ftp: there is no such service: did you mean ntp? It is left out": true,
		"p.xml:19:3: INVALID_SERVICE: cannot use service tftp: there is no such service: it is left out":                  false,
		"p.xml:19:3: INVALID_ZONE: x": false,
	} {
		d := difference{what: life, lost: []string{"RUNNING"}, more: []string{"FAILED", message}, scene: scene{theirs: theirs}}
		if got := explain(d) != ""; got != want {
			t.Errorf("%q is excused is %v, want %v", message, got, want)
		}
	}
}

// The policies of iptables are excused to come later than panic mode's answer where a table drops every packet, at that step alone.
func TestPanicModeWhileItIsCommitted(t *testing.T) {
	on, drop := []string{"true"}, []string{"type filter hook output priority -501; policy drop;"}
	panicOn, other := step{verb: "$", words: []string{"--panic-on"}}, step{verb: "$", words: []string{"--reload"}}
	for _, c := range []struct {
		last step
		out  []string
		want bool
	}{{panicOn, drop, true}, {other, drop, false}, {panicOn, nil, false}} {
		d := difference{what: "ip6tables-save filter FORWARD", lost: []string{"DROP"}, more: []string{"ACCEPT"}, scene: scene{session: &session{backend: "iptables"},
			before: []step{panicOn, c.last}, theirs: state{"bus queryPanicMode": on}, ours: state{"bus queryPanicMode": on, "nft chain raw_prerouting": drop, "nft chain raw_output": c.out}}}
		if got := explain(d) != ""; got != c.want {
			t.Errorf("behind %s, with %v, it is excused is %v, want %v", c.last, c.out, got, c.want)
		}
	}
}

// A helper that is not there is excused to be refused at a reload where the session has given it to a service.
func TestReloadWithoutAHelper(t *testing.T) {
	d := stepThat("$ --reload", "exit 0\nsuccess", "exit 138\nstderr: Error: INVALID_HELPER: cannot use helper a b: there is no such helper")
	if reason := explain(d); reason != "" {
		t.Errorf("a helper that nobody has given is excused: %s", reason)
	}
	d.before = []step{{verb: "$", words: []string{"--permanent", "--service=dns", "--add-helper=a b"}}}
	if explain(d) == "" {
		t.Error("a helper that is not there has no reason")
	}
}

// Over a switch to iptables firewalld may drop by its table and richwall by policies, where these drop what comes in and what is sent.
func TestPanicModeOverASwitch(t *testing.T) {
	on, drop := []string{"true"}, []string{"type filter hook output priority raw + 9; policy drop;"}
	theirs := state{"bus queryPanicMode": on, "nft chain raw_prerouting": drop, "nft chain raw_output": drop}
	for _, sent := range []string{"DROP", "ACCEPT"} {
		ours := state{"bus queryPanicMode": on}
		for _, tool := range []string{"iptables-save", "ip6tables-save"} {
			ours[tool+" raw PREROUTING"], ours[tool+" raw OUTPUT"] = []string{"DROP", "-A PREROUTING -j PREROUTING_direct"}, []string{sent}
		}
		for _, d := range []difference{
			{what: "ip6tables-save filter FORWARD", lost: []string{"ACCEPT"}, more: []string{"DROP"}},
			{what: "nft chain raw_output", lost: drop, more: []string{gone}},
		} {
			d.scene = scene{session: &session{backend: "nftables"}, theirs: theirs, ours: ours}
			if got := explain(d) != ""; got != (sent == "DROP") {
				t.Errorf("%s is excused is %v, where what is sent meets the policy %s", d.what, got, sent)
			}
		}
	}
}

// The entries that a set had before its type changed are excused to be left out without flushing, where a set was changed.
func TestReloadThatChangesASet(t *testing.T) {
	d := stepThat("$ --reload", "exit 136\nstderr: Error: INVALID_ENTRY: invalid mac address '192.0.2.1' in '192.0.2.1'", "exit 0\nsuccess")
	changed := []step{{verb: "$", words: []string{"--permanent", "--new-ipset=ips", "--type=hash:mac"}}}
	for flush, want := range map[string]bool{"no": true, "yes": false} {
		d.scene = scene{session: &session{conf: map[string]string{"FlushAllOnReload": flush}}, before: changed}
		if got := explain(d) != ""; got != want {
			t.Errorf("with FlushAllOnReload=%s it is excused is %v, want %v", flush, got, want)
		}
	}
	d.scene = scene{session: &session{conf: map[string]string{"FlushAllOnReload": "no"}}}
	if reason := explain(d); reason != "" {
		t.Errorf("where no set was changed it is excused: %s", reason)
	}
}

// A reload that firewalld refuses for a chain of its own is excused where the session has put that chain into direct.xml.
func TestReloadWithAChainOfTheFirewall(t *testing.T) {
	d := stepThat("$ --reload", "exit 109\nstderr: Error: INVALID_CHAIN: Chain 'IN_public' is reserved", "exit 0\nsuccess")
	for _, c := range []struct {
		words []string
		want  bool
	}{
		{[]string{"--permanent", "--direct", "--add-chain", "ipv4", "security", "IN_public"}, true},
		{[]string{"--permanent", "--direct", "--add-chain", "ipv4", "security", "IN_work"}, false},
		{[]string{"--direct", "--add-chain", "ipv4", "security", "IN_public"}, false},
	} {
		d.before = []step{{verb: "$", words: c.words}}
		if got := explain(d) != ""; got != c.want {
			t.Errorf("behind %q it is excused is %v, want %v", c.words, got, c.want)
		}
	}
}
