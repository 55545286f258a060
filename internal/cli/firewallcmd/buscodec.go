package firewallcmd

import (
	"fmt"
	"maps"
	"slices"

	"github.com/godbus/dbus/v5"
)

// busKey is the name of a setting in a D-Bus dictionary: rich rules have another one in zones.
func busKey(k *kind, key string) string {
	if k.name == "zone" && key == "rich_rules" {
		return "rules_str"
	}
	return key
}

// toBus is settings as a D-Bus dictionary.
func toBus(k *kind, s settings) map[string]dbus.Variant {
	m := map[string]dbus.Variant{}
	for i := range k.fields {
		if value, ok := s[k.fields[i].key]; ok {
			m[busKey(k, k.fields[i].key)] = dbus.MakeVariant(busValue(k.fields[i].shape, value))
		}
	}
	return m
}

// pair and quad are ports and forward ports in D-Bus.
type (
	pair struct{ Port, Protocol string }
	quad struct{ Port, Protocol, ToPort, ToAddr string }
)

// busValue is the value of a setting as D-Bus carries it.
func busValue(shape shape, value any) any {
	switch shape {
	case ports:
		list := []pair{}
		for _, item := range value.([]string) {
			port, protocol := splitPort(item)
			list = append(list, pair{port, protocol})
		}
		return list
	case forwards:
		list := []quad{}
		for _, item := range value.([]string) {
			port, protocol, toPort, toAddr := splitForward(item)
			list = append(list, quad{port, protocol, toPort, toAddr})
		}
		return list
	case words:
		return append([]string{}, value.([]string)...)
	case dict:
		m := map[string]string{}
		maps.Copy(m, value.(map[string]string))
		return m
	case text, flag, integer:
	}
	return value
}

// zero is the value of a setting that is not there.
func zero(shape shape) any {
	switch shape {
	case flag:
		return false
	case integer:
		return int32(0)
	case dict:
		return map[string]string{}
	case words, ports, forwards:
		return []string{}
	case text:
	}
	return ""
}

// toTuple is all settings as the tuple that ipsets, ICMP types and helpers have in D-Bus.
func toTuple(k *kind, s settings) any {
	values := make([]any, len(k.fields))
	for i, f := range k.fields {
		value, ok := s[f.key]
		if !ok {
			value = zero(f.shape)
		}
		values[i] = busValue(f.shape, value)
	}
	return structOf(k, values)
}

// structOf makes a D-Bus struct, which godbus makes of Go's.
func structOf(k *kind, v []any) any {
	switch k.name {
	case "ipset":
		return struct {
			Version, Short, Description, Type string
			Options                           map[string]string
			Entries                           []string
		}{v[0].(string), v[1].(string), v[2].(string), v[3].(string), v[4].(map[string]string), v[5].([]string)}
	case "icmptype":
		return struct {
			Version, Short, Description string
			Destinations                []string
		}{v[0].(string), v[1].(string), v[2].(string), v[3].([]string)}
	}
	return struct {
		Version, Short, Description, Family, Module string
		Ports                                       []pair
	}{v[0].(string), v[1].(string), v[2].(string), v[3].(string), v[4].(string), v[5].([]pair)}
}

// fromBus reads a D-Bus dictionary. A value of another type than the setting's is left out.
func fromBus(k *kind, m map[string]dbus.Variant) settings {
	s := settings{}
	for _, f := range k.fields {
		if value, ok := m[busKey(k, f.key)]; ok {
			s.read(f, value.Value())
		}
	}
	return s
}

// fromTuple reads a D-Bus tuple.
func fromTuple(k *kind, values []any) settings {
	s := settings{}
	for i, f := range k.fields {
		if i < len(values) {
			s.read(f, values[i])
		}
	}
	return s
}

func (s settings) read(f field, value any) {
	switch v := value.(type) {
	case string, bool, int32, map[string]string:
		s[f.key] = v
	default:
		if list, err := readList(f.shape, value); err == nil {
			s[f.key] = list
		}
	}
}

// readList reads a list of words, ports or forward ports: an array of texts, of arrays or of structs of texts.
func readList(shape shape, value any) ([]string, error) {
	var items [][]any
	switch v := value.(type) {
	case []string:
		return v, nil
	case [][]any:
		items = v
	case [][]string:
		for _, item := range v {
			parts := make([]any, len(item))
			for i := range item {
				parts[i] = item[i]
			}
			items = append(items, parts)
		}
	default:
		return nil, errNoAnswer
	}
	var list []string
	for _, item := range items {
		parts := make([]string, 4)
		for i := range min(len(item), len(parts)) {
			parts[i] = fmt.Sprint(item[i])
		}
		if shape == forwards {
			list = append(list, joinForward(parts[0], parts[1], parts[2], parts[3]))
		} else {
			list = append(list, parts[0]+"/"+parts[1])
		}
	}
	return slices.Clip(list), nil
}
