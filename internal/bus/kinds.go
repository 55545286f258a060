package bus

import (
	"maps"
	"path"
	"strings"

	"richwall/grammar"
	"richwall/zones"
)

// kind is a kind of permanent object.
type kind struct {
	kind    zones.Kind
	name    string // in the interface's name and in paths: "zone"
	noun    string // in method names: getZoneByName
	plural  string // in method names: listZones
	missing grammar.Code
	fields  []field
	tuple   []zones.Key // the settings in the older form, a structure; none where there is only the dictionary
	dict    bool        // whether there is the dictionary
	objects objects
	iface   *iface
}

// objects finds the objects of a kind in a configuration.
type objects struct {
	names func(*zones.Config) []string                   // of all, sorted
	meta  func(c *zones.Config, name string) *zones.Meta // nil when there is none; another object has another pointer
}

func objectsOf[T any](all func(*zones.Config) map[string]*T, meta func(*T) *zones.Meta) objects {
	return objects{
		names: func(c *zones.Config) []string { return zones.Names(all(c)) },
		meta: func(c *zones.Config, name string) *zones.Meta {
			if o := all(c)[name]; o != nil {
				return meta(o)
			}
			return nil
		},
	}
}

// zoneFiles are the zones that have a file each: the parts of a zone that is made up of several, not the zone.
func zoneFiles(c *zones.Config) map[string]*zones.Zone {
	if len(c.ZoneParts) == 0 {
		return c.Zones
	}
	files := maps.Clone(c.Zones)
	maps.Copy(files, c.ZoneParts)
	for name := range c.ZoneParts {
		delete(files, path.Dir(name))
	}
	return files
}

// field is a setting of a kind of object.
type field struct {
	key  zones.Key
	dict string // its key in dictionaries
	sig  string // of its value
	// Its methods: getPorts, setPorts, addPort, removePort, queryPort. Without a noun there are none.
	noun, plural string
	value        string // the argument of the method that sets it
	item         string // the arguments of the methods for one of its items
	item1        string // those of the method that removes an item, when not the same
	adder        string // the verb of the method that adds an item, when not "add"
	query        bool   // for a single value: there is queryFamily, too
	again        bool   // an item that is there may be added again, as in firewalld
	only         bool   // an empty list stands for all items, and to add one makes it the only one, as in firewalld
}

// unused is the place in a zone's structure that means nothing.
const unused zones.Key = ""

var metaFields = []field{
	{key: zones.KeyVersion, dict: "version", sig: "s", noun: "Version", value: "version"},
	{key: zones.KeyShort, dict: "short", sig: "s", noun: "Short", value: "short"},
	{key: zones.KeyDescription, dict: "description", sig: "s", noun: "Description", value: "description"},
}

var zoneFields = append([]field{
	{key: zones.KeyTarget, dict: "target", sig: "s", noun: "Target", value: "target"},
	{key: zones.KeyService, dict: "services", sig: "as", noun: "Service", plural: "Services", value: "services", item: "service:s"},
	{key: zones.KeyPort, dict: "ports", sig: "a(ss)", noun: "Port", plural: "Ports", value: "ports", item: "port:s protocol:s"},
	{key: zones.KeyProtocol, dict: "protocols", sig: "as", noun: "Protocol", plural: "Protocols", value: "protocols", item: "protocol:s"},
	{key: zones.KeySourcePort, dict: "source_ports", sig: "a(ss)", noun: "SourcePort", plural: "SourcePorts", value: "ports", item: "port:s protocol:s"},
	{key: zones.KeyICMPBlock, dict: "icmp_blocks", sig: "as", noun: "IcmpBlock", plural: "IcmpBlocks", value: "icmptypes", item: "icmptype:s"},
	{key: zones.KeyInversion, dict: "icmp_block_inversion", sig: "b", noun: "IcmpBlockInversion", value: "flag"},
	{key: zones.KeyMasquerade, dict: "masquerade", sig: "b", noun: "Masquerade", value: "masquerade"},
	{key: zones.KeyForwardPort, dict: "forward_ports", sig: "a(ssss)", noun: "ForwardPort", plural: "ForwardPorts", value: "ports", item: "port:s protocol:s toport:s toaddr:s"},
	{key: zones.KeyInterface, dict: "interfaces", sig: "as", noun: "Interface", plural: "Interfaces", value: "interfaces", item: "interface:s"},
	{key: zones.KeySource, dict: "sources", sig: "as", noun: "Source", plural: "Sources", value: "sources", item: "source:s"},
	{key: zones.KeyRule, dict: "rules_str", sig: "as", noun: "RichRule", plural: "RichRules", value: "rules", item: "rule:s"},
	{key: zones.KeyForward, dict: "forward", sig: "b"},
	{key: zones.KeyIngressPriority, dict: "ingress_priority", sig: "i"},
	{key: zones.KeyEgressPriority, dict: "egress_priority", sig: "i"},
}, metaFields...)

var policyFields = []field{
	{key: zones.KeyVersion, dict: "version", sig: "s"},
	{key: zones.KeyShort, dict: "short", sig: "s"},
	{key: zones.KeyDescription, dict: "description", sig: "s"},
	{key: zones.KeyTarget, dict: "target", sig: "s"},
	{key: zones.KeyService, dict: "services", sig: "as"},
	{key: zones.KeyPort, dict: "ports", sig: "a(ss)"},
	{key: zones.KeyICMPBlock, dict: "icmp_blocks", sig: "as"},
	{key: zones.KeyMasquerade, dict: "masquerade", sig: "b"},
	{key: zones.KeyForwardPort, dict: "forward_ports", sig: "a(ssss)"},
	{key: zones.KeyRule, dict: "rich_rules", sig: "as"},
	{key: zones.KeyProtocol, dict: "protocols", sig: "as"},
	{key: zones.KeySourcePort, dict: "source_ports", sig: "a(ss)"},
	{key: zones.KeyPriority, dict: "priority", sig: "i"},
	{key: zones.KeyIngressZone, dict: "ingress_zones", sig: "as"},
	{key: zones.KeyEgressZone, dict: "egress_zones", sig: "as"},
	{key: zones.KeyDisable, dict: "disable", sig: "b"},
}

var serviceFields = append([]field{
	{key: zones.KeyPort, dict: "ports", sig: "a(ss)", noun: "Port", plural: "Ports", value: "ports", item: "port:s protocol:s"},
	{key: zones.KeyProtocol, dict: "protocols", sig: "as", noun: "Protocol", plural: "Protocols", value: "protocols", item: "protocol:s"},
	{key: zones.KeySourcePort, dict: "source_ports", sig: "a(ss)", noun: "SourcePort", plural: "SourcePorts", value: "ports", item: "port:s protocol:s"},
	{key: zones.KeyModule, dict: "modules", sig: "as", noun: "Module", plural: "Modules", value: "modules", item: "module:s"},
	{key: zones.KeyDestination, dict: "destination", sig: "a{ss}", noun: "Destination", plural: "Destinations", value: "destinations",
		item: "family:s address:s", item1: "family:s", adder: "set"},
	{key: zones.KeyInclude, dict: "includes", sig: "as", noun: "Include", plural: "Includes", value: "includes", item: "include:s", again: true},
	{key: zones.KeyHelper, dict: "helpers", sig: "as"},
}, metaFields...)

var ipsetFields = append([]field{
	{key: zones.KeyType, sig: "s", noun: "Type", value: "ipset_type"},
	{key: zones.KeyOption, sig: "a{ss}", noun: "Option", plural: "Options", value: "options", item: "key:s value:s", item1: "key:s"},
	{key: zones.KeyEntry, sig: "as", noun: "Entry", plural: "Entries", value: "entries", item: "entry:s"},
}, metaFields...)

var icmpTypeFields = append([]field{
	{key: zones.KeyDestination, sig: "as", noun: "Destination", plural: "Destinations", value: "destinations", item: "destination:s", only: true},
}, metaFields...)

var helperFields = append([]field{
	{key: zones.KeyFamily, sig: "s", noun: "Family", value: "ipv", query: true},
	{key: zones.KeyModuleOf, sig: "s", noun: "Module", value: "module", query: true},
	{key: zones.KeyPort, sig: "a(ss)", noun: "Port", plural: "Ports", value: "ports", item: "port:s protocol:s"},
}, metaFields...)

var (
	zoneKind = &kind{
		objects: objectsOf(zoneFiles, func(o *zones.Zone) *zones.Meta { return &o.Meta }),
		kind:    zones.KindZone, name: "zone", noun: "Zone", plural: "Zones", missing: zones.InvalidZone, fields: zoneFields, dict: true,
		tuple: []zones.Key{zones.KeyVersion, zones.KeyShort, zones.KeyDescription, unused, zones.KeyTarget, zones.KeyService, zones.KeyPort,
			zones.KeyICMPBlock, zones.KeyMasquerade, zones.KeyForwardPort, zones.KeyInterface, zones.KeySource, zones.KeyRule,
			zones.KeyProtocol, zones.KeySourcePort, zones.KeyInversion},
	}
	policyKind = &kind{
		objects: objectsOf(func(c *zones.Config) map[string]*zones.Policy { return c.Policies }, func(o *zones.Policy) *zones.Meta { return &o.Meta }),
		kind:    zones.KindPolicy, name: "policy", noun: "Policy", plural: "Policies", missing: zones.InvalidPolicy, fields: policyFields, dict: true,
	}
	serviceKind = &kind{
		objects: objectsOf(func(c *zones.Config) map[string]*zones.Service { return c.Services }, func(o *zones.Service) *zones.Meta { return &o.Meta }),
		kind:    zones.KindService, name: "service", noun: "Service", plural: "Services", missing: zones.InvalidService, fields: serviceFields, dict: true,
		tuple: []zones.Key{zones.KeyVersion, zones.KeyShort, zones.KeyDescription, zones.KeyPort, zones.KeyModule, zones.KeyDestination,
			zones.KeyProtocol, zones.KeySourcePort},
	}
	ipsetKind = &kind{
		objects: objectsOf(func(c *zones.Config) map[string]*zones.IPSet { return c.IPSets }, func(o *zones.IPSet) *zones.Meta { return &o.Meta }),
		kind:    zones.KindIPSet, name: "ipset", noun: "IPSet", plural: "IPSets", missing: grammar.InvalidIPSet, fields: ipsetFields,
		tuple: []zones.Key{zones.KeyVersion, zones.KeyShort, zones.KeyDescription, zones.KeyType, zones.KeyOption, zones.KeyEntry},
	}
	icmpTypeKind = &kind{
		objects: objectsOf(func(c *zones.Config) map[string]*zones.ICMPType { return c.ICMPTypes }, func(o *zones.ICMPType) *zones.Meta { return &o.Meta }),
		kind:    zones.KindICMPType, name: "icmptype", noun: "IcmpType", plural: "IcmpTypes", missing: zones.InvalidICMPType, fields: icmpTypeFields,
		tuple: []zones.Key{zones.KeyVersion, zones.KeyShort, zones.KeyDescription, zones.KeyDestination},
	}
	helperKind = &kind{
		objects: objectsOf(func(c *zones.Config) map[string]*zones.Helper { return c.Helpers }, func(o *zones.Helper) *zones.Meta { return &o.Meta }),
		kind:    zones.KindHelper, name: "helper", noun: "Helper", plural: "Helpers", missing: zones.InvalidHelper, fields: helperFields,
		tuple: []zones.Key{zones.KeyVersion, zones.KeyShort, zones.KeyDescription, zones.KeyFamily, zones.KeyModuleOf, zones.KeyPort},
	}
)

// kinds are all kinds of permanent objects, in the order in which changes are told.
var kinds = []*kind{ipsetKind, icmpTypeKind, serviceKind, zoneKind, helperKind, policyKind}

func (k *kind) object(name string) zones.Object { return zones.Object{Kind: k.kind, Name: name} }

// field finds a setting.
func (k *kind) field(key zones.Key) *field {
	for i := range k.fields {
		if k.fields[i].key == key {
			return &k.fields[i]
		}
	}
	return nil
}

// tupleSig is the signature of the structure.
func (k *kind) tupleSig() string {
	var b strings.Builder
	for _, key := range k.tuple {
		if key == unused {
			b.WriteByte('b')
		} else {
			b.WriteString(k.field(key).sig)
		}
	}
	return "(" + b.String() + ")"
}
