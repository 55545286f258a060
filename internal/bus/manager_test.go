package bus

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"

	"richwall/internal/bus/networkmanager"
)

// fakeManager is NetworkManager with connections that are up: what the daemon calls of it, and no more.
type fakeManager struct {
	mu    sync.Mutex
	links []*fakeLink
}

// fakeLink is a connection on one device.
type fakeLink struct {
	device, iface string // as IpInterface has it, "" where it is the device
	zone          string
	flags         uint32
	vpn           bool
}

// The paths of its objects end in the place of the connection.
const (
	managerRoot  = "/org/freedesktop/NetworkManager"
	connections  = managerRoot + "/Settings/"
	activePath   = managerRoot + "/ActiveConnection/"
	devicePath   = managerRoot + "/Devices/"
	letters      = "abcdefgh"
	managerIface = networkmanager.Name
)

// startManager makes NetworkManager run on the bus.
func startManager(t *testing.T, b *bed, links ...*fakeLink) (*fakeManager, *dbus.Conn) {
	t.Helper()
	m := &fakeManager{links: links}
	conn := connect(t, b.address)
	exports := map[dbus.ObjectPath]map[string]any{
		"/org/freedesktop": {"org.freedesktop.DBus.ObjectManager": map[string]any{"GetManagedObjects": m.objects}},
	}
	for i, link := range links {
		exports[dbus.ObjectPath(connections+letters[i:i+1])] = map[string]any{managerIface + ".Settings.Connection": map[string]any{
			"GetSettings": func() (map[string]map[string]dbus.Variant, *dbus.Error) { return m.settings(link), nil },
			"Update2": func(s map[string]map[string]dbus.Variant, flags uint32, _ map[string]dbus.Variant) (map[string]dbus.Variant, *dbus.Error) {
				return map[string]dbus.Variant{}, m.update(link, s, flags)
			},
		}}
	}
	for path, ifaces := range exports {
		for name, methods := range ifaces {
			if err := conn.ExportMethodTable(methods.(map[string]any), path, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if reply, err := conn.RequestName(networkmanager.Name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return m, conn
}

// sections are texts and values by the section or interface that they are in, and their name.
type sections = map[string]map[string]dbus.Variant

func (m *fakeManager) objects() (map[dbus.ObjectPath]sections, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[dbus.ObjectPath]sections{}
	var active []dbus.ObjectPath
	for i, link := range m.links {
		n := letters[i : i+1]
		active = append(active, dbus.ObjectPath(activePath+n))
		all[dbus.ObjectPath(activePath+n)] = sections{managerIface + ".Connection.Active": {
			"Connection": dbus.MakeVariant(dbus.ObjectPath(connections + n)), "Vpn": dbus.MakeVariant(link.vpn),
			"Devices": dbus.MakeVariant([]dbus.ObjectPath{dbus.ObjectPath(devicePath + n)}),
		}}
		all[dbus.ObjectPath(devicePath+n)] = sections{managerIface + ".Device": {
			"Interface": dbus.MakeVariant(link.device), "IpInterface": dbus.MakeVariant(link.iface),
		}}
		all[dbus.ObjectPath(connections+n)] = sections{managerIface + ".Settings.Connection": {"Flags": dbus.MakeVariant(link.flags)}}
	}
	all[managerRoot] = sections{managerIface: {"ActiveConnections": dbus.MakeVariant(active)}}
	return all, nil
}

func (m *fakeManager) settings(link *fakeLink) sections {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := sections{"connection": {"id": dbus.MakeVariant(link.device)}, "ipv4": {"method": dbus.MakeVariant("auto")}}
	if link.zone != "" {
		s["connection"]["zone"] = dbus.MakeVariant(link.zone)
	}
	return s
}

func (m *fakeManager) update(link *fakeLink, s sections, flags uint32) *dbus.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if flags != 1 || s["ipv4"]["method"].Value() != "auto" || s["connection"]["id"].Value() != link.device {
		return dbus.NewError("org.freedesktop.NetworkManager.Settings.Connection.InvalidProperty", []any{"the settings are not whole"})
	}
	link.zone, _ = s["connection"]["zone"].Value().(string)
	return nil
}

// zone is what a connection's zone is now.
func (m *fakeManager) zone(i int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[i].zone
}

func (b *bed) zoneOf(iface string) string { return b.must("", "zone.getZoneOfInterface", iface) }

// The daemon asks NetworkManager for the zones of its connections when it starts and when it reloads. Its word counts more
// than the files; what it did not configure, and what is under a VPN, it has no say in.
func TestZonesOfConnections(t *testing.T) {
	b := newBed(t, map[string]string{"zones/work.xml": `<zone><interface name="eth0"/><interface name="br0"/></zone>`})
	m, conn := startManager(t, b,
		&fakeLink{device: "eth0", iface: "eth0", zone: "home"}, &fakeLink{device: "eth1"},
		&fakeLink{device: "wwan0", iface: "ppp0", zone: "external"}, &fakeLink{device: "br0", zone: "home", flags: 2},
		&fakeLink{device: "eth2", zone: "nosuch"}, &fakeLink{device: "eth0", zone: "trusted", vpn: true})
	check := func(when string, want map[string]string) {
		t.Helper()
		for iface, zone := range want {
			if got := b.zoneOf(iface); got != `"`+zone+`"` {
				t.Errorf("%s %s is in zone %s and not in %s", when, iface, got, zone)
			}
		}
	}
	check("before", map[string]string{"eth0": "work", "eth1": ""})
	b.must("", "reload")
	want := map[string]string{"eth0": "home", "eth1": "public", "ppp0": "external", "wwan0": "", "br0": "work", "eth2": ""}
	check("after a reload", want)
	b.rules("ppp0")
	b.must("", "runtimeToPermanent")
	if got := b.must("config", "config.getZoneOfInterface", "ppp0"); got != `""` {
		t.Errorf("ppp0 was written to zone %s", got)
	}
	b.server.Close()
	b.start(nil)
	check("after a restart", want)
	b.must("", "setDefaultZone", "dmz")
	check("with another default zone", map[string]string{"eth0": "home", "eth1": "dmz"})

	m.mu.Lock()
	m.links[0].zone = "internal"
	m.mu.Unlock()
	b.must("", "reload")
	check("after a change of the connection", map[string]string{"eth0": "internal"})
	conn.Close() // NetworkManager ends
	b.must("", "reload")
	check("without NetworkManager", map[string]string{"eth0": "", "eth1": "", "br0": "work"})
}

// What others have bound of its interfaces, NetworkManager is told when the running firewall is made permanent: the zone is
// a setting of the connection then, and not in the files.
func TestRuntimeToPermanentTellsNetworkManager(t *testing.T) {
	b := newBed(t, nil)
	m, _ := startManager(t, b, &fakeLink{device: "eth0", zone: "home"}, &fakeLink{device: "eth1"})
	b.must("", "reload")
	b.must("", "zone.changeZoneOfInterface", "work", "eth1")
	b.must("", "zone.addInterface", "dmz", "eth2")
	b.must("", "runtimeToPermanent")
	if m.zone(0) != "home" || m.zone(1) != "work" {
		t.Errorf("the connections' zones are %q and %q, not home and work", m.zone(0), m.zone(1))
	}
	for iface, want := range map[string]string{"eth0": "", "eth1": "", "eth2": "dmz"} {
		if got := b.must("config", "config.getZoneOfInterface", iface); got != `"`+want+`"` {
			t.Errorf("the files bind %s to %s, not %q", iface, got, want)
		}
	}
	b.must("", "reload")
	if got := b.zoneOf("eth1"); got != `"work"` {
		t.Errorf("after a reload eth1 is in zone %s", got)
	}
}

// A NetworkManager that fails to answer keeps no reload from being done: it tells by itself what it brings up.
func TestNetworkManagerWithoutAnswer(t *testing.T) {
	b := newBed(t, nil)
	if _, err := b.client.RequestName(networkmanager.Name, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	b.must("config/zone/6", "config.zone.addPort", "8080", "tcp")
	b.must("", "reload")
	if got := b.must("", "zone.getPorts", "public"); !strings.Contains(got, "8080") {
		t.Errorf("the ports are %s", got)
	}
}

// In lists the interfaces of the connections that say a zone.
func TestLinksOfZone(t *testing.T) {
	links := map[string]networkmanager.Link{"eth1": {Zone: "home"}, "eth0": {Zone: "home"}, "eth2": {}}
	if got := networkmanager.In(links, "home"); !slices.Equal(got, []string{"eth0", "eth1"}) {
		t.Errorf("got %v", got)
	}
}
