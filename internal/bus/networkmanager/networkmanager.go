// Package networkmanager asks NetworkManager in which zones it wants its interfaces, and tells it of other zones.
//
// In comes a connection to the message bus. The calls are those of NetworkManager's D-Bus interface, as
// https://networkmanager.dev/docs/api/latest/spec.html has it. The daemon and firewall-cmd import it.
package networkmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5"
)

// Name is NetworkManager's on the bus.
const Name = "org.freedesktop.NetworkManager"

// The names of its objects and interfaces.
const (
	objects        = dbus.ObjectPath("/org/freedesktop")
	managerPath    = objects + "/NetworkManager"
	activeIface    = Name + ".Connection.Active"
	deviceIface    = Name + ".Device"
	connectionName = Name + ".Settings.Connection"
)

// generated is the flag of a connection that NetworkManager has made for an interface that somebody else has configured
// (NM_SETTINGS_CONNECTION_FLAG_NM_GENERATED): it is not under its control.
const generated = 0x2

// toDisk is the flag of Update2 that makes a change lasting (NM_SETTINGS_UPDATE2_FLAG_TO_DISK).
const toDisk = uint32(0x1)

// Link is an interface that NetworkManager has brought up.
type Link struct {
	Zone       string // of its connection; "" is the default zone
	manager    string // the name by which NetworkManager was asked
	connection dbus.ObjectPath
}

// settings are those of a connection: the values of each of its sections.
type settings = map[string]map[string]dbus.Variant

// tree is all objects of NetworkManager: the properties of each of their interfaces.
type tree map[dbus.ObjectPath]settings

// Owner is the unique name of the program that has a name on the bus; "" if none has it. Answers come from unique names: whoever
// wants to know from whom an answer comes must ask by one.
func Owner(ctx context.Context, conn *dbus.Conn, name string) (string, error) {
	var owner string
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, name).Store(&owner)
	var named dbus.Error
	if errors.As(err, &named) && named.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" {
		return "", nil
	}
	return owner, err
}

// Links are the interfaces of active connections by their names, as packets come through them. There are none where
// NetworkManager does not run. Interfaces under a VPN are in the zone of their own connection, not in that of the VPN.
func Links(ctx context.Context, conn *dbus.Conn) (map[string]Link, error) {
	var runs bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, Name).Store(&runs); err != nil || !runs {
		return nil, err
	}
	return LinksOf(ctx, conn, Name)
}

// LinksOf is Links of the NetworkManager that has a name on the bus, such as its unique one.
func LinksOf(ctx context.Context, conn *dbus.Conn, manager string) (map[string]Link, error) {
	var all tree
	err := conn.Object(manager, objects).CallWithContext(ctx, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", 0).Store(&all)
	if err != nil {
		return nil, fmt.Errorf("cannot ask NetworkManager for its connections: %w", err)
	}
	links := map[string]Link{}
	for _, active := range value[[]dbus.ObjectPath](all, managerPath, Name, "ActiveConnections") {
		path := value[dbus.ObjectPath](all, active, activeIface, "Connection")
		if all[path] == nil || value[bool](all, active, activeIface, "Vpn") || value[uint32](all, path, connectionName, "Flags")&generated != 0 {
			continue
		}
		found, err := read(ctx, conn, manager, path)
		if err != nil {
			return nil, err
		}
		zone, _ := found["connection"]["zone"].Value().(string)
		for _, device := range value[[]dbus.ObjectPath](all, active, activeIface, "Devices") {
			name := value[string](all, device, deviceIface, "IpInterface")
			if name == "" {
				name = value[string](all, device, deviceIface, "Interface")
			}
			if name != "" {
				links[name] = Link{zone, manager, path}
			}
		}
	}
	return links, nil
}

// value is a property of an object, the zero value if there is none of that type.
func value[T any](all tree, path dbus.ObjectPath, iface, name string) T {
	v, _ := all[path][iface][name].Value().(T)
	return v
}

// read is the settings of a connection, as they came: dbus.Store would forget the signatures of the values.
func read(ctx context.Context, conn *dbus.Conn, manager string, path dbus.ObjectPath) (settings, error) {
	call := conn.Object(manager, path).CallWithContext(ctx, connectionName+".GetSettings", 0)
	if call.Err != nil {
		return nil, fmt.Errorf("cannot ask NetworkManager for the zone of a connection: %w", call.Err)
	}
	if len(call.Body) == 1 {
		if found, ok := call.Body[0].(settings); ok {
			return found, nil
		}
	}
	return nil, errors.New("cannot understand what NetworkManager says of the settings of a connection")
}

// SetZone makes a zone that of an interface's connection, for good; "" is the default zone. NetworkManager keeps the
// connection's secrets, which are not sent.
func SetZone(ctx context.Context, conn *dbus.Conn, link Link, zone string) error {
	found, err := read(ctx, conn, link.manager, link.connection)
	if err != nil {
		return err
	}
	if found["connection"] == nil {
		return fmt.Errorf("cannot set the zone of NetworkManager's connection %s: it has no settings", link.connection)
	}
	if err := typed(found); err != nil {
		return fmt.Errorf("cannot send back the settings of NetworkManager's connection %s: %w", link.connection, err)
	}
	delete(found["connection"], "zone")
	if zone != "" {
		found["connection"]["zone"] = dbus.MakeVariant(zone)
	}
	err = conn.Object(link.manager, link.connection).CallWithContext(ctx, connectionName+".Update2", 0,
		found, toDisk, map[string]dbus.Variant{}).Err
	if err != nil {
		return fmt.Errorf("cannot set the zone of NetworkManager's connection: %w", err)
	}
	return nil
}

// In is the names of the links whose connections say a zone, sorted. Those without one are in the default zone, whichever
// that is, and in no list.
func In(links map[string]Link, zone string) []string {
	var names []string
	for name, link := range links {
		if link.Zone == zone {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
