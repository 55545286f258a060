// Package ir is the intermediate form between a configuration and a ruleset in the kernel: tables, chains, rules with
// typed matches and actions, and sets. The passes of package compile make it; the targets (compile/nft,
// compile/iptables) read nothing else. It has no logic but its dumps, which elements of a
// set overlap, and how chains are called.
//
// A Ruleset is made for one back end, because the two lay out their chains differently. What a rule means is the same
// in both; where only one back end can say something, the other target refuses it by name before it emits anything.
package ir

import (
	"fmt"
	"net/netip"
	"time"
)

// Backend is the kernel interface a ruleset is laid out for.
type Backend string

// The back ends, spelled as in firewalld.conf.
const (
	NFTables Backend = "nftables"
	IPTables Backend = "iptables"
)

// Families is a set of IP versions.
type Families uint8

// The sets of IP versions.
const (
	V4   Families = 1
	V6   Families = 2
	Both Families = V4 | V6
)

// Table is the name of the nftables table that holds everything, in family inet.
const Table = "firewalld"

// Ruleset is everything that one back end installs for a configuration.
type Ruleset struct {
	Backend   Backend  `json:"backend"`
	Chains    []*Chain `json:"chains"`              // in the order they are declared
	Sets      []*Set   `json:"sets,omitempty"`      // by name
	Helpers   []Helper `json:"helpers,omitempty"`   // connection tracking helpers as objects; nftables only
	Flowtable []string `json:"flowtable,omitempty"` // devices whose established TCP and UDP flows bypass the rules; nil means none; nftables only
	Owner     bool     `json:"owner,omitempty"`     // the table belongs to the process that made it; nftables only
	Counters  bool     `json:"counters,omitempty"`  // a counter in every rule; nftables only
	Links     bool     `json:"links,omitempty"`     // some rules clamp to what the machine's links carry, for compile.WithLinks to fill in
	Notes     []string `json:"notes,omitempty"`     // what was done otherwise than asked, without an effect on packets; for the log
}

// Chain is a list of rules.
type Chain struct {
	Table    string   `json:"table,omitempty"`    // iptables: filter, nat, mangle, raw or security; empty for nftables
	Name     string   `json:"name"`               // unique within Table
	Hook     *Hook    `json:"hook,omitempty"`     // nil for a chain that is only jumped to
	Families Families `json:"families"`           // iptables: the tools that have it; Both for nftables
	Builtin  bool     `json:"builtin,omitempty"`  // iptables: one of the kernel's own chains
	Shared   bool     `json:"shared,omitempty"`   // iptables: others may have rules in it too, and only those here are ours
	Declared bool     `json:"declared,omitempty"` // iptables: of a Shared chain that it is made here, and not by another program
	Rules    []*Rule  `json:"rules"`
}

// Hook is where a base chain is entered.
type Hook struct {
	Type     string `json:"type"`     // filter, nat or route
	Hook     string `json:"hook"`     // prerouting, input, forward, output or postrouting
	Priority int    `json:"priority"` // lower runs first (linux/netfilter_ipv4.h)
}

// Rule is matches, all of which must hold, and the actions that follow from them.
type Rule struct {
	Families Families // IP versions it is for
	Order    int      // rules of a chain stand in ascending Order, equal ones as they were added
	Ranked   bool     // it was placed by a priority: never merged with one that was not
	Direct   bool     // it is of the direct interface
	// Place is where in a Shared chain the rule goes: 0 before what others have there, a number n as the n-th, Behind behind all.
	Place   int
	Matches []Match
	Actions []Action
	Origin  *Origin
}

// Behind is the Place of a rule that goes to the end of a chain.
const Behind = -1

// Origin is what in the configuration a rule comes from.
type Origin struct {
	Object string `json:"object"`         // "zone public", "policy out", "firewalld.conf"
	Path   string `json:"path,omitempty"` // the file; empty if none
	Line   int    `json:"line,omitempty"` // from 1; 0 means the whole file
	Text   string `json:"text,omitempty"` // the entry such as "service ssh"; may be empty
	// Rule is the rule or command of the configuration, which alone tells it from others in its line, and whose text is only made when
	// somebody asks: a *grammar.Rule, *zones.DirectChain, *zones.DirectRule or *zones.DirectPassthrough; nil for anything else.
	Rule fmt.Stringer `json:"-"`
}

// Helper is a connection tracking helper object.
type Helper struct {
	Name     string `json:"name"`     // helper-ftp-tcp
	Type     string `json:"type"`     // ftp
	Protocol string `json:"protocol"` // tcp or udp
}

// Set is a set of addresses and the like that rules look up by name. It is an ipset of the configuration, or what rules were
// folded into: Sides tells them apart.
type Set struct {
	Name     string    `json:"name"`
	Type     string    `json:"type"`               // firewalld's: hash:ip, hash:net,port …; of a folded one also others of those fields: hash:port
	Family   Families  `json:"families"`           // V4 or V6; Both for hash:mac
	Timeout  string    `json:"timeout,omitempty"`  // seconds, as written; empty means none
	MaxElem  string    `json:"maxelem,omitempty"`  // as written; empty means the kernel's default
	HashSize string    `json:"hashsize,omitempty"` // as written; empty means the kernel's default; iptables only
	Sides    []Side    `json:"sides,omitempty"`    // of a folded set: where each of its fields is taken from; one rule looks it up
	Exact    bool      `json:"exact,omitempty"`    // no element is wide, nor will be: nftables needs no intervals
	Verdicts bool      `json:"verdicts,omitempty"` // it is a map: each element has a verdict, for Decide; nftables only
	Sizes    bool      `json:"sizes,omitempty"`    // it is one of LinkMaps: each element is an interface and has a segment size; nftables only
	Elements []Element `json:"elements"`
	Origin   *Origin   `json:"origin,omitempty"`
}

// Element is one entry of a set. It is small, as there may be very many, and lists of them are made anew when one comes or goes: one that is
// a range of IPv4 addresses and nothing else has that in itself, and any other one has a pointer.
type Element struct {
	Text      string // as ipset takes it; elements of equal text have equal parts; JSON has this alone
	low, high uint32 // the first and the last address, inclusive, where there is no more
	more      *more
}

// more is what an element stands for. It does not change once it is there.
type more struct {
	parts   []Part     // one for each field of the set's type
	until   *time.Time // as Until says
	verdict Action     // as Verdict says
	size    int        // as Size says
}

// PartKind is the kind of one field of a set.
type PartKind uint8

// The kinds of fields.
const (
	AddrPart  PartKind = iota // Low, High
	PortPart                  // Name, First, Last
	MarkPart                  // First
	MACPart                   // Name
	IfacePart                 // Name
)

// Part is one field of an element.
type Part struct {
	Kind        PartKind
	Low, High   netip.Addr // AddrPart: first and last address, inclusive
	First, Last int        // PortPart: inclusive range; MarkPart: First alone
	Name        string     // MACPart, IfacePart; PortPart: the protocol's name, or its number in digits
}
