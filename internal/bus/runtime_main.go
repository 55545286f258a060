package bus

import (
	"context"

	"richwall/internal/daemon"
	"richwall/zones"
)

// What the daemon says of itself: the release of firewalld whose interface this is. Clients choose by it what they call.
const (
	version          = "2.5.2"
	interfaceVersion = "1.15"
)

// order is a method without arguments that the daemon carries out.
func order(name string, do func(*daemon.Daemon, context.Context) error) method {
	return def(name, "", "", actConfig, func(c *call) (any, error) { return nil, do(c.server.daemon, c.ctx) })
}

// namesOf is a method that lists the objects of a kind in the running firewall.
func namesOf(name string, list func(*zones.Config) []string) method {
	return def(name, "", "as", actInfo, func(c *call) (any, error) { return list(c.snapshot().Runtime), nil })
}

// settingsOf is a method that answers with the settings of an object of the running firewall, as a structure.
func settingsOf(name string, k *kind) method {
	return def(name, k.name+":s", k.tupleSig(), actConfigInfo, func(c *call) (any, error) {
		settings, err := zones.Get(c.snapshot().Runtime, zones.Runtime, k.object(c.str(0)))
		if err != nil {
			return nil, err
		}
		return k.toTuple(settings), nil
	})
}

var mainIface = &iface{
	methods: []method{
		order("reload", (*daemon.Daemon).Reload),
		order("completeReload", (*daemon.Daemon).CompleteReload),
		order("resetToDefaults", (*daemon.Daemon).ResetToDefaults),
		def("checkPermanentConfig", "", "", actConfig, func(c *call) (any, error) { return nil, c.server.daemon.CheckTelling(c.ctx, c.remark) }),
		order("runtimeToPermanent", (*daemon.Daemon).RuntimeToPermanent),
		atOnce(order("enablePanicMode", func(d *daemon.Daemon, ctx context.Context) error { return d.SetPanic(ctx, true) })),
		atOnce(order("disablePanicMode", func(d *daemon.Daemon, ctx context.Context) error { return d.SetPanic(ctx, false) })),
		atOnce(def("queryPanicMode", "", "b", actInfo, func(c *call) (any, error) { return c.snapshot().Panic, nil })),
		def("getZoneSettings", "zone:s", zoneKind.tupleSig(), actConfigInfo,
			getZoneSettings(func(s zones.Settings) any { return zoneKind.toTuple(s) })),
		namesOf("listServices", serviceKind.objects.names),
		settingsOf("getServiceSettings", serviceKind),
		def("getServiceSettings2", "service:s", "a{sv}", actConfigInfo, func(c *call) (any, error) {
			settings, err := zones.Get(c.snapshot().Runtime, zones.Runtime, serviceKind.object(c.str(0)))
			if err != nil {
				return nil, err
			}
			return serviceKind.toDict(settings), nil
		}),
		namesOf("listIcmpTypes", icmpTypeKind.objects.names),
		settingsOf("getIcmpTypeSettings", icmpTypeKind),
		def("getLogDenied", "", "s", actConfigInfo, func(c *call) (any, error) { return c.snapshot().Runtime.Conf.LogDenied, nil }),
		def("setLogDenied", "value:s", "", actConfig, func(c *call) (any, error) { return nil, c.server.daemon.SetLogDenied(c.ctx, c.str(0)) }),
		// Helpers are never assigned by themselves: the setting is there for older clients.
		def("getAutomaticHelpers", "", "s", actConfigInfo, func(*call) (any, error) { return "no", nil }),
		def("setAutomaticHelpers", "value:s", "", actConfig, nothing),
		def("getDefaultZone", "", "s", actInfo, func(c *call) (any, error) { return c.snapshot().Runtime.Conf.DefaultZone, nil }),
		def("setDefaultZone", "zone:s", "", actConfig, func(c *call) (any, error) {
			return nil, c.server.daemon.SetDefaultZone(c.ctx, c.runtimeZone().Name)
		}),
		def("authorizeAll", "", "", actAll, nothing),
		namesOf("getHelpers", helperKind.objects.names),
		settingsOf("getHelperSettings", helperKind),
	},
	signals: []signal{
		sig("Reloaded", ""), sig("PanicModeEnabled", ""), sig("PanicModeDisabled", ""), sig("LogDeniedChanged", "value:s"),
		sig("AutomaticHelpersChanged", "value:s"), sig("DefaultZoneChanged", "zone:s"),
	},
	properties: []property{
		constant("version", "s", version),
		constant("interface_version", "s", interfaceVersion),
		{name: "state", sig: "s", get: func(s daemon.Snapshot, _ target) any { return string(s.State) }},
		constant("IPv4", "b", true),
		constant("IPv6", "b", true),
		{name: "IPv6_rpfilter", sig: "b", get: func(s daemon.Snapshot, _ target) any { return s.Runtime.Conf.IPv6RPFilter != "no" }},
		constant("BRIDGE", "b", true),
		constant("IPSet", "b", true),
		constant("IPSetTypes", "as", zones.IPSetTypes),
		constant("nf_conntrack_helper_setting", "b", false),
		constant("nf_conntrack_helpers", "a{sas}", map[string][]string{}),
		constant("nf_nat_helpers", "a{sas}", map[string][]string{}),
		icmpTypes("IPv4ICMPTypes", "ipv4"),
		icmpTypes("IPv6ICMPTypes", "ipv6"),
	},
}

func nothing(*call) (any, error) { return nil, nil }

func constant(name, sig string, value any) property {
	return property{name: name, sig: sig, get: func(daemon.Snapshot, target) any { return value }}
}

// icmpTypes is the names of the ICMP types that an IP version has.
func icmpTypes(name, family string) property {
	return property{name: name, sig: "as", get: func(s daemon.Snapshot, _ target) any {
		list := []string{}
		for _, name := range zones.Names(s.Runtime.ICMPTypes) {
			t := s.Runtime.ICMPTypes[name]
			if len(t.Destinations) == 0 || t.Destinations[0] == family || t.Destinations[len(t.Destinations)-1] == family {
				list = append(list, name)
			}
		}
		return list
	}}
}
