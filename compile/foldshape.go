package compile

import (
	"math/bits"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/boxes"
)

// slot is a part of a packet that rules are about, and that rules can differ in and still become one.
type slot uint8

// The slots, in the order in which they are fields of a set.
const (
	sourceAddr slot = iota
	destAddr
	inIface
	outIface
	sourceMAC
	destMAC
	sourcePort
	destPort
	slots
)

// slotWords name the slots in names of sets; fieldTypes are what sets call them, ipset's words where it has any.
var (
	slotWords  = [slots]string{"saddr", "daddr", "iif", "oif", "smac", "dmac", "sport", "dport"}
	fieldTypes = [slots]string{"ip", "ip", "iface", "iface", "mac", "mac", "port", "port"}
)

func (s slot) side() ir.Side { return ir.Side(s % 2) }
func (s slot) isAddr() bool  { return s <= destAddr }
func (s slot) isPort() bool  { return s >= sourcePort }

// shape is what rules have in common that can become one: all of it but the values of its slots.
type shape struct {
	shapeKey
	slots []slot // that are given, ascending
	sides []ir.Side
	kin   *shape // of a single slot: the shape that takes wide values too; of several: itself; nil where nothing can vary
}

// shapeKey tells shapes apart. It is comparable.
type shapeKey struct {
	given    uint8       // bit by slot
	wide     uint8       // bit by slot: the value is a prefix or a range
	still    bool        // something is asked besides that no set can hold: the rule stays, and others may pass it
	bitmap   bool        // the set is one of ports alone, and their protocol is asked for outside of it
	packets  ir.Families // that can match
	rules    ir.Families // ir.Rule.Families
	nfproto  ir.Families // 0: not asked for
	protocol int         // of an L4Proto; -1: not asked for
	icmp     ir.ICMP     // Family 0: not asked for
}

// class is a shape, what its rules do, and whose they are.
type class struct {
	*shape
	does
}

type does struct {
	action       ir.Action
	object, path string // of the rules' origin
}

type classKey struct {
	shapeKey
	does
}

func (k *shapeKey) has(s slot) bool    { return k.given>>s&1 == 1 }
func (k *shapeKey) isWide(s slot) bool { return k.wide>>s&1 == 1 }
func (k *shapeKey) exact() bool        { return k.wide == 0 }

// classes are those that rules were found to be of. A copy is made before one is added: a compilation that comes to nothing
// leaves that of the one before as it was.
type classes struct {
	backend ir.Backend
	list    map[classKey]*class
	shapes  map[shapeKey]*shape
	own     bool // nobody else has these maps
	last    *class
}

// of is a rule's class; nil for one that must stay where it is, and that no rule may pass.
func (c *classes) of(r *ir.Rule) *class {
	key, ok := c.key(r)
	if !ok {
		return nil
	}
	if c.last != nil && c.last.shapeKey == key.shapeKey && c.last.does == key.does {
		return c.last
	}
	found := c.list[key]
	if found == nil {
		c.copy()
		found = &class{c.shape(key.shapeKey), key.does}
		c.list[key] = found
	}
	c.last = found
	return found
}

func (c *classes) copy() {
	if c.own {
		return
	}
	list, shapes := make(map[classKey]*class, len(c.list)+1), make(map[shapeKey]*shape, len(c.shapes)+1)
	for k, v := range c.list {
		list[k] = v
	}
	for k, v := range c.shapes {
		shapes[k] = v
	}
	c.list, c.shapes, c.own = list, shapes, true
}

func (c *classes) shape(key shapeKey) *shape {
	if s := c.shapes[key]; s != nil {
		return s
	}
	c.copy()
	s := &shape{shapeKey: key}
	c.shapes[key] = s
	for n := range slots {
		if key.has(n) {
			s.slots, s.sides = append(s.slots, n), append(s.sides, n.side())
		}
	}
	switch {
	case key.still:
	case len(s.slots) == 1 && (s.slots[0].isAddr() || s.slots[0].isPort()):
		key.wide = key.given
		s.kin = c.shape(key)
	default:
		s.kin = s
	}
	return s
}

// key takes a rule apart. ok is false if its place among the others matters whatever they do: it acts and lets the packet go
// on, or it counts packets, as a limit does.
func (c *classes) key(r *ir.Rule) (key classKey, ok bool) {
	if len(r.Actions) != 1 || r.Direct {
		return key, false
	}
	key.action = r.Actions[0]
	switch key.action.(type) {
	case ir.Verdict, ir.Jump, ir.Reject:
	default:
		return key, false
	}
	key.packets, key.rules, key.protocol = ir.Both, r.Families, -1
	if c.backend == ir.IPTables {
		key.packets = r.Families
	}
	for _, m := range r.Matches {
		if !key.match(m) {
			return key, false
		}
	}
	if reject, ok := key.action.(ir.Reject); ok {
		key.answer(reject.With)
	}
	if r.Origin != nil {
		key.object, key.path = r.Origin.Object, r.Origin.Path
	}
	if key.given == 0 || bits.OnesCount8(key.given) > boxes.Fields || c.backend == ir.IPTables && !key.ipset(r) {
		key.still = true
	}
	if key.still {
		key.shapeKey = shapeKey{still: true, packets: key.packets, rules: key.rules}
	}
	several := bits.OnesCount8(key.given) > 1
	return key, key.packets != 0 && (terminal(key.action) || !key.still && !several)
}

// answer adds what must be known of a packet that gets an answer: nftables asks for it where the rule does not.
func (k *shapeKey) answer(with string) {
	switch with {
	case ir.RejectDefault, ir.RejectProhibited, "port-unreach":
	case "tcp-reset", "tcp-rst":
		if !k.has(sourcePort) && !k.has(destPort) && k.protocol < 0 {
			k.protocol = protocolTCP
		}
	default: // one IP version alone has it: of the other, no packet meets the rule
		k.still = k.still || k.packets == ir.Both
		if strings.HasPrefix(ir.Reject{With: with}.Word(), "icmp6-") {
			k.packets &= ir.V6
		} else {
			k.packets &= ir.V4
		}
	}
}

// match adds one match of a rule; false if the rule counts packets.
func (k *shapeKey) match(m ir.Match) bool {
	switch m := m.(type) {
	case ir.NFProto:
		k.still = k.still || k.nfproto != 0
		k.nfproto = m.Family
		k.packets &= m.Family
	case ir.Addr:
		k.give(sourceAddr+slot(m.Side), !m.Prefix.IsSingleIP(), m.Invert)
		k.packets &= familyOf(m.Prefix)
	case ir.Iface:
		k.give(inIface+slot(m.Side), false, m.Invert || strings.HasSuffix(m.Name, "+") || len(m.Name) > maxIfaceName)
	case ir.EtherAddr:
		k.give(sourceMAC+slot(m.Side), false, m.Invert)
	case ir.Port:
		k.give(sourcePort+slot(m.Side), m.Low != m.High, k.has(sourcePort) || k.has(destPort))
	case ir.L4Proto:
		k.still = k.still || k.protocol >= 0 || len(m.Numbers) != 1
		k.protocol = m.Numbers[0]
	case ir.ICMP:
		k.still = k.still || k.icmp.Family != 0
		k.icmp = m
		k.packets &= m.Family
	case ir.Limit:
		return false
	default:
		k.still = true
	}
	return true
}

const maxIfaceName = 15 // bytes (linux/if.h, IFNAMSIZ, less the final zero)

// give adds a slot; still says that no set can hold its value.
func (k *shapeKey) give(s slot, wide, still bool) {
	k.still = k.still || still || k.has(s)
	k.given |= 1 << s
	if wide {
		k.wide |= 1 << s
	}
}

// ipset says whether there is a type of ipset for the slots: an address, an address and a port, or a port of a protocol that
// is told outside of the set. Ports are those of TCP, UDP and, beside an address, SCTP (ip_set_getport.c, ip_set_bitmap_port.c
// in the kernel's net/netfilter/ipset), and 0.0.0.0/0 is no prefix of a set.
func (k *shapeKey) ipset(r *ir.Rule) bool {
	addrs := 0
	for _, m := range r.Matches {
		switch m := m.(type) {
		case ir.Addr:
			addrs++
			if m.Prefix.Bits() == 0 {
				return false
			}
		case ir.Port:
			number, err := grammar.ParseProtocol(m.Protocol)
			if err != nil || m.Protocol == "dccp" || k.protocol >= 0 {
				return false
			}
			if k.given == 1<<sourcePort || k.given == 1<<destPort {
				if m.Protocol == "sctp" {
					return false
				}
				k.protocol, k.bitmap, k.wide = number, true, k.given // a bitmap takes ranges and single ports alike
			}
		case ir.Iface, ir.EtherAddr:
			return false
		}
	}
	return addrs <= 1
}

// terminal says whether a packet that meets the action does not go on in the chain.
func terminal(a ir.Action) bool {
	j, ok := a.(ir.Jump)
	return !ok || j.Goto
}

// consts are the matches that all rules of the shape have.
func (s *shape) consts() []ir.Match {
	var list []ir.Match
	if s.nfproto != 0 {
		list = append(list, ir.NFProto{Family: s.nfproto})
	}
	if s.protocol >= 0 {
		list = append(list, ir.L4Proto{Numbers: []int{s.protocol}})
	}
	if s.icmp.Family != 0 {
		list = append(list, s.icmp)
	}
	return list
}

// name is what the shape is called in names of sets: saddr4.dport, or saddr4-net for prefixes.
func (s *shape) name() string {
	var words []string
	if s.icmp.Family != 0 {
		words = append(words, "icmp-"+strconv.Itoa(s.icmp.Type))
		if s.icmp.Code != ir.AnyCode {
			words = append(words, strconv.Itoa(s.icmp.Code))
		}
	}
	family := ""
	if s.packets != ir.Both {
		family = map[ir.Families]string{ir.V4: "4", ir.V6: "6"}[s.packets]
	}
	for i, n := range s.slots {
		word := slotWords[n]
		if i == 0 || n.isAddr() {
			word += family
		}
		switch {
		case s.isWide(n) && n.isAddr():
			word += "-net"
		case s.isWide(n) && !s.bitmap:
			word += "-range"
		}
		words = append(words, word)
	}
	if s.protocol >= 0 {
		words = append(words, protocolWord(s.protocol))
	}
	return strings.Join(words, ".")
}

func protocolWord(n int) string {
	if name := grammar.ProtocolName(n); name != "" {
		return strings.Map(func(r rune) rune { // nft reads few characters in a name
			if r == '+' {
				return '_'
			}
			return r
		}, name)
	}
	return strconv.Itoa(n)
}

// setType is the type of a set of the shape's values.
func (s *shape) setType() string {
	if s.bitmap {
		return "bitmap:port"
	}
	words := make([]string, len(s.slots))
	for i, n := range s.slots {
		if words[i] = fieldTypes[n]; n.isAddr() && s.isWide(n) {
			words[i] = "net"
		}
	}
	return "hash:" + strings.Join(words, ",")
}

// element is a rule's values as an element of a set, or of a map where there is a verdict. The parts are made in place of parts, which has one for each slot.
func (s *shape) element(r *ir.Rule, verdict ir.Action, parts []ir.Part) ir.Element {
	at := func(n slot) *ir.Part {
		for i, have := range s.slots {
			if have == n {
				return &parts[i]
			}
		}
		panic("internal error: a rule is not of its shape")
	}
	for _, m := range r.Matches {
		switch m := m.(type) {
		case ir.Addr:
			p := m.Prefix.Masked()
			*at(sourceAddr + slot(m.Side)) = ir.Part{Kind: ir.AddrPart, Low: p.Addr(), High: boxes.LastAddr(p)}
		case ir.Iface:
			*at(inIface + slot(m.Side)) = ir.Part{Kind: ir.IfacePart, Name: m.Name}
		case ir.EtherAddr:
			*at(sourceMAC + slot(m.Side)) = ir.Part{Kind: ir.MACPart, Name: strings.ToLower(m.MAC)}
		case ir.Port:
			*at(sourcePort + slot(m.Side)) = ir.Part{Kind: ir.PortPart, Name: m.Protocol, First: m.Low, Last: m.High}
		}
	}
	return ir.NewVerdict(verdict, s.elementText(parts), parts...)
}

// elementText is what ipset calls an element.
func (s *shape) elementText(parts []ir.Part) string {
	text := partsText(parts)
	if s.bitmap { // its protocol is asked for outside of the set
		_, text, _ = strings.Cut(text, ":")
	}
	return text
}
