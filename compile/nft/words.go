package nft

import (
	"fmt"
	"regexp"
	"strings"
)

// words are those of nft's grammar that it does not take for a name where one is expected (found by trying, nft 1.0.6,
// and those of later releases).
var words = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`
		accept add ah all and arp auto-merge bridge cgroup chain comment comp constant continue counter cpu
		create ct day dccp define delete describe destroy device devices dnat drop dst dup dynamic ecn
		element elements esp ether exists expires exthdr fib flags flow flowtable flush frag fwd gc-interval
		get goto handle hbh hook hour ibriport ibrname icmp icmpv6 igmp iif iifgroup iifname iiftype include
		index inet insert interval ip ip6 ipsec jhash jump last limit list log lt map mark masquerade meta
		meter mh missing monitor ne netdev nftrace not notrack numgen obriport obrname offload oif oifgroup
		oifname oiftype or osf pkttype policy position priority queue quota random redefine redirect reject
		rename replace reset return rt rt0 rt2 rtclassid rule ruleset sctp secmark set size skgid skuid snat
		socket srh symhash synproxy table tcp th time timeout tproxy type typeof udp udplite undefine update
		vlan vmap xfrm xt`) {
		m[w] = true
	}
	m["."] = true
	return m
}()

// name is what nft's scanner takes for a name.
var name = regexp.MustCompile(`^[A-Za-z_.][A-Za-z0-9/_.-]*$`)

// NoText is the error of a name or a log prefix that nftables can have and nft's text cannot: what is of that kind needs the daemon,
// whose messages have room for any.
type NoText struct{ Kind, Name, Reason string }

func (e *NoText) Error() string {
	return fmt.Sprintf("nft cannot read %q as %s: %s; give it another one, or let the daemon install it, which needs no text", e.Name, e.Kind, e.Reason)
}

// unsayableName says why nft's text cannot have a name.
func unsayableName(kind, s string) error {
	if name.MatchString(s) && !words[s] {
		return nil
	}
	return &NoText{"the name of a " + kind, s, "it starts with a digit, holds a character such as a colon, or is a word of nft's own"}
}

// unsayablePrefix says why nft's text cannot have a log prefix: nft puts the values of variables into it.
func unsayablePrefix(prefix string) error {
	if strings.Contains(prefix, "$") {
		return &NoText{"a log prefix", prefix, "it takes what follows a $ for a variable"}
	}
	return nil
}
