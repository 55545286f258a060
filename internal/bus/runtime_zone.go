package bus

import (
	"strings"
	"time"

	"richwall/internal/daemon"
	"richwall/zones"
)

// zoneItem is a kind of item of a zone in the running firewall.
type zoneItem struct {
	key    zones.Key
	noun   string // of the methods addPort, removePort and queryPort, and the signals PortAdded and PortRemoved
	plural string // of the method getPorts; "" where there is none
	args   string // the parts of the item
	list   string // the signature of what getPorts returns
	timed  bool   // whether it can be added for some time
}

var zoneItems = []zoneItem{
	{zones.KeyInterface, "Interface", "Interfaces", "interface:s", "as", false},
	{zones.KeySource, "Source", "Sources", "source:s", "as", false},
	{zones.KeyRule, "RichRule", "RichRules", "rule:s", "as", true},
	{zones.KeyService, "Service", "Services", "service:s", "as", true},
	{zones.KeyPort, "Port", "Ports", "port:s protocol:s", "aas", true},
	{zones.KeyProtocol, "Protocol", "Protocols", "protocol:s", "as", true},
	{zones.KeySourcePort, "SourcePort", "SourcePorts", "port:s protocol:s", "aas", true},
	{zones.KeyMasquerade, "Masquerade", "", "", "", true},
	{zones.KeyForwardPort, "ForwardPort", "ForwardPorts", "port:s protocol:s toport:s toaddr:s", "aas", true},
	{zones.KeyICMPBlock, "IcmpBlock", "IcmpBlocks", "icmp:s", "as", true},
	{zones.KeyInversion, "IcmpBlockInversion", "", "", "", false},
}

// moved names the signals that an interface or source is in another zone. That of interfaces has an older name, too.
var moved = map[zones.Key][]string{
	zones.KeyInterface: {"ZoneChanged", "ZoneOfInterfaceChanged"},
	zones.KeySource:    {"ZoneOfSourceChanged"},
}

var zoneIface = newZoneIface()

func newZoneIface() *iface {
	i := &iface{name: "zone"}
	i.methods = []method{
		def("getZoneSettings2", "zone:s", "a{sv}", actConfigInfo, getZoneSettings(func(s zones.Settings) any { return zoneKind.toDict(s) })),
		def("setZoneSettings2", "zone:s settings:a{sv}", "", actConfig, setZoneSettings),
		def("getZones", "", "as", actInfo, func(c *call) (any, error) { return zones.Names(c.snapshot().Runtime.Zones), nil }),
		def("getActiveZones", "", "a{sa{sas}}", actInfo, getActiveZones),
		def("getZoneOfInterface", "interface:s", "s", actInfo, zoneOf(zones.KeyInterface)),
		def("getZoneOfSource", "source:s", "s", actInfo, zoneOf(zones.KeySource)),
		def("isImmutable", "zone:s", "b", actConfigInfo, func(*call) (any, error) { return false, nil }),
		def("changeZone", "zone:s interface:s", "s", actConfig, rebind(zoneItems[0])),
		def("changeZoneOfInterface", "zone:s interface:s", "s", actConfig, rebind(zoneItems[0])),
		def("changeZoneOfSource", "zone:s source:s", "s", actConfig, rebind(zoneItems[1])),
	}
	i.signals = []signal{sig("ZoneUpdated", "zone:s settings:a{sv}")}
	for _, it := range zoneItems {
		args, timeout := strings.TrimSpace("zone:s "+it.args), ""
		if it.timed {
			timeout = " timeout:i"
		}
		i.methods = append(i.methods,
			def("add"+it.noun, args+timeout, "s", actConfig, addToZone(it)),
			def("remove"+it.noun, args, "s", actConfig, removeFromZone(it)),
			def("query"+it.noun, args, "b", actConfigInfo, queryZone(it)))
		if it.plural != "" {
			i.methods = append(i.methods, def("get"+it.plural, "zone:s", it.list, actConfigInfo, listOfZone(it)))
		}
		i.signals = append(i.signals, sig(it.noun+"Added", args+timeout), sig(it.noun+"Removed", args))
		for _, name := range moved[it.key] {
			i.signals = append(i.signals, sig(name, args))
		}
	}
	return i
}

// runtimeZone is the zone that a call names first; no name is the default zone.
func (c *call) runtimeZone() zones.Object {
	name := c.str(0)
	if name == "" {
		name = c.snapshot().Runtime.Conf.DefaultZone
	}
	return zoneKind.object(name)
}

// item is the item that a call names after the zone.
func (it zoneItem) item(c *call) zones.Item {
	return zones.Item{Key: it.key, Args: c.strs(1, 1+len(args(it.args)))}
}

// tell sends a signal about an item as the caller named it.
func (it zoneItem) tell(c *call, name, zone string, more ...any) {
	values := append([]any{zone}, c.args[1:1+len(args(it.args))]...)
	c.server.emit(root, "zone", name, append(values, more...)...)
}

func addToZone(it zoneItem) func(*call) (any, error) {
	return func(c *call) (any, error) {
		zone, item := c.runtimeZone(), it.item(c)
		change := daemon.Change{Edit: zones.Add(zones.Runtime, zone, item), Sender: c.sender}
		if !it.timed {
			change.Manager = it.key == zones.KeyInterface && c.isManager()
			if err := c.change(change); err != nil {
				return nil, err
			}
			it.tell(c, it.noun+"Added", zone.Name)
			return zone.Name, nil
		}
		seconds := c.num(len(c.args) - 1)
		if seconds < 0 {
			return nil, refuse(zones.InvalidValue, "cannot add something for %d seconds: 0 means for good, and more a time", seconds)
		}
		change.Timeout = time.Duration(seconds) * time.Second
		change.Key = string(it.key) + " " + zone.Name + " " + item.String()
		change.Undo = zones.Remove(zones.Runtime, zone, item)
		change.There = func(cfg *zones.Config) bool { return has(cfg, zone, item) }
		if err := c.change(change); err != nil {
			return nil, err
		}
		it.tell(c, it.noun+"Added", zone.Name, seconds)
		return zone.Name, nil
	}
}

func has(cfg *zones.Config, o zones.Object, item zones.Item) bool {
	there, err := zones.Has(cfg, zones.Runtime, o, item)
	return err == nil && there
}

func (c *call) change(change daemon.Change) error {
	return c.server.daemon.ChangeRuntime(c.ctx, change)
}

func removeFromZone(it zoneItem) func(*call) (any, error) {
	return func(c *call) (any, error) {
		zone, item := c.runtimeZone(), it.item(c)
		if moved[it.key] != nil {
			owner, err := zones.ZoneOf(c.snapshot().Runtime, zones.Runtime, item)
			if err != nil {
				return nil, err
			}
			if owner == "" || c.str(0) == "" {
				zone.Name = owner // bound nowhere, it is that and not the zone that clients want to be told of
			}
		}
		if err := c.change(daemon.Change{Edit: zones.Remove(zones.Runtime, zone, item), Sender: c.sender}); err != nil {
			return nil, err
		}
		it.tell(c, it.noun+"Removed", zone.Name)
		return zone.Name, nil
	}
}

func queryZone(it zoneItem) func(*call) (any, error) {
	return func(c *call) (any, error) {
		return zones.Has(c.snapshot().Runtime, zones.Runtime, c.runtimeZone(), it.item(c))
	}
}

func listOfZone(it zoneItem) func(*call) (any, error) {
	return func(c *call) (any, error) {
		settings, err := zones.Get(c.snapshot().Runtime, zones.Runtime, c.runtimeZone())
		if err != nil {
			return nil, err
		}
		return fromSetting(it.list, settings[it.key]), nil
	}
}

// rebind moves an interface or source to a zone. The signals are sent, too, when it was there already.
func rebind(it zoneItem) func(*call) (any, error) {
	return func(c *call) (any, error) {
		zone := c.runtimeZone()
		change := daemon.Change{Edit: zones.Rebind(zones.Runtime, zone.Name, it.item(c)), Sender: c.sender}
		change.Manager = it.key == zones.KeyInterface && c.isManager()
		if err := c.change(change); err != nil {
			return nil, err
		}
		for _, name := range moved[it.key] {
			it.tell(c, name, zone.Name)
		}
		return zone.Name, nil
	}
}

func zoneOf(key zones.Key) func(*call) (any, error) {
	return func(c *call) (any, error) {
		return zones.ZoneOf(c.snapshot().Runtime, zones.Runtime, zones.Item{Key: key, Args: c.strs(0, 1)})
	}
}

// getActiveZones is the zones that something is bound to, and the default zone, which comes last when nothing is.
func getActiveZones(c *call) (any, error) {
	cfg := c.snapshot().Runtime
	def := cfg.Conf.DefaultZone
	active := []entry{}
	show := func(z *zones.Zone) {
		active = append(active, entry{z.Name, []entry{{"interfaces", z.Interfaces}, {"sources", z.Sources}}})
	}
	for _, name := range zones.Names(cfg.Zones) {
		if z := cfg.Zones[name]; z.Bound() {
			show(z)
		}
	}
	if z := cfg.Zones[def]; !z.Bound() {
		show(z)
	}
	return active, nil
}

func getZoneSettings(form func(zones.Settings) any) func(*call) (any, error) {
	return func(c *call) (any, error) {
		settings, err := zones.Get(c.snapshot().Runtime, zones.Runtime, c.runtimeZone())
		if err != nil {
			return nil, err
		}
		return form(settings), nil
	}
}

func setZoneSettings(c *call) (any, error) {
	zone := c.runtimeZone()
	if err := c.updateRuntime(zoneKind, zone, c.args[1].(dict)); err != nil {
		return nil, err
	}
	c.server.emit(root, "zone", "ZoneUpdated", zone.Name, asSent(zoneKind, c.args[1].(dict)))
	return nil, nil
}
