package bus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// The error of a refused call is firewalld's to the letter; what there is to say besides its client can ask for.
func TestHints(t *testing.T) {
	b := newBed(t, map[string]string{"zones/work.xml": "<zone/>"})
	hints := func() []string {
		t.Helper()
		var lines []string
		if err := b.call("", "richwall.getHints").Store(&lines); err != nil {
			t.Fatal(err)
		}
		return lines
	}
	refused := func(want string, call *dbus.Call, hint ...string) {
		t.Helper()
		if call.Err == nil || call.Err.Error() != want {
			t.Errorf("the error is %v, want %s", call.Err, want)
		}
		if got := hints(); fmt.Sprint(got) != fmt.Sprint(hint) {
			t.Errorf("after %s the hints are %q, want %q", want, got, hint)
		}
	}
	refused("INVALID_SERVICE: htpp", b.call("", "zone.addService", "work", "htpp", 0), "cannot use service htpp: there is no such service: did you mean http?")
	refused("INVALID_ZONE: wrok", b.call("config", "config.getZoneByName", "wrok"), "did you mean work?")
	refused("INVALID_ZONE: nosuch", b.call("config", "config.getZoneByName", "nosuch"))
	refused("INVALID_RULE: unknown element acept", b.call("", "zone.addRichRule", "work", "rule service name=ssh acept", 0),
		"cannot read acept: it is no word of the language, did you mean accept?")
	refused("INVALID_RULE: 'family' attribute cannot have 'ipv5' value. Use 'ipv4' or 'ipv6' instead.", b.call("", "zone.addRichRule", "work", "rule family=ipv5 accept", 0))

	path := filepath.Join(b.dir, "zones", "work.xml")
	if err := os.WriteFile(path, []byte("<zone>\n<source address=\"1.2.3\"/>\n<port port=\"99999\" protocol=\"tcp\"/></zone>"), 0o644); err != nil {
		t.Fatal(err)
	}
	mistakes := []string{
		path + ":2:9: INVALID_ADDR: cannot use address 1.2.3: it is no IP address",
		path + ":3:7: INVALID_PORT: cannot use port 99999: the highest port is 65535",
	}
	refused("INVALID_ADDR: 1.2.3", b.call("", "checkPermanentConfig"), mistakes...)
	refused("INVALID_ADDR: 1.2.3", b.call("", "reload"),
		append(mistakes, "nothing has changed: the firewall goes on as before; firewall-cmd --check-config says whether the files are mended, but for what only a reload can tell")...)

	if err := os.WriteFile(path, []byte("<zone><service name=\"nosuch\"/></zone>"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("INVALID_SERVICE: Zone 'work': 'nosuch' not among existing services", b.call("", "checkPermanentConfig"),
		path+":1:7: INVALID_SERVICE: cannot use service nosuch: there is no such service")
	refused("ALREADY_ENABLED: 'ssh' already in 'public'", b.call("", "zone.addService", "public", "ssh", 0))
}

// A reload is refused while another program has changed the rules: it is not said that the firewall goes on as before, as nothing new is let in.
func TestHintBehindAReloadWhileTheGuardStands(t *testing.T) {
	for guarded, want := range map[bool]string{false: "nothing has changed: ", true: "nothing new is let in until they are put back"} {
		if got := behindReload(errors.New("a refusal"), guarded); !strings.Contains(got, want) {
			t.Errorf("with the guard %v it is said %q", guarded, got)
		}
	}
}

// What is kept is little, however many clients are refused, and each is told of its own call. Root's clients lose nothing to others.
func TestHintsAreFew(t *testing.T) {
	const nobody = 65534
	var h hints
	h.keep(":0.1", superuser, []string{"of root"})
	for i := range 100 {
		h.keep(fmt.Sprintf(":1.%d", i), nobody, append(make([]string, 50), strings.Repeat("x", 2*longest)))
	}
	if got := h.of(":0.1"); len(got) != 1 {
		t.Errorf("root is told %q after others were refused", got)
	}
	h.keep(":0.1", superuser, nil)
	if n := len(h.lines); n != mostHinted || len(h.clients[false]) != n || len(h.clients[true]) != 0 || h.of(":1.0") != nil || len(h.of(":1.99")) != mostHints {
		t.Errorf("%d clients are kept, of the last one %d lines", n, len(h.of(":1.99")))
	}
	h.keep(":1.99", nobody, nil)
	if len(h.lines) != mostHinted-1 || h.of(":1.99") != nil {
		t.Errorf("%d clients are kept after a call without hints", len(h.lines))
	}
}

// What a client's calls have done is kept for it until it asks. Of much the newest is kept, however many of its calls end at once, and what was
// asked for is not said again.
func TestRemarksAreTheNewest(t *testing.T) {
	var h hints
	var all sync.WaitGroup
	for i := range 10 * mostHints {
		h.add(":1.1", superuser, fmt.Sprint("older ", i))
	}
	for i := range mostHints {
		all.Go(func() { h.add(":1.1", superuser, fmt.Sprint("newest ", i)) })
	}
	all.Wait()
	told := map[string]bool{}
	for _, line := range h.take(":1.1", superuser) {
		told[line] = true
	}
	for i := range mostHints {
		if !told[fmt.Sprint("newest ", i)] {
			t.Errorf("newest %d is not among %v", i, told)
		}
	}
	if again := h.take(":1.1", superuser); len(again) > 0 || len(h.lines) > 0 || len(h.clients[true]) > 0 {
		t.Errorf("it is said again: %q", again)
	}
	h.add(":1.1", superuser, "one more")
	if lines := h.take(":1.1", superuser); len(lines) != 1 {
		t.Errorf("what comes later is %q", lines)
	}
}

// A name that only the permanent configuration has, or only a file that was made since the files were read, is said to be in the files.
// What is bound to another zone is said to be there, with the command that moves it. A file that somebody has changed and that an order
// writes over is said to its caller.
func TestHintsAboutTheFiles(t *testing.T) {
	b := newBed(t, map[string]string{"zones/work.xml": "<zone/>", "zones/home.xml": `<zone><interface name="eth0"/></zone>`})
	hinted := func(method string, call *dbus.Call, want ...string) {
		t.Helper()
		var lines []string
		if err := b.call("", "richwall."+method).Store(&lines); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(lines) != fmt.Sprint(want) {
			t.Errorf("after %v the hints are %q, want %q", call.Err, lines, want)
		}
	}
	if call := b.call("config", "config.addService2", "mine", map[string]dbus.Variant{}); call.Err != nil {
		t.Fatal(call.Err)
	}
	hinted("getHints", b.call("", "zone.addService", "work", "mine", 0), "service mine is in the files: firewall-cmd --reload puts it in force")
	hinted("getHints", b.call("", "zone.addRichRule", "work", "rule service name=mine accept", 0), "service mine is in the files: firewall-cmd --reload puts it in force")
	b.write("zones/new.xml", "<zone/>")
	hinted("getHints", b.call("", "zone.addService", "new", "ssh", 0), "zone new is in the files: firewall-cmd --reload puts it in force")
	b.write("services/hand.xml", `<service><port port="5" protocol="tcp"/></service>`)
	hinted("getHints", b.call("config/zone/"+b.index("work"), "config.zone.addService", "hand"), "service hand is in the files: firewall-cmd --reload puts it in force")
	hinted("getHints", b.call("", "zone.addService", "work", "../zones/new", 0))
	hinted("getHints", b.call("", "zone.addInterface", "work", "eth0"), "interface eth0 is bound to zone home: firewall-cmd --zone=work --change-interface=eth0 moves it")
	hinted("getHints", b.call("config/zone/"+b.index("work"), "config.zone.addInterface", "eth0"),
		"interface eth0 is bound to zone home: firewall-cmd --permanent --zone=work --change-interface=eth0 moves it")

	path := filepath.Join(b.dir, "zones/home.xml")
	b.write("zones/home.xml", `<zone><interface name="eth0"/><port port="2" protocol="tcp"/></zone>`)
	hinted("getRemarks", b.call("config/zone/"+b.index("home"), "config.zone.addPort", "3", "tcp"),
		path+" was changed by somebody else, and was written over: what it held is kept in "+path+".old until the next reload")
}

// write writes a file of the configuration.
func (b *bed) write(name, text string) {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// index is the number of a permanent zone in its path.
func (b *bed) index(zone string) string {
	b.Helper()
	var path dbus.ObjectPath
	if err := b.call("config", "config.getZoneByName", zone).Store(&path); err != nil {
		b.Fatal(err)
	}
	return string(path[strings.LastIndex(string(path), "/")+1:])
}
