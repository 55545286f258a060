package firewallcmd

import (
	"strings"

	"richwall/zones"
)

// keyOf is the name that package zones has for a setting.
var keyOf = map[string]zones.Key{
	"version": zones.KeyVersion, "short": zones.KeyShort, "description": zones.KeyDescription, "target": zones.KeyTarget,
	"services": zones.KeyService, "ports": zones.KeyPort, "icmp_blocks": zones.KeyICMPBlock,
	"masquerade": zones.KeyMasquerade, "forward_ports": zones.KeyForwardPort, "protocols": zones.KeyProtocol,
	"source_ports": zones.KeySourcePort, "rich_rules": zones.KeyRule, "interfaces": zones.KeyInterface,
	"sources": zones.KeySource, "icmp_block_inversion": zones.KeyInversion, "forward": zones.KeyForward,
	"ingress_priority": zones.KeyIngressPriority, "egress_priority": zones.KeyEgressPriority,
	"priority": zones.KeyPriority, "ingress_zones": zones.KeyIngressZone, "egress_zones": zones.KeyEgressZone,
	"disable": zones.KeyDisable, "modules": zones.KeyModule, "destination": zones.KeyDestination,
	"includes": zones.KeyInclude, "helpers": zones.KeyHelper, "type": zones.KeyType, "options": zones.KeyOption,
	"entries": zones.KeyEntry, "destinations": zones.KeyDestination, "family": zones.KeyFamily, "module": zones.KeyModuleOf,
}

// splitItem takes an item, as settings hold it, apart.
func splitItem(f *field, value string) []string {
	switch f.shape {
	case flag:
		return nil
	case ports:
		port, protocol := splitPort(value)
		return []string{port, protocol}
	case forwards:
		port, protocol, toPort, toAddr := splitForward(value)
		return []string{port, protocol, toPort, toAddr}
	case dict:
		return strings.SplitN(value, ":", 2)
	case text, integer, words:
	}
	return []string{value}
}

// joinItem puts an item together again.
func joinItem(f *field, parts []string) string {
	switch {
	case f.shape == ports && len(parts) == 2:
		return parts[0] + "/" + parts[1]
	case f.shape == forwards && len(parts) == 4:
		return joinForward(parts[0], parts[1], parts[2], parts[3])
	}
	return strings.Join(parts, ":")
}

// toZones is settings as package zones takes them.
func toZones(k *kind, s settings) zones.Settings {
	result := zones.Settings{}
	for i := range k.fields {
		f := &k.fields[i]
		switch value := s[f.key].(type) {
		case nil:
		case int32:
			result[keyOf[f.key]] = int(value)
		case []string:
			list := make([][]string, len(value))
			for i, item := range value {
				list[i] = splitItem(f, item)
			}
			result[keyOf[f.key]] = list
		case map[string]string:
			list := [][]string{}
			for key, setting := range value {
				list = append(list, []string{key, setting})
			}
			result[keyOf[f.key]] = list
		default:
			result[keyOf[f.key]] = value
		}
	}
	return result
}

// fromZones reads settings of package zones.
func fromZones(k *kind, found zones.Settings) settings {
	s := settings{}
	for i := range k.fields {
		f := &k.fields[i]
		switch value := found[keyOf[f.key]].(type) {
		case nil:
		case int:
			s[f.key] = int32(value)
		case [][]string:
			s[f.key] = readItems(f, value)
		default:
			s[f.key] = value
		}
	}
	return s
}

func readItems(f *field, items [][]string) any {
	if f.shape == dict {
		m := map[string]string{}
		for _, parts := range items {
			if len(parts) == 2 {
				m[parts[0]] = parts[1]
			}
		}
		return m
	}
	list := make([]string, len(items))
	for i, parts := range items {
		list[i] = joinItem(f, parts)
	}
	return list
}
