package ir

import "net/netip"

// Action is what a rule does. Its members are Verdict, Jump, Decide, Reject, Log, NFLog, Audit, SetMark, ClampMSS, Masquerade,
// DNAT, SetHelper, Offload and Raw. A rule goes on to the next one after all but Verdict, Jump, Decide, Reject, Masquerade and
// DNAT, and after a Decide that finds nothing.
type Action interface{ action() }

// Verdict ends the walk through the rules.
type Verdict string

// The verdicts.
const (
	Accept Verdict = "accept"
	Drop   Verdict = "drop"
	Return Verdict = "return" // to the chain that jumped here
)

// Jump goes on in another chain of the same table and comes back after it.
type Jump struct {
	Chain string
	Goto  bool   // does not come back here, but to where this chain was jumped to from
	Long  string // what Chain would be named if the name were not too long for iptables; a comment says it
}

// Decide does what the element of a verdict map says that the packet's fields are in, if there is one. nftables only.
type Decide struct{ Map *Set }

// Reject drops the packet and answers it.
type Reject struct {
	// With is the ICMP code by the name that the rich language has for it, or one of the constants below.
	With string
}

// Answers that depend on the family of the packet.
const (
	RejectDefault    = ""                 // port unreachable
	RejectProhibited = "admin-prohibited" // administratively prohibited; iptables: host prohibited for IPv4
)

// Log writes to the kernel's log.
type Log struct {
	Prefix string
	Level  string // emerg … debug as in syslog.h; empty means warning
}

// NFLog hands the packet to a netlink log group.
type NFLog struct {
	Group     int
	Prefix    string
	QueueSize int // packets; 0 means the kernel's default
}

// Audit writes an audit record.
type Audit struct{ Type string } // accept, drop or reject

// SetMark changes the packet's mark: Value alone sets it whole. With a mask the masked bits are cleared before the value is added by
// exclusive or, and the others stay (iptables' --set-xmark; man iptables-extensions).
type SetMark struct {
	Value, Mask uint32
	Masked      bool
}

// ClampMSS lowers the maximum segment size that a SYN announces.
type ClampMSS struct {
	Size  int  // bytes; 0 means what the path's MTU allows, or what Links says
	Raise bool // also raises it
	// Links is the name of a map, one of LinkMaps, which has the size for the interface on a Side of the packet; a packet by an interface
	// that is not in it stays as it is. Empty is for none. compile.WithLinks fills the map in, and with iptables puts rules in its place.
	Links string
	Side  Side // of Links
}

// LinkMaps are the names of the maps from interfaces to segment sizes, by the IP version. No ipset of a configuration can be called so.
var LinkMaps = map[Families]string{V4: "mss/ipv4", V6: "mss/ipv6"}

// Masquerade rewrites the source address to that of the outgoing interface.
type Masquerade struct{}

// DNAT rewrites the destination.
type DNAT struct {
	Family    Families   // V4 or V6
	Addr      netip.Addr // invalid means this machine
	Low, High int        // port range; both 0 mean unchanged
}

// SetHelper assigns a connection tracking helper.
type SetHelper struct {
	Object string // name of the Ruleset's Helper; nftables
	Type   string // the helper's own name; iptables
}

// Raw is a rule of the direct interface: arguments of iptables, matches and target, as they are. iptables only.
type Raw struct{ Args []string }

// Offload hands established flows to the flow table.
type Offload struct{}

func (Verdict) action()    {}
func (Jump) action()       {}
func (Decide) action()     {}
func (Reject) action()     {}
func (Log) action()        {}
func (NFLog) action()      {}
func (Audit) action()      {}
func (SetMark) action()    {}
func (ClampMSS) action()   {}
func (Masquerade) action() {}
func (DNAT) action()       {}
func (SetHelper) action()  {}
func (Offload) action()    {}
func (Raw) action()        {}
