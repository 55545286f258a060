package zones

import (
	"slices"
	"strings"
	"unicode"

	"richwall/grammar"
)

var serviceSchema = schema{root: "service", broken: InvalidService, elements: map[string]shape{
	"service":     {optional: []string{"version"}, ignored: []string{"name"}, parent: true},
	"short":       {text: true},
	"description": {text: true},
	"port":        {required: []string{"port", "protocol"}},
	"protocol":    {required: []string{"value"}},
	"source-port": {required: []string{"port", "protocol"}},
	"module":      {required: []string{"name"}},
	"destination": {optional: []string{"ipv4", "ipv6"}},
	"include":     {required: []string{"service"}},
	"helper":      {required: []string{"name"}},
}}

var icmpTypeSchema = schema{root: "icmptype", broken: InvalidICMPType, elements: map[string]shape{
	"icmptype":    {optional: []string{"version"}, ignored: []string{"name"}, parent: true},
	"short":       {text: true},
	"description": {text: true},
	"destination": {optional: []string{"ipv4", "ipv6"}},
}}

var helperSchema = schema{root: "helper", broken: InvalidHelper, elements: map[string]shape{
	"helper": {
		required: []string{"module"}, optional: []string{"family", "version"}, ignored: []string{"name"}, parent: true,
	},
	"short":       {text: true},
	"description": {text: true},
	"port":        {required: []string{"port", "protocol"}},
}}

// families are the IP versions as files spell them, in the order in which they are written.
var families = []string{string(grammar.IPv4), string(grammar.IPv6)}

// ReadService reads the file of a service, in the same way as ReadZone. Its ports stay as they are written.
func ReadService(name string, data []byte, path string) (*Service, Problems) {
	r := newReader(serviceSchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	s := &Service{Meta: r.meta(name, root)}
	r.each(root, func(n *node) {
		switch n.name {
		case "short", "description":
			r.metaText(&s.Meta, n)
		case "port":
			if n.get("port") == "" {
				r.addProtocol(s, n, "protocol")
			} else {
				r.plainPort(&s.Ports, n)
			}
		case "protocol":
			r.addProtocol(s, n, "value")
		case "source-port":
			r.plainPort(&s.SourcePorts, n)
		case "module":
			r.addModule(s, n)
		case "helper":
			r.addName(&s.Helpers, n, "name")
		case "include":
			r.addName(&s.Includes, n, "service")
		case "destination":
			r.addDestination(s, n)
		}
	})
	return s, r.report()
}

// addProtocol reads an IP protocol, which a service may also write as a port without a number.
func (r *reader) addProtocol(s *Service, n *node, attr string) {
	value := r.share(n.get(attr))
	if _, err := grammar.ParseProtocol(value); err != nil {
		r.failWith(n, attr, grammar.InvalidProtocol, err)
		return
	}
	if r.list(n, "protocol", value) {
		s.Protocols = append(s.Protocols, value)
	}
}

// plainPort reads a port without a change to its text.
func (r *reader) plainPort(list *[]Port, n *node) {
	if _, ok := r.port(n, "port"); !ok {
		return
	}
	p := Port{r.share(n.get("port")), r.share(n.get("protocol"))}
	if r.list(n, n.name, p.String()) {
		*list = append(*list, p)
	}
}

func (r *reader) addName(list *[]string, n *node, attr string) {
	if name := r.share(n.get(attr)); r.list(n, n.name, name) {
		*list = append(*list, name)
	}
}

// HelperName is the name of a helper for the name of a module: "netbios-ns" for "nf_conntrack_netbios_ns".
func HelperName(module string) string {
	if short, ok := strings.CutPrefix(module, modulePrefix); ok {
		return strings.ReplaceAll(short, "_", "-")
	}
	return module
}

// shortModule is the name of a helper for that of a module of a service. The error has code INVALID_MODULE.
func shortModule(module string) (string, error) {
	short := HelperName(module)
	if len(short) < 2 {
		return short, refuse(InvalidModule, "cannot use module %q: a name has at least 2 characters", module).worded("%s", module)
	}
	return short, checkModuleName(module)
}

// checkModuleName refuses what no module is called: its name is written to the tools that load rules, and to files.
func checkModuleName(module string) error {
	if i := strings.IndexFunc(module, func(c rune) bool {
		return c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_' && c != '-'
	}); i >= 0 {
		return refuse(InvalidModule, "cannot use module %q: a name has letters, digits, _ and -", module)
	}
	return nil
}

// modulePrefix is how the names of the kernel's modules for connection tracking begin.
const modulePrefix = "nf_conntrack_"

func (r *reader) addModule(s *Service, n *node) {
	name, err := shortModule(r.share(n.get("name")))
	if err != nil {
		r.failWith(n, "name", InvalidModule, err)
		return
	}
	if r.list(n, "module", name) {
		s.Modules = append(s.Modules, name)
	}
}

func (r *reader) addDestination(s *Service, n *node) {
	r.needsFamily(n)
	for _, family := range families {
		address, ok := n.attr(family)
		if !ok {
			continue
		}
		if _, err := grammar.ParseAddress(grammar.Family(family), address); err != nil {
			r.failWith(n, family, grammar.InvalidAddr, err)
		} else if r.list(n, "destination", family) {
			if s.Destination == nil {
				s.Destination = map[string]string{}
			}
			s.Destination[family] = r.share(address)
		}
	}
}

// ReadICMPType reads the file of an ICMP type, in the same way as ReadZone.
func ReadICMPType(name string, data []byte, path string) (*ICMPType, Problems) {
	r := newReader(icmpTypeSchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	t := &ICMPType{Meta: r.meta(name, root)}
	r.each(root, func(n *node) {
		if n.name != "destination" {
			r.metaText(&t.Meta, n)
			return
		}
		r.needsFamily(n)
		for _, family := range families {
			if r.yes(n, family) && r.list(n, "destination", family) {
				t.Destinations = append(t.Destinations, family)
			}
		}
	})
	slices.Sort(t.Destinations)
	return t, r.report()
}

// needsFamily loses a destination that says neither for IPv4 nor for IPv6 what it is: firewalld passes over it, and then nothing is limited.
func (r *reader) needsFamily(n *node) {
	if len(n.attrs) == 0 {
		r.lose(n.place, ParseError, "<destination> has neither ipv4 nor ipv6: it is ignored")
	}
}

// yes tells whether an attribute says yes or true; anything but yes, true, no and false is warned about and means no.
func (r *reader) yes(n *node, attr string) bool {
	value, ok := n.attr(attr)
	switch strings.ToLower(value) {
	case "yes", "true":
		return true
	case "no", "false":
	default:
		if ok {
			r.lose(n.placeOf(attr), InvalidValue, "%s=%q means no: it is yes or no", attr, value)
		}
	}
	return false
}

// ReadHelper reads the file of a connection tracking helper, in the same way as ReadZone.
func ReadHelper(name string, data []byte, path string) (*Helper, Problems) {
	r := newReader(helperSchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	h := &Helper{Meta: r.meta(name, root), Module: r.share(root.get("module")), Family: r.share(root.get("family"))}
	if module, ok := root.attr("module"); ok {
		if err := CheckModule(module); err != nil {
			r.failWith(root, "module", InvalidModule, err)
		}
	}
	if family, ok := root.attr("family"); ok && !slices.Contains(families, family) {
		r.failAt(root, "family", InvalidIPV, "cannot use family %q: it is ipv4, ipv6, or not there for both%s", family, hint(family, families))
	}
	r.each(root, func(n *node) {
		if n.name == "port" {
			r.plainPort(&h.Ports, n)
		} else {
			r.metaText(&h.Meta, n)
		}
	})
	return h, r.report()
}

// CheckModule tells what is wrong with the module of a helper, with code INVALID_MODULE.
func CheckModule(module string) error {
	short, ok := strings.CutPrefix(module, modulePrefix)
	switch {
	case !ok:
		return refuse(InvalidModule, "cannot use module %q: the names of connection tracking modules start with %s", module, modulePrefix).
			worded("'%s' does not start with '%s'", module, modulePrefix)
	case short == "":
		return refuse(InvalidModule, "cannot use module %s: there is nothing behind %s", module, modulePrefix).
			worded("Module name '%s' too short", module)
	}
	return checkModuleName(module)
}
