package ir

import (
	"slices"
	"strings"
)

// The names of the chains that a ruleset for iptables is made of, but for the kernel's own chains and those of the direct interface.
// The compiler takes every name from ChainName. A process that finds chains which another one has left in the kernel asks IsEntryChain, IsChain
// and IsDispatchChain, which read the same lists, whether a chain may be ours. Where it leads, and what leads to it, must say so too. Names are those of firewalld 2.5.2 (the
// compiler's layout says why), and for tcp-mss-clamp and tcp-mss richwall's own.

// What stands behind the name of one of the kernel's chains, in the name of a chain that this one jumps to.
const (
	ChainDirect   = "direct"   // the rules of the direct interface
	ChainDispatch = "dispatch" // what belongs to which zone
	ChainDNAT     = "dnat"     // forward-ports, where they are strict
	ChainMSS      = "mss"      // the clamps of the segment size
)

// ChainRFC3964 is the chain of addresses that have no place on the Internet, which the kernel's chains jump to.
const ChainRFC3964 = "RFC3964_IPv4"

// MaxChainName is the longest name that iptables takes for a chain, XT_EXTENSION_MAXNAMELEN − 1 (linux/netfilter/x_tables.h).
const MaxChainName = 28

// ChainNameAlphabet are the characters of which a name of MaxChainName characters is drawn, in place of one that is longer.
const ChainNameAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// chainNames are the first parts and the second parts of names, by table. An underscore is between the two.
type chainNames struct {
	entries []string // second parts of chains that the kernel's chains jump to
	behind  []string // second parts of chains that those jump to
	owners  []string // first parts of the chains of zones and policies, whose second parts name these
}

var chainsOf = map[string]chainNames{
	"security": {entries: []string{ChainDirect}},
	"raw":      {entries: []string{ChainDirect, ChainDispatch}, owners: []string{"PRE"}},
	"mangle": {entries: []string{ChainDirect, ChainDispatch, ChainMSS}, behind: []string{"SYN", "SYNACK"},
		owners: []string{"PRE", "SYN", "SYNACK", "INPUT_SYN", "INPUT_SYNACK", "OUTPUT_SYN", "OUTPUT_SYNACK",
			"MSS_SYN", "MSS_SYNACK", "MSS_INPUT_SYN", "MSS_INPUT_SYNACK", "MSS_OUTPUT_SYN", "MSS_OUTPUT_SYNACK"}},
	"nat":    {entries: []string{ChainDirect, ChainDispatch}, owners: []string{"PRE", "OUT", "POST"}},
	"filter": {entries: []string{ChainDirect, ChainDispatch, ChainDNAT}, owners: []string{"IN", "FWD", "OUT"}},
}

var hookChains = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// ChainName is the name of a chain of a table: of the one that belongs to one of the kernel's chains, or to a zone or policy. It may
// be longer than MaxChainName. Parts that IsChain does not know are a fault of the caller, and panic.
func ChainName(table, first, second string) string {
	of := chainsOf[table]
	known := slices.Contains(of.owners, first) && second != ""
	if slices.Contains(hookChains, first) {
		known = slices.Contains(of.entries, second) || slices.Contains(of.behind, second)
	}
	if !known {
		panic("internal error: nobody would know that chain " + first + "_" + second + " of table " + table + " is ours")
	}
	return first + "_" + second
}

// IsEntryChain says whether a chain of some table is, by its name, one that a ruleset has the kernel's chains jump to.
func IsEntryChain(table, name string) bool {
	return name == ChainRFC3964 && table == "filter" || isBehindHook(name, chainsOf[table].entries)
}

// IsChain says whether a chain of some table is, by its name, one that a ruleset may be made of. Chains of other programs may have
// such names, too: this alone says nothing about a chain that no chain of ours leads to.
func IsChain(table, name string) bool {
	of := chainsOf[table]
	return IsEntryChain(table, name) || isBehindHook(name, of.behind) || isDrawn(name) ||
		slices.ContainsFunc(of.owners, func(first string) bool { return strings.HasPrefix(name, first+"_") && len(name) > len(first)+1 })
}

// IsDispatchChain says whether a chain is, by its name, one that leads to the chains of zones and policies, or to others that do.
func IsDispatchChain(table, name string) bool {
	between := strings.Contains(name, "_to_") || strings.HasSuffix(name, "_dispatch") || strings.HasSuffix(name, "_dispatch_stage2")
	return IsChain(table, name) && (between || isDrawn(name) || isBehindHook(name, []string{ChainMSS, "SYN", "SYNACK"}))
}

// IsDirectChain says whether the rules of a chain of a ruleset are, by its name, those of the direct interface, in all tables.
func IsDirectChain(name string) bool { return isBehindHook(name, []string{ChainDirect}) }

// isBehindHook says whether a name is that of one of the kernel's chains with one of some words behind it.
func isBehindHook(name string, words []string) bool {
	first, second, _ := strings.Cut(name, "_")
	return slices.Contains(hookChains, first) && slices.Contains(words, second)
}

// isDrawn says whether a name may have been drawn for one that is too long.
func isDrawn(name string) bool {
	return len(name) == MaxChainName && strings.Trim(name, ChainNameAlphabet) == ""
}
