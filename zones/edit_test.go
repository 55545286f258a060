package zones

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func builtins(t *testing.T) *Config {
	t.Helper()
	c, problems := Load(Dirs{})
	if c == nil {
		t.Fatal(problems)
	}
	return c
}

// must makes edits that are not refused.
func must(t *testing.T, c *Config, edits ...Edit) *Config {
	t.Helper()
	next, err := Apply(c, edits...)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// item splits "key part:part" at the first blank and the colons; the parts of a rule, source or entry stay together.
func item(text string) Item {
	key, rest, found := strings.Cut(text, " ")
	i := Item{Key: Key(key)}
	switch {
	case !found:
	case slices.Contains([]Key{KeyRule, KeySource, KeyEntry}, i.Key):
		i.Args = []string{rest}
	default:
		i.Args = strings.Split(rest, ":")
	}
	return i
}

var (
	publicZone = Object{KindZone, "public"}
	workZone   = Object{KindZone, "work"}
)

// prepared is the built-in configuration with an object of each kind to edit.
func prepared(t *testing.T) *Config {
	return must(t, builtins(t),
		New(Object{KindPolicy, "p"}, nil),
		New(Object{KindService, "app"}, nil),
		New(Object{KindIPSet, "s"}, Settings{KeyType: "hash:net"}),
		New(Object{KindICMPType, "it"}, Settings{KeyDestination: [][]string{{"ipv4"}}}),
		New(Object{KindHelper, "h"}, Settings{KeyModuleOf: "nf_conntrack_ftp"}))
}

// Every kind of item is added, added again, asked for, removed and removed again, in each scope. The texts are those of a
// running daemon, of the permanent configuration over D-Bus, and of a command.
func TestItems(t *testing.T) {
	zone, policy, service := Object{KindZone, "public"}, Object{KindPolicy, "p"}, Object{KindService, "app"}
	direct := Object{KindDirect, ""}
	tests := []struct {
		object        Object
		item          string
		already, gone [3]string // "" means that the same is no error
		removeWith    string    // "" means the item itself
		onlyIn        []Scope   // nil means all
	}{
		{zone, "service http", states("http", "public", ""), notStates("http", "public", ""), "", nil},
		{zone, "port 80-81:tcp", states("80-81:tcp", "public", "'"), notStates("80-81:tcp", "public", "'"), "", nil},
		{zone, "port https:tcp", states("https:tcp", "public", "'"), notStates("https:tcp", "public", "'"), "", nil},
		{zone, "source-port 68:udp", states("68:udp", "public", "'"), notStates("68:udp", "public", "'"), "", nil},
		{zone, "protocol gre", states("gre", "public", ""), notStates("gre", "public", ""), "", nil},
		{zone, "icmp-block echo-request", states("echo-request", "public", ""), notStates("echo-request", "public", ""), "", nil},
		{zone, "masquerade", [3]string{"ALREADY_ENABLED: masquerade", "ALREADY_ENABLED: masquerade already enabled in 'public'", ""},
			[3]string{"NOT_ENABLED: masquerade", "NOT_ENABLED: masquerade not enabled in 'public'", ""}, "", nil},
		{zone, "icmp-block-inversion",
			[3]string{"ALREADY_ENABLED: icmp-block-inversion", "ALREADY_ENABLED: icmp-block-inversion already enabled in 'public'", "ALREADY_ENABLED: icmp-block-inversion"},
			[3]string{"NOT_ENABLED: icmp-block-inversion", "NOT_ENABLED: icmp-block-inversion not enabled in 'public'", "NOT_ENABLED: icmp-block-inversion"}, "", nil},
		{zone, "forward-port http:tcp:8080:", states("http:tcp:8080:", "public", "'"), notStates("http:tcp:8080:", "public", "'"), "", nil},
		{zone, "interface eth0",
			[3]string{"ALREADY_ENABLED: eth0", "ZONE_ALREADY_SET: 'eth0' already bound to 'public'", "ALREADY_ENABLED: eth0"},
			[3]string{"NOT_ENABLED: eth0", "UNKNOWN_INTERFACE: 'eth0' is not in any zone", "NOT_ENABLED: eth0"}, "", nil},
		{zone, "source 192.0.2.0/24",
			[3]string{"ALREADY_ENABLED: 192.0.2.0/24", "ZONE_ALREADY_SET: '192.0.2.0/24' already bound to 'public'", "ALREADY_ENABLED: 192.0.2.0/24"},
			[3]string{"NOT_ENABLED: 192.0.2.0/24", "UNKNOWN_SOURCE: '192.0.2.0/24' is not in any zone", "NOT_ENABLED: 192.0.2.0/24"}, "", nil},
		{zone, "source 00:11:22:33:44:aa", // a daemon writes MAC addresses in capitals
			[3]string{"ALREADY_ENABLED: 00:11:22:33:44:aa", "ZONE_ALREADY_SET: '00:11:22:33:44:AA' already bound to 'public'", "ALREADY_ENABLED: 00:11:22:33:44:aa"},
			[3]string{"NOT_ENABLED: 00:11:22:33:44:aa", "UNKNOWN_SOURCE: '00:11:22:33:44:AA' is not in any zone", "NOT_ENABLED: 00:11:22:33:44:aa"}, "", nil},
		{zone, "rule rule   drop service name=ssh", // shown as given over D-Bus, else as it is printed
			[3]string{"ALREADY_ENABLED: rule   drop service name=ssh", `ALREADY_ENABLED: 'rule service name="ssh" drop' already in 'public'`, `ALREADY_ENABLED: rule service name="ssh" drop`},
			[3]string{"NOT_ENABLED: rule   drop service name=ssh", `NOT_ENABLED: 'rule service name="ssh" drop' not in 'public'`, `NOT_ENABLED: rule service name="ssh" drop`}, "", nil},
		{policy, "ingress-zone public", states("public", "p", ""), notStates("public", "p", ""), "", nil},
		{policy, "egress-zone HOST", states("HOST", "p", ""), notStates("HOST", "p", ""), "", nil},
		{policy, "service http", states("http", "p", ""), notStates("http", "p", ""), "", nil},
		{policy, "disable", [3]string{"ALREADY_ENABLED: disable", "ALREADY_ENABLED: disable already enabled in 'p'", ""},
			[3]string{"NOT_ENABLED: disable", "NOT_ENABLED: disable not enabled in 'p'", ""}, "", nil},
		{service, "port 80:tcp", states("80:tcp", "app", "'"), notStates("80:tcp", "app", "'"), "", []Scope{Permanent, Command}},
		{service, "source-port 80:tcp", states("80:tcp", "app", "'"), notStates("80:tcp", "app", "'"), "", []Scope{Permanent, Command}},
		{service, "protocol gre", states("gre", "app", ""), notStates("gre", "app", ""), "", []Scope{Permanent, Command}},
		{service, "module nf_conntrack_netbios_ns", states("netbios-ns", "app", ""), notStates("netbios-ns", "app", ""), "", []Scope{Permanent, Command}},
		{service, "helper ftp", states("ftp", "app", ""), notStates("ftp", "app", ""), "", []Scope{Permanent, Command}},
		{service, "include ssh", states("ssh", "app", ""), notStates("ssh", "app", ""), "", []Scope{Permanent, Command}},
		{service, "destination ipv4:192.0.2.1",
			[3]string{"ALREADY_ENABLED: 'ipv4': '192.0.2.1'", "", "ALREADY_ENABLED: 'ipv4:192.0.2.1'"},
			[3]string{"NOT_ENABLED: ipv4", "", "NOT_ENABLED: 'ipv4'"}, "destination ipv4", []Scope{Permanent, Command}},
		{Object{KindIPSet, "s"}, "entry 192.0.2.1/24",
			[3]string{"ALREADY_ENABLED: 192.0.2.0/24", "ALREADY_ENABLED: '192.0.2.0/24' already is in 's'", "ALREADY_ENABLED: 192.0.2.0/24"},
			[3]string{"NOT_ENABLED: 192.0.2.0/24", "NOT_ENABLED: '192.0.2.0/24' not in 's'", "NOT_ENABLED: 192.0.2.0/24"}, "", nil},
		{Object{KindIPSet, "s"}, "option maxelem:9",
			[3]string{"ALREADY_ENABLED: 'maxelem': '9'", "", "ALREADY_ENABLED: 'maxelem:9'"},
			[3]string{"NOT_ENABLED: maxelem", "", "NOT_ENABLED: 'maxelem'"}, "option maxelem", []Scope{Permanent, Command}},
		{Object{KindICMPType, "it"}, "destination ipv6", states("ipv6", "it", ""), notStates("ipv6", "it", ""), "", []Scope{Permanent, Command}},
		{Object{KindHelper, "h"}, "port 21:tcp", states("21:tcp", "h", "'"), notStates("21:tcp", "h", "'"), "", []Scope{Permanent, Command}},
		{direct, "chain ipv4:filter:mine", always("ALREADY_ENABLED: chain 'mine' already is in 'ipv4:filter'"),
			always("NOT_ENABLED: chain 'mine' is not in 'ipv4:filter'"), "", nil},
		{direct, "direct-rule ipv4:filter:INPUT:0:-j:ACCEPT", always("ALREADY_ENABLED: rule '-j ACCEPT' already is in 'ipv4:filter:INPUT'"),
			always("NOT_ENABLED: rule '-j ACCEPT' is not in 'ipv4:filter:INPUT'"), "", nil},
		{direct, "passthrough ipv6:-A:FORWARD:-j:DROP", always("ALREADY_ENABLED: passthrough 'ipv6', '-A FORWARD -j DROP'"),
			always("NOT_ENABLED: passthrough 'ipv6', '-A FORWARD -j DROP'"), "", nil},
	}
	before := prepared(t)
	for _, test := range tests {
		scopes := test.onlyIn
		if scopes == nil {
			scopes = []Scope{Permanent, Runtime, Command}
		}
		i := item(test.item)
		remove := i
		if test.removeWith != "" {
			remove = item(test.removeWith)
		}
		for _, s := range scopes {
			has := func(c *Config, want bool) {
				t.Helper()
				if got, err := Has(c, s, test.object, i); got != want || err != nil {
					t.Errorf("%v %s, scope %d: it has it: %v, %v", test.object, test.item, s, got, err)
				}
			}
			has(before, false)
			with := must(t, before, Add(s, test.object, i))
			has(with, true)
			if _, err := Apply(with, Add(s, test.object, i)); errorText(err) != test.already[s] {
				t.Errorf("%v %s, scope %d: added again: %v, want %s", test.object, test.item, s, err, test.already[s])
			}
			after := must(t, with, Remove(s, test.object, remove))
			has(after, false)
			if _, err := Apply(after, Remove(s, test.object, remove)); errorText(err) != test.gone[s] {
				t.Errorf("%v %s, scope %d: removed again: %v, want %s", test.object, test.item, s, err, test.gone[s])
			}
			a, _ := Get(before, s, test.object)
			if b, _ := Get(after, s, test.object); !reflect.DeepEqual(a, b) {
				t.Errorf("%v %s, scope %d: removed, there is left\n%v\nof\n%v", test.object, test.item, s, b, a)
			}
		}
	}
}

// states are the texts for an item that is there; quote is what commands put it in.
func states(shown, object, quote string) [3]string {
	return [3]string{
		"ALREADY_ENABLED: " + shown, "ALREADY_ENABLED: '" + shown + "' already in '" + object + "'", "ALREADY_ENABLED: " + quote + shown + quote,
	}
}

// notStates are the texts for an item that is not there.
func notStates(shown, object, quote string) [3]string {
	return [3]string{
		"NOT_ENABLED: " + shown, "NOT_ENABLED: '" + shown + "' not in '" + object + "'", "NOT_ENABLED: " + quote + shown + quote,
	}
}

func always(text string) [3]string { return [3]string{text, text, text} }

// What is not valid is refused when it is added. A running daemon says so as well when it is asked for or removed; in files
// it is just not there.
func TestItemsThatAreNotValid(t *testing.T) {
	tests := []struct{ object, item, refused, asked string }{
		{"zone public", "port 99999:tcp", "INVALID_PORT: ", "INVALID_PORT: "},
		{"zone public", "port 80:xx", `INVALID_PROTOCOL: cannot use protocol "xx" with a port`, ""},
		{"zone public", "protocol xx", "INVALID_PROTOCOL: ", "INVALID_PROTOCOL: "},
		{"zone public", "service htpp", "INVALID_SERVICE: cannot use service htpp: there is no such service: did you mean http?", "INVALID_SERVICE: "},
		{"zone public", "icmp-block echo", "INVALID_ICMPTYPE: ", "INVALID_ICMPTYPE: "},
		{"zone public", "forward-port 80:tcp::", "INVALID_FORWARD: cannot forward port 80: it has neither a port nor an address to go to", "INVALID_FORWARD: "},
		{"zone public", "forward-port 80:tcp:x:", "INVALID_PORT: ", "INVALID_PORT: "},
		{"zone public", "forward-port 80:tcp:1:192.0.2.0/24", "INVALID_ADDR: cannot forward to 192.0.2.0/24: it must be one address, not a prefix", "INVALID_ADDR: "},
		{"zone public", "interface a/b", "INVALID_INTERFACE: ", "INVALID_INTERFACE: "},
		{"zone public", "source 192.0.2.300", "INVALID_ADDR: ", "INVALID_ADDR: "},
		{"zone public", "source ipset:none", "INVALID_IPSET: cannot use ipset none: there is no such ipset", "INVALID_IPSET: "},
		{"zone public", "rule rule foo", "1:6: INVALID_RULE: ", "1:6: INVALID_RULE: "},
		{"zone public", "rule rule service name=none accept", "INVALID_SERVICE: ", ""},
		{"zone public", "prot tcp", "INVALID_OPTION: unknown setting prot of a zone: did you mean port?", "INVALID_OPTION: "},
		{"zone public", "target DROP", "INVALID_OPTION: cannot add or remove the target of a zone: it is a single value", "INVALID_OPTION: "},
		{"zone public", "port 80", `INVALID_TYPE: cannot use "80": it has 1 parts, not 2`, "INVALID_TYPE: "},
		{"zone none", "port 80:tcp", `INVALID_ZONE: there is no zone "none"`, "INVALID_ZONE: "},
		{"thing x", "port 80:tcp", "INVALID_OBJECT: cannot edit a thing", "INVALID_OBJECT: "},
		{"policy p", "ingress-zone none", "INVALID_ZONE: p: cannot use zone none: there is no such zone", ""},
		{"service app", "module x", "INVALID_MODULE: ", "INVALID_MODULE: "},
		{"service app", "include none", "INVALID_SERVICE: app: cannot include service none", ""},
		{"service app", "destination ipv4:2001:db8::1", "INVALID_TYPE: ", "INVALID_TYPE: "},
		{"service app", "destination ipv5:192.0.2.1", `INVALID_DESTINATION: cannot use destination "ipv5": it is ipv4 or ipv6`, ""},
		{"ipset s", "entry x", "INVALID_ENTRY: ", ""},
		{"ipset s", "option tmeout:5", "INVALID_IPSET: cannot use option tmeout: there is no such option: did you mean timeout?", ""},
		{"ipset s", "option timeout:x", "INVALID_VALUE: ", ""},
		{"ipset s", "option family:x", "INVALID_FAMILY: ", ""},
		{"icmptype it", "destination ipv5", `INVALID_DESTINATION: cannot use destination "ipv5"`, "INVALID_DESTINATION: "},
		{"direct ", "chain ipv4:filter:INPUT", "BUILTIN_CHAIN: chain 'INPUT' is built-in chain", "BUILTIN_CHAIN: "},
		{"direct ", "chain eb:filter:INPUT_direct", "BUILTIN_CHAIN: chain 'INPUT_direct' is reserved", "BUILTIN_CHAIN: "},
		{"direct ", "chain ipv4:filter:IN_public_allow", "INVALID_CHAIN: ", "INVALID_CHAIN: "},
		{"direct ", "chain ipv4:filter:ACCEPT", "INVALID_CHAIN: cannot use chain ACCEPT: that is a verdict of iptables", "INVALID_CHAIN: "},
		{"direct ", "direct-rule ipv6:raw:RETURN:0:-j:DROP", "INVALID_CHAIN: cannot use chain RETURN", "INVALID_CHAIN: "},
		{"direct ", "chain ipv4:fliter:x", `INVALID_TABLE: cannot use table "fliter"`, "INVALID_TABLE: "},
		{"direct ", "chain ipv4::x", `INVALID_TABLE: cannot use table ""`, "INVALID_TABLE: "},
		{"direct ", "direct-rule ipv4::INPUT:0:-j:DROP", "INVALID_TABLE: ", "INVALID_TABLE: "},
		{"direct ", "direct-rule ipv9:filter:INPUT:0:-j:DROP", "INVALID_IPV: ", "INVALID_IPV: "},
		{"direct ", "direct-rule ipv4:filter:INPUT:x:-j:DROP", "INVALID_PRIORITY: ", "INVALID_PRIORITY: "},
		{"direct ", "passthrough ipv4:-t:nosuch:-A:INPUT", `INVALID_PASSTHROUGH: cannot use table "nosuch"`, ""},
		{"direct ", "passthrough eb:-t:mangle:-A:INPUT", `INVALID_PASSTHROUGH: cannot use table "mangle"`, ""},
		{"direct ", "passthrough ipv4:-F", "INVALID_PASSTHROUGH: cannot use -F in a passthrough", ""},
		{"direct ", "passthrough ipv4:-j:DROP", "INVALID_PASSTHROUGH: cannot use a passthrough without -A, -I or -N", ""},
		{"direct ", "passthrough ipv4:-A", "INVALID_PASSTHROUGH: cannot use -A at the end of a passthrough: the chain is missing", ""},
	}
	c := prepared(t)
	for _, test := range tests {
		kind, name, _ := strings.Cut(test.object, " ")
		o, i := Object{Kind(kind), name}, item(test.item)
		if _, err := Apply(c, Add(Runtime, o, i)); !strings.HasPrefix(errorText(err), test.refused) {
			t.Errorf("%v %s: added: %v, want %s", o, test.item, err, test.refused)
		}
		there, err := Has(c, Runtime, o, i)
		if test.asked == "" && err != nil || !strings.HasPrefix(errorText(err), test.asked) || there {
			t.Errorf("%v %s: asked for: %v, %v, want %s", o, test.item, there, err, test.asked)
		}
		switch test.asked {
		case "INVALID_OPTION: ", "INVALID_TYPE: ", "INVALID_ZONE: ", "INVALID_OBJECT: ", "1:6: INVALID_RULE: ":
			continue // these are no items at all
		}
		if there, err := Has(c, Permanent, o, i); there || err != nil {
			t.Errorf("%v %s: in the files: %v, %v", o, test.item, there, err)
		}
	}
}

// Ports that overlap become one range, in the place of the last; a part of a range can be removed, and what is left goes
// to the end.
func TestPortRanges(t *testing.T) {
	c := builtins(t)
	step := func(edit func(Scope, Object, Item) Edit, port, want string) {
		t.Helper()
		c = must(t, c, edit(Runtime, publicZone, item("port "+port+":tcp")))
		got := []string{}
		for _, p := range c.Zones["public"].Ports {
			got = append(got, p.Port)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s", port, got, want)
		}
	}
	step(Add, "100-110", "100-110")
	step(Add, "200", "100-110 200")
	step(Remove, "103", "200 100-102 104-110")
	step(Add, "111-112", "200 100-102 104-110 111-112") // side by side is not the same
	step(Add, "90-101", "200 104-110 111-112 90-102")
	step(Remove, "90-100", "200 104-110 111-112 101-102")
	for _, part := range []string{"105-111", "112-113", "90"} { // not in one range
		if _, err := Apply(c, Remove(Runtime, publicZone, item("port "+part+":tcp"))); !strings.HasPrefix(errorText(err), "NOT_ENABLED") {
			t.Errorf("%s: %v", part, err)
		}
	}
	if _, err := Apply(c, Add(Runtime, publicZone, item("port 109-105:tcp"))); errorText(err) != "ALREADY_ENABLED: '109-105:tcp' already in 'public'" {
		t.Errorf("a part of a range is added: %v", err)
	}
}

// An interface or source belongs to one zone.
func TestBindings(t *testing.T) {
	for _, text := range []string{"interface eth0", "source 192.0.2.0/24", "source 00:11:22:33:44:AA"} {
		i := item(text)
		c := must(t, builtins(t), Add(Permanent, publicZone, i)).ForRuntime()
		refused := func(edit Edit, want string) {
			t.Helper()
			if _, err := Apply(c, edit); !strings.HasPrefix(errorText(err), want) {
				t.Errorf("%s: got %v, want %s", text, err, want)
			}
		}
		conflicts := func(edit Edit, want string) { // as scripts compare it
			t.Helper()
			var p *Problem
			if _, err := Apply(c, edit); !errors.As(err, &p) {
				t.Fatalf("%s: got %v, want ZONE_CONFLICT: %s", text, err, want)
			}
			if code, detail := p.Wire(); code != ZoneConflict || !strings.HasPrefix(detail, want) || !strings.Contains(p.Msg, "is bound to zone public") {
				t.Errorf("%s: got %s: %s (%s), want ZONE_CONFLICT: %s", text, code, detail, p.Msg, want)
			}
		}
		conflicts(Add(Runtime, workZone, i), "'"+i.String()+"' already bound to ")
		refused(Remove(Runtime, workZone, i), "ZONE_CONFLICT: cannot remove ")
		refused(Remove(Permanent, workZone, i), "NOT_ENABLED: "+i.String())
		refused(Rebind(Runtime, "none", i), "INVALID_ZONE")
		conflicts(Add(Permanent, workZone, i), i.String())
		if i.Key == KeyInterface {
			refused(Add(Command, workZone, i), "INVALID_INTERFACE: cannot bind interface eth0 to zone work: it is bound to zone public")
		} else {
			refused(Add(Command, workZone, i), "INVALID_ADDR: cannot bind source ")
		}
		lower := Item{i.Key, []string{strings.ToLower(i.String())}} // a daemon knows MAC addresses in either case
		c = must(t, c, Rebind(Runtime, "work", lower))
		if zone, err := ZoneOf(c, Runtime, lower); zone != "work" || err != nil {
			t.Errorf("%s moved to %q, %v", text, zone, err)
		}
		c = must(t, c, Remove(Runtime, Object{KindZone, ""}, i))
		if zone, err := ZoneOf(c, Runtime, i); zone != "" || err != nil {
			t.Errorf("%s removed without a zone's name: it is in %q, %v", text, zone, err)
		}
		c = must(t, c, Add(Runtime, Object{KindZone, ""}, i))
		if zone, _ := ZoneOf(c, Runtime, i); zone != "public" {
			t.Errorf("%s added without a zone's name: it is in %q", text, zone)
		}
	}
}

// A clamp to the path MTU can be spelled in two ways, which are one rule.
func TestClampSpellings(t *testing.T) {
	short, long := item("rule rule priority=5 tcp-mss-clamp"), item("rule rule tcp-mss-clamp value=pmtu priority=5")
	for _, pair := range [][2]Item{{short, long}, {long, short}} {
		c := must(t, builtins(t), Add(Runtime, publicZone, pair[0]))
		if there, err := Has(c, Runtime, publicZone, pair[1]); !there || err != nil {
			t.Errorf("%s is not %s", pair[1], pair[0])
		}
		if c = must(t, c, Remove(Runtime, publicZone, pair[1])); len(c.Zones["public"].Rules) != 0 {
			t.Errorf("%s was not removed by %s", pair[0], pair[1])
		}
	}
}

func TestUpdate(t *testing.T) {
	c := prepared(t)
	many := Settings{
		KeyTarget: "DROP", KeyIngressPriority: -4, KeyForward: false, KeyShort: "A", KeyMasquerade: true,
		KeyPort: [][]string{{"80-90", "tcp"}, {"85-99", "tcp"}}, KeyService: [][]string{{"ssh"}, {"ssh"}},
		KeyRule: [][]string{{"rule service name=ssh accept"}, {`rule  service name="ssh" accept`}},
	}
	c = must(t, c, Update(Permanent, publicZone, many))
	z := c.Zones["public"]
	if z.Target != "DROP" || z.IngressPriority != -4 || z.Forward || z.Short != "A" || !z.Masquerade ||
		!slices.Equal(z.Ports, []Port{{"80-99", "tcp"}}) || !slices.Equal(z.Services, []string{"ssh"}) || len(z.Rules) != 1 {
		t.Errorf("got %+v", z)
	}
	if !z.Origin.Shadows || z.Origin.Builtin {
		t.Errorf("a shipped zone that was changed hides the shipped one: %+v", z.Origin)
	}
	if c = must(t, c, Update(Permanent, publicZone, Settings{KeyPort: [][]string{}})); c.Zones["public"].Ports != nil || c.Zones["public"].Short != "A" {
		t.Errorf("only the ports go: %+v", c.Zones["public"])
	}
	tests := []struct {
		scope   Scope
		object  Object
		change  Settings
		refused string
	}{
		{Permanent, publicZone, Settings{"foo": "x"}, "INVALID_OPTION: unknown setting foo of a zone"},
		{Permanent, publicZone, Settings{KeyPort: "80/tcp"}, "INVALID_TYPE: "},
		{Permanent, publicZone, Settings{KeyMasquerade: "yes"}, "INVALID_TYPE: "},
		{Permanent, publicZone, Settings{KeyTarget: 5}, "INVALID_TYPE: "},
		{Permanent, publicZone, Settings{KeyTarget: "REJECT"}, "INVALID_TARGET: "},
		{Permanent, publicZone, Settings{KeyIngressPriority: 40000}, "INVALID_PRIORITY: cannot use priority 40000: it must be from -32768 to 32767"},
		{Permanent, publicZone, Settings{KeyService: [][]string{{"none"}}}, "INVALID_SERVICE: "},
		{Runtime, publicZone, Settings{KeyTarget: "DROP"}, ""}, // it is DROP
		{Runtime, publicZone, Settings{KeyTarget: "ACCEPT"}, "INVALID_SETTING: "},
		{Runtime, publicZone, Settings{KeyIngressPriority: 7}, "INVALID_SETTING: "},
		{Permanent, Object{KindPolicy, "p"}, Settings{KeyPriority: 0}, "INVALID_PRIORITY: cannot use priority 0"},
		{Permanent, Object{KindPolicy, "p"}, Settings{KeyTarget: "default"}, "INVALID_TARGET: "},
		{Permanent, Object{KindPolicy, "p"}, Settings{KeyIngressZone: [][]string{{"ANY"}, {"public"}}}, "INVALID_ZONE: p: cannot use ANY beside"},
		{Permanent, Object{KindPolicy, "p"}, Settings{KeyEgressZone: [][]string{{"HOST"}}, KeyMasquerade: true}, "INVALID_ZONE: p: cannot masquerade towards HOST"},
		{Permanent, Object{KindIPSet, "s"}, Settings{KeyType: "hash:foo"}, "INVALID_TYPE: "},
		{Permanent, Object{KindIPSet, "s"}, Settings{KeyEntry: [][]string{{"192.0.2.0/24"}, {"192.0.2.1"}}}, ""}, // the compiler merges them
		{Permanent, Object{KindHelper, "h"}, Settings{KeyModuleOf: "ftp"}, "INVALID_MODULE: "},
		{Permanent, Object{KindHelper, "h"}, Settings{KeyFamily: "inet"}, "INVALID_IPV: "},
	}
	for _, test := range tests {
		if _, err := Apply(c, Update(test.scope, test.object, test.change)); test.refused == "" && err != nil || !strings.HasPrefix(errorText(err), test.refused) {
			t.Errorf("%v %v: got %v, want %s", test.object, test.change, err, test.refused)
		}
	}
}

// A set with a timeout has no entries in files, and those of a running daemon are not listed.
func TestSetsWithTimeout(t *testing.T) {
	set, entry := Object{KindIPSet, "s"}, item("entry 192.0.2.1")
	c := must(t, prepared(t), Add(Permanent, set, entry))
	if _, err := Apply(c, Add(Permanent, set, item("option timeout:5"))); !strings.HasPrefix(errorText(err), "IPSET_WITH_TIMEOUT") {
		t.Errorf("a set with entries gets a timeout: %v", err)
	}
	if _, err := Apply(c, Add(Permanent, set, item("option family:inet6"))); !strings.HasPrefix(errorText(err), "INVALID_ENTRY") {
		t.Errorf("a set with IPv4 entries becomes one for IPv6: %v", err)
	}
	c = must(t, c, Remove(Permanent, set, entry), Add(Permanent, set, item("option timeout:5")))
	for _, edit := range []Edit{Add(Permanent, set, entry), Remove(Permanent, set, entry), Update(Permanent, set, Settings{KeyEntry: [][]string{{"192.0.2.1"}}})} {
		if _, err := Apply(c, edit); !strings.HasPrefix(errorText(err), "IPSET_WITH_TIMEOUT") {
			t.Errorf("got %v", err)
		}
	}
	next := must(t, c, Add(Runtime, set, entry), Update(Runtime, set, Settings{KeyEntry: [][]string{{"192.0.2.2"}}}))
	if next.IPSets["s"].Entries != nil {
		t.Errorf("the running set has %v", next.IPSets["s"].Entries)
	}
	if _, err := Has(c, Runtime, set, entry); errorText(err) != "IPSET_WITH_TIMEOUT: s" {
		t.Errorf("asked for an entry: %v", err)
	}
}

// An ICMP type without destinations is for both IP versions.
func TestDestinationsOfICMPTypes(t *testing.T) {
	o := Object{KindICMPType, "any"}
	c := must(t, builtins(t), New(o, nil))
	if there, err := Has(c, Permanent, o, item("destination ipv6")); !there || err != nil {
		t.Errorf("it has ipv6: %v, %v", there, err)
	}
	c = must(t, c, Remove(Permanent, o, item("destination ipv4")))
	if got := c.ICMPTypes["any"].Destinations; !slices.Equal(got, []string{"ipv6"}) {
		t.Errorf("without ipv4 it has %v", got)
	}
}

func TestObjects(t *testing.T) {
	zone := func(name string) Object { return Object{KindZone, name} }
	c := must(t, builtins(t), New(zone("mine"), nil), SetDefaultZone("mine", true), New(Object{KindService, "app"}, nil),
		Add(Permanent, zone("mine"), item("service app")), New(Object{KindService, "inner"}, nil),
		Add(Permanent, Object{KindService, "app"}, item("include inner")))
	shipped := builtins(t)
	tests := []struct {
		edit    Edit
		refused string
	}{
		{New(zone("mine"), nil), "NAME_CONFLICT: cannot make zone mine: there is one of that name"},
		{New(zone("public"), nil), "NAME_CONFLICT: "},
		{New(zone("a.b"), nil), "INVALID_NAME: "},
		{New(zone(""), nil), "INVALID_NAME: "},
		{New(zone("../x"), nil), "INVALID_NAME: "},
		{New(zone("allow-host-ipv6"), nil), "NAME_CONFLICT: cannot make zone allow-host-ipv6: there is a policy of that name"},
		{New(Object{KindPolicy, "a/b"}, nil), "INVALID_NAME: "},
		{New(zone("z"), Settings{"foo": 1}), "INVALID_OPTION: "},
		{New(Object{KindIPSet, "n"}, nil), "INVALID_TYPE: "},
		{New(Object{KindHelper, "n"}, nil), "INVALID_MODULE: "},
		{New(Object{KindDirect, ""}, nil), "INVALID_OBJECT: "},
		{Delete(zone("public")), "BUILTIN_ZONE: 'public' is built-in zone"},
		{Delete(Object{KindService, "ssh"}), "BUILTIN_SERVICE: 'ssh' is built-in service"},
		{Delete(Object{KindICMPType, "echo-request"}), "BUILTIN_ICMPTYPE: 'echo-request' is built-in icmp type"},
		{Delete(Object{KindHelper, "ftp"}), "BUILTIN_HELPER: 'ftp' is built-in helper"},
		{Delete(Object{KindPolicy, "allow-host-ipv6"}), "UNKNOWN_ERROR: 'allow-host-ipv6' is built-in policy"},
		{Rename(zone("public"), "x"), "BUILTIN_ZONE: "},
		{Rename(zone("mine"), "public"), "NAME_CONFLICT: "},
		{Rename(zone("mine"), "a.b"), "INVALID_NAME: "},
		{Rename(zone("mine"), "allow-host-ipv6"), "NAME_CONFLICT: "},
		{LoadDefaults(zone("public"), shipped), "NO_DEFAULTS: public"},
		{LoadDefaults(zone("mine"), shipped), "NO_DEFAULTS: 'mine' not a built-in zone"},
		{SetDefaultZone("mine", true), "ZONE_ALREADY_SET: mine"},
		{SetDefaultZone("none", true), "INVALID_ZONE: "},
		{SetLogDenied("off", true), "ALREADY_SET: off"},
		{SetLogDenied("al", true), "INVALID_VALUE: cannot set LogDenied to al: it must be one of all, unicast, broadcast, multicast, off: did you mean all?"},
		{SetConf("CleanupOnExit", "perhaps"), "INVALID_VALUE: "},
		{SetConf("CleanOnExit", "no"), "INVALID_OPTION: "},
		{SetConf("DefaultZone", "pubic"), `INVALID_ZONE: there is no zone "pubic": did you mean public?`},
	}
	for _, test := range tests {
		if _, err := Apply(c, test.edit); !strings.HasPrefix(errorText(err), test.refused) {
			t.Errorf("got %v, want %s", err, test.refused)
		}
	}
	if next := must(t, c, Rename(zone("mine"), "ours")); next.Conf.DefaultZone != "ours" || next.Zones["mine"] != nil {
		t.Errorf("renamed, the default zone is %s", next.Conf.DefaultZone)
	}
	if next := must(t, c, Delete(zone("mine"))); next.Conf.DefaultZone != "public" {
		t.Errorf("without its zone, the default zone is %s", next.Conf.DefaultZone)
	}
	changed := must(t, c, Add(Permanent, publicZone, item("port 1:tcp")))
	if _, err := Apply(changed, Delete(publicZone)); !strings.HasPrefix(errorText(err), "BUILTIN_ZONE") {
		t.Errorf("a zone that hides a shipped one is deleted: %v", err)
	}
	if next := must(t, changed, LoadDefaults(publicZone, shipped)); next.Zones["public"] != shipped.Zones["public"] {
		t.Error("the shipped zone does not come back")
	}
	if value, ok := must(t, c, SetConf("CleanupOnExit", "False")).Conf.Value("CleanupOnExit"); value != "no" || !ok {
		t.Errorf("CleanupOnExit is %s", value)
	}
}

// A service that is renamed stays in the zones that name it. What else is changed then is refused only for what it brings
// itself, until the zone is mended.
func TestMending(t *testing.T) {
	app, mine := Object{KindService, "app"}, Object{KindZone, "mine"}
	c := must(t, builtins(t), New(app, nil), New(mine, nil), Add(Permanent, mine, item("service app")))
	broken := must(t, c, Rename(app, "app2"))
	if err := Check(broken).Err(); !strings.HasPrefix(errorText(err), "INVALID_SERVICE: mine: cannot use service app: there is no such service") {
		t.Errorf("without a service that a zone names, the check says %v", err)
	}
	must(t, broken, Add(Permanent, publicZone, item("port 1:tcp")))
	must(t, broken, Add(Permanent, mine, item("port 1:tcp")))
	for _, edit := range []Edit{
		Add(Permanent, publicZone, item("service app")),
		Add(Permanent, mine, item("service nosuch")),
		Add(Permanent, mine, item("rule rule service name=app accept")),
	} {
		if _, err := Apply(broken, edit); !strings.HasPrefix(errorText(err), "INVALID_SERVICE: ") {
			t.Errorf("beside a zone with a service that is gone, another such is refused with %v", err)
		}
	}
	if err := Check(must(t, broken, Remove(Permanent, mine, item("service app")))).Err(); err != nil {
		t.Errorf("mended, there is still %v", err)
	}
}

// A passthrough that is not there cannot be removed, whether the tools would take it or not.
func TestPassthroughNotThere(t *testing.T) {
	for _, text := range []string{"ipv4:-t:nosuch:-A:INPUT", "ipv4:-A:-x", "ipv4:-N:INPUT", "ipv4:-L", "ipv4:-A", "eb:-t:mangle:-A:INPUT"} {
		if _, err := Apply(builtins(t), Remove(Runtime, Object{KindDirect, ""}, item("passthrough "+text))); !strings.HasPrefix(errorText(err), "NOT_ENABLED: passthrough") {
			t.Errorf("%s: removed: %v, want NOT_ENABLED", text, err)
		}
	}
}

// A table without a name is none: not in a change, nor in direct.xml.
func TestTableWithoutName(t *testing.T) {
	if _, err := Apply(builtins(t), RemoveDirectRules("ipv4", "", "INPUT")); !strings.HasPrefix(errorText(err), "INVALID_TABLE") {
		t.Errorf("the rules of no table are removed: %v", err)
	}
	for _, text := range []string{`<chain ipv="ipv4" table="" chain="x"/>`, `<rule ipv="ipv4" table="" chain="INPUT" priority="0">-j ACCEPT</rule>`} {
		d, problems := ReadDirect([]byte("<direct>"+text+"</direct>"), "direct.xml")
		if len(problems) != 1 || problems[0].Code != InvalidTable || d != nil && len(d.Chains)+len(d.Rules) > 0 {
			t.Errorf("%s: read as %+v, with %v", text, d, problems)
		}
	}
}

func TestDirectOfOneChain(t *testing.T) {
	o := Object{KindDirect, ""}
	c := must(t, builtins(t), Add(Runtime, o, item("direct-rule ipv4:filter:INPUT:0:-j:ACCEPT")),
		Add(Runtime, o, item("direct-rule ipv4:filter:OUTPUT:0:-j:ACCEPT")), Add(Runtime, o, item("passthrough ipv4:-N:x")))
	c = must(t, c, RemoveDirectRules("ipv4", "filter", "INPUT"), RemoveDirectRules("ipv4", "filter", "none"), RemoveDirectPassthroughs())
	if len(c.Direct.Rules) != 1 || c.Direct.Rules[0].Chain != "OUTPUT" || c.Direct.Passthroughs != nil {
		t.Errorf("there is left %+v", c.Direct)
	}
	if _, err := Apply(c, RemoveDirectRules("ipv4", "none", "INPUT")); !strings.HasPrefix(errorText(err), "INVALID_TABLE") {
		t.Errorf("got %v", err)
	}
}

func TestDifference(t *testing.T) {
	old := must(t, builtins(t), New(Object{KindZone, "old"}, nil), Add(Permanent, publicZone, item("port 80-90:tcp")))
	next := must(t, old, Delete(Object{KindZone, "old"}), New(Object{KindIPSet, "s"}, Settings{KeyType: "hash:ip"}),
		Add(Permanent, publicZone, item("port 85-95:tcp")), Remove(Permanent, publicZone, item("service ssh")),
		Add(Permanent, publicZone, item("masquerade")), Add(Permanent, publicZone, item("rule rule service name=ssh drop")),
		Update(Permanent, publicZone, Settings{KeyShort: "x"}), SetLogDenied("all", true),
		Add(Permanent, Object{KindDirect, ""}, item("chain ipv4:filter:mine")))
	want := []Change{
		{Object: Object{KindIPSet, "s"}, Made: true},
		{Object: Object{KindZone, "old"}, Gone: true},
		{Object: publicZone, Values: []Key{KeyShort}, Removed: []Item{{KeyService, []string{"ssh"}}}, Added: []Item{
			{KeyPort, []string{"91-95", "tcp"}}, {KeyMasquerade, []string{}}, {KeyRule, []string{`rule service name="ssh" drop`}},
		}},
		{Object: Object{KindDirect, ""}, Added: []Item{{KeyChain, []string{"ipv4", "filter", "mine"}}}},
		{Object: Object{Kind: KindConf}, Values: []Key{"LogDenied"}},
	}
	if got := Difference(old, next); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if got := Difference(next, next); got != nil {
		t.Errorf("a configuration differs from itself: %v", got)
	}
}

// A deleted service or ICMP type goes from the lists of zones, of the parts of zones and of policies. Rich rules and services keep
// the name, as they may refuse something: the check says so.
func TestDeleteUnlists(t *testing.T) {
	policy := Object{KindPolicy, "p"}
	c := must(t, prepared(t), New(Object{KindZone, "two/part"}, nil))
	for _, o := range []Object{publicZone, workZone, {KindZone, "two/part"}, policy} {
		c = must(t, c, Add(Permanent, o, item("service app")), Add(Permanent, o, item("icmp-block it")))
	}
	c = must(t, c, Delete(Object{KindService, "app"}), Delete(Object{KindICMPType, "it"}))
	for name, content := range map[string]*Content{
		"public": &c.Zones["public"].Content, "work": &c.Zones["work"].Content, "two": &c.Zones["two"].Content, "p": &c.Policies["p"].Content,
	} {
		if slices.Contains(content.Services, "app") || slices.Contains(content.ICMPBlocks, "it") {
			t.Errorf("%s lists what was deleted: %v %v", name, content.Services, content.ICMPBlocks)
		}
	}
	if err := Check(c).Err(); err != nil {
		t.Error(err)
	}
	c = must(t, prepared(t), Add(Permanent, publicZone, item("service app")), Add(Permanent, publicZone, item("rule rule service name=app drop")))
	if c = must(t, c, Delete(Object{KindService, "app"})); Check(c).Err() == nil {
		t.Error("a rule about a service that was deleted is gone, or passes the check")
	}
}

// A chain of the direct interface stays for as long as a rule or passthrough is in it or jumps to it: no tool deletes it.
func TestChainsInUseDoNotGo(t *testing.T) {
	o := Object{KindDirect, ""}
	for _, test := range []struct {
		chain, other string // how the chain is made, and what else there is
		why          string // the refusal of its removal; "" if it may go
	}{
		{"chain ipv4:filter:mine", "direct-rule ipv4:filter:mine:0:-j:DROP", "the direct rule '-j DROP' of chain mine is in it"},
		{"chain ipv6:raw:mine", "direct-rule ipv6:raw:PREROUTING:0:-j:mine", "the direct rule '-j mine' of chain PREROUTING jumps to it"},
		{"chain ipv4:filter:mine", "direct-rule ipv4:filter:INPUT:0:--goto:mine", "jumps to it"},
		{"chain ipv4:filter:mine", "direct-rule ipv4:filter:INPUT:0:--jump=mine", "jumps to it"},
		{"chain ipv4:filter:mine", "direct-rule ipv4:filter:INPUT:0:-jmine", "jumps to it"},
		{"chain eb:nat:mine", "direct-rule eb:nat:PREROUTING:0:-j:mine", "jumps to it"},
		{"chain ipv4:filter:mine", "passthrough ipv4:-A:mine:-j:DROP", "is in it"},
		{"chain ipv4:nat:mine", "passthrough ipv4:-tnat:-I:POSTROUTING:2:-j:mine", "jumps to it"},
		{"chain eb:nat:mine", "passthrough eb:-t:nat:-A:PREROUTING:-j:mine", "jumps to it"},
		{"passthrough ipv4:-N:mine", "passthrough ipv4:-A:mine:-j:DROP", "is in it"},
		{"passthrough ipv4:-N:mine", "direct-rule ipv4:filter:INPUT:0:-j:mine", "jumps to it"},
		{"passthrough eb:-N:mine", "direct-rule eb:filter:mine:0:-j:DROP", "is in it"},
		{"chain ipv4:filter:mine", "direct-rule ipv4:filter:INPUT:0:-m:comment:--comment:-jmine:-j:DROP", ""},
		{"chain ipv4:filter:mine", "direct-rule ipv4:raw:PREROUTING:0:-j:mine", ""},
		{"chain ipv4:filter:mine", "direct-rule ipv6:filter:mine:0:-j:DROP", ""},
		{"chain ipv4:filter:mine", "passthrough ipv4:-N:mine", ""}, // which makes it as well
	} {
		with := must(t, builtins(t), Add(Runtime, o, item(test.chain)), Add(Runtime, o, item(test.other)))
		without := must(t, with, Remove(Runtime, o, item(test.chain)))
		err := CheckChainsGone(with.Direct, without.Direct)
		switch text := errorText(err); {
		case test.why == "" && err != nil, !strings.HasSuffix(text, test.why):
			t.Errorf("%s beside %s: got %v, want %q", test.chain, test.other, err, test.why)
		case err != nil && !strings.HasPrefix(text, "COMMAND_FAILED"):
			t.Errorf("%s beside %s: the code of %v is not COMMAND_FAILED", test.chain, test.other, err)
		}
		alone := must(t, with, Remove(Runtime, o, item(test.other)), Remove(Runtime, o, item(test.chain)))
		if err := CheckChainsGone(with.Direct, alone.Direct); err != nil {
			t.Errorf("%s without %s: %v", test.chain, test.other, err)
		}
	}
}

// With iptables the chains that the firewall makes beside the kernel's own are no chains for direct rules; with nftables they are, as there
// are none of these names.
func TestChainsBesideTheKernels(t *testing.T) {
	for backend, want := range map[string]string{"iptables": "BUILTIN_CHAIN: chain '%s' is reserved", "nftables": ""} {
		c := *prepared(t)
		conf := *c.Conf
		conf.FirewallBackend = backend
		c.Conf = &conf
		for _, chain := range []string{"INPUT_direct", "FORWARD_dispatch"} {
			_, err := Apply(&c, Add(Runtime, Object{Kind: KindDirect}, item("chain ipv4:filter:"+chain)))
			if text := strings.ReplaceAll(want, "%s", chain); want == "" && err != nil || !strings.HasPrefix(errorText(err), text) {
				t.Errorf("%s: %s: %v, want %q", backend, chain, err, text)
			}
		}
		if _, err := Apply(&c, Add(Runtime, Object{Kind: KindDirect}, item("chain ipv4:filter:PREROUTING_direct"))); err != nil {
			t.Errorf("%s: a chain that is beside none of the table's: %v", backend, err)
		}
	}
}
