package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// liveTable is a table as far as it tells whether it was changed.
type liveTable struct {
	handle  uint64 // another one for each table that is made; 0 if there is no such table, or if it is not known
	flags   uint32
	chains  map[string]*liveChain
	sets    map[string]elements
	objects map[string]bool // helpers and flow tables
}

type liveChain struct {
	base    string     // hook, priority, type and policy as the kernel has them; empty for a chain without a hook
	rules   []liveRule // in order
	unknown bool       // rules are not known
}

// liveRule is a rule as the kernel has it. No handle of a table is given out twice, but a rule that is put in the place of another
// one by NLM_F_REPLACE has that one's handle: what it does is looked at too.
type liveRule struct {
	handle  uint64
	content uint64 // a digest of the expressions, without counters; another one in each process
}

// ruleOf is the rule that a message is about. The kernel tells its expressions alike in a dump, an event and an echo.
func ruleOf(body []byte) liveRule {
	var content maphash.Hash
	content.SetSeed(contents)
	eachAttribute(attribute(body, unix.NFTA_RULE_EXPRESSIONS), func(_ uint16, e []byte) {
		counter := false
		eachAttribute(e, func(kind uint16, v []byte) { counter = counter || kind == unix.NFTA_EXPR_NAME && text(v) == "counter" })
		if !counter {
			content.Write(e)
		}
	})
	return liveRule{number64(attribute(body, unix.NFTA_RULE_HANDLE)), content.Sum64()}
}

// contents is the seed of all digests.
var contents = maphash.MakeSeed()

// elements is how often each element of a set is there, by what it has of key, last key, data and being the end of an interval.
// nil is a set whose elements may come and go.
type elements map[string]int

func newLiveTable() *liveTable {
	return &liveTable{chains: map[string]*liveChain{}, sets: map[string]elements{}, objects: map[string]bool{}}
}

// What unix lacks of linux/netfilter/nf_tables.h.
const (
	tableHandle   = 4 // NFTA_TABLE_HANDLE
	elementKeyEnd = 10
	intervalEnd   = 1 // NFT_SET_ELEM_INTERVAL_END
)

func number32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func number64(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// add takes in a message about the table: one that made it, or one of a dump.
func (t *liveTable) add(kind uint8, body []byte) {
	switch kind {
	case unix.NFT_MSG_NEWTABLE:
		t.handle, t.flags = number64(attribute(body, tableHandle)), number32(attribute(body, unix.NFTA_TABLE_FLAGS))
	case unix.NFT_MSG_NEWCHAIN:
		t.chains[text(attribute(body, unix.NFTA_CHAIN_NAME))] = &liveChain{base: base(body)}
	case unix.NFT_MSG_NEWRULE:
		if c := t.chains[text(attribute(body, unix.NFTA_RULE_CHAIN))]; c != nil {
			c.rules = append(c.rules, ruleOf(body))
		}
	case unix.NFT_MSG_NEWSET:
		if number32(attribute(body, unix.NFTA_SET_FLAGS))&unix.NFT_SET_ANONYMOUS == 0 { // those are part of a rule
			t.sets[text(attribute(body, unix.NFTA_SET_NAME))] = elements{}
		}
	case unix.NFT_MSG_NEWSETELEM:
		t.sets[text(attribute(body, unix.NFTA_SET_ELEM_LIST_SET))].add(attribute(body, unix.NFTA_SET_ELEM_LIST_ELEMENTS))
	case unix.NFT_MSG_NEWOBJ:
		t.objects["helper "+text(attribute(body, unix.NFTA_OBJ_NAME))] = true
	case unix.NFT_MSG_NEWFLOWTABLE:
		t.objects["flow table "+text(attribute(body, flowtableName))] = true
	}
}

// hookPlace is where a hook of a chain is among those of the kernel (enum nf_inet_hooks), and among the chains there.
func hookPlace(hook []byte) (number uint32, priority int32) {
	eachAttribute(hook, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_HOOK_HOOKNUM:
			number = number32(v)
		case unix.NFTA_HOOK_PRIORITY:
			priority = int32(number32(v))
		}
	})
	return number, priority
}

// base is what makes a chain one that the kernel enters.
func base(chain []byte) string {
	hook := attribute(chain, unix.NFTA_CHAIN_HOOK)
	if hook == nil {
		return ""
	}
	number, priority := hookPlace(hook)
	return fmt.Sprint(number, priority, text(attribute(chain, unix.NFTA_CHAIN_TYPE)), number32(attribute(chain, unix.NFTA_CHAIN_POLICY)))
}

// add takes in a list of elements. Of what the kernel tells about one, such as counters, the key and what it leads to matter.
func (e elements) add(list []byte) {
	if e == nil {
		return
	}
	eachAttribute(list, func(_ uint16, element []byte) {
		var key, last, data []byte
		var end bool
		eachAttribute(element, func(kind uint16, v []byte) {
			switch kind {
			case unix.NFTA_SET_ELEM_KEY:
				key = leaves(v)
			case elementKeyEnd:
				last = leaves(v)
			case unix.NFTA_SET_ELEM_DATA:
				data = leaves(v)
			case unix.NFTA_SET_ELEM_FLAGS:
				end = number32(v)&intervalEnd != 0
			}
		})
		name := fmt.Sprintf("%x %x %x", key, last, data)
		if end {
			name += isEnd
		}
		e[name]++
	})
}

const isEnd = " end"

// leaves are the values in the data of an element, without the attributes that they are wrapped in.
func leaves(data []byte) (values []byte) {
	eachAttribute(data, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_DATA_VALUE:
			values = append(values, v...)
		case unix.NFTA_DATA_VERDICT:
			eachAttribute(v, func(_ uint16, v []byte) { values = append(values, v...) })
		}
	})
	return values
}

// dump asks for all there is of a kind, of a family, and calls f with each answer's body. f must not use the socket.
func (s *socket) dump(kind, family uint8, filter []byte, f func(body []byte)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := append([]byte{family, unix.NFNETLINK_V0, 0, 0}, filter...)
	if err := s.send([]netlink.Message{s.request(tablesMessage(kind), netlink.Dump, body)}); err != nil {
		return err
	}
	var failed error
	for m, err := range s.conn.ReceiveIter() {
		if failed = err; err == nil && len(m.Data) >= nfgenHeader {
			f(m.Data)
		}
	}
	return failed
}

// namedAttribute is an attribute with a name, for a message's filter.
func namedAttribute(kind uint16, name string) []byte {
	b, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: kind, Data: append([]byte(name), 0)}})
	if err != nil {
		panic("internal error: " + err.Error()) // names are shorter than attributes can be
	}
	return b
}

// readTable reads a table of family inet.
func (s *socket) readTable(name string) (*liveTable, error) {
	t := newLiveTable()
	filter := namedAttribute(tableName, name)
	for _, q := range []struct{ ask, answer uint8 }{
		{unix.NFT_MSG_GETTABLE, unix.NFT_MSG_NEWTABLE}, {unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN},
		{unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE}, {unix.NFT_MSG_GETSET, unix.NFT_MSG_NEWSET},
		{unix.NFT_MSG_GETOBJ, unix.NFT_MSG_NEWOBJ}, {unix.NFT_MSG_GETFLOWTABLE, unix.NFT_MSG_NEWFLOWTABLE},
	} {
		err := s.dump(q.ask, unix.NFPROTO_INET, filter, func(body []byte) {
			if text(attribute(body, tableName)) == name {
				t.add(q.answer, body)
			}
		})
		if err != nil && !absent(err) {
			return nil, err
		}
	}
	for set := range t.sets {
		which := append(slices.Clone(filter), namedAttribute(unix.NFTA_SET_ELEM_LIST_SET, set)...)
		err := s.dump(unix.NFT_MSG_GETSETELEM, unix.NFPROTO_INET, which, func(body []byte) { t.add(unix.NFT_MSG_NEWSETELEM, body) })
		if err != nil && !absent(err) {
			return nil, err
		}
	}
	return t, nil
}

// absent says whether there is nothing of what was asked for, or the kernel does not know such a thing.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}

// live is what a ruleset that was committed makes of its table.
func (i *installed) live() (*liveTable, error) {
	t, enc := newLiveTable(), &nft.Encoder{Table: ir.Table}
	t.handle = i.table
	t.flags = tableFlags(i.owned)
	for _, s := range i.Rules.Sets {
		if expires(s) {
			t.sets[s.Name] = nil
			continue
		}
		t.sets[s.Name] = elements{}
		messages, err := enc.AddElements(s, s.Elements)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			t.add(m.Type, m.Body)
		}
	}
	for _, h := range i.Rules.Helpers {
		t.objects["helper "+h.Name] = true
	}
	if i.Rules.Flowtable != nil {
		m, err := enc.AddFlowtable(i.Rules.Flowtable)
		if err != nil {
			return nil, err
		}
		t.add(m.Type, m.Body)
	}
	for _, c := range i.Rules.Chains {
		m, err := enc.AddChain(c, false)
		if err != nil {
			return nil, err
		}
		rules, known := i.rules[c.Name]
		t.chains[c.Name] = &liveChain{base: base(m.Body), rules: rules, unknown: !known}
	}
	return t, nil
}

// expires says whether a set's elements have a time. Whoever makes such a set wants other programs to put elements into it.
func expires(s *ir.Set) bool { return s.Timeout != "" && s.Timeout != "0" }

// livePanic is the table of panic mode.
func livePanic(owned bool) *liveTable {
	t, enc := newLiveTable(), &nft.Encoder{Table: panicTable}
	t.flags = tableFlags(owned)
	for _, c := range panicChains {
		m, err := enc.AddChain(c, true)
		if err != nil {
			panic("internal error: a chain of panic mode: " + err.Error())
		}
		t.chains[c.Name] = &liveChain{base: base(m.Body)}
	}
	return t
}

// liveGuard is the table of the guard.
func liveGuard(everything bool) *liveTable {
	t, enc := newLiveTable(), &nft.Encoder{Table: guardTable}
	for _, c := range guardChains(everything) {
		m, err := enc.AddChain(c, true)
		if err != nil {
			panic("internal error: a chain of the guard: " + err.Error())
		}
		t.chains[c.Name] = &liveChain{base: base(m.Body), unknown: true}
	}
	return t
}

// differences says what of a table is not as t has it.
func (t *liveTable) differences(name string, now *liveTable) []string {
	switch {
	case now.handle == 0:
		return []string{"table inet " + name + " was removed"}
	case t.handle != 0 && t.handle != now.handle:
		return []string{"table inet " + name + " was removed and made anew"}
	}
	var list []string
	if t.flags != now.flags {
		list = append(list, "table inet "+name+" has other flags")
	}
	list = append(list, compare("chain ", t.chains, now.chains, (*liveChain).difference)...)
	list = append(list, compare("set ", t.sets, now.sets, elements.difference)...)
	return append(list, compare("", t.objects, now.objects, func(bool, bool) string { return "" })...)
}

// compare says which values were added and removed, and by difference what of those that stayed is not the same.
func compare[T any](what string, before, now map[string]T, difference func(before, now T) string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		v, ok := now[name]
		if !ok {
			list = append(list, what+name+" was removed")
		} else if d := difference(before[name], v); d != "" {
			list = append(list, what+name+": "+d)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, ok := before[name]; !ok {
			list = append(list, what+name+" was added")
		}
	}
	return list
}

func (c *liveChain) difference(now *liveChain) string {
	switch {
	case c.base != now.base:
		return "hook, priority, type or policy was changed"
	case c.unknown:
		return "rules may have been changed"
	case slices.Equal(c.rules, now.rules):
		return ""
	}
	gone, added := countMissing(c.rules, now.rules), countMissing(now.rules, c.rules)
	if gone+added == 0 {
		return "rules were put in another order"
	}
	return changeText("rule", gone, added)
}

// countMissing is how many rules a has that b has not.
func countMissing(a, b []liveRule) int {
	has := make(map[liveRule]bool, len(b))
	for _, r := range b {
		has[r] = true
	}
	missing := 0
	for _, r := range a {
		if !has[r] {
			missing++
		}
	}
	return missing
}

func (e elements) difference(now elements) string {
	if e == nil {
		return ""
	}
	gone, added, ends := 0, 0, 0
	count := func(to *int, key string, n int) {
		switch {
		case n <= 0:
		case strings.HasSuffix(key, isEnd): // goes along with the key that the interval begins with
			ends++
		default:
			*to += n
		}
	}
	for key, n := range e {
		count(&gone, key, n-now[key])
	}
	for key, n := range now {
		count(&added, key, n-e[key])
	}
	switch {
	case gone+added > 0:
		return changeText("element", gone, added)
	case ends > 0:
		return "elements end elsewhere"
	}
	return ""
}

// changeText is "2 rules removed, 1 added".
func changeText(what string, gone, added int) string {
	plural := func(n int) string {
		if n == 1 {
			return fmt.Sprint(n, " ", what)
		}
		return fmt.Sprint(n, " ", what, "s")
	}
	switch {
	case added == 0:
		return plural(gone) + " removed"
	case gone == 0:
		return plural(added) + " added"
	}
	return fmt.Sprintf("%s removed, %d added", plural(gone), added)
}
