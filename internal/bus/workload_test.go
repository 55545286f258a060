package bus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"richwall/zones"
)

// workload is a program that changes the firewall at random.
type workload struct {
	*bed
	conn   *dbus.Conn
	random *rand.Rand
}

// What a random edit is made of: a few of each sort, so that many meet what another one has done.
var (
	someZones    = []string{"public", "work", "home", "mine"}
	someServices = []string{"http", "ssh", "dns", "app"}
	somePorts    = []string{"80", "443", "8000-8010", "8005"}
	someEntries  = []string{"192.0.2.1", "192.0.2.2", "198.51.100.7", "203.0.113.9"}
	someSources  = []string{"10.1.0.0/16", "10.2.0.0/16", "2001:db8::/32", "ipset:block"}
	someLinks    = []string{"eth0", "eth1", "wlan0"}
	someRules    = []string{
		"rule service name=http accept", "rule family=ipv4 source address=192.0.2.0/24 drop", "rule priority=-5 source ipset=block reject",
		"rule port port=8080 protocol=tcp log prefix=seen limit value=3/m accept", "rule service name=app accept",
		"rule tcp-mss-clamp value=1400", "rule protocol value=gre mark set=7",
	}
)

// makePermanentObjects makes what random edits are about and nothing is shipped of.
func (w *workload) makePermanentObjects() {
	w.must("config", "config.addIPSet", "block", tuple("", "", "", "hash:ip", map[string]string{}, []string{"192.0.2.1"}))
	w.must("config", "config.addService2", "app", map[string]any{"ports": [][]string{{"7000", "tcp"}}})
	w.must("config", "config.addZone2", "mine", map[string]any{"target": "DROP"})
	w.must("config", "config.addPolicy", "between", map[string]any{"ingress_zones": []string{"mine"}, "egress_zones": []string{"HOST"}})
}

func (w *workload) reload() { w.must("", "reload") }

// doSomething makes one random change.
func (w *workload) doSomething() {
	switch n := w.random.IntN(20); {
	case n < 9:
		w.check(w.changeRuntime())
	case n < 17:
		w.check(w.changePermanent())
	case n < 19:
		w.check("reload", callOn(w.conn, "", "reload"))
	default:
		w.check("runtimeToPermanent", callOn(w.conn, "", "runtimeToPermanent"))
	}
}

// expected are the refusals that a random change can meet: that it is so already, or goes against what is there.
var expected = []string{
	string(zones.AlreadyEnabled), string(zones.NotEnabled), string(zones.ZoneAlreadySet), string(zones.ZoneConflict), "UNKNOWN_INTERFACE", "UNKNOWN_SOURCE",
}

// check fails if a call was refused for a reason that none of these calls gives.
func (w *workload) check(what string, c *dbus.Call) {
	if c.Err == nil {
		return
	}
	if code, _, _ := strings.Cut(c.Err.Error(), ":"); !slices.Contains(expected, code) {
		w.Errorf("%s: %v", what, c.Err)
	}
}

func (w *workload) one(list []string) string { return list[w.random.IntN(len(list))] }

// verb is "add" or, less often, "remove".
func (w *workload) verb() string {
	if w.random.IntN(5) < 2 {
		return "remove"
	}
	return "add"
}

// zoneItem is a random item of a zone: the noun in the names of methods, and its parts.
func (w *workload) zoneItem() (noun string, parts []any) {
	switch w.random.IntN(6) {
	case 0:
		return "Service", []any{w.one(someServices)}
	case 1:
		return "Port", []any{w.one(somePorts), "tcp"}
	case 2:
		return "RichRule", []any{w.one(someRules)}
	case 3:
		return "Source", []any{w.one(someSources)}
	case 4:
		return "Interface", []any{w.one(someLinks)}
	}
	return "Masquerade", nil
}

// timed are the nouns whose items can be added for some time.
var timed = []string{"Service", "Port", "RichRule", "Masquerade"}

func (w *workload) changeRuntime() (string, *dbus.Call) {
	verb := w.verb()
	switch w.random.IntN(6) {
	case 0:
		return verb + " entry", callOn(w.conn, "", "ipset."+verb+"Entry", "block", w.one(someEntries))
	case 1:
		settings := map[string]any{"services": []string{w.one(someServices)}, "rich_rules": []string{w.one(someRules)}}
		return "settings of a policy", callOn(w.conn, "", "policy.setPolicySettings", "between", settings)
	}
	noun, parts := w.zoneItem()
	args := append([]any{w.one(someZones)}, parts...)
	if verb == "add" && slices.Contains(timed, noun) {
		args = append(args, 0)
	}
	return fmt.Sprint(verb, noun, args), callOn(w.conn, "", "zone."+verb+noun, args...)
}

func (w *workload) changePermanent() (string, *dbus.Call) {
	verb := w.verb()
	switch w.random.IntN(8) {
	case 0:
		return verb + " permanent entry", w.permanent(w.conn, ipsetKind, "block", verb+"Entry", w.one(someEntries))
	case 1:
		settings := map[string]any{"rich_rules": []string{w.one(someRules)}, "masquerade": false, "target": w.one([]string{"ACCEPT", "DROP", "CONTINUE"})}
		return "permanent settings of a policy", w.permanent(w.conn, policyKind, "between", "update", settings)
	case 2:
		return verb + " port of a service", w.permanent(w.conn, serviceKind, "app", verb+"Port", w.one(somePorts), "tcp")
	}
	noun, parts := w.zoneItem()
	zone := w.one(someZones)
	return fmt.Sprint("permanent ", verb, noun, zone, parts), w.permanent(w.conn, zoneKind, zone, verb+noun, parts...)
}
