package bus

import (
	"encoding/xml"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// objectsOfKinds are an object of each kind that this file calls.
func (b *bed) objectsOfKinds() map[string]string {
	b.Helper()
	b.must("config", "config.addIPSet", "set1", tuple("", "", "", "hash:ip", map[string]string{"family": "inet"}, []string{"192.0.2.1"}))
	b.must("", "reload")
	paths := map[string]string{}
	for _, k := range kinds {
		name := map[string]string{"zone": "public", "policy": "allow-host-ipv6", "service": "ssh", "ipset": "set1", "icmptype": "redirect", "helper": "ftp"}[k.name]
		var path dbus.ObjectPath
		if err := b.call("config", "config.get"+k.noun+"ByName", name).Store(&path); err != nil {
			b.Fatal(err)
		}
		paths[k.name] = strings.TrimPrefix(string(path), root+"/")
	}
	return paths
}

// tuple is a structure as clients without types send it.
func tuple(values ...any) []any { return values }

// callable is a method of an object.
type callable struct {
	path string
	i    *iface
	m    method
}

// everyMethod is all methods, each on one object that has it.
func (b *bed) everyMethod() []callable {
	paths := b.objectsOfKinds()
	var list []callable
	for _, i := range allInterfaces() {
		path := ""
		if strings.HasPrefix(i.name, "config") {
			path = "config"
			if p := paths[strings.TrimPrefix(i.name, "config.")]; p != "" {
				path = p
			}
		}
		for _, m := range i.methods {
			list = append(list, callable{path, i, m})
		}
	}
	return list
}

// samples are arguments with which most methods have something to do, by the arguments' names; others are by their types.
var samples = map[string]any{
	"zone": "public", "interface": "eth0", "iface": "eth0", "source": "192.0.2.7", "service": "ssh", "port": "8080", "protocol": "tcp",
	"rule": `rule service name="ftp" accept`, "icmp": "redirect", "icmptype": "redirect", "toport": "80", "toaddr": "192.0.2.9",
	"policy": "allow-host-ipv6", "ipset": "set1", "entry": "192.0.2.2", "helper": "ftp", "value": "off", "table": "filter",
	"chain": "mine", "args": []string{"-V"}, "module": "nf_conntrack_ftp", "family": "ipv4", "address": "192.0.2.3",
	"destination": "ipv4", "include": "http", "key": "family", "ipset_type": "hash:ip", "target": "default", "name": "other",
}

var blanks = map[string]any{
	"s": "", "b": false, "i": int32(0), "as": []string{}, "a(ss)": [][]string{}, "a(ssss)": [][]string{}, "a{ss}": map[string]string{},
	"a{sv}": map[string]dbus.Variant{}, whitelistSig: tuple([]string{}, []string{}, []string{}, []int32{}),
	directSig:               tuple([]any{}, []any{}, []any{}),
	zoneKind.tupleSig():     tuple("", "", "", false, "default", []string{}, []any{}, []string{}, false, []any{}, []string{}, []string{}, []string{}, []string{}, []any{}, false),
	serviceKind.tupleSig():  tuple("", "", "", []any{}, []string{}, map[string]string{}, []string{}, []any{}),
	ipsetKind.tupleSig():    tuple("", "", "", "hash:ip", map[string]string{}, []string{}),
	icmpTypeKind.tupleSig(): tuple("", "", "", []string{}), helperKind.tupleSig(): tuple("", "", "", "", "nf_conntrack_ftp", []any{}),
}

func sampleArgs(m method) []any {
	var list []any
	for _, a := range m.in {
		value, ok := samples[a.name]
		switch {
		case ok && a.name == "ipv" && a.sig == "s":
		case a.name == "ipv":
			value = "ipv4"
		case !ok:
			value = blanks[a.sig]
		}
		list = append(list, value)
	}
	return list
}

func TestEveryMethodAnswersWithItsSignature(t *testing.T) {
	b := newBed(t, nil)
	methods := b.everyMethod()
	if own := len(ownIface.methods); len(methods) != 368+own {
		t.Errorf("there are %d methods, want the 368 of firewalld and %d of our own", len(methods), own)
	}
	mayFail := map[string]bool{"getDestination": true} // ssh has none
	// What takes away the object that other methods are called on.
	skip := map[string]bool{"remove": true, "rename": true, "resetToDefaults": true}
	for _, c := range methods {
		if skip[c.m.name] {
			continue
		}
		answer := b.call(c.path, c.i.fullName()+"."+c.m.name, sampleArgs(c.m)...)
		var named dbus.Error
		switch {
		case answer.Err == nil:
			if got := b.answered.Load(); got != c.m.out {
				t.Errorf("%s.%s answers with %s, and %s is declared", c.i.name, c.m.name, got, c.m.out)
			}
		case !errors.As(answer.Err, &named) || named.Name != exception || strings.HasPrefix(answer.Err.Error(), "UNKNOWN_ERROR"):
			t.Errorf("%s.%s: %v", c.i.name, c.m.name, answer.Err)
		case !mayFail[c.m.name] && (strings.HasPrefix(c.m.name, "get") || strings.HasPrefix(c.m.name, "list")):
			t.Errorf("%s.%s: %v", c.i.name, c.m.name, answer.Err)
		}
	}
}

func TestIntrospectionIsTheTable(t *testing.T) {
	b := newBed(t, nil)
	paths := map[string]bool{"": true, "config": true}
	for _, path := range b.objectsOfKinds() {
		paths[path] = true
	}
	found := map[string]bool{}
	for path := range paths {
		var text string
		if err := b.call(path, introspectableName+".Introspect").Store(&text); err != nil {
			t.Fatal(err)
		}
		var node introspect.Node
		if err := xml.Unmarshal([]byte(text), &node); err != nil {
			t.Fatal(err)
		}
		for _, i := range node.Interfaces {
			for _, m := range i.Methods {
				for _, a := range m.Args {
					if a.Direction == "in" && a.Name == "" {
						t.Errorf("an argument of %s.%s has no name", i.Name, m.Name)
					}
				}
				found[i.Name+"."+m.Name] = true
			}
			for _, s := range i.Signals {
				found[i.Name+"."+s.Name] = true
			}
		}
	}
	signals := 0
	for _, i := range allInterfaces() {
		for _, m := range i.methods {
			if !found[i.fullName()+"."+m.name] {
				t.Errorf("method %s.%s is not described", i.fullName(), m.name)
			}
		}
		for _, s := range i.signals {
			signals++
			if !found[i.fullName()+"."+s.name] {
				t.Errorf("signal %s.%s is not described", i.fullName(), s.name)
			}
		}
	}
	if signals != 77 {
		t.Errorf("there are %d signals, and firewalld has 77", signals)
	}
}

// Programs read the description line by line: what has nothing in it is written as firewalld writes it.
func TestIntrospectionIsWrittenAsByFirewalld(t *testing.T) {
	b := newBed(t, nil)
	text := b.must("", introspectableName+".Introspect")
	for _, want := range []string{
		`    <method name="reload">\n    </method>\n`, `<arg name="zone" type="s" direction="in" />`,
		`    <signal name="Reloaded">\n    </signal>\n`, `<property name="state" type="s" access="read" />`,
	} {
		if !strings.Contains(text, strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("the description has no %s", want)
		}
	}
}

func TestIntrospectionShowsTheObjectsBelow(t *testing.T) {
	b := newBed(t, nil)
	for path, child := range map[string]string{"": `<node name="config"/>`, "config": `<node name="zone"/>`, "config/zone": `<node name="8"/>`} {
		if text := b.must(path, introspectableName+".Introspect"); !strings.Contains(text, strings.ReplaceAll(child, `"`, `\"`)) {
			t.Errorf("%q does not show %s: %s", path, child, text)
		}
	}
}

// connectAs connects as another user.
func connectAs(t *testing.T, address string, uid int) *dbus.Conn {
	t.Helper()
	var conn *dbus.Conn
	asUser(t, uid, func() (err error) {
		conn, err = dbus.Connect(address)
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestNothingWithoutRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	b := newBed(t, nil)
	methods := b.everyMethod()
	before := b.kernel.Listing()
	b.told()
	someone := connectAs(t, b.address, nobody)
	expect := func(what string, err error, needs action) {
		t.Helper()
		var named dbus.Error
		want := "Not Authorized(uid): " + base + "." + string(needs)
		if !errors.As(err, &named) || named.Name != notAuthorized || named.Error() != want {
			t.Errorf("%s: got %v, want %s", what, err, want)
		}
	}
	for _, c := range methods {
		name := c.i.fullName() + "." + c.m.name
		expect(name, callOn(someone, c.path, name, sampleArgs(c.m)...).Err, c.m.action)
		expect(name+" without arguments", callOn(someone, c.path, name).Err, c.m.action)
		for _, p := range c.i.properties {
			expect("get "+p.name, callOn(someone, c.path, propertiesName+".Get", c.i.fullName(), p.name).Err, actConfig)
			expect("set "+p.name, callOn(someone, c.path, propertiesName+".Set", c.i.fullName(), p.name, dbus.MakeVariant("no")).Err, actConfig)
		}
		expect("get all", callOn(someone, c.path, propertiesName+".GetAll", c.i.fullName()).Err, actConfig)
		expect("introspect", callOn(someone, c.path, introspectableName+".Introspect").Err, actInfo)
	}
	if b.kernel.Listing() != before {
		t.Error("the rules changed")
	}
	b.tell()
}

// authority answers for polkit: it allows what is only asked, to everybody.
type authority struct{ asked chan string }

// polkitSubject is the subject of a question to polkit.
type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// polkitResult is polkit's answer.
type polkitResult struct {
	Authorized, Challenge bool
	Details               map[string]string
}

// CheckAuthorization is the method of that name of org.freedesktop.PolicyKit1.Authority.
func (a authority) CheckAuthorization(s polkitSubject, action string, _ map[string]string, flags uint32, _ string) (polkitResult, *dbus.Error) {
	a.asked <- show(s.Kind, s.Details["name"].Value(), action, flags)
	return polkitResult{Authorized: action == base+".info"}, nil
}

// startPolkit makes polkit run on the bus.
func (b *bed) startPolkit(a any) {
	b.Helper()
	polkit := connect(b.T, b.address)
	if err := polkit.Export(a, polkitPath, polkitIface); err != nil {
		b.Fatal(err)
	}
	if _, err := polkit.RequestName(polkitName, dbus.NameFlagDoNotQueue); err != nil {
		b.Fatal(err)
	}
}

func TestPolkitDecides(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	b := newBed(t, nil)
	a := authority{make(chan string, 10)}
	b.startPolkit(a)
	someone := connectAs(t, b.address, nobody)
	if err := callOn(someone, "", "zone.getZones").Err; err != nil {
		t.Errorf("what polkit allows: %v", err)
	}
	if got, want := <-a.asked, show("system-bus-name", someone.Names()[0], base+".info", uint32(1)); got != want {
		t.Errorf("polkit was asked for %s, want %s", got, want)
	}
	err := callOn(someone, "", "zone.addService", "", "ftp", 0).Err
	if want := "Not Authorized(polkit): " + base + ".config"; err == nil || err.Error() != want {
		t.Errorf("what polkit does not allow: %v, want %s", err, want)
	}
	b.must("", "zone.addService", "", "ftp", 0) // root, whom nobody asks about
	if len(a.asked) != 1 {
		t.Errorf("polkit was asked %d times more, want 1", len(a.asked))
	}
}
