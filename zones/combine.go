package zones

import (
	"path"
	"slices"
)

// combine makes one zone of the parts in a folder, in place of a zone of the folder's name. Without parts there is none.
func (c Config) combine(folder string) *Config {
	var parts []*Zone
	for _, name := range Names(c.ZoneParts) {
		if path.Dir(name) == folder {
			parts = append(parts, c.ZoneParts[name])
		}
	}
	if len(parts) == 0 {
		c.Zones = without(c.Zones, folder)
	} else {
		c.Zones = with(c.Zones, folder, mergeZones(folder, parts))
	}
	return &c
}

// mergeZones unites the lists of zones; what one of them turns on is on. As in firewalld, targets, priorities and
// descriptions do not count.
func mergeZones(name string, parts []*Zone) *Zone {
	z := &Zone{Meta: Meta{Name: name, Origin: Origin{Path: path.Dir(parts[0].Origin.Path)}, places: places{}}, Target: TargetDefault}
	for _, part := range parts {
		for item, at := range part.places {
			if _, ok := z.places[item]; !ok {
				z.places[item] = at
			}
		}
		z.Services = union(z.Services, part.Services)
		z.Protocols = union(z.Protocols, part.Protocols)
		z.ICMPBlocks = union(z.ICMPBlocks, part.ICMPBlocks)
		z.ForwardPorts = union(z.ForwardPorts, part.ForwardPorts)
		z.Interfaces = union(z.Interfaces, part.Interfaces)
		z.Sources = union(z.Sources, part.Sources)
		z.Ports = union(z.Ports, part.Ports)
		z.SourcePorts = union(z.SourcePorts, part.SourcePorts)
		for _, rule := range part.Rules {
			rule.Path = part.Origin.Path
			z.Rules = append(z.Rules, rule)
		}
		z.Masquerade = z.Masquerade || part.Masquerade
		z.Forward = z.Forward || part.Forward
		z.ICMPBlockInversion = z.ICMPBlockInversion || part.ICMPBlockInversion
	}
	sortRules(z.Rules)
	z.Rules = slices.CompactFunc(z.Rules, func(a, b RichRule) bool { return compareRules(a, b) == 0 })
	return z
}

// union is a list with the items of another behind it that it does not have.
func union[T comparable](list, more []T) []T {
	has := make(map[T]bool, len(list))
	for _, item := range list {
		has[item] = true
	}
	for _, item := range more {
		if !has[item] {
			has[item] = true
			list = append(list, item)
		}
	}
	return list
}
