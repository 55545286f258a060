package iptables

import (
	"fmt"
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
	matches      []string
	target       string
}

// Spec appends a rule's matches and target as one family's tool takes them, with a blank before each.
func Spec(b []byte, r *ir.Rule, family ir.Families) []byte {
	s := &spec{}
	for _, m := range r.Matches {
		s.match(m, family)
	}
	for _, a := range r.Actions { // a chain of iptables has one target a rule: the compiler makes no rule of several
		s.action(a, family)
	}
	for _, part := range append([]string{s.source, s.dest, s.in, s.out, s.protocol}, append(s.matches, s.target)...) {
		if part != "" {
			b = append(append(b, ' '), part...)
		}
	}
	return b
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

// proto sets the protocol, and what its module compares.
func (s *spec) proto(name, format string, args ...any) {
	s.protocol = "-p " + name
	if format != "" {
		s.add("-m "+format, args...)
	}
}

func (s *spec) match(m ir.Match, family ir.Families) {
	switch m := m.(type) {
	case ir.NFProto: // the tool is of one family
	case ir.Iface:
		if m.Side == ir.Source {
			s.in = not(m.Invert) + "-i " + m.Name
		} else {
			s.out = not(m.Invert) + "-o " + m.Name
		}
	case ir.Addr:
		if m.Side == ir.Source {
			s.source = not(m.Invert) + "-s " + m.Prefix.String()
		} else {
			s.dest = not(m.Invert) + "-d " + m.Prefix.String()
		}
	case ir.EtherAddr:
		s.add("-m mac %s--mac-source %s", not(m.Invert), strings.ToLower(m.MAC))
	case ir.Lookup:
		s.add("-m set %s--match-set %s %s", not(m.Invert), m.Set.Name, directions(m))
	case ir.L4Proto:
		s.proto(protocolText(m.Numbers, family), "")
	case ir.Port:
		s.proto(m.Protocol, "%s --%s %s", m.Protocol, map[ir.Side]string{ir.Source: "sport", ir.Dest: "dport"}[m.Side], span(m.Low, m.High, ":"))
	case ir.ICMP:
		s.icmp(m)
	case ir.SYN:
		s.proto("tcp", "tcp --tcp-flags SYN,RST SYN")
	case ir.MSS:
		s.add("-m tcpmss --mss %s", span(m.Low, m.High, ":"))
	case ir.CTState:
		s.add("-m conntrack --ctstate %s", ctStates(m.States))
	case ir.CTDirection:
		s.add("-m conntrack --ctdir %s", map[bool]string{false: "ORIGINAL", true: "REPLY"}[m.Reply])
	case ir.CTOrigPort:
		s.add("-m conntrack --ctstate DNAT --ctorigdstport %s --ctdir ORIGINAL", span(m.Low, m.High, ":"))
	case ir.Fib:
		loose := ""
		if m.Loose {
			loose = " --loose"
		}
		s.add("-m rpfilter%s --validmark --invert", loose)
	case ir.PktType:
		s.add("-m pkttype --pkt-type %s", m.Type)
	case ir.Limit:
		s.limit(m)
	default:
		panic(fmt.Sprintf("internal error: no iptables text for match %T", m))
	}
}

func (s *spec) icmp(m ir.ICMP) {
	code := ""
	if m.Code != ir.AnyCode {
		code = "/" + strconv.Itoa(m.Code)
	}
	if m.Family == ir.V4 {
		s.proto("icmp", "icmp --icmp-type %d%s", m.Type, code)
		return
	}
	s.proto("ipv6-icmp", "icmp6 --icmpv6-type %d%s", m.Type, code)
}

// ctStates spells connection states in the order of iptables-save.
func ctStates(states []string) string {
	var list []string
	for _, want := range []string{"invalid", "new", "related", "established", "dnat"} {
		for _, st := range states {
			if st == want {
				list = append(list, strings.ToUpper(st))
			}
		}
	}
	return strings.Join(list, ",")
}

var limitUnits = map[byte]string{'s': "sec", 'm': "min", 'h': "hour", 'd': "day"}

// limit prints a limit. A burst of 5 is the default, which iptables-save does not print.
func (s *spec) limit(l ir.Limit) {
	s.add("-m limit --limit %d/%s", l.Rate, limitUnits[l.Unit])
	if l.Burst != 0 && l.Burst != 5 {
		s.add("--limit-burst %d", l.Burst)
	}
}

// protocolText is a protocol by name where iptables has one; of ICMP's two the one of the family.
func protocolText(numbers []int, family ir.Families) string {
	n := numbers[0]
	if len(numbers) > 1 && family == ir.V6 {
		n = numbers[1]
	}
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
		s.target = "-j " + strings.ToUpper(string(a))
	case ir.Jump:
		if a.Long != "" {
			s.add(`-m comment --comment "human readable jump target: %s"`, a.Long)
		}
		s.target = "-j " + a.Chain
		if a.Goto {
			s.target = "-g " + a.Chain
		}
	case ir.Reject:
		s.target = "-j REJECT --reject-with " + rejectWith(a.With, family)
	case ir.Log:
		s.target = "-j LOG" + prefix("--log-prefix", a.Prefix)
		if n, ok := logLevels[a.Level]; ok {
			s.target += " --log-level " + strconv.Itoa(n)
		}
	case ir.NFLog:
		s.target = "-j NFLOG" + prefix("--nflog-prefix", a.Prefix)
		if a.Group != 0 {
			s.target += " --nflog-group " + strconv.Itoa(a.Group)
		}
		if a.QueueSize != 0 {
			s.target += " --nflog-threshold " + strconv.Itoa(a.QueueSize)
		}
	case ir.Audit:
		s.target = "-j AUDIT --type " + a.Type
	case ir.SetMark:
		mask := a.Mask
		if !a.Masked {
			mask = 0xffffffff
		}
		s.target = fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", a.Value, mask)
	case ir.ClampMSS:
		s.target = "-j TCPMSS --clamp-mss-to-pmtu"
		if a.Size != 0 {
			size := a.Size
			if family == ir.V6 {
				size = min(size, maxIPv6MSS)
			}
			s.target = fmt.Sprintf("-j TCPMSS --set-mss %d", size)
		}
	case ir.Masquerade:
		s.target = "-j MASQUERADE"
	case ir.DNAT:
		s.target = "-j DNAT --to-destination " + destination(a)
	case ir.Raw:
		words := make([]string, len(a.Args))
		for i, w := range a.Args {
			if words[i] = w; w == "" || strings.ContainsAny(w, " \t\"\\'") {
				words[i] = quote(w)
			}
		}
		s.target = strings.Join(words, " ")
	case ir.SetHelper:
		s.target = "-j CT --helper " + a.Type
	default:
		panic(fmt.Sprintf("internal error: no iptables text for action %T", a))
	}
}

// maxIPv6MSS is the largest size that ip6tables takes; no IPv6 packet without a jumbo payload carries more.
const maxIPv6MSS = 65495

func prefix(option, text string) string {
	if text == "" {
		return ""
	}
	return " " + option + " " + quote(text)
}

// quote puts a word into quotes as the restore tools read them.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// logLevels are the numbers of syslog.h; the default, warning, is not printed.
var logLevels = map[string]int{"emerg": 0, "alert": 1, "crit": 2, "error": 3, "notice": 5, "info": 6, "debug": 7}

// rejectWords are the words of the rich language for an answer and iptables-save's for the same.
var rejectWords = func() map[string]string {
	m := map[string]string{}
	for word, names := range map[string]string{
		"icmp-host-prohibited":   "icmp-host-prohibited host-prohib",
		"icmp-net-unreachable":   "icmp-net-unreachable net-unreach",
		"icmp-host-unreachable":  "icmp-host-unreachable host-unreach",
		"icmp-port-unreachable":  "icmp-port-unreachable",
		"icmp-proto-unreachable": "icmp-proto-unreachable proto-unreach",
		"icmp-net-prohibited":    "icmp-net-prohibited net-prohib",
		"tcp-reset":              "tcp-reset tcp-rst",
		"icmp-admin-prohibited":  "icmp-admin-prohibited admin-prohib",
		"icmp6-adm-prohibited":   "icmp6-adm-prohibited adm-prohibited",
		"icmp6-no-route":         "icmp6-no-route no-route",
		"icmp6-addr-unreachable": "icmp6-addr-unreachable addr-unreach",
		"icmp6-port-unreachable": "icmp6-port-unreachable",
	} {
		for _, name := range strings.Fields(names) {
			m[name] = word
		}
	}
	return m
}()

func rejectWith(with string, family ir.Families) string {
	unreachable, prohibited := "icmp-port-unreachable", "icmp-host-prohibited"
	if family == ir.V6 {
		unreachable, prohibited = "icmp6-port-unreachable", "icmp6-adm-prohibited"
	}
	switch with {
	case ir.RejectDefault, "port-unreach":
		return unreachable
	case ir.RejectProhibited:
		return prohibited
	}
	return rejectWords[with]
}

func destination(a ir.DNAT) string {
	text := ""
	if a.Addr.IsValid() {
		text = a.Addr.String()
	}
	if a.Low == 0 {
		return text
	}
	if a.Addr.Is6() {
		text = "[" + text + "]"
	}
	return text + ":" + span(a.Low, a.High, "-")
}
