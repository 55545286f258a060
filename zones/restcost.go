package zones

import (
	"slices"

	"richwall/grammar"
)

// costs is what it costs to leave out an item of a zone, a policy or direct.xml, or a part of a rule, by the name of its element.
var costs = map[string]Way{
	"short": LeftOut, "description": LeftOut,
	"service": LeftOut, "port": LeftOut, "protocol": LeftOut, "source-port": LeftOut, "icmp-type": LeftOut,
	"masquerade": LeftOut, "forward": LeftOut, "tcp-mss-clamp": LeftOut, "tcp-mss": LeftOut,
	"log": LeftOut, "nflog": LeftOut, "audit": LeftOut, "accept": LeftOut,
	"interface": Doubtful, "source": Doubtful, "ingress-zone": Doubtful, "egress-zone": Doubtful,
	"chain": Doubtful, "passthrough": Doubtful,
	"forward-port": Refuses, // without it, the port is the machine's own
	"drop":         Refuses, "reject": Refuses, "mark": Refuses, "icmp-block": Refuses, "icmp-block-inversion": Refuses, "disable": Refuses,
}

// cost is what it costs to leave out an item. A word that is not known may be a misspelled interface.
func cost(word string) Way {
	if way, ok := costs[word]; ok {
		return way
	}
	return Doubtful
}

// ruleCost is what it costs to leave out a rule that has some parts: nothing if it accepts and has no part that may refuse, and
// otherwise what the worst of its parts costs. What it matches does not count.
func ruleCost(words []string) Way {
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return slices.Contains([]string{"source", "destination", "limit"}, w) })
	refuses := slices.ContainsFunc(words, func(w string) bool { return costs[w] > LeftOut }) // a word that is not known is none of them
	if slices.Contains(words, "accept") && !refuses {
		return LeftOut
	}
	worst := LeftOut
	for _, w := range words {
		worst = max(worst, cost(w))
	}
	return min(worst, Refuses)
}

// The parts of a rule that do something: deeds do it to what another element asks for, ownDeeds by themselves.
var (
	deeds    = []string{"accept", "drop", "reject", "mark", "log", "nflog", "audit"}
	ownDeeds = []string{"masquerade", "forward-port", "icmp-block", "tcp-mss-clamp"}
)

// hasLostDeed says whether a rule in a file with some parts has lost what it did, which may have been a drop.
func hasLostDeed(words []string) bool {
	has := func(list []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) })
	}
	asks := has([]string{"service", "port", "protocol", "source-port", "icmp-type", "tcp-mss"})
	return !has(deeds) && (asks || !has(ownDeeds))
}

// words are the parts of a rule by the names of their elements.
func words(r *grammar.Rule) []string {
	var list []string
	if r.Element != nil {
		list = append(list, r.Element.Keyword())
	}
	if r.Action != nil {
		list = append(list, r.Action.Keyword())
	}
	return list
}

// rootCost is what an error in the root element costs: without a priority it is not known what a packet meets first.
func rootCost(p *Problem) Way {
	if p.Code == InvalidTarget {
		return Refuses
	}
	return Doubtful
}

// itemCost is what it costs to leave out an element below the root, with all that stands in it.
func itemCost(root, n *node) Way { return max(ownCost(root, n), strayCost(root, n)) }

// strayCost is what elements cost that stand in another one without being a part of it, such as a rule in one before it whose end was lost.
func strayCost(root, n *node) Way {
	worst := LeftOut
	for _, c := range n.children {
		_, known := costs[c.name]
		if part := n.name == "rule"; c.name == "rule" || known && !part {
			worst = max(worst, ownCost(root, c))
		}
		worst = max(worst, strayCost(root, c))
	}
	return worst
}

// ownCost is what it costs to leave out an element, without what stands in it but the parts of a rule. Of what others refer to, all counts
// but its descriptions.
func ownCost(root, n *node) Way {
	switch {
	case root.name != "zone" && root.name != "policy" && root.name != "direct":
		if n.name == "short" || n.name == "description" {
			return LeftOut
		}
		return Refuses
	case n.name == "ingress-zone" || n.name == "egress-zone":
		if !mayRefuse(root) {
			return LeftOut
		}
	case n.name == "rule" && root.name == "direct":
		args, _ := SplitArgs(n.text)
		return argsCost(n.get("table"), args)
	case n.name == "rule":
		var words []string
		for _, c := range n.children {
			words = append(words, c.name)
		}
		if hasLostDeed(words) {
			return Refuses
		}
		return ruleCost(words)
	}
	return cost(n.name)
}

// denies tells whether a policy may refuse something.
func denies(p *Policy) bool { return mayRefuse(newReader(schema{}, WritePolicy(p), "").tree()) }

// mayRefuse tells whether the file of a policy, given by its root element, says something without which more could be let in.
func mayRefuse(root *node) bool {
	refuses := root.get("target") != TargetAccept && root.get("target") != TargetContinue
	for _, n := range root.children {
		switch n.name {
		case "disable":
			return false
		case "ingress-zone", "egress-zone":
		default:
			refuses = refuses || itemCost(root, n) > LeftOut
		}
	}
	return refuses
}

// otherTables are those in which ACCEPT keeps a packet from what comes behind it, such as being sent to another machine, or in broute from
// being routed instead of bridged.
var otherTables = []string{"nat", "mangle", "raw", "security", "broute"}

// argsCost is what it costs to leave out a rule that the direct interface has in a table.
func argsCost(table string, args []string) Way {
	for i := range args[:max(0, len(args)-1)] {
		if (args[i] == "-j" || args[i] == "--jump") && args[i+1] == "ACCEPT" && !slices.Contains(otherTables, table) {
			return LeftOut
		}
	}
	return Doubtful
}
