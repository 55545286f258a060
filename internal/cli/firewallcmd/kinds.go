package firewallcmd

import "slices"

// kind is a kind of object of the configuration, and what its settings are made of.
type kind struct {
	name    string // as in the options: zone
	plural  string // as in the options, and the folder of its files: zones
	bus     string // as in the names of D-Bus methods: Zone
	article string // for the help: a zone
	invalid string // firewalld's code for a name that there is not
	fields  []field
	listing []string // the keys of its listing, in order; summary and description come first and only with --verbose
	tuple   bool     // D-Bus sends its settings as a tuple, in the order of fields
}

// shape is what the value of a setting looks like in D-Bus and in a settings map.
type shape string

const (
	text     shape = "s"       // string
	flag     shape = "b"       // bool
	integer  shape = "i"       // int32
	words    shape = "as"      // []string
	ports    shape = "a(ss)"   // []string, each as 80/tcp
	forwards shape = "a(ssss)" // []string, each as port=80:proto=tcp:toport=8080:toaddr=
	dict     shape = "a{ss}"   // map[string]string
)

// field is one setting of a kind of object.
type field struct {
	key    string // in D-Bus dictionaries
	shape  shape
	label  string // in listings
	method string // in the names of the D-Bus methods of a zone: Service for addService; "" if it has none
}

var (
	version     = field{"version", text, "version", ""}
	short       = field{"short", text, "summary", ""}
	description = field{"description", text, "description", ""}
	modules     = field{"modules", words, "modules", ""}
	openPorts   = field{"ports", ports, "ports", "Port"}
	protocols   = field{"protocols", words, "protocols", "Protocol"}
	sourcePorts = field{"source_ports", ports, "source-ports", "SourcePort"}
)

// content is what zones and policies have in common.
var content = []field{
	version, short, description, {"target", text, "target", ""}, {"services", words, "services", "Service"}, openPorts,
	{"icmp_blocks", words, "icmp-blocks", "IcmpBlock"}, {"masquerade", flag, "masquerade", "Masquerade"},
	{"forward_ports", forwards, "forward-ports", "ForwardPort"}, protocols, sourcePorts,
	{"rich_rules", words, "rich rules", "RichRule"},
}

var kinds = []*kind{
	{
		name: "zone", plural: "zones", bus: "Zone", article: "a zone", invalid: "INVALID_ZONE",
		fields: slices.Concat(content, []field{
			{"interfaces", words, "interfaces", "Interface"}, {"sources", words, "sources", "Source"},
			{"icmp_block_inversion", flag, "icmp-block-inversion", "IcmpBlockInversion"}, {"forward", flag, "forward", ""},
			{"ingress_priority", integer, "ingress-priority", ""}, {"egress_priority", integer, "egress-priority", ""},
		}),
		listing: []string{
			"target", "ingress_priority", "egress_priority", "icmp_block_inversion", "interfaces", "sources", "services",
			"ports", "protocols", "forward", "masquerade", "forward_ports", "source_ports", "icmp_blocks", "rich_rules",
		},
	},
	{
		name: "policy", plural: "policies", bus: "Policy", article: "a policy", invalid: "INVALID_POLICY",
		fields: slices.Concat(content, []field{
			{"priority", integer, "priority", ""}, {"ingress_zones", words, "ingress-zones", ""},
			{"egress_zones", words, "egress-zones", ""}, {"disable", flag, "disable", ""},
		}),
		listing: []string{
			"disable", "priority", "target", "ingress_zones", "egress_zones", "services", "ports", "protocols", "masquerade",
			"forward_ports", "source_ports", "icmp_blocks", "rich_rules",
		},
	},
	{
		name: "service", plural: "services", bus: "Service", article: "a service", invalid: "INVALID_SERVICE",
		fields: []field{
			version, short, description, openPorts, modules, {"destination", dict, "destination", ""}, protocols, sourcePorts,
			{"includes", words, "includes", ""}, {"helpers", words, "helpers", ""},
		},
		listing: []string{"ports", "protocols", "source_ports", "modules", "destination", "includes", "helpers"},
	},
	{
		name: "ipset", plural: "ipsets", bus: "IPSet", article: "an ipset", invalid: "INVALID_IPSET", tuple: true,
		fields: []field{
			version, short, description, {"type", text, "type", ""}, {"options", dict, "options", ""},
			{"entries", words, "entries", ""},
		},
		listing: []string{"type", "options", "entries"},
	},
	{
		name: "icmptype", plural: "icmptypes", bus: "IcmpType", article: "an ICMP type", invalid: "INVALID_ICMPTYPE", tuple: true,
		fields:  []field{version, short, description, {"destinations", words, "destination", ""}},
		listing: []string{"destinations"},
	},
	{
		name: "helper", plural: "helpers", bus: "Helper", article: "a helper", invalid: "INVALID_HELPER", tuple: true,
		fields: []field{
			version, short, description, {"family", text, "family", ""}, {"module", text, "module", ""}, openPorts,
		},
		listing: []string{"family", "module", "ports"},
	},
}

// kindOf is the kind of a name, which must be one.
func kindOf(name string) *kind {
	at := slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })
	return kinds[at]
}

// field is the field of a key, which must be one of the kind.
func (k *kind) field(key string) *field {
	at := slices.IndexFunc(k.fields, func(f field) bool { return f.key == key })
	return &k.fields[at]
}

// settings are all that an object is, by the keys of its kind's fields. A key that is not there has the zero value of its
// shape, but a new zone's forward is set by whoever makes it.
type settings map[string]any

func (s settings) text(key string) string            { v, _ := s[key].(string); return v }
func (s settings) flag(key string) bool              { v, _ := s[key].(bool); return v }
func (s settings) integer(key string) int32          { v, _ := s[key].(int32); return v }
func (s settings) list(key string) []string          { v, _ := s[key].([]string); return v }
func (s settings) dict(key string) map[string]string { v, _ := s[key].(map[string]string); return v }
