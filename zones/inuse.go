package zones

import "slices"

// InUse tells whether packets can come to an object of the configuration. They come to a zone that something is bound to, and to the
// default zone; and to a policy that is not disabled, from such a zone, any zone or this machine to another of them. There is always use
// for objects of other kinds. In the kernel a zone that nothing is bound to any more keeps its chains until the next reload
// (compile.History), but no packet comes to them.
func (c *Config) InUse(o Object) bool {
	switch o.Kind {
	case KindZone:
		return c.zoneInUse(o.Name)
	case KindPolicy:
		p := c.Policies[o.Name]
		return p != nil && !p.Disable && slices.ContainsFunc(p.IngressZones, c.zoneInUse) && slices.ContainsFunc(p.EgressZones, c.zoneInUse)
	}
	return true
}

// zoneInUse is InUse for a zone, ANY or HOST.
func (c *Config) zoneInUse(name string) bool {
	z := c.Zones[name]
	return name == ZoneAny || name == ZoneHost || name == c.Conf.DefaultZone || z != nil && z.Bound()
}

// Bound tells whether an interface or a source is bound to the zone.
func (z *Zone) Bound() bool { return len(z.Interfaces)+len(z.Sources) > 0 }
