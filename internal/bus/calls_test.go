package bus

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"richwall/internal/daemon"
)

func TestCallsOfOneClientTakeEffectInTheirOrder(t *testing.T) {
	b := newBed(t, nil)
	object := b.client.Object(base, root)
	const rounds = 300
	names := []string{"home", "work", "internal"}
	for i := range rounds {
		object.Go(base+".zone.changeZoneOfInterface", dbus.FlagNoReplyExpected, nil, names[i%len(names)], "eth0")
	}
	if got, want := b.must("", "zone.getZoneOfInterface", "eth0"), fmt.Sprintf("%q", names[(rounds-1)%len(names)]); got != want {
		t.Errorf("eth0 is in %s, want %s", got, want)
	}
	var moves []string
	for _, s := range b.told() {
		if strings.HasPrefix(s, "zone.ZoneOfInterfaceChanged") {
			moves = append(moves, s)
		}
	}
	for i, got := range moves {
		if want := fmt.Sprintf(`zone.ZoneOfInterfaceChanged("%s" "eth0")`, names[i%len(names)]); got != want {
			t.Fatalf("move %d is %s, want %s", i, got, want)
		}
	}
	if len(moves) != rounds {
		t.Errorf("%d moves were told, want %d", len(moves), rounds)
	}
}

func TestItemsOfAZone(t *testing.T) {
	b := newBed(t, nil)
	for _, c := range []struct {
		name   string
		args   []any
		answer string // "" for a refusal
		code   string // of the refusal
		tells  []string
	}{
		{"addService", []any{"", "ftp", 0}, `"public"`, "", []string{`zone.ServiceAdded("public" "ftp" 0)`}},
		{"addService", []any{"", "ftp", 0}, "", "ALREADY_ENABLED", nil},
		{"addService", []any{"", "nosuch", 0}, "", "INVALID_SERVICE", nil},
		{"addService", []any{"nosuch", "ftp", 0}, "", "INVALID_ZONE", nil},
		{"addService", []any{"", "http", -1}, "", "INVALID_VALUE", nil},
		{"getServices", []any{""}, `["ssh", "dhcpv6-client", "ftp"]`, "", nil},
		{"removeService", []any{"public", "ftp"}, `"public"`, "", []string{`zone.ServiceRemoved("public" "ftp")`}},
		{"removeService", []any{"public", "ftp"}, "", "NOT_ENABLED", nil},
		// Ports become ranges; the signal has the caller's words.
		{"addPort", []any{"", "80-90", "tcp", 0}, `"public"`, "", []string{`zone.PortAdded("public" "80-90" "tcp" 0)`}},
		{"addPort", []any{"", "85-95", "tcp", 0}, `"public"`, "", []string{`zone.PortAdded("public" "85-95" "tcp" 0)`}},
		{"queryPort", []any{"", "81", "tcp"}, "true", "", nil},
		{"removePort", []any{"", "85", "tcp"}, `"public"`, "", []string{`zone.PortRemoved("public" "85" "tcp")`}},
		{"getPorts", []any{""}, `[["80-84", "tcp"], ["86-95", "tcp"]]`, "", nil},
		{"addPort", []any{"", "80000", "tcp", 0}, "", "INVALID_PORT", nil},
		{"addRichRule", []any{"", "rule service name=ftp   accept", 0}, `"public"`, "",
			[]string{`zone.RichRuleAdded("public" "rule service name=ftp   accept" 0)`}},
		{"queryRichRule", []any{"", `rule service name="ftp" accept`}, "true", "", nil},
		{"getRichRules", []any{""}, `["rule service name=\"ftp\" accept"]`, "", nil},
		{"addMasquerade", []any{"", 0}, `"public"`, "", []string{`zone.MasqueradeAdded("public" 0)`}},
		{"addMasquerade", []any{"", 0}, "", "ALREADY_ENABLED", nil},
		{"addForwardPort", []any{"", "81", "tcp", "8080", "192.0.2.1", 0}, `"public"`, "",
			[]string{`zone.ForwardPortAdded("public" "81" "tcp" "8080" "192.0.2.1" 0)`}},
		{"getForwardPorts", []any{""}, `[["81", "tcp", "8080", "192.0.2.1"]]`, "", nil},
		{"addIcmpBlockInversion", []any{""}, `"public"`, "", []string{`zone.IcmpBlockInversionAdded("public")`}},
		// Interfaces and sources are in one zone.
		{"addInterface", []any{"", "eth0"}, `"public"`, "", []string{`zone.InterfaceAdded("public" "eth0")`}},
		{"addInterface", []any{"", "eth0"}, "", "ZONE_ALREADY_SET", nil},
		{"addInterface", []any{"home", "eth0"}, "", "ZONE_CONFLICT", nil},
		{"changeZoneOfInterface", []any{"home", "eth0"}, `"home"`, "",
			[]string{`zone.ZoneChanged("home" "eth0")`, `zone.ZoneOfInterfaceChanged("home" "eth0")`}},
		{"changeZoneOfInterface", []any{"home", "eth0"}, `"home"`, "",
			[]string{`zone.ZoneChanged("home" "eth0")`, `zone.ZoneOfInterfaceChanged("home" "eth0")`}},
		{"removeInterface", []any{"work", "eth0"}, "", "ZONE_CONFLICT", nil},
		{"removeInterface", []any{"", "eth0"}, `"home"`, "", []string{`zone.InterfaceRemoved("home" "eth0")`}},
		{"removeInterface", []any{"home", "eth0"}, "", "UNKNOWN_INTERFACE", nil},
		{"removeInterface", []any{"nosuch", "eth0"}, "", "UNKNOWN_INTERFACE", nil},
		{"addSource", []any{"", "aa:bb:cc:dd:ee:ff"}, `"public"`, "", []string{`zone.SourceAdded("public" "aa:bb:cc:dd:ee:ff")`}},
		{"getSources", []any{""}, `["AA:BB:CC:DD:EE:FF"]`, "", nil},
		{"addSource", []any{"home", "192.0.2.0/24"}, `"home"`, "", []string{`zone.SourceAdded("home" "192.0.2.0/24")`}},
		{"getActiveZones", nil, `@a{sa{sas}} {"home": {"interfaces": [], "sources": ["192.0.2.0/24"]}, "public": {"interfaces": [], "sources": ["AA:BB:CC:DD:EE:FF"]}}`, "", nil},
	} {
		if c.code != "" {
			if got := b.refused("", "zone."+c.name, c.args...); got != c.code {
				t.Errorf("%s%v is refused with %s, want %s", c.name, c.args, got, c.code)
			}
		} else if got := b.must("", "zone."+c.name, c.args...); !sameDict(got, c.answer) {
			t.Errorf("%s%v answers %s, want %s", c.name, c.args, got, c.answer)
		}
		b.tell(c.tells...)
	}
}

// sameDict compares texts of values of which dictionaries may be in another order.
func sameDict(a, b string) bool {
	parts := func(text string) []string {
		list := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("{}, @<>", r) })
		slices.Sort(list)
		return list
	}
	return slices.Equal(parts(a), parts(b))
}

func TestWhatTimesOutIsTold(t *testing.T) {
	b := newBed(t, nil)
	b.must("", "zone.addService", "", "ftp", 1)
	b.until("zone.ServiceAdded")
	b.until("zone.ServiceRemoved")
	if got := b.must("", "zone.queryService", "", "ftp"); got != "false" {
		t.Errorf("the service is still there: %s", got)
	}
	b.tell()
	b.must("", "zone.setZoneSettings2", "", map[string]any{"services": []string{"ssh", "ftp"}, "timeout": 1})
	b.until("zone.ZoneUpdated")
	if got := b.until("zone.ZoneUpdated"); len(got) > 0 {
		t.Errorf("more was told: %v", got)
	}
	if got := b.must("", "zone.getServices", ""); got != `["ssh"]` {
		t.Errorf("the services are %s", got)
	}
}

// To make everything but what has a timeout permanent changes nothing about how its end is told: settings that are set as a whole end as
// a whole, and an item that ends at another time is told by itself.
func TestWhatTimesOutIsToldAfterRuntimeToPermanent(t *testing.T) {
	b := newBed(t, nil)
	b.must("", "zone.setZoneSettings2", "", map[string]any{"services": []string{"ssh", "ftp"}, "timeout": 600})
	b.must("", "zone.addPort", "", "8080", "tcp", 1)
	b.must("", "runtimeToPermanent")
	b.until("zone.PortAdded")
	for _, s := range b.until("zone.PortRemoved") {
		if strings.HasPrefix(s, "zone.ZoneUpdated") {
			t.Errorf("told instead: %s", s)
		}
	}
}

func TestPartialSettings(t *testing.T) {
	b := newBed(t, nil)
	b.must("", "zone.addPort", "", "80", "tcp", 0)
	b.told()
	b.must("", "zone.setZoneSettings2", "", map[string]any{"services": []string{"ftp"}, "masquerade": true})
	b.tell(`zone.ZoneUpdated("public" {"masquerade": <true>, "services": <["ftp"]>})`)
	if got := b.must("", "zone.getPorts", "public"); got != `[["80", "tcp"]]` {
		t.Errorf("the ports are %s: they were not in the settings", got)
	}
	b.must("", "zone.setZoneSettings2", "", map[string]any{"ports": [][]string{}, "target": "default"})
	if got := b.must("", "zone.getPorts", "public"); got != `@aas []` {
		t.Errorf("the ports are %s: an empty list clears them", got)
	}
	for code, settings := range map[string]map[string]any{
		"INVALID_OPTION":  {"servics": []string{"ftp"}},
		"INVALID_TYPE":    {"services": "ftp"},
		"INVALID_SETTING": {"target": "DROP"},
		"INVALID_SERVICE": {"services": []string{"nosuch"}},
		"INVALID_VALUE":   {"timeout": "soon"},
	} {
		if got := b.refused("", "zone.setZoneSettings2", "", settings); got != code {
			t.Errorf("%v is refused with %s, want %s", settings, got, code)
		}
	}
}

func TestPermanentObjects(t *testing.T) {
	b := newBed(t, nil)
	if got := b.must("config", "config.addZone2", "dmz2", map[string]any{"services": []string{"ssh"}}); got != `@o "/org/fedoraproject/FirewallD1/config/zone/9"` {
		t.Errorf("the zone is at %s", got)
	}
	b.tell(`config config.ZoneAdded("dmz2")`)
	for _, name := range []string{"../dmz2", "a/../b", "/etc/x", "", "a b"} {
		if got := b.refused("config", "config.addZone2", name, map[string]any{}); got != "INVALID_NAME" {
			t.Errorf("a zone called %q is refused with %s", name, got)
		}
		if got := b.refused("config/zone/9", "config.zone.rename", name); got != "INVALID_NAME" {
			t.Errorf("renaming to %q is refused with %s", name, got)
		}
	}
	if got := b.refused("config", "config.addZone2", "dmz2", map[string]any{}); got != "NAME_CONFLICT" {
		t.Errorf("a second zone of that name: %s", got)
	}
	b.must("config/zone/9", "config.zone.addService", "ftp")
	b.tell(`config/zone/9 config.zone.Updated("dmz2")`)
	b.must("config/zone/9", "config.zone.rename", "dmz3")
	b.tell(`config/zone/9 config.zone.Renamed("dmz3")`)
	if got := b.must("config", "config.getZoneByName", "dmz3"); got != `@o "/org/fedoraproject/FirewallD1/config/zone/9"` {
		t.Errorf("the renamed zone is at %s", got)
	}
	b.must("", "reload")
	b.tell("Reloaded()")
	if got := b.must("config/zone/9", "config.zone.getServices"); got != `["ssh", "ftp"]` {
		t.Errorf("the services are %s", got)
	}
	b.must("config/zone/9", "config.zone.remove")
	b.tell(`config/zone/9 config.zone.Removed("dmz3")`)
	if err := b.call("config/zone/9", "config.zone.getServices").Err; err == nil {
		t.Error("the object is still there")
	}
	if got := b.refused("config/zone/0", "config.zone.remove"); got != "BUILTIN_ZONE" {
		t.Errorf("removing a shipped zone is refused with %s", got)
	}
	b.must("config/zone/0", "config.zone.setShort", "Wall")
	b.must("config/zone/0", "config.zone.loadDefaults")
	b.tell(`config/zone/0 config.zone.Updated("block")`, `config/zone/0 config.zone.Updated("block")`)

	b.must("config", "config.addZone2", "dmz4", map[string]any{})
	b.must("config/zone/10", "config.zone.rename", "dmz3") // which another zone was called before
	b.must("config/zone/10", "config.zone.addService", "ftp")
}

func TestProperties(t *testing.T) {
	b := newBed(t, nil)
	const conf = base + ".config"
	set := func(name, value string) *dbus.Call {
		return b.call("config", propertiesName+".Set", conf, name, dbus.MakeVariant(value))
	}
	for _, c := range []struct{ name, value, err string }{
		{"CleanupOnExit", "no", ""},
		{"CleanupOnExit", "maybe", "INVALID_VALUE"},
		{"IPv6_rpfilter", "loose", "INVALID_VALUE"},
		{"IPv6_rpfilter2", "loose", ""},
		{"NftablesFlowtable", "off", ""},
		{"AutomaticHelpers", "yes", ""},
		{"DefaultZone", "home", "org.freedesktop.DBus.Error.PropertyReadOnly"},
		{"NoSuch", "home", "org.freedesktop.DBus.Error.InvalidArgs"},
	} {
		got := ""
		if err := set(c.name, c.value).Err; err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		}
		if got != c.err {
			t.Errorf("setting %s to %s: %q, want %q", c.name, c.value, got, c.err)
		}
	}
	if got := b.must("config", propertiesName+".Get", conf, "CleanupOnExit"); got != `<"no">` {
		t.Errorf("CleanupOnExit is %s", got)
	}
	if got := b.must("config", propertiesName+".Get", conf, "AutomaticHelpers"); got != `<"no">` {
		t.Errorf("AutomaticHelpers is %s: it cannot be changed", got)
	}
	if got := b.refused("", propertiesName+".Get", base+".nosuch", "x"); got != "org.freedesktop.DBus.Error.UnknownInterface" {
		t.Errorf("a property of no interface: %s", got)
	}
	if got := b.must("", propertiesName+".GetAll", base+".zone"); got != "@a{sv} {}" {
		t.Errorf("the zone interface has properties: %s", got)
	}
	if got := b.must("config/zone/0", propertiesName+".GetAll", base+".config.zone"); !sameDict(got,
		`{"name": <"block">, "filename": <"block.xml">, "path": <"">, "default": <true>, "builtin": <true>}`) {
		t.Errorf("the properties of a zone are %s", got)
	}
}

func TestWrongCallsAreAnswered(t *testing.T) {
	b := newBed(t, nil)
	for _, c := range []struct {
		path, name string
		args       []any
		want       string // start of the message
	}{
		{"", "zone.getServices", nil, "INVALID_TYPE: org.fedoraproject.FirewallD1.zone.getServices takes 1 argument, not 0"},
		{"", "zone.getServices", []any{4}, "INVALID_TYPE: cannot use argument zone of getServices: it is i, and s is needed"},
		{"", "zone.addService", []any{"public", "ssh", "0"}, "INVALID_TYPE: cannot use argument timeout of addService: it is s, and i is needed"},
		{"", "nosuch", nil, "Unknown method: nosuch is not a valid method of interface org.fedoraproject.FirewallD1"},
		{"", "nosuch.getServices", nil, "Unknown method: getServices is not a valid method of interface org.fedoraproject.FirewallD1.nosuch"},
		{"config/zone/99", "config.zone.getSettings", nil, "there is no object /org/fedoraproject/FirewallD1/config/zone/99"},
		{"config", "config.addService", []any{"s", tuple("", "")}, "INVALID_TYPE: cannot use argument settings of addService: it has 2 parts, and (sssa(ss)asa{ss}asa(ss)) has 8"},
	} {
		err := b.call(c.path, c.name, c.args...).Err
		if err == nil || err.Error() != c.want {
			t.Errorf("%s%v: %v, want %s", c.name, c.args, err, c.want)
		}
	}
}

func TestAFaultIsAnswered(t *testing.T) {
	b := newBed(t, nil)
	b.server.daemon = new(daemon.Daemon) // which is not made by New, and has nothing that could be asked for
	err := b.call("", "getDefaultZone").Err
	if err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN_ERROR: internal error: ") {
		t.Errorf("a fault is answered with %v", err)
	}
}

func TestOneDaemonHasTheName(t *testing.T) {
	b := newBed(t, nil)
	if _, err := Connect(b.address, b.server.log); err != ErrTaken {
		t.Errorf("a second daemon gets %v", err)
	}
}

// As with firewalld, an include that is there may be added again; and the first IP version that an ICMP type for both is given
// becomes its only one.
func TestItemsOfPermanentObjectsGivenAgain(t *testing.T) {
	b := newBed(t, nil)
	ssh := b.object("config.getServiceByName", "ssh")
	for range 2 {
		b.must(ssh, "config.service.addInclude", "http")
	}
	if got := b.must(ssh, "config.service.getIncludes"); got != `["http"]` {
		t.Errorf("the includes are %s", got)
	}
	b.must("config", "config.addIcmpType", "mine", []any{"", "", "", []string{}})
	mine := b.object("config.getIcmpTypeByName", "mine")
	b.must(mine, "config.icmptype.addDestination", "ipv4")
	if got := b.must(mine, "config.icmptype.getDestinations"); got != `["ipv4"]` {
		t.Errorf("the destinations are %s", got)
	}
	if got := b.refused(mine, "config.icmptype.addDestination", "ipv4"); got != "ALREADY_ENABLED" {
		t.Errorf("another time it is refused with %s", got)
	}
}

// object is the path of a permanent object below the main one.
func (b *bed) object(method, name string) string {
	path := strings.Trim(b.must("config", method, name), `@o "`)
	return strings.TrimPrefix(path, "/org/fedoraproject/FirewallD1/")
}
