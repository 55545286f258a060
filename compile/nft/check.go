package nft

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/grammar"
)

// Limits of nf_tables, in bytes (linux/netfilter/nf_tables.h, nf_log.h, nf_conntrack_helper.h and linux/if.h of the kernel), each
// without the zero at the end.
const (
	maxName       = 255 // NFT_NAME_MAXLEN
	maxLogPrefix  = 127 // NF_LOG_PREFIXLEN
	maxHelperType = 15  // NF_CT_HELPER_NAME_LEN
	maxIface      = unix.IFNAMSIZ - 1
)

// checker finds what nftables has no place for. Both writers ask it first, and so they refuse the same: what passes is said by
// text and by messages alike. It knows what the matches so far ask of a packet; a rule that asks for two IP versions, or for two
// transport protocols, matches no packet, and is refused by nft.
type checker struct {
	families ir.Families // that the rule can still match
	protocol int         // that is asked for; or one of the constants below
	typed    bool        // an ICMP type is asked for
	ended    bool        // an action has ended the rule
}

const (
	noProtocol       = -1
	severalProtocols = -2 // nft takes the rule for one about any one of them, and what only one has for a contradiction
)

// first is the first error of some, if there is one.
func first(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckRule says why nftables cannot have a rule; nil if it can. What Rule.Families says has no form in nftables.
func CheckRule(r *ir.Rule) error {
	c := &checker{families: ir.Both, protocol: noProtocol}
	for _, m := range r.Matches {
		if err := c.match(m); err != nil {
			return err
		}
	}
	if len(r.Actions) == 0 {
		return errors.New("a rule without an action does nothing")
	}
	for _, a := range r.Actions {
		if c.ended {
			return fmt.Errorf("%T stands behind an action that ends the rule", a)
		}
		if err := c.action(a); err != nil {
			return err
		}
	}
	return nil
}

// family narrows the IP versions that the rule matches to one.
func (c *checker) family(f ir.Families) error {
	switch {
	case f != ir.V4 && f != ir.V6:
		return fmt.Errorf("the rule asks for IP version %s, and must ask for one", f)
	case c.families&f == 0:
		return errors.New("the rule asks for both IP versions at once, and no packet is of both")
	}
	c.families = f
	return nil
}

// only narrows the transport protocols that the rule matches to one.
func (c *checker) only(n int) error {
	if c.protocol == severalProtocols {
		return fmt.Errorf("the rule asks for one of several protocols, and then for what only %s has", protocolText(n))
	}
	if c.protocol != noProtocol && c.protocol != n {
		return fmt.Errorf("the rule asks for protocol %s and for protocol %s, and no packet is of both", protocolText(c.protocol), protocolText(n))
	}
	c.protocol = n
	return nil
}

// mayBe says why packets of a transport protocol cannot be among those that the rule matches, which stay as they are.
func (c *checker) mayBe(n int) error {
	protocol := c.protocol
	err := c.only(n)
	c.protocol = protocol
	return err
}

// transport narrows them to one that has ports, by its name.
func (c *checker) transport(name string) error {
	n, ok := transports[name]
	if !ok {
		return fmt.Errorf("%q is no protocol with ports: it must be one of %s", name, strings.Join(grammar.TransportProtocols, ", "))
	}
	return c.only(n)
}

func familyOf(a netip.Addr) ir.Families {
	if a.Is4() {
		return ir.V4
	}
	return ir.V6
}

func (c *checker) prefix(p netip.Prefix) error {
	if !p.IsValid() {
		return errors.New("the rule asks for an address, and says none")
	}
	return c.family(familyOf(p.Addr()))
}

func (c *checker) match(m ir.Match) error {
	switch m := m.(type) {
	case ir.NFProto:
		return c.family(m.Family)
	case ir.Iface:
		return first(checkSide(m.Side), checkIfaceMatch(m))
	case ir.Addr:
		return first(checkSide(m.Side), c.prefix(m.Prefix))
	case ir.EtherAddr:
		_, err := macAddress(m.MAC)
		return first(checkSide(m.Side), err)
	case ir.Lookup:
		return first(checkSide(m.Side), c.lookup(m.Set, false))
	case ir.L4Proto:
		return c.protocols(m.Numbers)
	case ir.Port:
		return first(checkSide(m.Side), ir.CheckSpan("port", m.Low, m.High), c.transport(m.Protocol))
	case ir.ICMP:
		if m.Code != ir.AnyCode {
			if err := ir.CheckNumber("ICMP code", m.Code, 0, 255); err != nil {
				return err
			}
		}
		return c.icmp(m.Family, m.Type)
	case ir.ICMPTypes:
		return c.icmp(m.Family, m.Types...)
	case ir.SYN, ir.ACK:
		return c.only(unix.IPPROTO_TCP)
	case ir.MSS:
		return first(ir.CheckSpan("segment size", m.Low, m.High), c.mayBe(unix.IPPROTO_TCP))
	case ir.CTState:
		return checkWords("connection tracking state", m.States, ctStates)
	case ir.CTDirection, ir.CTStatus, ir.Fib:
		return nil
	case ir.CTOrigPort:
		return first(ir.CheckSpan("port", m.Low, m.High), c.transport(m.Protocol))
	case ir.PktType:
		return checkWords("packet type", []string{m.Type}, pktTypes)
	case ir.AddrList:
		return c.addrList(m.Prefixes)
	case ir.Limit:
		return checkLimit(m)
	}
	return fmt.Errorf("nftables has no match %T", m)
}

func checkSide(s ir.Side) error {
	if s > ir.Dest {
		return fmt.Errorf("there is no side %d of a packet", s)
	}
	return nil
}

// checkWords checks that there are words, and that each is a key of a table.
func checkWords[V any](what string, list []string, known map[string]V) error {
	if len(list) == 0 {
		return fmt.Errorf("the rule asks for a %s, and says none", what)
	}
	for _, w := range list {
		if _, ok := known[w]; !ok {
			return fmt.Errorf("nftables has no %s %q", what, w)
		}
	}
	return nil
}

// checkIfaceMatch checks what an interface is compared with: a name, or the beginning of one and "+".
func checkIfaceMatch(m ir.Iface) error {
	if m.Name == everyIface {
		if m.Invert {
			return errors.New("a rule for packets without an interface never matches")
		}
		return nil
	}
	prefix, _ := strings.CutSuffix(m.Name, "+")
	return CheckIface(prefix)
}

// CheckIface says why nftables cannot have the name of an interface. The kernel takes more names than nft's text can say, which
// reads a * at the end as any characters.
func CheckIface(name string) error {
	if strings.HasSuffix(name, "*") {
		return fmt.Errorf("the interface name %q ends with *, which nft reads as any characters", name)
	}
	return ir.CheckName("the interface name", name, maxIface)
}

// macAddress reads a MAC address of 6 bytes.
func macAddress(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err == nil && len(mac) != 6 {
		err = fmt.Errorf("%q is no MAC address of 6 bytes", text)
	}
	return mac, err
}

func (c *checker) protocols(numbers []int) error {
	if len(numbers) == 0 {
		return errors.New("the rule asks for a protocol, and says none")
	}
	for _, n := range numbers {
		if err := ir.CheckNumber("protocol", n, 0, 255); err != nil {
			return err
		}
	}
	if len(numbers) == 1 {
		return c.only(numbers[0])
	}
	c.protocol = severalProtocols // also where one was asked for before: nft forgets that
	return nil
}

func (c *checker) icmp(f ir.Families, types ...int) error {
	switch {
	case len(types) == 0:
		return errors.New("the rule asks for an ICMP type, and says none")
	case c.typed:
		return errors.New("the rule asks for an ICMP type twice")
	}
	c.typed = true
	for _, t := range types {
		if err := ir.CheckNumber("ICMP type", t, 0, 255); err != nil {
			return err
		}
	}
	if err := c.family(f); err != nil {
		return err
	}
	return c.only(icmpProtocols[f])
}

var icmpProtocols = map[ir.Families]int{ir.V4: unix.IPPROTO_ICMP, ir.V6: unix.IPPROTO_ICMPV6}

func (c *checker) addrList(list []netip.Prefix) error {
	if len(list) == 0 {
		return errors.New("the rule asks for an address, and says none")
	}
	for i, p := range list {
		if err := c.prefix(p); err != nil {
			return err
		}
		if slices.ContainsFunc(list[:i], p.Overlaps) {
			return fmt.Errorf("address %s of the rule is in another one of its addresses", p)
		}
	}
	return nil
}

// checkLimit checks a rate: the kernel refuses 0, and counts tokens of nanoseconds in 64 bits (nft_limit.c).
func checkLimit(m ir.Limit) error {
	unit, ok := unitSeconds[m.Unit]
	if !ok {
		return fmt.Errorf("there is no unit of time %q", m.Unit)
	}
	if err := ir.CheckNumber("the rate", m.Rate, 1, math.MaxUint32); err != nil {
		return err
	}
	if err := ir.CheckNumber("the burst", m.Burst, 0, math.MaxUint32); err != nil {
		return err
	}
	if tokens := float64(unit) * 1e9 / float64(m.Rate) * float64(max(m.Burst, 1)); tokens > math.MaxInt64 {
		return fmt.Errorf("a burst of %d at a rate of %d in %d seconds is more than the kernel can count", m.Burst, m.Rate, unit)
	}
	return nil
}

var unitSeconds = map[byte]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}

// lookup checks a set that a rule looks up, or a verdict map.
func (c *checker) lookup(set *ir.Set, verdicts bool) error {
	if set == nil {
		return errors.New("the rule looks up a set, and says none")
	}
	if err := CheckSet(set); err != nil {
		return err
	}
	if set.Verdicts != verdicts {
		return fmt.Errorf("set %s is a verdict map: %t, and the rule wants one: %t", set.Name, set.Verdicts, verdicts)
	}
	if slices.ContainsFunc(fields(set), field.isAddr) {
		return c.family(set.Family)
	}
	return nil
}

func (f field) isAddr() bool { return f.typ == "ipv4_addr" || f.typ == "ipv6_addr" }

func (c *checker) action(a ir.Action) error {
	switch a := a.(type) {
	case ir.Verdict:
		c.ended = true
		if _, ok := verdicts[a]; !ok {
			return fmt.Errorf("there is no verdict %q", a)
		}
		return nil
	case ir.Jump:
		c.ended = true
		return ir.CheckName("the name of the chain", a.Chain, maxName)
	case ir.Decide:
		return c.lookup(a.Map, true)
	case ir.Reject:
		c.ended = true
		return c.reject(a)
	case ir.Log:
		if a.Level != "" {
			if err := checkWords("log level", []string{a.Level}, logLevels); err != nil {
				return err
			}
		}
		return checkLogPrefix(a.Prefix)
	case ir.NFLog:
		return first(ir.CheckNumber("log group", a.Group, 0, math.MaxUint16), ir.CheckNumber("queue size", a.QueueSize, 0, math.MaxUint16),
			checkLogPrefix(a.Prefix))
	case ir.Audit:
		return nil
	case ir.SetMark:
		return nil
	case ir.ClampMSS:
		if a.Raise && a.Size == 0 {
			return errors.New("raise=yes needs a size: what a path allows can only lower an MSS")
		}
		return first(ir.CheckNumber("segment size", a.Size, 0, math.MaxUint16), checkLinks(a), c.mayBe(unix.IPPROTO_TCP))
	case ir.Masquerade:
		c.ended = true
		return nil
	case ir.DNAT:
		c.ended = true
		return c.dnat(a)
	case ir.SetHelper:
		return ir.CheckName("the name of the helper", a.Object, maxName)
	case ir.Offload:
		return nil
	case ir.Raw:
		return errors.New("a rule of the direct interface is for iptables")
	}
	return fmt.Errorf("nftables has no action %T", a)
}

// checkLinks checks that a clamp is told one thing at most that its size is, and which interface the map is asked with.
func checkLinks(a ir.ClampMSS) error {
	switch {
	case a.Links == "" && a.Side == ir.Source:
		return nil
	case a.Links == "":
		return errors.New("a clamp that looks no interface up has a side")
	case a.Size != 0 || a.Raise:
		return fmt.Errorf("a clamp looks its size up in map %s, and has one of its own, or raise=yes", a.Links)
	}
	return first(checkSide(a.Side), ir.CheckName("the name of the map", a.Links, maxName))
}

func (c *checker) reject(a ir.Reject) error {
	words, ok := rejects[a.Word()]
	if !ok {
		return fmt.Errorf("there is no answer %q", a.With)
	}
	answer := rejections[words]
	if answer.protocol != 0 {
		if err := c.only(answer.protocol); err != nil {
			return err
		}
	}
	if answer.nf != 0 {
		return c.family(familiesOf[answer.nf])
	}
	return nil
}

var familiesOf = map[byte]ir.Families{unix.NFPROTO_IPV4: ir.V4, unix.NFPROTO_IPV6: ir.V6}

// checkLogPrefix checks a log prefix. nft's strings have no escapes: what follows a quote would be read as more of the rule.
func checkLogPrefix(prefix string) error {
	switch {
	case len(prefix) > maxLogPrefix:
		return fmt.Errorf("the log prefix has %d characters, and the highest number is %d", len(prefix), maxLogPrefix)
	case strings.Contains(prefix, `"`):
		return fmt.Errorf(`the log prefix %q holds a ", and nftables has no way to write that`, prefix)
	}
	return ir.CheckText("the log prefix", prefix)
}

// dnat checks a new destination. A port can only be changed where the transport protocol is known.
func (c *checker) dnat(a ir.DNAT) error {
	if a.Addr.IsValid() {
		if a.Family != familyOf(a.Addr) {
			return fmt.Errorf("%s is not of IP version %s", a.Addr, a.Family)
		}
		if err := c.family(a.Family); err != nil {
			return err
		}
	}
	switch {
	case a.Low == 0 && a.High == 0:
		return nil
	case !hasPorts(c.protocol):
		return errors.New("a new port needs a protocol that has ports, and the rule asks for none")
	}
	return ir.CheckSpan("port", a.Low, a.High)
}

// transports are the numbers of the protocols that have ports.
var transports = func() map[string]int {
	m := map[string]int{}
	for _, name := range grammar.TransportProtocols {
		n, err := grammar.ParseProtocol(name)
		if err != nil {
			panic(err)
		}
		m[name] = n
	}
	return m
}()

func hasPorts(protocol int) bool {
	for _, n := range transports {
		if n == protocol {
			return true
		}
	}
	return false
}

// CheckChain says why nftables cannot have a chain, whatever its rules.
func CheckChain(c *ir.Chain) error {
	if err := ir.CheckName("the name of the chain", c.Name, maxName); err != nil {
		return err
	}
	switch h := c.Hook; {
	case c.Table != "" || c.Builtin:
		return fmt.Errorf("chain %s is of table %q of iptables", c.Name, c.Table)
	case h == nil:
		return nil
	case !slices.Contains(hookTypes, h.Type):
		return fmt.Errorf("there is no type %q of chains", h.Type)
	default:
		return first(checkWords("hook", []string{h.Hook}, hookNumbers), ir.CheckNumber("priority", h.Priority, math.MinInt32, math.MaxInt32))
	}
}

var hookTypes = []string{"filter", "nat", "route"}

// CheckSet says why nftables cannot have a set, whatever its elements.
func CheckSet(set *ir.Set) error {
	if err := ir.CheckName("the name of the set", set.Name, maxName); err != nil {
		return err
	}
	names := typeNames(set)
	for _, name := range names {
		if fieldsOf[name] == nil {
			return fmt.Errorf("cannot make set %s: nftables has no set of type %q", set.Name, set.Type)
		}
		if (name == "ip" || name == "net") && set.Family == ir.Both {
			return fmt.Errorf("cannot make set %s: its addresses are of no IP version", set.Name)
		}
	}
	switch {
	case set.Family&^ir.Both != 0 || set.Family == 0:
		return fmt.Errorf("cannot make set %s: there is no IP version %d", set.Name, set.Family)
	case set.Sizes && (set.Type != "hash:iface" || !set.Exact || set.Verdicts || set.Timeout != "" || set.Sides != nil):
		return fmt.Errorf("cannot make map %s: a map of segment sizes has interfaces for keys, for all sides and for good", set.Name)
	case set.Sides != nil && len(set.Sides) != len(names):
		return fmt.Errorf("cannot make set %s: its type %s has %d fields, and %d are said where to take from", set.Name, set.Type, len(names), len(set.Sides))
	}
	for _, s := range set.Sides {
		if err := checkSide(s); err != nil {
			return err
		}
	}
	if _, err := number(set.Timeout, maxTimeout, "timeout"); err != nil {
		return fmt.Errorf("cannot make set %s: %w", set.Name, err)
	}
	if _, err := number(set.MaxElem, math.MaxUint32, "maxelem"); err != nil {
		return fmt.Errorf("cannot make set %s: %w", set.Name, err)
	}
	return nil
}

// maxTimeout is the longest timeout that nft's text can have, in seconds: it reads no number of more than eight digits as a time. The
// kernel would take more.
const maxTimeout = 99_999_999

// checkElement says why an element cannot be in a set. names are those of typeNames.
func checkElement(set *ir.Set, names []string, e *ir.Element) error {
	if e.Fields() != len(names) {
		return fmt.Errorf("it has %d fields, and type %s has %d", e.Fields(), set.Type, len(names))
	}
	for i := range names {
		p := e.Part(i)
		if err := checkPart(set, names[i], &p); err != nil {
			return err
		}
	}
	if e.Until() != nil && (set.Timeout == "" || set.Timeout == "0") {
		return errors.New("it ends at a time, and the set has no timeout")
	}
	if set.Sizes {
		return ir.CheckNumber("the segment size", e.Size(), 1, math.MaxUint16)
	}
	if e.Size() != 0 {
		return errors.New("it has a segment size, and the set has none")
	}
	switch v := e.Verdict().(type) {
	case nil:
		if set.Verdicts {
			return errors.New("it has no verdict, and the set is a map")
		}
		return nil
	case ir.Verdict, ir.Jump:
		if set.Verdicts {
			return (&checker{}).action(v)
		}
		return errors.New("it has a verdict, and the set is no map")
	default:
		return fmt.Errorf("a verdict map has no action %T", v)
	}
}

// overlapping says which two elements of a set of ranges have something in common without being the same. nft refuses some of
// these, and of elements with several fields the kernel takes some that contradict each other.
func overlapping(set *ir.Set) error {
	if a, b, found := set.Overlap(nil); found {
		return fmt.Errorf("cannot make set %s: its elements %s and %s overlap", set.Name, a.Text, b.Text)
	}
	return nil
}

// partKinds are the kinds of parts by the names of fields.
var partKinds = map[string]ir.PartKind{"ip": ir.AddrPart, "net": ir.AddrPart, "ip6": ir.AddrPart, "net6": ir.AddrPart,
	"port": ir.PortPart, "mark": ir.MarkPart, "mac": ir.MACPart, "iface": ir.IfacePart}

func checkPart(set *ir.Set, name string, p *ir.Part) error {
	if p.Kind != partKinds[name] {
		return fmt.Errorf("a field of kind %d is not what type %s has", p.Kind, set.Type)
	}
	switch p.Kind {
	case ir.AddrPart:
		if !p.Low.IsValid() || !p.High.IsValid() || familyOf(p.Low) != set.Family || familyOf(p.High) != set.Family || p.High.Less(p.Low) {
			return fmt.Errorf("%s-%s is no range of addresses of %s", p.Low, p.High, set.Family)
		}
		return nil
	case ir.PortPart:
		_, err := protocolNumber(p.Name)
		return first(ir.CheckSpan("port", p.First, p.Last), err)
	case ir.MarkPart:
		return ir.CheckNumber("mark", p.First, 0, math.MaxUint32)
	case ir.MACPart:
		_, err := macAddress(p.Name)
		return err
	case ir.IfacePart:
		return CheckIface(p.Name)
	}
	return fmt.Errorf("there is no field of kind %d", p.Kind)
}

// checkHelper says why nftables cannot have a helper object: nft knows those of TCP and UDP.
func checkHelper(h ir.Helper) error {
	if h.Protocol != "tcp" && h.Protocol != "udp" {
		return fmt.Errorf("a connection tracking helper is for tcp or udp, not for %q", h.Protocol)
	}
	return first(ir.CheckName("the name of the helper", h.Name, maxName), ir.CheckName("the type of the helper", h.Type, maxHelperType))
}

// checkFlowtable says why nftables cannot have a flow table of some devices.
func checkFlowtable(devices []string) error {
	for _, d := range devices {
		if err := CheckIface(d); err != nil {
			return err
		}
	}
	return nil
}
