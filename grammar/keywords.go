package grammar

import (
	"maps"
	"slices"
)

// slot is a place in a rule that at most one part takes.
type slot int

const (
	inRule slot = iota // the rule's own attributes
	inSource
	inDestination
	inElement
	inLog
	inAudit
	inAction
	slots // how many there are
)

// name is what a slot is called in messages.
func (s slot) name() string {
	return [slots]string{"rule", "source", "destination", "element", "log or nflog", "audit", "action"}[s]
}

// keyword is a word that starts a part of a rule.
type keyword struct {
	slot  slot
	attrs []string // in the order in which they are printed
	// once: after its one attribute the part is complete, and a second one is a mistake. Elsewhere the last one counts.
	once  bool
	limit bool // "limit" may follow
	not   bool // "not" may follow
	// build puts the part into the rule.
	build func(*builder, *part)
}

// keywords are all words that start a part.
var keywords = map[string]*keyword{
	"source":      {slot: inSource, attrs: []string{"address", "mac", "ipset", "invert"}, not: true, build: buildSource},
	"destination": {slot: inDestination, attrs: []string{"address", "ipset", "invert"}, not: true, build: buildDestination},

	"service":       {slot: inElement, attrs: []string{"name"}, once: true, build: buildService},
	"port":          {slot: inElement, attrs: []string{"port", "protocol"}, build: buildPort},
	"protocol":      {slot: inElement, attrs: []string{"value"}, once: true, build: buildProtocol},
	"source-port":   {slot: inElement, attrs: []string{"port", "protocol"}, build: buildSourcePort},
	"icmp-block":    {slot: inElement, attrs: []string{"name"}, once: true, build: buildICMPBlock},
	"icmp-type":     {slot: inElement, attrs: []string{"name"}, once: true, build: buildICMPType},
	"masquerade":    {slot: inElement, build: buildMasquerade},
	"forward-port":  {slot: inElement, attrs: []string{"port", "protocol", "to-port", "to-addr"}, build: buildForwardPort},
	"tcp-mss-clamp": {slot: inElement, attrs: []string{"value", "mtu", "range", "raise"}, build: buildTCPMSSClamp},
	"tcp-mss":       {slot: inElement, attrs: []string{"value"}, build: buildTCPMSS},

	"log":    {slot: inLog, attrs: []string{"prefix", "level"}, limit: true, build: buildLog},
	"nflog":  {slot: inLog, attrs: []string{"group", "prefix", "queue-size"}, limit: true, build: buildNFLog},
	"audit":  {slot: inAudit, limit: true, build: buildAudit},
	"accept": {slot: inAction, limit: true, build: buildAccept},
	"drop":   {slot: inAction, limit: true, build: buildDrop},
	"reject": {slot: inAction, attrs: []string{"type"}, limit: true, build: buildReject},
	"mark":   {slot: inAction, attrs: []string{"set"}, limit: true, build: buildMark},
}

// Attributes of no keyword.
var (
	ruleAttrs  = []string{"priority", "family"}
	limitAttrs = []string{"value", "burst"}
)

// Every attribute and every bare word of the language, sorted.
var (
	knownAttrs = collectAttrs()
	knownWords = slices.Sorted(slices.Values(slices.AppendSeq([]string{"rule", "limit", "not", "NOT"}, maps.Keys(keywords))))
)

func collectAttrs() []string {
	attrs := slices.Concat(ruleAttrs, limitAttrs)
	for _, k := range keywords {
		attrs = append(attrs, k.attrs...)
	}
	slices.Sort(attrs)
	return slices.Compact(attrs)
}
