package bus

import (
	"richwall/internal/daemon"
	"richwall/zones"
)

// configIface is of the object for the permanent configuration as a whole.
var configIface = newConfigIface()

func newConfigIface() *iface {
	i := &iface{name: "config", properties: confProperties}
	for _, k := range kinds {
		i.methods = append(i.methods,
			def("list"+k.plural, "", "ao", actConfig, func(c *call) (any, error) {
				return c.server.paths.list(k, c.snapshot().Permanent), nil
			}),
			def("get"+k.noun+"Names", "", "as", actConfig, func(c *call) (any, error) {
				return k.objects.names(c.snapshot().Permanent), nil
			}),
			def("get"+k.noun+"ByName", k.name+":s", "o", actConfig, func(c *call) (any, error) {
				if k.objects.meta(c.snapshot().Permanent, c.str(0)) == nil {
					return nil, refuse(k.missing, "%s", c.str(0))
				}
				return c.server.paths.of(target{k, c.str(0)}), nil
			}))
		add := "add" + k.noun
		if k.tuple != nil {
			i.methods = append(i.methods, def(add, k.name+":s settings:"+k.tupleSig(), "o", actConfig, func(c *call) (any, error) {
				return c.create(k, k.fromTuple(c.args[1].([]any)))
			}))
			add += "2"
		}
		if k.dict {
			i.methods = append(i.methods, def(add, k.name+":s settings:a{sv}", "o", actConfig, func(c *call) (any, error) {
				settings, err := k.fromDict(c.args[1].(dict))
				if err != nil {
					return nil, err
				}
				return c.create(k, settings)
			}))
		}
		i.signals = append(i.signals, sig(k.noun+"Added", k.name+":s"))
	}
	i.methods = append(i.methods,
		def("getZoneOfInterface", "iface:s", "s", actConfig, permanentZoneOf(zones.KeyInterface)),
		def("getZoneOfSource", "source:s", "s", actConfig, permanentZoneOf(zones.KeySource)))
	return i
}

// create makes a permanent object and answers with its path.
func (c *call) create(k *kind, settings zones.Settings) (any, error) {
	if err := c.changePermanent(zones.New(k.object(c.str(0)), settings)); err != nil {
		return nil, err
	}
	return c.server.paths.of(target{k, c.str(0)}), nil
}

func (c *call) changePermanent(edit zones.Edit) error {
	return c.server.daemon.ChangePermanent(daemon.Change{Edit: edit, Sender: c.sender, Told: c.remark})
}

// remark keeps a line for the client to ask for.
func (c *call) remark(line string) {
	c.server.told.add(c.sender, c.uid, line)
}

func permanentZoneOf(key zones.Key) func(*call) (any, error) {
	return func(c *call) (any, error) {
		return zones.ZoneOf(c.snapshot().Permanent, zones.Permanent, zones.Item{Key: key, Args: c.strs(0, 1)})
	}
}

// confProperties are the keys of firewalld.conf. What is set is in force after a reload.
var confProperties = []property{
	{name: "DefaultZone", sig: "s", get: conf(func(c *zones.Conf) string { return c.DefaultZone })},
	ignored("MinimalMark", "i", 100),
	yesNo("CleanupOnExit"),
	yesNo("CleanupModulesOnExit"),
	{name: "IPv6_rpfilter", sig: "s", get: conf(func(c *zones.Conf) string { return yes(c.IPv6RPFilter != "no") }), set: setTruth("IPv6_rpfilter")},
	{name: "IPv6_rpfilter2", sig: "s", get: written("IPv6_rpfilter"), set: setConf("IPv6_rpfilter")},
	ignored("Lockdown", "s", "no"),
	yesNo("IndividualCalls"),
	word("LogDenied"),
	ignored("AutomaticHelpers", "s", "no"),
	word("FirewallBackend"),
	yesNo("FlushAllOnReload"),
	yesNo("RFC3964_IPv4"),
	ignored("AllowZoneDrifting", "s", "no"),
	word("NftablesFlowtable"),
	yesNo("NftablesCounters"),
	yesNo("NftablesTableOwner"),
	yesNo("StrictForwardPorts"),
}

func conf(value func(*zones.Conf) string) func(daemon.Snapshot, target) any {
	return func(s daemon.Snapshot, _ target) any { return value(s.Permanent.Conf) }
}

func yes(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// ignored is a deprecated key: it has always the same value, and setting it does nothing.
func ignored(name, sig string, value any) property {
	p := constant(name, sig, value)
	p.fixed = true
	return p
}

func yesNo(key string) property {
	return property{name: key, sig: "s", get: written(key), set: setTruth(key)}
}

func word(key string) property {
	return property{name: key, sig: "s", get: written(key), set: setConf(key)}
}

// written is the value of a key as the file has it.
func written(key string) func(daemon.Snapshot, target) any {
	return conf(func(c *zones.Conf) string { return c.Written(key) })
}

func setConf(key string) func(*call, any) error {
	return func(c *call, value any) error { return c.changePermanent(zones.SetConf(key, value.(string))) }
}

// setTruth is for a property that is on or off, where the file takes more values.
func setTruth(key string) func(*call, any) error {
	return func(c *call, value any) error {
		if err := zones.CheckConf("CleanupOnExit", value.(string)); err != nil {
			return refuse(zones.InvalidValue, "'%s' for %s", value, key)
		}
		return setConf(key)(c, value)
	}
}
