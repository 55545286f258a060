package firewallcmd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// address and route are those of a connection's ipv6.addresses and ipv6.routes (NetworkManager's documentation, nm-settings-dbus(5)).
type (
	address struct {
		IP      []byte
		Prefix  uint32
		Gateway []byte
	}
	route struct {
		IP      []byte
		Prefix  uint32
		NextHop []byte
		Metric  uint32
	}
)

// update2 answers as NetworkManager does: settings must have the types that it has sent.
func update2(arguments []any) any {
	sent, _ := arguments[0].(map[string]map[string]dbus.Variant)
	for name, want := range map[string]string{"addresses": "a(ayuay)", "routes": "a(ayuayu)"} {
		if got := sent["ipv6"][name].Signature().String(); got != want {
			return fmt.Errorf("ipv6.%s: can't set property of type '%s' from value of type '%s'", name, want, got)
		}
	}
	return map[string]dbus.Variant{}
}

// withManager is the answers of a firewall beside a NetworkManager whose connection on eth0 is in a zone;
// "" is none.
func withManager(zone string) map[string]any {
	type sections = map[string]map[string]dbus.Variant
	const (
		manager = "org.freedesktop.NetworkManager"
		root    = dbus.ObjectPath("/org/freedesktop/NetworkManager")
	)
	all := answers()
	all["org.freedesktop.DBus.ObjectManager.GetManagedObjects"] = map[dbus.ObjectPath]sections{
		root: {manager: dictionary("ActiveConnections", []dbus.ObjectPath{root + "/a"})},
		root + "/a": {manager + ".Connection.Active": dictionary("Connection", root+"/c",
			"Devices", []dbus.ObjectPath{root + "/d"})},
		root + "/c": {manager + ".Settings.Connection": dictionary("Flags", uint32(0))},
		root + "/d": {manager + ".Device": dictionary("Interface", "eth0", "IpInterface", "")},
	}
	connection := dictionary("id", "wired")
	if zone != "" {
		connection["zone"] = dbus.MakeVariant(zone)
	}
	ip := make([]byte, 16)
	ipv6 := dictionary("addresses", []address{{ip, 64, ip}}, "routes", []route{{ip, 64, ip, 100}})
	all[manager+".Settings.Connection.GetSettings"] = sections{"connection": connection, "ipv6": ipv6}
	all[manager+".Settings.Connection.Update2"] = update2
	all[".config.getZoneOfInterface"] = ""
	all[".config.zone.getInterfaces"] = []string{"eth9"}
	return all
}

// The zone of an interface that NetworkManager has up is a setting of its connection: there it is changed for good, and
// from there it is listed. Other interfaces are in the zones' files.
func TestInterfacesOfNetworkManager(t *testing.T) {
	const (
		control = "The interface is under control of NetworkManager"
		update  = "org.freedesktop.NetworkManager.Settings.Connection.Update2"
	)
	for _, test := range []struct {
		args, zone     string // the command line, and the connection's zone before it
		stdout, stderr string
		calls          string // how the last call starts; "-" for no update of the connection
		status         int
	}{
		{args: "--zone=work --add-interface=eth0", stdout: control + ", setting zone to 'work'.\nsuccess\n", calls: update + `[map[connection:map[id:"wired" zone:"work"] ipv6:map[`},
		{args: "--zone=work --add-interface=eth0", zone: "work", stdout: control + ", setting zone to 'work'.\nsuccess\n", stderr: control + " and already bound to 'work'\n", calls: "-"},
		{args: "--add-interface=eth0", zone: "work", stdout: control + ", setting zone to default.\nsuccess\n", calls: update + `[map[connection:map[id:"wired"] ipv6:map[`},
		{args: "--change-interface=eth0", zone: "work", stdout: control + ", setting zone to 'public'.\nsuccess\n", calls: update + `[map[connection:map[id:"wired" zone:"public"] ipv6:map[`},
		{args: "--zone=home --remove-interface=eth0", zone: "work", stdout: control + ", setting zone to default.\nsuccess\n", calls: update + `[map[connection:map[id:"wired"] ipv6:map[`},
		{args: "--remove-interface=eth0", stdout: control + ", setting zone to default.\nsuccess\n", stderr: control + " and already bound to the default zone\n", calls: "-"},
		{args: "--zone=work --add-interface=eth1", stdout: "success\n", calls: "config.zone.addInterface[eth1]"},
		{args: "--zone=work --add-service=http", stdout: "success\n", calls: "config.zone.addService[http]"},
		{args: "--zone=work --list-interfaces", zone: "work", stdout: "eth9 eth0\n"},
		{args: "--zone=public --list-interfaces", zone: "work", stdout: "eth9\n"},
		{args: "--get-zone-of-interface=eth0", zone: "work", stdout: "work\n"},
		{args: "--get-zone-of-interface=eth0", stderr: "no zone\n", status: 2},
	} {
		t.Run(test.zone+" "+test.args, func(t *testing.T) {
			bus := startBus(t, withManager(test.zone))
			var stdout, stderr strings.Builder
			status := Online(append([]string{"--permanent"}, strings.Fields(test.args)...), nil, &stdout, &stderr)
			if status != test.status || stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("exit status %d, not %d\nstdout %q\n   not %q\nstderr %q\n   not %q", status, test.status,
					stdout.String(), test.stdout, stderr.String(), test.stderr)
			}
			calls := bus.seen()
			updated := slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, update) })
			switch {
			case test.calls == "-" && updated:
				t.Errorf("calls %q have an update", calls)
			case test.calls != "" && test.calls != "-" && !strings.HasPrefix(calls[len(calls)-1], test.calls):
				t.Errorf("the last call is %q, not %q", calls[len(calls)-1], test.calls)
			}
		})
	}
}

// A listing of a zone shows NetworkManager's interfaces as well.
func TestListingOfNetworkManagersInterfaces(t *testing.T) {
	startBus(t, withManager("work"))
	var stdout, stderr strings.Builder
	if status := Online([]string{"--permanent", "--zone=work", "--list-all"}, nil, &stdout, &stderr); status != 0 || !strings.Contains(stdout.String(), "\n  interfaces: eth0\n") {
		t.Errorf("exit status %d, %s, and the listing\n%s", status, stderr.String(), stdout.String())
	}
}
