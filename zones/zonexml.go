package zones

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"richwall/grammar"
	"richwall/internal/printable"
)

// contentElements are the elements that zones and policies have in common, those of rules included.
var contentElements = map[string]shape{
	"short":         {text: true},
	"description":   {text: true},
	"service":       {required: []string{"name"}},
	"port":          {required: []string{"port", "protocol"}},
	"protocol":      {required: []string{"value"}},
	"source-port":   {required: []string{"port", "protocol"}},
	"icmp-block":    {required: []string{"name"}},
	"icmp-type":     {required: []string{"name"}},
	"masquerade":    {optional: []string{"enabled"}},
	"forward-port":  {required: []string{"port", "protocol"}, optional: []string{"to-port", "to-addr"}},
	"tcp-mss-clamp": {optional: []string{"value", "mtu", "range", "raise"}},
	"tcp-mss":       {required: []string{"value"}},
	"rule":          {optional: []string{"family", "priority"}, parent: true},
	"source":        {optional: []string{"address", "mac", "ipset", "invert"}, ignored: []string{"family"}},
	"destination":   {optional: []string{"address", "ipset", "invert"}, ignored: []string{"family"}},
	"log":           {optional: []string{"prefix", "level"}, parent: true},
	"nflog":         {optional: []string{"group", "prefix", "queue-size"}, parent: true},
	"audit":         {parent: true},
	"accept":        {parent: true},
	"drop":          {parent: true},
	"reject":        {optional: []string{"type"}, parent: true},
	"mark":          {required: []string{"set"}, parent: true},
	"limit":         {required: []string{"value"}, optional: []string{"burst"}},
}

var zoneSchema = schema{root: "zone", broken: InvalidZone, elements: extend(contentElements, map[string]shape{
	"zone": {
		optional: []string{"target", "version", "ingress-priority", "egress-priority"},
		ignored:  []string{"name", "immutable"}, parent: true,
	},
	"interface":            {required: []string{"name"}},
	"icmp-block-inversion": {},
	"forward":              {},
})}

var policySchema = schema{root: "policy", broken: InvalidPolicy, elements: extend(contentElements, map[string]shape{
	"policy":       {required: []string{"target"}, optional: []string{"version", "priority"}, parent: true},
	"ingress-zone": {required: []string{"name"}},
	"egress-zone":  {required: []string{"name"}},
	"disable":      {},
})}

func extend(common, own map[string]shape) map[string]shape {
	all := map[string]shape{}
	for _, m := range []map[string]shape{common, own} {
		for name, s := range m {
			all[name] = s
		}
	}
	return all
}

// The targets that a file can have, and what they mean. The last is how firewalld spells the default inside.
var zoneTargets = map[string]string{
	"": TargetDefault, TargetDefault: TargetDefault, TargetAccept: TargetAccept, TargetDrop: TargetDrop,
	TargetReject: TargetReject, "{chain}_{zone}": TargetDefault,
}

// PolicyTargets are the targets that a policy can have.
var PolicyTargets = []string{TargetAccept, PolicyReject, TargetDrop, TargetContinue}

// DefaultPolicyPriority is the priority of a policy whose file has none.
const DefaultPolicyPriority = -1

// ReadZone reads the file of a zone. The zone holds what could be read, nil when the file is no XML; it may be used when
// Problems.Err is nil.
func ReadZone(name string, data []byte, path string) (*Zone, Problems) {
	r := newReader(zoneSchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	z := &Zone{Meta: r.meta(name, root)}
	z.Target = r.zoneTarget(root)
	if _, ok := root.attr("ingress-priority"); ok {
		z.IngressPriority = r.number(root, "ingress-priority", grammar.InvalidPriority, grammar.MinPriority, grammar.MaxPriority)
	}
	if _, ok := root.attr("egress-priority"); ok {
		z.EgressPriority = r.number(root, "egress-priority", grammar.InvalidPriority, grammar.MinPriority, grammar.MaxPriority)
	}
	r.each(root, func(n *node) {
		switch n.name {
		case "interface":
			r.zoneInterface(z, n)
		case "source":
			r.zoneSource(z, n)
		case "icmp-block-inversion":
			z.ICMPBlockInversion = r.once(n, "icmp-block-inversion") || z.ICMPBlockInversion
		case "forward":
			z.Forward = r.once(n, "forward") || z.Forward
		default:
			r.content(&z.Meta, &z.Content, n)
		}
	})
	r.finish(&z.Content)
	return z, r.report()
}

func (r *reader) zoneTarget(root *node) string {
	text, given := root.attr("target")
	target, ok := zoneTargets[text]
	if !ok || given && text == "" {
		r.failAt(root, "target", InvalidTarget, "cannot use target %q: a zone has %s, %s, %s or none%s", text,
			TargetAccept, TargetDrop, TargetReject, hint(text, []string{TargetAccept, TargetDrop, TargetReject}))
		r.detail("%s", text)
		return TargetDefault
	}
	return target
}

// maxInterfaceName is IFNAMSIZ of linux/if.h less the byte at the end. nft and iptables take no more with a "+" at the end either.
const maxInterfaceName = 15

// CheckInterface tells what is wrong with an interface's name, with code INVALID_INTERFACE; nil if nothing is. A "+" at its end
// stands for any further characters. Quotes and backslashes are refused since the tools that load rules have no way to write
// them.
func CheckInterface(name string) error {
	switch {
	case name == "":
		return refuse(InvalidInterface, "cannot use an interface without a name")
	case len(name) > maxInterfaceName:
		return refuse(InvalidInterface, "cannot use interface %s: a name has at most %d bytes", printable.Text(name, printable.Value), maxInterfaceName)
	case name == "." || name == "..":
		return refuse(InvalidInterface, "cannot use interface %s: that is a folder", name)
	case strings.ContainsAny(name, " /!*\"'\\") || !isPlain(name):
		return refuse(InvalidInterface, "cannot use interface %q: a name holds no blank, no control character and none of / ! * \" ' \\", name)
	}
	return nil
}

// isPlain tells whether a text is UTF-8 of nothing but characters that can be seen, and the blank.
func isPlain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) })
}

func (r *reader) zoneInterface(z *Zone, n *node) {
	name := r.share(n.get("name"))
	if err := CheckInterface(name); err != nil {
		r.failWith(n, "name", InvalidInterface, err)
		return
	}
	if r.list(n, "interface", name) {
		z.Interfaces = append(z.Interfaces, name)
	}
}

func (r *reader) zoneSource(z *Zone, n *node) {
	address, ipset := n.get("address"), n.get("ipset")
	_, inverted := n.attr("invert")
	switch {
	case inverted:
		r.failAt(n, "invert", InvalidSource, "cannot invert a zone's source: only a rule's source can be")
	case address != "" && ipset != "":
		r.failAt(n, "ipset", InvalidSource, "cannot use two sources in one element: it has address %s and ipset %s", address, ipset)
	case address == "" && ipset == "" && n.get("mac") != "":
		r.failAt(n, "mac", InvalidSource, "cannot use mac in a zone's source: write the MAC address as address=%q", n.get("mac"))
	case address == "" && ipset == "":
		r.fail(n, InvalidSource, "missing address or ipset of <source>")
	case ipset != "":
		r.addSource(z, n, "ipset:"+ipset)
	default:
		if err := checkSourceAddress(address); err != nil {
			r.failWith(n, "address", grammar.InvalidAddr, err)
			return
		}
		r.addSource(z, n, address)
	}
}

func (r *reader) addSource(z *Zone, n *node, source string) {
	if r.list(n, "source", source) {
		z.Sources = append(z.Sources, r.share(source))
	}
}

// checkSourceAddress tells what is wrong with an address, prefix or MAC address.
func checkSourceAddress(text string) error {
	if _, err := grammar.ParseMAC(text); err == nil {
		return nil
	}
	_, err := grammar.ParseAddress(grammar.AnyFamily, text)
	return err
}

// CheckSource tells what is wrong with a zone's source: an address, prefix or MAC address, or "ipset:" and a name. The
// code is INVALID_ADDR or INVALID_SOURCE.
func CheckSource(text string) error {
	if name, ok := strings.CutPrefix(text, "ipset:"); ok {
		if name == "" {
			return refuse(InvalidSource, "cannot use source %s: the ipset's name is missing", text)
		}
		return nil
	}
	return checkSourceAddress(text)
}

// ReadPolicy reads the file of a policy, in the same way as ReadZone.
func ReadPolicy(name string, data []byte, path string) (*Policy, Problems) {
	r := newReader(policySchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	p := &Policy{Meta: r.meta(name, root), Priority: DefaultPolicyPriority, Target: r.policyTarget(root)}
	if _, ok := root.attr("priority"); ok {
		p.Priority = r.policyPriority(root)
	}
	r.each(root, func(n *node) {
		switch n.name {
		case "ingress-zone", "egress-zone":
			if r.list(n, n.name, n.get("name")) {
				list := &p.IngressZones
				if n.name == "egress-zone" {
					list = &p.EgressZones
				}
				*list = append(*list, r.share(n.get("name")))
			}
		case "disable":
			p.Disable = r.once(n, "disable") || p.Disable
		case "source":
			r.fail(n, grammar.InvalidRule, "<source> stands outside of a <rule>: a policy's sources are its ingress zones")
		default:
			r.content(&p.Meta, &p.Content, n)
		}
	})
	r.finish(&p.Content)
	return p, r.report()
}

func (r *reader) policyTarget(root *node) string {
	target, ok := root.attr("target")
	if ok && !slices.Contains(PolicyTargets, target) {
		r.failAt(root, "target", InvalidTarget, "cannot use target %q: a policy has %s%s", target,
			strings.Join(PolicyTargets, ", "), hint(target, PolicyTargets))
		r.detail("%s", target)
	}
	return r.share(target)
}

func (r *reader) policyPriority(root *node) int {
	before := r.problems.found[Error]
	priority := r.number(root, "priority", grammar.InvalidPriority, grammar.MinPriority, grammar.MaxPriority)
	if priority == 0 && r.problems.found[Error] == before {
		r.failAt(root, "priority", grammar.InvalidPriority,
			"cannot use priority 0: a policy is asked before the zones (below 0) or after them (above 0)")
	}
	return priority
}

// meta is what the file of every kind of object has.
func (r *reader) meta(name string, root *node) Meta {
	return Meta{Name: name, Origin: Origin{Path: r.path}, Version: r.share(root.get("version")), places: r.places}
}

// metaText reads the short and long descriptions; the last of several counts.
func (r *reader) metaText(m *Meta, n *node) {
	text := &m.Short
	if n.name == "description" {
		text = &m.Description
	}
	r.once(n, n.name)
	*text = strings.Clone(n.text)
}

// list is false, with a warning, for an item of a list that was given before. It remembers where the item stands.
func (r *reader) list(n *node, kind, item string) bool {
	key := strings.TrimSpace(kind + " " + item)
	if !r.once(n, key) {
		return false
	}
	r.places[key] = n.place
	return true
}

// content reads an element of a zone or policy.
func (r *reader) content(m *Meta, c *Content, n *node) {
	switch n.name {
	case "short", "description":
		r.metaText(m, n)
	case "service", "icmp-block":
		if name := r.share(n.get("name")); r.list(n, n.name, name) {
			list := &c.Services
			if n.name == "icmp-block" {
				list = &c.ICMPBlocks
			}
			*list = append(*list, name)
		}
	case "port":
		r.mergePort(&r.ports, n)
	case "source-port":
		r.mergePort(&r.sourcePorts, n)
	case "protocol":
		r.protocol(&c.Protocols, n)
	case "masquerade":
		r.masquerade(n)
		c.Masquerade = r.list(n, "masquerade", "") || c.Masquerade
	case "forward-port":
		r.forwardPort(c, n)
	case "rule":
		r.rule(c, n)
	default:
		r.fail(n, grammar.InvalidRule, "<%s> stands outside of a <rule>", n.name)
	}
}

// masquerade warns about an attribute that has no effect although it looks as if it had.
func (r *reader) masquerade(n *node) {
	if value := strings.ToLower(n.get("enabled")); value != "" && value != "yes" && value != "true" {
		r.warnAt(n, "enabled", InvalidValue, "enabled=%q has no effect: <masquerade> turns masquerading on", n.get("enabled"))
	}
}

func (r *reader) protocol(list *[]string, n *node) {
	value := r.share(n.get("value"))
	if _, err := grammar.ParseProtocol(value); err != nil {
		r.failWith(n, "value", grammar.InvalidProtocol, err)
		return
	}
	if r.list(n, "protocol", value) {
		*list = append(*list, value)
	}
}

func (r *reader) forwardPort(c *Content, n *node) {
	f, ok := r.readForwardPort(n)
	if ok && r.list(n, "forward-port", f.String()) {
		c.ForwardPorts = append(c.ForwardPorts, f)
	}
}

func (r *reader) readForwardPort(n *node) (ForwardPort, bool) {
	port, ok := r.port(n, "port")
	f := ForwardPort{Port: rangeText(port.low, port.high), Protocol: port.protocol, ToAddr: r.share(n.get("to-addr"))}
	if n.get("to-port") != "" {
		low, high, err := grammar.ParsePort(n.get("to-port"))
		if err != nil {
			r.failWith(n, "to-port", grammar.InvalidPort, err)
			return f, false
		}
		f.ToPort = r.share(rangeText(low, high))
	}
	if f.ToAddr != "" {
		if err := CheckForwardAddr(f.ToAddr); err != nil {
			r.failWith(n, "to-addr", grammar.InvalidAddr, err)
			return f, false
		}
	}
	if f.ToPort == "" && f.ToAddr == "" {
		r.fail(n, InvalidForward, "missing to-port or to-addr of <forward-port>: it says nowhere to send port %s", f.Port)
		return f, false
	}
	return f, ok
}

// CheckForwardAddr says why a forward port cannot go to an address: it must be one host, of IPv4 or of IPv6. An IPv6 address
// may stand in brackets, as in firewalld, which keeps them: "[2001:db8::1]" and "2001:db8::1" are listed as two forward ports.
// The error has the code INVALID_ADDR.
func CheckForwardAddr(text string) error {
	if strings.Contains(text, "/") {
		return refuse(grammar.InvalidAddr, "cannot forward to %s: it must be one address, not a prefix", text).worded("%s", text)
	}
	_, err := grammar.ParseAddress(grammar.AnyFamily, text)
	return err
}

// finish brings the rules into order, as firewalld applies and lists them, and drops those given twice.
func (r *reader) finish(c *Content) {
	c.Ports, c.SourcePorts = r.ports.ports(), r.sourcePorts.ports()
	sortRules(c.Rules)
	unique := c.Rules[:0]
	for i, rule := range c.Rules {
		if i > 0 && grammar.Compare(unique[len(unique)-1].Rule, rule.Rule) == 0 {
			r.add(place{line: int32(rule.Line)}, Warning, AlreadyEnabled, "the same rule stands in line %d: this one is ignored", unique[len(unique)-1].Line)
			continue
		}
		unique = append(unique, rule)
	}
	c.Rules = unique
}

func compareRules(a, b RichRule) int { return grammar.Compare(a.Rule, b.Rule) }

// sortRules brings rules into the order of grammar.Compare.
func sortRules(rules []RichRule) { slices.SortStableFunc(rules, compareRules) }
