package compile

import (
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"richwall/compile/ir"
)

// Names of sets have so many bytes at most (linux/netfilter/nf_tables.h; linux/netfilter/ipset/ip_set.h).
const (
	maxNFTSetName = 255
	maxIPSetName  = 31
)

// setName is what a set is called: by its chain, the shape of its elements, and what its rules do if that is not to accept. An
// ipset of the configuration cannot have such a name, as there is a slash in it.
func (f *folding) setName(into *fold, s *shape, port *ir.Part) string {
	name := f.chain.Name + "/" + s.name()
	if f.chain.Table != "" && f.chain.Table != "filter" {
		name = f.chain.Table + "/" + name
	}
	if port != nil {
		last := into.shape.slots[len(into.shape.slots)-1]
		name += fmt.Sprintf(".%s-%s-%d", slotWords[last], port.Name, port.First)
		if port.Last != port.First {
			name += "-" + strconv.Itoa(port.Last)
		}
	}
	switch a := into.action.(type) {
	case nil:
		name += ".map"
	case ir.Verdict:
		if a != ir.Accept {
			name += "." + string(a)
		}
	case ir.Reject:
		name += ".reject"
		if a.With != "" {
			name += "-" + a.With
		}
	case ir.Jump:
		name += "." + a.Chain
	}
	return name
}

// naming gives the sets of a chain names that are unique and short enough.
type naming struct {
	longest int
	used    map[string]int
}

func (f *folding) naming() naming {
	if f.classes.backend == ir.IPTables {
		return naming{maxIPSetName, map[string]int{}}
	}
	return naming{maxNFTSetName, map[string]int{}}
}

// next is the name of the next set that would be called name.
func (n naming) next(name string) string {
	n.used[name]++
	if times := n.used[name]; times > 1 {
		name += "/" + strconv.Itoa(times)
	}
	if len(name) <= n.longest {
		return name
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	digest := strings.TrimRight(base32.StdEncoding.EncodeToString(hash.Sum(nil)), "=")
	return name[:n.longest-len(digest)-1] + "/" + digest
}

// called is the same with another name for the set.
func (m madeOne) called(name string) madeOne {
	set, rule := *m.set, *m.rule
	set.Name = name
	rule.Matches, rule.Actions = slices.Clone(rule.Matches), slices.Clone(rule.Actions)
	if last := len(rule.Matches) - 1; last >= 0 {
		if l, ok := rule.Matches[last].(ir.Lookup); ok {
			l.Set = &set
			rule.Matches[last] = l
		}
	}
	if _, ok := rule.Actions[0].(ir.Decide); ok {
		rule.Actions[0] = ir.Decide{Map: &set}
	}
	return madeOne{m.name, &set, &rule}
}
