package iptables

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
)

// spec is a rule taken apart in the order that iptables-save prints it.
type spec struct {
	source, dest string
	in, out      string
	protocol     string
	sport, dport string
	flags        string // of TCP
	transport    string // the protocol whose module compares the three
	module       int    // where among matches that stands
	matches      []string
	target       string
	number       int // of the protocol; 0, which iptables takes for any, where the rule asks for none
	syn, mss     bool
	err          error // the first one
}

// Limits in bytes (IFNAMSIZ in linux/if.h; XT_EXTENSION_MAXNAMELEN in linux/netfilter/x_tables.h; IPSET_MAXNAMELEN in
// linux/netfilter/ipset/ip_set.h; xt_LOG.h, xt_NFLOG.h, xt_comment.h and nf_conntrack_helper.h), each without the zero at the end.
const (
	maxIface       = 15
	maxChain       = ir.MaxChainName
	maxSet         = 31
	maxLogPrefix   = 29
	maxNFLogPrefix = 63
	maxComment     = 255
	maxHelperType  = 15
	maxArgument    = 1023 // of a line of the restore tools (xshared.h of iptables)
)

// Spec appends a rule's matches and target as one family's tool takes them, with a blank before each. An error says what of the
// rule the tool has no words for.
func Spec(b []byte, r *ir.Rule, family ir.Families) ([]byte, error) {
	s := &spec{}
	for _, m := range r.Matches {
		s.match(m, family)
	}
	if len(r.Actions) != 1 {
		return b, fmt.Errorf("iptables has one target in a rule, and this one has %d", len(r.Actions))
	}
	s.action(r.Actions[0], family)
	if s.mss && s.number != protocolTCP {
		s.fail("a segment size is TCP's, and the rule does not ask for TCP")
	}
	if s.transport != "" {
		s.matches[s.module] = "-m " + s.transport + s.sport + s.dport + s.flags
	}
	if s.err != nil {
		return b, s.err
	}
	for _, part := range append([]string{s.source, s.dest, s.in, s.out, s.protocol}, append(s.matches, s.target)...) {
		if part != "" {
			b = append(append(b, ' '), part...)
		}
	}
	return b, nil
}

const protocolTCP = 6 // IPPROTO_TCP

func (s *spec) fail(format string, args ...any) { s.check(fmt.Errorf(format, args...)) }

// check keeps the first error.
func (s *spec) check(err error) {
	if s.err == nil {
		s.err = err
	}
}

func not(invert bool) string {
	if invert {
		return "! "
	}
	return ""
}

func direction(s ir.Side) string {
	if s == ir.Source {
		return "src"
	}
	return "dst"
}

func (s *spec) add(format string, args ...any) {
	s.matches = append(s.matches, fmt.Sprintf(format, args...))
}

// once sets a part that a rule has once.
func (s *spec) once(part *string, text string) {
	if *part != "" && *part != text {
		s.fail("iptables has one %q in a rule, and this one would have two", strings.Fields(strings.TrimPrefix(text, "! "))[0])
	}
	*part = text
}

// proto sets the protocol, by its number, and what its module compares.
func (s *spec) proto(n int, format string, args ...any) {
	s.check(ir.CheckNumber("protocol", n, 0, 255))
	if n == 0 {
		s.fail("iptables takes protocol 0 for any protocol, and cannot match it")
	}
	s.once(&s.protocol, "-p "+protocolName(n))
	s.number = n
	if format != "" {
		s.add("-m "+format, args...)
	}
}

// compare sets a part of what the module of a transport protocol compares. It is one module, whatever matches ask of it.
func (s *spec) compare(transport string, part *string, text string) {
	if s.transport == "" {
		s.transport, s.module = transport, len(s.matches)
		s.matches = append(s.matches, "")
	}
	s.once(part, text)
}

// side checks that a side is one of the two.
func (s *spec) side(side ir.Side) {
	if side > ir.Dest {
		s.fail("there is no side %d of a packet", side)
	}
}

// of checks that what a rule asks for is of the family that the tool is for.
func (s *spec) of(asked, family ir.Families) {
	if asked != family {
		s.fail("the rule asks for %s, and is for %s", asked, family)
	}
}

func (s *spec) match(m ir.Match, family ir.Families) {
	switch m := m.(type) {
	case ir.NFProto: // the tool is of one family
		s.of(m.Family, family)
	case ir.Iface:
		s.iface(m)
	case ir.Addr:
		s.addr(m, family)
	case ir.EtherAddr:
		mac, err := net.ParseMAC(m.MAC)
		if s.check(err); len(mac) != 6 || m.Side != ir.Source {
			s.fail("iptables has no match for %q as a MAC address that a packet goes to, or of another length than 6 bytes", m.MAC)
		}
		s.add("-m mac %s--mac-source %s", not(m.Invert), mac)
	case ir.Lookup:
		s.lookup(m, family)
	case ir.L4Proto:
		s.proto(s.protocolOf(m.Numbers, family), "")
	case ir.Port:
		s.side(m.Side)
		s.check(ir.CheckSpan("port", m.Low, m.High))
		s.proto(s.transportNumber(m.Protocol), "")
		if m.Side == ir.Source {
			s.compare(m.Protocol, &s.sport, " --sport "+span(m.Low, m.High, ":"))
		} else {
			s.compare(m.Protocol, &s.dport, " --dport "+span(m.Low, m.High, ":"))
		}
	case ir.ICMP:
		s.of(m.Family, family)
		s.icmp(m)
	case ir.SYN:
		s.syn = true
		s.proto(protocolTCP, "")
		s.compare("tcp", &s.flags, " --tcp-flags SYN,RST SYN")
	case ir.ACK:
		s.proto(protocolTCP, "")
		s.compare("tcp", &s.flags, " --tcp-flags ACK ACK")
	case ir.MSS:
		s.check(ir.CheckSpan("segment size", m.Low, m.High))
		s.mss = true
		s.add("-m tcpmss --mss %s", span(m.Low, m.High, ":"))
	case ir.CTState:
		s.ctStates(m.States)
	case ir.CTDirection:
		s.add("-m conntrack --ctdir %s", map[bool]string{false: "ORIGINAL", true: "REPLY"}[m.Reply])
	case ir.CTOrigPort:
		s.check(ir.CheckSpan("port", m.Low, m.High))
		s.transportNumber(m.Protocol)
		s.add("-m conntrack --ctstate DNAT --ctorigdstport %s --ctdir ORIGINAL", span(m.Low, m.High, ":"))
	case ir.Fib:
		loose := ""
		if m.Loose {
			loose = " --loose"
		}
		s.add("-m rpfilter%s --validmark --invert", loose)
	case ir.PktType:
		s.packetType(m.Type)
	case ir.Limit:
		s.limit(m)
	default:
		s.fail("iptables has no match %T", m)
	}
}

// packetType compares how a frame was addressed; iptables-save calls one to this machine unicast.
func (s *spec) packetType(name string) {
	switch name {
	case "host":
		name = "unicast"
	case "unicast", "broadcast", "multicast":
	default:
		s.fail("iptables has no packet type %q", name)
	}
	s.add("-m pkttype --pkt-type %s", name)
}

// iface compares an interface. "+" alone is any interface and none, for which iptables has no words but to say nothing.
func (s *spec) iface(m ir.Iface) {
	s.side(m.Side)
	prefix, wild := strings.CutSuffix(m.Name, "+")
	switch {
	case wild && prefix == "" && m.Invert:
		s.fail("a rule for packets without an interface never matches")
	case wild && prefix == "":
		return
	}
	s.check(ir.CheckName("the interface name", prefix, maxIface))
	name := m.Name
	if len(prefix) == maxIface { // so many bytes and "+" are one name: none is longer
		name = prefix
	}
	if m.Side == ir.Source {
		s.once(&s.in, not(m.Invert)+"-i "+name)
	} else {
		s.once(&s.out, not(m.Invert)+"-o "+name)
	}
}

func (s *spec) addr(m ir.Addr, family ir.Families) {
	s.side(m.Side)
	if !m.Prefix.IsValid() || m.Prefix.Addr().Is4() != (family == ir.V4) {
		s.fail("%s is no address of %s", m.Prefix, family)
	}
	if m.Prefix.Bits() == 0 { // iptables does not list what holds for every packet
		if m.Invert {
			s.fail("a rule for addresses outside of %s never matches, and iptables does not take it", m.Prefix)
		}
		return
	}
	if m.Side == ir.Source {
		s.once(&s.source, not(m.Invert)+"-s "+m.Prefix.Masked().String())
	} else {
		s.once(&s.dest, not(m.Invert)+"-d "+m.Prefix.Masked().String())
	}
}

func (s *spec) lookup(m ir.Lookup, family ir.Families) {
	s.side(m.Side)
	if m.Set == nil {
		s.fail("the rule looks up a set, and says none")
		return
	}
	if s.check(checkSet(m.Set)); m.Set.Family&family == 0 {
		s.fail("set %s is of %s, and the rule is for %s", m.Set.Name, m.Set.Family, family)
	}
	if s.err == nil {
		s.add("-m set %s--match-set %s %s", not(m.Invert), m.Set.Name, directions(m))
	}
}

// protocolOf is the protocol that a rule asks for: one number, or ICMP of both families, of which it is that of the family.
func (s *spec) protocolOf(numbers []int, family ir.Families) int {
	switch {
	case len(numbers) == 1:
		return numbers[0]
	case slices.Equal(numbers, []int{1, 58}):
		return map[ir.Families]int{ir.V4: 1, ir.V6: 58}[family]
	}
	s.fail("iptables has one protocol in a rule, and this one asks for %v", numbers)
	return 0
}

// transportNumber is the number of a protocol that has ports.
func (s *spec) transportNumber(name string) int {
	n, err := grammar.ParseProtocol(name)
	if err != nil || !slices.Contains(grammar.TransportProtocols, name) {
		s.fail("%q is no protocol with ports: it must be one of %s", name, strings.Join(grammar.TransportProtocols, ", "))
	}
	return n
}

func (s *spec) icmp(m ir.ICMP) {
	s.check(ir.CheckNumber("ICMP type", m.Type, 0, 255))
	code := ""
	if m.Code != ir.AnyCode {
		s.check(ir.CheckNumber("ICMP code", m.Code, 0, 255))
		code = "/" + strconv.Itoa(m.Code)
	}
	if m.Family == ir.V4 {
		if m.Type == anyICMP {
			s.fail("iptables takes ICMP type %d for any type, and cannot match it", m.Type)
		}
		s.proto(1, "icmp --icmp-type %d%s", m.Type, code)
		return
	}
	s.proto(58, "icmp6 --icmpv6-type %d%s", m.Type, code)
}

// anyICMP is the type by which iptables means any (libxt_icmp.h of iptables).
const anyICMP = 255

// stateWords are the connection states in the order of iptables-save.
var stateWords = []string{"invalid", "new", "related", "established", "dnat"}

func (s *spec) ctStates(states []string) {
	for _, st := range states {
		if !slices.Contains(stateWords, st) {
			s.fail("iptables has no connection tracking state %q", st)
		}
	}
	var list []string
	for _, st := range stateWords {
		if slices.Contains(states, st) {
			list = append(list, strings.ToUpper(st))
		}
	}
	if len(list) == 0 {
		s.fail("the rule asks for a connection tracking state, and says none")
	}
	s.add("-m conntrack --ctstate %s", strings.Join(list, ","))
}

// The highest rate, in packets a second, and the largest burst that iptables takes (libxt_limit.c; linux/netfilter/xt_limit.h).
const (
	maxRate  = 10000
	maxBurst = 10000
)

type limitUnit struct {
	name    string
	seconds int
}

var limitUnits = map[byte]limitUnit{'s': {"sec", 1}, 'm': {"min", 60}, 'h': {"hour", 3600}, 'd': {"day", 86400}}

// limit prints a limit. A burst of 5 is the default, which iptables-save does not print.
func (s *spec) limit(l ir.Limit) {
	unit, ok := limitUnits[l.Unit]
	if !ok {
		s.fail("there is no unit of time %q", l.Unit)
	}
	s.check(ir.CheckNumber("the rate", l.Rate, 1, maxRate*unit.seconds))
	s.check(ir.CheckNumber("the burst", l.Burst, 0, maxBurst))
	s.add("-m limit --limit %d/%s", l.Rate, unit.name)
	if l.Burst != 0 && l.Burst != ir.DefaultBurst {
		s.add("--limit-burst %d", l.Burst)
	}
}

// protocolName is a protocol by name where iptables has one.
func protocolName(n int) string {
	if name := grammar.ProtocolName(n); name != "" {
		return name
	}
	return strconv.Itoa(n)
}

func span(low, high int, sep string) string {
	if low == high {
		return strconv.Itoa(low)
	}
	return strconv.Itoa(low) + sep + strconv.Itoa(high)
}

func (s *spec) action(a ir.Action, family ir.Families) {
	switch a := a.(type) {
	case ir.Verdict:
		if a != ir.Accept && a != ir.Drop && a != ir.Return {
			s.fail("there is no verdict %q", a)
		}
		s.target = "-j " + strings.ToUpper(string(a))
	case ir.Jump:
		s.jump(a)
	case ir.Reject:
		s.reject(a, family)
	case ir.Log:
		s.log(a)
	case ir.NFLog:
		s.check(ir.CheckNumber("log group", a.Group, 0, math.MaxUint16))
		s.check(ir.CheckNumber("queue size", a.QueueSize, 0, math.MaxUint16))
		s.target = "-j NFLOG" + s.prefix("--nflog-prefix", a.Prefix, maxNFLogPrefix)
		if a.Group != 0 {
			s.target += " --nflog-group " + strconv.Itoa(a.Group)
		}
		if a.QueueSize != 0 {
			s.target += " --nflog-threshold " + strconv.Itoa(a.QueueSize)
		}
	case ir.Audit:
		if !slices.Contains([]string{"accept", "drop", "reject"}, a.Type) {
			s.fail("iptables has no audit record of type %q", a.Type)
		}
		s.target = "-j AUDIT --type " + a.Type
	case ir.SetMark:
		mask := a.Mask
		if !a.Masked {
			mask = math.MaxUint32
		}
		s.target = fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", a.Value, mask)
	case ir.ClampMSS:
		s.clamp(a, family)
	case ir.Masquerade:
		s.target = "-j MASQUERADE"
	case ir.DNAT:
		s.dnat(a, family)
	case ir.Raw:
		s.raw(a)
	case ir.SetHelper:
		s.check(ir.CheckName("the type of the helper", a.Type, maxHelperType))
		if s.number == 0 {
			s.fail("a connection tracking helper is for one protocol, and the rule asks for none")
		}
		s.target = "-j CT --helper " + a.Type
	default:
		s.fail("iptables has no action %T", a)
	}
}

func (s *spec) jump(a ir.Jump) {
	s.check(checkChainName(a.Chain))
	if a.Long != "" {
		s.check(ir.CheckText("the comment", a.Long))
		comment := "human readable jump target: " + a.Long
		s.check(ir.CheckNumber("the comment's length", len(comment), 0, maxComment))
		s.add("-m comment --comment %s", quote(comment))
	}
	s.target = "-j " + a.Chain
	if a.Goto {
		s.target = "-g " + a.Chain
	}
}

// checkChainName says why iptables cannot have the name of a chain: a jump to it would be read as something else.
func checkChainName(name string) error {
	if slices.Contains([]string{"ACCEPT", "DROP", "RETURN", "QUEUE"}, name) {
		return fmt.Errorf("the name of the chain %q is a verdict of iptables", name)
	}
	if strings.HasPrefix(name, "-") || strings.HasPrefix(name, "!") {
		return fmt.Errorf("the name of the chain %q begins with %q, which iptables reads as an option", name, name[:1])
	}
	return ir.CheckName("the name of the chain", name, maxChain)
}

func (s *spec) log(a ir.Log) {
	s.target = "-j LOG" + s.prefix("--log-prefix", a.Prefix, maxLogPrefix)
	switch n, ok := logLevels[a.Level]; {
	case ok:
		s.target += " --log-level " + strconv.Itoa(n)
	case a.Level != "" && a.Level != "warning":
		s.fail("there is no log level %q", a.Level)
	}
}

func (s *spec) clamp(a ir.ClampMSS, family ir.Families) {
	highest := maxIPv4MSS
	switch {
	case a.Raise:
		s.fail("iptables can only lower a maximum segment size")
	case !s.syn:
		s.fail("iptables changes segment sizes in SYN segments alone, and the rule does not ask for them")
	case a.Links != "":
		s.fail("iptables has no map of segment sizes: a rule for each link has one of its own")
	case a.Size == 0:
		s.target = "-j TCPMSS --clamp-mss-to-pmtu"
		return
	case family == ir.V6:
		highest = maxIPv6MSS
	}
	s.check(ir.CheckNumber("segment size", a.Size, 0, maxIPv4MSS))
	s.target = fmt.Sprintf("-j TCPMSS --set-mss %d", min(a.Size, highest))
}

func (s *spec) dnat(a ir.DNAT, family ir.Families) {
	s.of(a.Family, family)
	switch {
	case a.Addr.IsValid() && a.Addr.Is4() != (family == ir.V4):
		s.fail("%s is no address of %s", a.Addr, family)
	case a.Low == 0 && a.High == 0 && !a.Addr.IsValid():
		s.fail("a new destination has neither an address nor a port")
	case a.Low != 0 || a.High != 0:
		s.check(ir.CheckSpan("port", a.Low, a.High))
		if !slices.Contains(grammar.TransportProtocols, protocolName(s.number)) {
			s.fail("a new port needs a protocol that has ports, and the rule asks for none")
		}
	}
	s.target = "-j DNAT --to-destination " + destination(a)
}

// raw takes words as they are. A line of the restore tools ends with its line break, whatever quotes are open.
func (s *spec) raw(a ir.Raw) {
	words := make([]string, len(a.Args))
	for i, w := range a.Args {
		s.check(ir.CheckText("the argument", w))
		s.check(ir.CheckNumber("the length of an argument", len(w), 0, maxArgument))
		if words[i] = w; w == "" || strings.ContainsAny(w, " \t\"\\'") {
			words[i] = quote(w)
		}
	}
	s.target = strings.Join(words, " ")
}

// maxIPv4MSS is the largest size that iptables takes.
const maxIPv4MSS = 65515

// maxIPv6MSS is the largest size that ip6tables takes; no IPv6 packet without a jumbo payload carries more.
const maxIPv6MSS = 65495

// prefix is an option with a log prefix of at most so many bytes; nothing without one.
func (s *spec) prefix(option, text string, highest int) string {
	if text == "" {
		return ""
	}
	if len(text) > highest {
		s.fail("the log prefix has %d characters, and the highest number is %d", len(text), highest)
	}
	s.check(ir.CheckText("the log prefix", text))
	return " " + option + " " + quote(text)
}

// quote puts a word into quotes as the restore tools read them.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// logLevels are the numbers of syslog.h; the default, warning, is not printed.
var logLevels = map[string]int{"emerg": 0, "alert": 1, "crit": 2, "error": 3, "notice": 5, "info": 6, "debug": 7}

// rejectWords are the answers of iptables, by ir.Reject.Word.
var rejectWords = []string{"icmp-host-prohibited", "icmp-net-unreachable", "icmp-host-unreachable", "icmp-port-unreachable", "icmp-proto-unreachable",
	"icmp-net-prohibited", "tcp-reset", "icmp-admin-prohibited", "icmp6-adm-prohibited", "icmp6-no-route", "icmp6-addr-unreachable", "icmp6-port-unreachable"}

// reject answers with an ICMP message of the tool's family, or with a TCP reset.
func (s *spec) reject(a ir.Reject, family ir.Families) {
	with, ok := rejectWith(a.Word(), family)
	switch {
	case !ok:
		s.fail("there is no answer %q", a.With)
	case with == "tcp-reset" && s.number != protocolTCP:
		s.fail("only TCP can be answered with %s, and the rule does not ask for TCP", with)
	case with != "tcp-reset" && strings.HasPrefix(with, "icmp6-") != (family == ir.V6):
		s.fail("the answer %s is not of %s", with, family)
	}
	s.target = "-j REJECT --reject-with " + with
}

func rejectWith(with string, family ir.Families) (word string, ok bool) {
	unreachable, prohibited := "icmp-port-unreachable", "icmp-host-prohibited"
	if family == ir.V6 {
		unreachable, prohibited = "icmp6-port-unreachable", "icmp6-adm-prohibited"
	}
	switch with {
	case ir.RejectDefault, "port-unreach":
		return unreachable, true
	case ir.RejectProhibited:
		return prohibited, true
	}
	return with, slices.Contains(rejectWords, with)
}

func destination(a ir.DNAT) string {
	text := ""
	if a.Addr.IsValid() {
		text = a.Addr.String()
	}
	if a.High == 0 {
		return text
	}
	if a.Addr.Is6() {
		text = "[" + text + "]"
	}
	return text + ":" + span(a.Low, a.High, "-")
}
