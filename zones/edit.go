package zones

import (
	"maps"
	"path"
	"strings"
)

// with is a map with another object in it. The map itself is not changed.
func with[T any](objects map[string]*T, name string, object *T) map[string]*T {
	next := make(map[string]*T, len(objects)+1)
	maps.Copy(next, objects)
	next[name] = object
	return next
}

// without is a map without an object.
func without[T any](objects map[string]*T, name string) map[string]*T {
	next := maps.Clone(objects)
	delete(next, name)
	return next
}

// The edits make a new Config that shares everything else with the old one. They check nothing: Check does.

// WithConf is the configuration with other settings.
func (c Config) WithConf(conf *Conf) *Config { c.Conf = conf; return &c }

// WithZone is the configuration with a zone in place of the one of its name. A zone called "folder/file" is a part of the
// zone "folder".
func (c Config) WithZone(z *Zone) *Config {
	if strings.Contains(z.Name, "/") {
		c.ZoneParts = with(c.ZoneParts, z.Name, z)
		return c.combine(path.Dir(z.Name))
	}
	c.Zones = with(c.Zones, z.Name, z)
	return &c
}

// WithoutZone is the configuration without a zone or a part of one.
func (c Config) WithoutZone(name string) *Config {
	if strings.Contains(name, "/") {
		c.ZoneParts = without(c.ZoneParts, name)
		return c.combine(path.Dir(name))
	}
	c.Zones = without(c.Zones, name)
	return &c
}

// WithPolicy is the configuration with a policy in place of the one of its name.
func (c Config) WithPolicy(p *Policy) *Config {
	c.Policies = with(c.Policies, p.Name, p)
	return &c
}

// WithoutPolicy is the configuration without a policy.
func (c Config) WithoutPolicy(name string) *Config {
	c.Policies = without(c.Policies, name)
	return &c
}

// WithService is the configuration with a service in place of the one of its name.
func (c Config) WithService(s *Service) *Config {
	c.Services = with(c.Services, s.Name, s)
	return &c
}

// WithoutService is the configuration without a service.
func (c Config) WithoutService(name string) *Config {
	c.Services = without(c.Services, name)
	return &c
}

// WithIPSet is the configuration with an ipset in place of the one of its name.
func (c Config) WithIPSet(s *IPSet) *Config {
	c.IPSets = with(c.IPSets, s.Name, s)
	return &c
}

// WithoutIPSet is the configuration without an ipset.
func (c Config) WithoutIPSet(name string) *Config {
	c.IPSets = without(c.IPSets, name)
	return &c
}

// WithICMPType is the configuration with an ICMP type in place of the one of its name.
func (c Config) WithICMPType(t *ICMPType) *Config {
	c.ICMPTypes = with(c.ICMPTypes, t.Name, t)
	return &c
}

// WithoutICMPType is the configuration without an ICMP type.
func (c Config) WithoutICMPType(name string) *Config {
	c.ICMPTypes = without(c.ICMPTypes, name)
	return &c
}

// WithHelper is the configuration with a helper in place of the one of its name.
func (c Config) WithHelper(h *Helper) *Config {
	c.Helpers = with(c.Helpers, h.Name, h)
	return &c
}

// WithoutHelper is the configuration without a helper.
func (c Config) WithoutHelper(name string) *Config {
	c.Helpers = without(c.Helpers, name)
	return &c
}

// WithDirect is the configuration with other direct rules.
func (c Config) WithDirect(d *Direct) *Config { c.Direct = d; return &c }

// Keeping is the configuration with those objects of others besides of whose kind and name it has none.
func (c Config) Keeping(others *Config) *Config {
	out := &c
	for _, k := range kinds {
		out = k.keep(out, others)
	}
	return out
}

// keep implements Keeping for the objects of one kind.
func (k *objectKind[T]) keep(c, others *Config) *Config {
	have := k.objects(c)
	for name, o := range k.objects(others) {
		if _, there := have[name]; !there {
			c = k.with(*c, o)
		}
	}
	return c
}

// OwnedAs is the configuration with the shipped objects of whose kind and name others have one of the administrator's as ones of the
// administrator's, too: Save keeps their files.
func (c Config) OwnedAs(others *Config) *Config {
	out := &c
	for _, k := range kinds {
		out = k.ownedAs(out, others)
	}
	return out
}

// ownedAs implements OwnedAs for the objects of one kind.
func (k *objectKind[T]) ownedAs(c, others *Config) *Config {
	theirs := k.objects(others)
	for name, o := range k.objects(c) {
		if other := theirs[name]; other != nil && k.meta(o).Origin.Builtin && !k.meta(other).Origin.Builtin {
			own := *o
			k.meta(&own).Origin = Origin{Shadows: true}
			c = k.with(*c, &own)
		}
	}
	return c
}
