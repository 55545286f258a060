package grammar

// Family is the IP version a rule is limited to.
type Family string

// The families. The empty family means the rule is for both.
const (
	AnyFamily Family = ""
	IPv4      Family = "ipv4"
	IPv6      Family = "ipv6"
)

// The range of a rule's priority. 0 is the default; rules below run first, rules above run last.
const (
	MinPriority = -32768
	MaxPriority = 32767
)

// Rule is one rich rule. Fields hold what the text says, as text where the text is what makes two rules equal
// ("22-20" is not "20-22"); use the Parse functions of this package for the numbers behind it.
//
//	rule [priority=N] [family=F] [source …] [destination …] [element] [log|nflog …] [audit …] [action]
//
// A Rule is never changed after it was parsed or checked; edits make new ones.
type Rule struct {
	Priority    int          // MinPriority to MaxPriority
	Family      Family       // AnyFamily means both
	Source      *Source      // nil means any
	Destination *Destination // nil means any
	Element     Element      // nil means none: the rule is about addresses alone
	Log         Logging      // nil means none
	Audit       *Audit       // nil means none
	Action      Action       // nil means none
}

// Source is where a packet comes from: exactly one of Address, MAC and IPSet is set.
//
//	source [not] address=192.0.2.0/24 | mac=00:11:22:33:44:55 | ipset=name
type Source struct {
	Invert  bool
	Address string
	MAC     string
	IPSet   string
}

// Destination is where a packet goes: exactly one of Address and IPSet is set.
//
//	destination [not] address=192.0.2.0/24 | ipset=name
type Destination struct {
	Invert  bool
	Address string
	IPSet   string
}

// Element is what a rule is about. Its members are *Service, *Port, *Protocol, *SourcePort, *ICMPBlock, *ICMPType,
// *Masquerade, *ForwardPort, *TCPMSSClamp and *TCPMSS.
type Element interface {
	// Keyword is the element's word in the language.
	Keyword() string
	element()
}

// Service names a service of the configuration.
//
//	service name=ssh
type Service struct{ Name string }

// Port is a destination port or range.
//
//	port port=8080-8090 protocol=tcp
type Port struct{ Port, Protocol string }

// Protocol is an IP protocol by name or number.
//
//	protocol value=gre
type Protocol struct{ Value string }

// SourcePort is a source port or range.
//
//	source-port port=68 protocol=udp
type SourcePort struct{ Port, Protocol string }

// ICMPBlock rejects an ICMP type.
//
//	icmp-block name=echo-request
type ICMPBlock struct{ Name string }

// ICMPType matches an ICMP type.
//
//	icmp-type name=echo-request
type ICMPType struct{ Name string }

// Masquerade rewrites the source address to that of the interface a packet leaves by.
//
//	masquerade
type Masquerade struct{}

// ForwardPort sends a port to another port, another address, or both.
//
//	forward-port port=80 protocol=tcp [to-port=8080] [to-addr=192.0.2.1]
type ForwardPort struct{ Port, Protocol, ToPort, ToAddr string }

// TCPMSSClamp lowers the maximum segment size that a TCP SYN announces.
//
//	tcp-mss-clamp [value=pmtu|link|N | mtu=M] [range=A-B] [raise=yes]
type TCPMSSClamp struct {
	// Value is "", "pmtu", "link", or a number from MinMSS to MaxMSS; "" means pmtu but prints as nothing. "link" is the MTU of
	// the links that a packet comes in and goes out by, less its headers.
	Value string
	// MTU is the link's MTU in bytes, MinMTU to MaxMTU: MSS is MTU − 40 for IPv4 and MTU − 60 for IPv6. 0 means not given.
	MTU int
	// Range limits the clamp to SYNs that announce an MSS within it; nil means all.
	Range *MSSRange
	// Raise may also raise the MSS. Only where the netlink back end is used.
	Raise bool
}

// TCPMSS matches TCP SYN segments by the maximum segment size they announce.
//
//	tcp-mss value=0-500
type TCPMSS struct{ Value MSSRange }

// MSSRange is an inclusive range of maximum segment sizes in bytes, 0 to 65535.
type MSSRange struct{ Low, High int }

// Bounds of the values of tcp-mss-clamp, in bytes.
const (
	MinMSS = 536   // RFC 9293, 3.7.1: what every IPv4 host takes
	MaxMSS = 65515 // the largest that iptables' --set-mss takes
	MinMTU = 576   // RFC 791: what every IPv4 host takes
	MaxMTU = 65535
)

func (*Service) Keyword() string     { return "service" }
func (*Port) Keyword() string        { return "port" }
func (*Protocol) Keyword() string    { return "protocol" }
func (*SourcePort) Keyword() string  { return "source-port" }
func (*ICMPBlock) Keyword() string   { return "icmp-block" }
func (*ICMPType) Keyword() string    { return "icmp-type" }
func (*Masquerade) Keyword() string  { return "masquerade" }
func (*ForwardPort) Keyword() string { return "forward-port" }
func (*TCPMSSClamp) Keyword() string { return "tcp-mss-clamp" }
func (*TCPMSS) Keyword() string      { return "tcp-mss" }

func (*Service) element()     {}
func (*Port) element()        {}
func (*Protocol) element()    {}
func (*SourcePort) element()  {}
func (*ICMPBlock) element()   {}
func (*ICMPType) element()    {}
func (*Masquerade) element()  {}
func (*ForwardPort) element() {}
func (*TCPMSSClamp) element() {}
func (*TCPMSS) element()      {}

// Logging is how a rule writes to the log. Its members are *Log and *NFLog.
type Logging interface {
	Keyword() string
	logging()
}

// Log writes to the kernel's log.
//
//	log [prefix=TEXT] [level=LEVEL] [limit value=R/U [burst=N]]
type Log struct {
	Prefix string // at most 127 characters
	Level  string // one of LogLevels; "" means the back end's default, warning
	Limit  *Limit // nil means none
}

// NFLog hands packets to a netlink log group.
//
//	nflog [group=N] [prefix=TEXT] [queue-size=N] [limit value=R/U [burst=N]]
type NFLog struct {
	Group     int    // 0 to 65535
	Prefix    string // at most 127 characters
	QueueSize int    // packets queued in the kernel before they are sent, 0 to 65535; 0 means the kernel's default
	Limit     *Limit // nil means none
}

func (*Log) Keyword() string   { return "log" }
func (*NFLog) Keyword() string { return "nflog" }
func (*Log) logging()          {}
func (*NFLog) logging()        {}

// Audit writes an audit record.
//
//	audit [limit value=R/U [burst=N]]
type Audit struct{ Limit *Limit }

// Action is what happens to a packet. Its members are *Accept, *Drop, *Reject and *Mark.
type Action interface {
	Keyword() string
	action()
}

// Accept lets a packet pass.
//
//	accept [limit …]
type Accept struct{ Limit *Limit }

// Drop discards a packet silently.
//
//	drop [limit …]
type Drop struct{ Limit *Limit }

// Reject discards a packet and tells its sender.
//
//	reject [type=TYPE] [limit …]
type Reject struct {
	Type  string // one of RejectTypes of the rule's family; "" means the kernel's default, port unreachable
	Limit *Limit
}

// Mark sets the packet's mark.
//
//	mark set=VALUE[/MASK] [limit …]
type Mark struct {
	Set   string // as written: u32 or u32/u32 in decimal, 0x, 0o or 0b
	Limit *Limit
}

func (*Accept) Keyword() string { return "accept" }
func (*Drop) Keyword() string   { return "drop" }
func (*Reject) Keyword() string { return "reject" }
func (*Mark) Keyword() string   { return "mark" }
func (*Accept) action()         {}
func (*Drop) action()           {}
func (*Reject) action()         {}
func (*Mark) action()           {}

// Limit is how often a log, audit or action may happen: Rate times a Unit, after a first Burst.
//
//	limit value=3/m [burst=5]
type Limit struct {
	Rate  int  // at least 1
	Unit  byte // 's', 'm', 'h' or 'd': second, minute, hour, day
	Burst int  // packets, 0 to 10000000; 0 means the back end's default, 5
}
