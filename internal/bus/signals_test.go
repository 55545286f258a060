package bus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A reload tells what it finds otherwise in the files: objects that have come, gone or changed by other hands.
func TestReloadTellsWhatChangedInFiles(t *testing.T) {
	b := newBed(t, map[string]string{
		"zones/gone.xml": `<zone/>`, "zones/mine.xml": `<zone/>`, "zones/same.xml": `<zone/>`, "ipsets/s.xml": `<ipset type="hash:ip"/>`,
	})
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(b.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := func(object string) string { return strings.TrimPrefix(strings.Trim(object, `"@o `), root+"/") }
	gone, mine, set := path(b.must("config", "config.getZoneByName", "gone")), path(b.must("config", "config.getZoneByName", "mine")),
		path(b.must("config", "config.getIPSetByName", "s"))
	write("zones/mine.xml", `<zone><service name="http"/></zone>`)
	write("zones/new.xml", `<zone/>`)
	write("zones/same.xml", `<zone></zone>`)
	write("services/app.xml", `<service><port port="1" protocol="tcp"/></service>`)
	write("ipsets/s.xml", `<ipset type="hash:ip"><entry>192.0.2.1</entry></ipset>`)
	write("firewalld.conf", "DefaultZone=home\nLogDenied=all\n")
	write("direct.xml", `<direct><chain ipv="ipv4" table="filter" chain="mine"/></direct>`)
	if err := os.Remove(filepath.Join(b.dir, "zones/gone.xml")); err != nil {
		t.Fatal(err)
	}
	b.must("", "reload")
	got := b.told()
	want := []string{
		`DefaultZoneChanged("home")`, `LogDeniedChanged("all")`, gone + ` config.zone.Removed("gone")`, mine + ` config.zone.Updated("mine")`,
		`config config.ZoneAdded("new")`, `config config.ServiceAdded("app")`, set + ` config.ipset.Updated("s")`,
		`config config.direct.Updated()`, `Reloaded()`,
	}
	if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != "Reloaded()" {
		t.Errorf("the signals are\n%s", strings.Join(got, "\n"))
	}
	for _, signal := range want {
		if !strings.Contains(strings.Join(got, "\n")+"\n", signal+"\n") {
			t.Errorf("there is no %s, but\n%s", signal, strings.Join(got, "\n"))
		}
	}
	if b.refused(gone, "config.zone.getTarget") == "" || !strings.Contains(b.must("config", "config.listZones"), mine+`"`) {
		t.Error("the objects are not those of the files")
	}
	b.told()
	b.must("", "reload")
	b.tell("Reloaded()")
}

// In panic mode zones and policies of the running firewall stay as they are. Sets and the direct interface can be changed, as
// programs do that keep lists of addresses; the permanent configuration can be, too.
func TestPanicMode(t *testing.T) {
	b := newBed(t, map[string]string{"ipsets/s.xml": `<ipset type="hash:ip"/>`})
	b.must("", "enablePanicMode")
	for _, c := range []struct {
		name string
		args []any
	}{
		{"zone.addPort", []any{"public", "1", "tcp", 0}}, {"zone.addInterface", []any{"public", "eth0"}}, {"zone.changeZoneOfInterface", []any{"home", "eth0"}},
		{"zone.addSource", []any{"public", "192.0.2.1"}}, {"zone.removeService", []any{"public", "ssh"}},
		{"policy.setPolicySettings", []any{"allow-host-ipv6", map[string]any{"services": []string{"http"}}}},
	} {
		if got := b.refused("", c.name, c.args...); got != "PANIC_MODE" {
			t.Errorf("%s%v is refused with %s", c.name, c.args, got)
		}
	}
	b.must("", "ipset.addEntry", "s", "192.0.2.1")
	b.must("", "ipset.setEntries", "s", []string{"192.0.2.2", "192.0.2.3"})
	b.must("", "ipset.removeEntry", "s", "192.0.2.2")
	b.must("", "direct.addChain", "ipv4", "filter", "mine")
	b.must("", "direct.addRule", "ipv4", "filter", "mine", 0, []string{"-j", "DROP"})
	b.must("", "direct.removeRules", "ipv4", "filter", "mine")
	b.must("config/zone/6", "config.zone.addPort", "8080", "tcp")
	b.rules("panic", "192.0.2.3")
	b.must("", "reload")
	b.rules("panic", "8080")
	b.must("", "disablePanicMode")
	if strings.HasPrefix(b.kernel.Listing(), "panic") {
		t.Error("packets are dropped still")
	}
}
