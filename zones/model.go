// Package zones is the configuration: what firewalld's files say, checked and resolved, as values that never change.
//
// In come the files of /etc/firewalld, /usr/lib/firewalld and the built-in definitions (Load), out goes a *Config, or a
// list of everything that is wrong with them. Whoever wants another configuration makes a new one from it; the objects
// that did not change are shared, so the same pointer means the same content.
//
// The compiler, the daemon and the commands import it; it imports grammar, and nothing of the machine but files.
package zones

import (
	"maps"
	"slices"

	"richwall/grammar"
)

// Config is a whole configuration. It is immutable: no field, map or object in it may be changed once Load or an edit
// has returned it.
type Config struct {
	Conf      *Conf                // firewalld.conf
	Own       *OwnConf             // richwall.conf
	Zones     map[string]*Zone     // by name
	ZoneParts map[string]*Zone     // the zones that files of a sub-folder make up together, by "folder/file"
	Policies  map[string]*Policy   // by name
	Services  map[string]*Service  // by name
	IPSets    map[string]*IPSet    // by name
	ICMPTypes map[string]*ICMPType // by name
	Helpers   map[string]*Helper   // by name
	Direct    *Direct              // direct.xml
}

// Names returns the keys of one of a Config's maps in sorted order.
func Names[T any](objects map[string]T) []string { return slices.Sorted(maps.Keys(objects)) }

// Origin is where an object was read from.
type Origin struct {
	Path    string // the file's path; "" for an embedded definition or an object made by a program
	Builtin bool   // shipped: from the default folder or embedded, not from the administrator's
	Shadows bool   // from the administrator's folder, and hides a shipped object of the same name
	Line    int    // from 1, of the element inside the file; 0 for the whole object
}

// Meta is what every kind of object has.
type Meta struct {
	Name        string
	Origin      Origin
	Version     string
	Short       string
	Description string
	places      places // where its references to other objects stand
	sum         uint64 // fileSum of the file it was read from; zero if it is not what a file says, or the file is doubtful
	lossy       bool   // its file says more, which could not be read or used
	renamed     string // the path of the file that it had under its name before, while it has none of its own
}

// places is where the items of a file stand, by a text such as "service ssh".
type places map[string]place

// place is a line and a column, from 1.
type place struct{ line, column int32 }

// Port is a port, or an inclusive range of ports, of a transport protocol.
type Port struct {
	Port     string // "80", "8080-8090" or a name such as "http"; "" only in a service, for the whole protocol
	Protocol string // tcp, udp, sctp or dccp
}

// ForwardPort sends what comes in on a port elsewhere.
type ForwardPort struct {
	Port, Protocol string
	ToPort         string // "" means the same port
	ToAddr         string // an address; "" means this machine
}

// RichRule is a rich rule and the line it stands on.
type RichRule struct {
	*grammar.Rule
	Line int    // from 1; 0 when it did not come from a file
	Path string // of the file, for a zone that is made up of several; "" means the path of its zone or policy
}

// Content is what zones and policies have in common. Lists hold each item once, in the order given; rules in the order
// of grammar.Compare.
type Content struct {
	Services     []string
	Ports        []Port
	Protocols    []string
	SourcePorts  []Port
	ICMPBlocks   []string
	Masquerade   bool
	ForwardPorts []ForwardPort
	Rules        []RichRule
}

// Targets of zones and policies, spelled as in the files.
const (
	TargetDefault  = "default"    // zone: reject, but let ICMP through. Files leave the attribute out.
	TargetAccept   = "ACCEPT"     // zone, policy
	TargetDrop     = "DROP"       // zone, policy
	TargetReject   = "%%REJECT%%" // zone
	TargetContinue = "CONTINUE"   // policy: go on with the next policy or zone
	PolicyReject   = "REJECT"     // policy
)

// Zone is a level of trust for what is bound to it: interfaces and sources.
type Zone struct {
	Meta
	Content
	Target             string // TargetDefault, TargetAccept, TargetDrop or TargetReject
	IngressPriority    int    // −32768 to 32767; lower is asked first about incoming packets
	EgressPriority     int    // −32768 to 32767; lower is asked first about outgoing packets
	Interfaces         []string
	Sources            []string // addresses, prefixes, MAC addresses, or "ipset:NAME"
	ICMPBlockInversion bool
	Forward            bool // packets between the zone's own interfaces and sources pass
}

// The symbolic zones of a policy.
const (
	ZoneHost = "HOST" // this machine
	ZoneAny  = "ANY"  // every zone, but not this machine
)

// Policy is for what goes from one set of zones to another.
type Policy struct {
	Meta
	Content
	Target       string // TargetAccept, TargetDrop, PolicyReject or TargetContinue
	Priority     int    // −32768 to 32767, not 0; below 0 asked before the zones' own rules, above 0 after them
	IngressZones []string
	EgressZones  []string
	Disable      bool
}

// Service is a set of ports and protocols under one name.
type Service struct {
	Meta
	Ports       []Port // an empty Port stands for the whole protocol
	Protocols   []string
	SourcePorts []Port
	Modules     []string // names of conntrack helpers, the older form of Helpers
	Helpers     []string
	Includes    []string          // names of other services
	Destination map[string]string // "ipv4", "ipv6" → address or prefix it is limited to
}

// IPSet is a set of addresses, ports, marks or interfaces that rules refer to by name.
type IPSet struct {
	Meta
	Type    string            // hash:ip, hash:net, hash:ip,port …
	Options map[string]string // family, hashsize, maxelem, timeout
	Order   []string          // the names of the options as their file has them; those not in it come last, sorted
	Entries []string          // in the order given
	Timed   []TimedEntry      // in a running firewall: the entries of a set with a timeout, in the order in which they end
}

// ICMPType is a name for an ICMP type, with the families that have it.
type ICMPType struct {
	Meta
	Destinations []string // "ipv4", "ipv6"; none means both
}

// Helper is a connection tracking helper.
type Helper struct {
	Meta
	Module string // nf_conntrack_…
	Family string // "ipv4", "ipv6", or "" for both
	Ports  []Port
}

// Direct is the direct interface: chains, rules and commands of iptables, ip6tables and ebtables as they are.
type Direct struct {
	Origin       Origin
	Chains       []DirectChain
	Rules        []DirectRule
	Passthroughs []DirectPassthrough
	lossy        bool // as that of Meta: rules of it are not in force
	passed       bool // its file holds an element that says nothing, and is passed over: it would be lost as well
}

// DirectChain is a chain of its own.
type DirectChain struct {
	IPV, Table, Chain string
	Line              int // from 1; 0 when it did not come from a file
}

// DirectRule is a rule; lower priorities come first, equal ones in the order given.
type DirectRule struct {
	IPV, Table, Chain string
	Priority          int // 32 bits, signed
	Args              []string
	Line              int // from 1; 0 when it did not come from a file
}

// String is "chain" and the name.
func (c *DirectChain) String() string { return "chain " + c.Chain }

// same tells whether another chain is the same, wherever it stands.
func (c *DirectChain) same(other DirectChain) bool {
	return c.IPV == other.IPV && c.Table == other.Table && c.Chain == other.Chain
}

// String is the arguments as a command line.
func (r *DirectRule) String() string { return JoinArgs(r.Args) }

// same tells whether another rule says the same, wherever it stands.
func (r *DirectRule) same(other DirectRule) bool {
	return r.IPV == other.IPV && r.Table == other.Table && r.Chain == other.Chain && r.Priority == other.Priority && slices.Equal(r.Args, other.Args)
}

// DirectPassthrough is a whole command line of iptables, ip6tables or ebtables.
type DirectPassthrough struct {
	IPV  string // ipv4, ipv6 or eb
	Args []string
	Line int // from 1; 0 when it did not come from a file
}

// String is the arguments as a command line.
func (p *DirectPassthrough) String() string { return JoinArgs(p.Args) }

// same tells whether another command says the same, wherever it stands.
func (p *DirectPassthrough) same(other DirectPassthrough) bool {
	return p.IPV == other.IPV && slices.Equal(p.Args, other.Args)
}
