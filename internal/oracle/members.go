package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// method is a method of the bus: where it is, what goes in.
type method struct {
	object string // below busPath, with N for the name of an object: config/zone/N
	name   string // the interface and the name
	args   []introspect.Arg
	weight int
}

// objects are the kinds of objects of the permanent configuration, with their names in the names of methods.
var objects = map[string]string{"zone": "Zone", "policy": "Policy", "service": "Service", "ipset": "IPSet", "icmptype": "IcmpType", "helper": "Helper"}

// learn asks a daemon which methods it has. The configuration must have an ipset, for its object.
func learn(s *side) ([]method, error) {
	paths := []string{"", "config"}
	for _, kind := range slices.Sorted(keysOf(objects)) {
		paths = append(paths, "config/"+kind+"/0")
	}
	var out []method
	for _, path := range paths {
		node, err := introspect.Call(s.conn.Object(busName, dbus.ObjectPath(strings.TrimSuffix(busPath+"/"+path, "/"))))
		if err != nil {
			return nil, fmt.Errorf("cannot introspect %s: %w", path, err)
		}
		for _, i := range node.Interfaces {
			if !strings.HasPrefix(i.Name, busName) {
				continue
			}
			for _, m := range i.Methods {
				found := method{object: strings.Replace(path, "/0", "/N", 1), name: i.Name + "." + m.Name, weight: weightOf(i.Name, m.Name)}
				for _, arg := range m.Args {
					if arg.Direction != "out" {
						found.args = append(found.args, arg)
					}
				}
				out = append(out, found)
			}
			for _, p := range i.Properties {
				out = append(out, method{object: strings.Replace(path, "/0", "/N", 1), name: properties + ".Get", weight: 1,
					args: []introspect.Arg{{Name: "=" + i.Name, Type: "s"}, {Name: "=" + p.Name, Type: "s"}}})
				if p.Access == "readwrite" && p.Name != unset {
					out = append(out, method{object: path, name: properties + ".Set", weight: 2,
						args: []introspect.Arg{{Name: "=" + i.Name, Type: "s"}, {Name: "=" + p.Name, Type: "s"}, {Name: p.Name, Type: "v"}}})
				}
			}
		}
	}
	return out, nil
}

// unset is the property that is not set: firewalld's next reload still acts by the old value, richwall's by the new one. Sessions
// begin with both of its values.
const unset = "FlushAllOnReload"

const properties = "org.freedesktop.DBus.Properties"

// weightOf is how often a method is called beside others: what changes something more often than what shows it.
func weightOf(face, name string) int {
	switch {
	case strings.Contains(name, "ockdown"):
		return 1
	case strings.HasPrefix(name, "add"), strings.HasPrefix(name, "set"), strings.HasPrefix(name, "update"), strings.HasPrefix(name, "change"):
		return 6
	case strings.HasPrefix(name, "remove"):
		return 3
	case name == "reload":
		return 12
	}
	return 2
}

// argumentClasses say for arguments, by name, the class of their values.
var argumentClasses = map[string]string{
	"zone": "zone", "interface": "interface", "iface": "interface", "source": "source", "rule": "rich", "service": "service", "port": "port", "protocol": "proto",
	"toport": "port", "toaddr": "ip4", "icmp": "icmptype", "icmptype": "icmptype", "policy": "policy", "ipset": "ipset", "entry": "entry",
	"entries": "entry", "ipv": "ipv", "table": "table", "chain": "chain", "helper": "helper", "module": "modname", "target": "target",
	"short": "text", "description": "text", "version": "version", "name": "newzone", "family": "family", "destination": "icmpdest", "destinations": "icmpdest",
	"address": "net4", "include": "service", "value": "logdenied", "type": "ipsettype", "key": "ipsetkey", "option": "ipsetopt",
	"command": "command", "context": "context", "user": "user", "uid": "uid", "services": "service", "protocols": "protocol", "icmptypes": "icmptype",
	"interfaces": "interface", "sources": "source", "rules": "rich", "rules_str": "rich", "rich_rules": "rich", "icmp_blocks": "icmptype", "modules": "modname", "includes": "service",
	"helpers": "helper", "ingress_zones": "zoneor", "egress_zones": "zoneor", "LogDenied": "logdenied", "ports": "port", "source_ports": "port", "forward_ports": "port",
	"priority": "priority", "ingress_priority": "priority", "egress_priority": "priority", "FirewallBackend": "backend", "IPv6_rpfilter2": "rpfilter",
}

func init() {
	classes["ipsetkey"] = class{"family hashsize maxelem timeout", "nosuch", "\n\n "}
	classes["backend"] = class{"nftables iptables", "NFTABLES", "\n\nx"}
	classes["rpfilter"] = class{"strict loose yes no strict-forward", "STRICT", "\n\nx"}
}

// fields are the settings of a kind of object: names and types, in the order of the tuple.
var fields = map[string]string{
	"zone": "version:s short:s description:s unused:b target:s services:as ports:a(ss) icmp_blocks:as masquerade:b forward_ports:a(ssss) interfaces:as sources:as rules_str:as " +
		"protocols:as source_ports:a(ss) icmp_block_inversion:b",
	"service":  "version:s short:s description:s ports:a(ss) modules:as destination:a{ss} protocols:as source_ports:a(ss)",
	"ipset":    "version:s short:s description:s type:s options:a{ss} entries:as",
	"icmptype": "version:s short:s description:s destinations:as",
	"helper":   "version:s short:s description:s family:s module:s ports:a(ss)",
}

// settings are those of a dictionary, of which a few are drawn.
var settings = map[string]string{
	"zone":    strings.Replace(fields["zone"], "unused:b ", "", 1) + " forward:b ingress_priority:i egress_priority:i",
	"policy":  "version:s short:s description:s target:s services:as ports:a(ss) icmp_blocks:as masquerade:b forward_ports:a(ssss) rich_rules:as protocols:as source_ports:a(ss) priority:i ingress_zones:as egress_zones:as disable:b",
	"service": fields["service"] + " includes:as helpers:as",
}

// kindOf is the kind of object that a method is about.
func kindOf(m method) string {
	words := strings.Split(m.name, ".")
	if kind := words[len(words)-2]; objects[kind] != "" {
		return kind
	}
	lower := strings.ToLower(words[len(words)-1])
	for _, kind := range []string{"zone", "policy", "service", "ipset", "icmptype", "helper"} {
		if strings.Contains(lower, kind) {
			return kind
		}
	}
	return "zone"
}

// call is a random call of a method: object, method and arguments as GVariant's text, and their signature.
func (s *source) call(methods []method) step {
	total := 0
	for _, m := range methods {
		total += m.weight
	}
	at := s.IntN(total)
	for _, m := range methods {
		if at -= m.weight; at >= 0 {
			continue
		}
		object, kind := m.object, kindOf(m)
		if base, ok := strings.CutSuffix(object, "/N"); ok {
			object = base + "/" + s.value(strings.TrimPrefix(base, "config/"))
		}
		var args []string
		signature := ""
		for _, arg := range m.args {
			args = append(args, s.argument(m, kind, arg))
			signature += arg.Type
		}
		return step{verb: "dbus", object: object, method: m.name, args: args, signature: signature}
	}
	panic("weights do not add up")
}

// untracked is the comment of rules that go to the kernel once, and that no configuration has.
const untracked = "untracked"

// argument is a value for an argument, as text.
func (s *source) argument(m method, kind string, arg introspect.Arg) string {
	fixed, is := strings.CutPrefix(arg.Name, "=")
	switch {
	case is:
		return text(fixed)
	case arg.Name == "settings" && strings.HasPrefix(arg.Type, "(s"):
		return s.tuple(fields[kind])
	case arg.Name == "settings" && arg.Type == "a{sv}":
		return s.dictionary(settings[kind])
	case arg.Type == "v":
		return "<" + s.field(s.propertyClass(arg.Name), "s") + ">"
	case arg.Name == "args":
		words, _ := split(s.pick(directRules...)) // the table has no open quotes
		if strings.Contains(m.name, "assthrough") {
			place := strings.Fields("-t " + s.value("table") + " -A " + s.value("chain"))
			if strings.HasSuffix(m.name, ".passthrough") {
				place = append(place, "-m", "comment", "--comment", untracked)
			}
			words = append(place, words...)
		}
		return list(words)
	case strings.HasSuffix(m.name, ".config.add"+objects[kind]) || strings.HasSuffix(m.name, ".config.add"+objects[kind]+"2") || strings.HasSuffix(m.name, ".rename"):
		return text(s.value("new" + map[bool]string{true: "icmp", false: kind}[kind == "icmptype"]))
	case strings.Contains(m.name, ".config.helper.") && arg.Name == "module":
		return text(s.value("module"))
	case arg.Name == "priority" && strings.Contains(m.name, ".direct."):
		return s.field("dpriority", arg.Type)
	}
	return s.field(arg.Name, arg.Type)
}

// propertyClass is the class of values for a property.
func (s *source) propertyClass(name string) string {
	if _, ok := argumentClasses[name]; ok {
		return name
	}
	return "yesno"
}

func list(words []string) string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = text(word)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// field is a value for a name, of a type, as text.
func (s *source) field(name, signature string) string {
	class := argumentClasses[name]
	if class == "" {
		class = "text"
		if _, ok := classes[name]; ok {
			class = name
		}
	}
	switch signature {
	case "s":
		return text(s.value(class))
	case "b":
		return s.pick("true", "false")
	case "i":
		return s.number(name)
	case "as":
		return "@as [" + s.some(func() string { return text(s.value(class)) }) + "]"
	case "a(ss)":
		return "@a(ss) [" + s.some(func() string { return "(" + text(s.value("port")) + ", " + text(s.value("proto")) + ")" }) + "]"
	case "a(ssss)":
		return "@a(ssss) [" + s.some(func() string {
			return "(" + strings.Join([]string{text(s.value("port")), text(s.value("proto")), text(s.value("port")), s.pick("''", text(s.value("ip4")))}, ", ") + ")"
		}) + "]"
	case "a{ss}":
		if name == "destination" || name == "destinations" {
			return "@a{ss} {" + s.pick("", "'ipv4': "+text(s.value("net4")), "'ipv6': "+text(s.value("net6"))) + "}"
		}
		key, value, _ := strings.Cut(s.value("ipsetopt"), "=")
		return "@a{ss} {" + s.pick("", text(key)+": "+text(value)) + "}"
	case "a(sss)", "a(sssias)", "a(sas)":
		return "@" + signature + " []"
	case "(a(sss)a(sssias)a(sas))":
		return s.directSettings()
	case "(sssbsasa(ss)asba(ssss)asasasasa(ss)b)", "(sssa(ss)asa{ss}asa(ss))", "(ssssa{ss}as)", "(sssas)", "(sssssa(ss))":
		return s.tuple(fields[map[int]string{38: "zone", 24: "service", 12: "ipset", 7: "icmptype", 11: "helper"}[len(signature)]])
	case "a{sv}":
		return "@a{sv} {}"
	case "(asasasai)":
		return "(@as [], @as [], @as [], @ai [])"
	}
	panic("no values of type " + signature + " for " + name)
}

func (s *source) number(name string) string {
	switch name {
	case "timeout":
		if s.chance(s.nearly) {
			s.wrong++
			return s.pick("3600", "-1")
		}
		return "0" // a reload of firewalld crashes while something has a timeout
	case "uid":
		return s.pick("0", "1000", "-1")
	}
	n := s.pick("0", "1", "-1", "5", "100", "-100", "32767", "32768", "-32768", "-32769")
	if n == "32768" || n == "-32769" || n == "0" {
		s.wrong++
	}
	return n
}

// some is none to three values, separated.
func (s *source) some(one func() string) string {
	var out []string
	for range s.IntN(4) {
		out = append(out, one())
	}
	return strings.Join(out, ", ")
}

func (s *source) tuple(types string) string {
	s.wrong += 2 // what is valid by itself may not be so together
	var out []string
	for _, field := range strings.Fields(types) {
		name, signature, _ := strings.Cut(field, ":")
		value := s.field(name, signature)
		if signature != "s" && signature != "b" && s.chance(0.6) {
			value = "@" + signature + " " + map[bool]string{true: "{}", false: "[]"}[signature == "a{ss}"]
		}
		if name == "type" && s.chance(0.7) {
			value = text(s.pick("hash:net", "hash:ip", "hash:mac"))
		}
		out = append(out, value)
	}
	return "(" + strings.Join(out, ", ") + ")"
}

func (s *source) dictionary(types string) string {
	s.wrong += 2 // what is valid by itself may not be so together
	var out []string
	for range 1 + s.IntN(3) {
		name, signature, _ := strings.Cut(s.pick(strings.Fields(types)...), ":")
		if s.chance(s.invalid) {
			name = "nosuch"
		}
		out = append(out, text(name)+": <"+s.field(name, signature)+">")
	}
	return "{" + strings.Join(out, ", ") + "}"
}

func (s *source) directSettings() string {
	rule, _ := split(s.pick(directRules...)) // the table has no open quotes
	chain := "(" + text(s.value("ipv")) + ", " + text(s.value("table")) + ", " + text(s.value("newchain")) + ")"
	row := "(" + text(s.value("ipv")) + ", " + text(s.value("table")) + ", " + text(s.value("chain")) + ", " + s.pick("0", "1", "-1") + ", @as " + list(rule) + ")"
	return "(" + strings.Join([]string{"@a(sss) [" + s.pick("", chain) + "]", "@a(sssias) [" + s.pick("", row) + "]", "@a(sas) []"}, ", ") + ")"
}
