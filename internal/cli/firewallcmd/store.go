package firewallcmd

import (
	"github.com/godbus/dbus/v5"
)

// store is a permanent configuration: the daemon's (permanentConfig) or that of the files (files).
type store interface {
	defaultZone() (string, error)
	names(k *kind) ([]string, error)
	get(k *kind, name string) (settings, error)
	// put changes the settings that are given, and leaves the others.
	put(k *kind, name string, changed settings) error
	create(k *kind, name string, all settings) error
	delete(k *kind, name string) error
	// loadDefaults brings back a shipped object that was changed.
	loadDefaults(k *kind, name string) error
	// path is the file of an object; "" if it is built in.
	path(k *kind, name string) (string, error)
	// zoneOf is the zone that an interface or a source, as the field says, is bound to; "" means none.
	zoneOf(f *field, value string) (string, error)
	// open is where the items of an object are changed.
	open(k *kind, name string) (place, error)
	direct() (directStore, error)
}

// permanentConfig is the permanent configuration of a running daemon.
type permanentConfig struct{ daemon *daemon }

func (c *permanentConfig) defaultZone() (zone string, err error) {
	err = c.daemon.main("", "getDefaultZone", nil, &zone)
	return zone, err
}

func (c *permanentConfig) names(k *kind) (names []string, err error) {
	err = c.daemon.config("get"+k.bus+"Names", nil, &names)
	return names, err
}

// object is the D-Bus path of an object of the permanent configuration.
func (d *daemon) object(k *kind, name string) (path dbus.ObjectPath, err error) {
	err = d.config("get"+k.bus+"ByName", []any{name}, &path)
	return path, err
}

// call calls a method of an object of the permanent configuration.
func (c *permanentConfig) call(k *kind, name, method string, args []any, results ...any) error {
	path, err := c.daemon.object(k, name)
	if err != nil {
		return err
	}
	return c.daemon.call(path, "config."+k.name, method, args, results...)
}

// asDictionary is the ending of the methods of a kind that carry a dictionary where older ones carry a tuple.
func asDictionary(k *kind) string {
	if k.name == "policy" || k.tuple {
		return ""
	}
	return "2"
}

func (c *permanentConfig) get(k *kind, name string) (settings, error) {
	if k.tuple {
		var values []any
		err := c.call(k, name, "getSettings", nil, &values)
		return fromTuple(k, values), err
	}
	var m map[string]dbus.Variant
	err := c.call(k, name, "getSettings"+asDictionary(k), nil, &m)
	return fromBus(k, m), err
}

func (c *permanentConfig) put(k *kind, name string, changed settings) error {
	if !k.tuple {
		return c.call(k, name, "update"+asDictionary(k), []any{toBus(k, changed)})
	}
	all, err := c.get(k, name)
	if err != nil {
		return err
	}
	for key, value := range changed {
		all[key] = value
	}
	return c.call(k, name, "update", []any{toTuple(k, all)})
}

func (c *permanentConfig) create(k *kind, name string, all settings) error {
	if k.tuple {
		return c.daemon.config("add"+k.bus, []any{name, toTuple(k, all)})
	}
	return c.daemon.config("add"+k.bus+asDictionary(k), []any{name, toBus(k, all)})
}

func (c *permanentConfig) delete(k *kind, name string) error { return c.call(k, name, "remove", nil) }

func (c *permanentConfig) loadDefaults(k *kind, name string) error {
	return c.call(k, name, "loadDefaults", nil)
}

func (c *permanentConfig) path(k *kind, name string) (string, error) {
	path, err := c.daemon.object(k, name)
	if err != nil {
		return "", err
	}
	var all map[string]dbus.Variant
	answer := c.daemon.conn.Object(busName, path).Call("org.freedesktop.DBus.Properties.GetAll", 0, busName+".config."+k.name)
	if answer.Err != nil {
		return "", busError(answer.Err)
	}
	if err := answer.Store(&all); err != nil {
		return "", errNoAnswer
	}
	folder, _ := all["path"].Value().(string)
	file, _ := all["filename"].Value().(string)
	if folder == "" {
		return "", nil
	}
	return folder + "/" + file, nil
}

func (c *permanentConfig) zoneOf(f *field, value string) (zone string, err error) {
	err = c.daemon.config("getZoneOf"+f.method, []any{value}, &zone)
	return zone, err
}

func (c *permanentConfig) open(k *kind, name string) (place, error) {
	if k.name == "zone" {
		path, err := c.daemon.object(k, name)
		return &permanentZone{c.daemon, path, name}, err
	}
	found, err := c.get(k, name)
	return &settingsCopy{kind: k, settings: found, save: func(changed settings) error {
		return c.put(k, name, changed)
	}}, err
}

func (c *permanentConfig) direct() (directStore, error) {
	return &busDirect{c.daemon, configPath, "config.direct"}, nil
}

var plural = map[string]string{"zone": "Zones", "policy": "Policies", "ipset": "IPSets"}

// names are those of the objects in effect.
func (d *daemon) names(k *kind) (names []string, err error) {
	switch k.name {
	case "zone", "policy", "ipset":
		err = d.main(k.name, "get"+plural[k.name], nil, &names)
	case "helper":
		err = d.main("", "getHelpers", nil, &names)
	default:
		err = d.main("", "list"+k.bus+"s", nil, &names)
	}
	return names, err
}

// settings are those of an object in effect.
func (d *daemon) settings(k *kind, name string) (settings, error) {
	iface := ""
	if k.name == "zone" || k.name == "policy" || k.name == "ipset" {
		iface = k.name
	}
	if k.tuple {
		var values []any
		err := d.main(iface, "get"+k.bus+"Settings", []any{name}, &values)
		return fromTuple(k, values), err
	}
	var m map[string]dbus.Variant
	err := d.main(iface, "get"+k.bus+"Settings"+asDictionary(k), []any{name}, &m)
	return fromBus(k, m), err
}

// setPolicy changes settings of a policy in effect, for so many seconds; 0 means for ever.
func (d *daemon) setPolicy(name string, changed settings, timeout int32) error {
	m := toBus(kindOf("policy"), changed)
	if timeout > 0 {
		m["timeout"] = dbus.MakeVariant(timeout)
	}
	return d.main("policy", "setPolicySettings", []any{name, m})
}
