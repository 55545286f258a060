package zones

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"richwall/grammar"
)

// The built-in definitions are tables of tab-separated columns, with their names in the first line and lists separated by
// commas. They are firewalld's definitions with descriptions of our own.
//
//go:embed builtin/*.tsv
var builtinFiles embed.FS

// builtin is the embedded definitions. They are read once, and then shared by all configurations.
var builtin = sync.OnceValue(func() *Config {
	c := &Config{}
	c.Services = builtinTable("services", builtinService)
	c.ICMPTypes = builtinTable("icmptypes", builtinICMPType)
	c.Helpers = builtinTable("helpers", builtinHelper)
	c.Zones = builtinTable("zones", builtinZone)
	c.Policies = builtinTable("policies", builtinPolicy)
	c.IPSets = map[string]*IPSet{}
	return c
})

// row is a line of a table, by the names of its columns.
type row map[string]string

// list is a column that holds a list.
func (r row) list(column string) []string {
	if r[column] == "" {
		return nil
	}
	return strings.Split(r[column], ",")
}

// ports is a column that holds a list such as "80/tcp,443/tcp".
func (r row) ports(column string) []Port {
	var ports []Port
	for _, text := range r.list(column) {
		port, protocol, _ := strings.Cut(text, "/")
		ports = append(ports, Port{port, protocol})
	}
	return ports
}

func (r row) meta() Meta {
	return Meta{Name: r["name"], Version: r["version"], Origin: Origin{Builtin: true}, Short: r["short"], Description: r["description"]}
}

// builtinTable makes an object of each line of a table.
func builtinTable[T any](kind string, object func(row) *T) map[string]*T {
	data, err := builtinFiles.ReadFile("builtin/" + kind + ".tsv")
	if err != nil {
		panic(fmt.Sprintf("internal error: no built-in %s: %v", kind, err))
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	columns := strings.Split(lines[0], "\t")
	objects := make(map[string]*T, len(lines)-1)
	for _, line := range lines[1:] {
		r := row{}
		for i, value := range strings.Split(line, "\t") {
			r[columns[i]] = value
		}
		objects[r["name"]] = object(r)
	}
	return objects
}

func builtinService(r row) *Service {
	s := &Service{
		Meta: r.meta(), Ports: r.ports("ports"), Protocols: r.list("protocols"), SourcePorts: r.ports("source_ports"),
		Modules: r.list("modules"), Helpers: r.list("helpers"), Includes: r.list("includes"),
	}
	for _, family := range families {
		if r[family] != "" {
			if s.Destination == nil {
				s.Destination = map[string]string{}
			}
			s.Destination[family] = r[family]
		}
	}
	return s
}

func builtinICMPType(r row) *ICMPType {
	t := &ICMPType{Meta: r.meta()}
	for _, family := range families {
		if r[family] == "yes" {
			t.Destinations = append(t.Destinations, family)
		}
	}
	return t
}

func builtinHelper(r row) *Helper {
	return &Helper{Meta: r.meta(), Module: r["module"], Family: r["family"], Ports: r.ports("ports")}
}

func builtinZone(r row) *Zone {
	return &Zone{
		Meta: r.meta(), Target: r["target"], Forward: r["forward"] == "yes",
		Content: Content{Services: r.list("services"), Masquerade: r["masquerade"] == "yes"},
	}
}

func builtinPolicy(r row) *Policy {
	priority, err := strconv.Atoi(r["priority"])
	if err != nil {
		panic(fmt.Sprintf("internal error: built-in policy %s: %v", r["name"], err))
	}
	p := &Policy{
		Meta: r.meta(), Target: r["target"], Priority: priority, Disable: r["disable"] == "yes",
		IngressZones: r.list("ingress"), EgressZones: r.list("egress"), Content: Content{Services: r.list("services")},
	}
	for text := range strings.SplitSeq(r["rules"], ";") {
		if text == "" {
			continue
		}
		rule, err := grammar.Parse(text)
		if err != nil {
			panic(fmt.Sprintf("internal error: built-in policy %s: %v", r["name"], err))
		}
		p.Rules = append(p.Rules, RichRule{Rule: rule})
	}
	sortRules(p.Rules)
	return p
}
