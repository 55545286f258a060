package richwall

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"richwall/compile/eval"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/grammar"
	"richwall/internal/lab"
)

// explanation is what is said about a packet.
type explanation struct {
	backend ir.Backend
	packet  eval.Packet
	result  eval.Result
	all     bool
}

// verdictWords are the verdicts in a sentence.
var verdictWords = map[eval.Verdict]string{
	eval.Accept: "accepted", eval.Drop: "dropped", eval.Reject: "rejected", eval.Unknown: "unknown",
}

func (e *explanation) print(w io.Writer) error {
	p, r := newPainter(w), &e.result
	verdict := p.paint(bold, verdictWords[r.Verdict])
	if r.Verdict == eval.Drop || r.Verdict == eval.Reject {
		verdict = p.paint(red, verdictWords[r.Verdict])
	}
	fmt.Fprintf(w, "%s: %s%s\n", e.sentence(), verdict, e.how())
	switch d := r.Decisive(); {
	case r.Verdict == eval.Unknown:
	case d == nil:
		fmt.Fprintln(w, "  as no rule says otherwise")
	case d.Rule.Origin.Said() == "":
		fmt.Fprintf(w, "  by %s: %s\n", d.Rule.Origin, e.ruleText(*d))
	default:
		fmt.Fprintf(w, "  by %s\n", d.Rule.Origin)
	}
	for _, effect := range e.effects() {
		fmt.Fprintf(w, "  %s\n", effect)
	}
	hook := ""
	for _, s := range e.steps() {
		if s.Hook != hook {
			hook = s.Hook
			fmt.Fprintf(w, "\n%s\n", p.paint(bold, hook))
		}
		fmt.Fprintf(w, "%s%s: %s  # %s\n", strings.Repeat("  ", s.Depth+1), chainName(s), e.ruleText(s), s.Rule.Origin)
	}
	return nil
}

// sentence is the packet in words.
func (e *explanation) sentence() string {
	p := &e.packet
	words := []string{e.protocolName()}
	if p.Source.IsValid() {
		words = append(words, "from "+p.Source.String())
	}
	to := p.Destination.IsValid()
	if to || eval.HasPorts(p.Protocol) {
		words = append(words, "to")
	}
	if to {
		words = append(words, p.Destination.String())
	}
	if eval.HasPorts(p.Protocol) {
		words = append(words, "port "+strconv.Itoa(p.DestPort))
	}
	switch p.Path {
	case eval.Input:
		if p.In == "" {
			words = append(words, "in by an interface that no zone names")
			break
		}
		words = append(words, "in by "+p.In)
	case eval.Forward:
		words = append(words, "in by "+p.In+", out by "+p.Out)
	case eval.Output:
		words = append(words, "out by "+p.Out)
	}
	return strings.Join(words, " ")
}

func (e *explanation) protocolName() string {
	switch p := &e.packet; {
	case p.Protocol == 1:
		return fmt.Sprintf("ICMP %d/%d", p.ICMPType, p.ICMPCode)
	case p.Protocol == 58:
		return fmt.Sprintf("ICMPv6 %d/%d", p.ICMPType, p.ICMPCode)
	case grammar.ProtocolName(p.Protocol) != "":
		return grammar.ProtocolName(p.Protocol)
	default:
		return "protocol " + strconv.Itoa(p.Protocol)
	}
}

// how is what follows a verdict.
func (e *explanation) how() string {
	switch e.result.Verdict {
	case eval.Reject:
		return ", answered with " + e.answer()
	case eval.Unknown:
		return ", as " + e.result.Why
	}
	return ""
}

// answer is what the packet is rejected with, in words.
func (e *explanation) answer() string {
	a := e.result.Answer
	if a.Reset {
		return "a TCP reset"
	}
	from := e.packet.Destination
	if !from.IsValid() {
		from = map[ir.Families]netip.Addr{ir.V4: netip.IPv4Unspecified(), ir.V6: netip.IPv6Unspecified()}[e.packet.Family]
	}
	return lab.Reply{Kind: lab.GotICMP, Type: a.Type, Code: a.Code, From: from}.String()
}

// effects are what rules do to the packet beside deciding about it.
func (e *explanation) effects() []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	r := &e.result
	if r.DNAT != nil && r.Verdict != eval.Unknown {
		to := "port " + strconv.Itoa(r.Packet.DestPort)
		if r.Packet.Destination.IsValid() {
			to = net.JoinHostPort(r.Packet.Destination.String(), strconv.Itoa(r.Packet.DestPort))
		}
		add("sent to %s instead", to)
	}
	if r.Masquerade {
		add("masqueraded: it comes from the address of the outgoing interface")
	}
	if r.Packet.Mark != e.packet.Mark {
		add("marked with 0x%x", r.Packet.Mark)
	}
	if r.Packet.MSS != e.packet.MSS {
		add("clamped: its MSS becomes %d", r.Packet.MSS)
	}
	if r.PathClamp {
		add("clamped: its MSS becomes what its path allows")
	}
	if len(r.LinkClamps) > 0 {
		add("clamped: its MSS becomes what the MTU of %s has room for", strings.Join(r.LinkClamps, " and that of "))
	}
	if r.Helper != "" {
		add("tracked with the helper %s", r.Helper)
	}
	for _, l := range r.Logs {
		switch l := l.(type) {
		case ir.Log:
			add("logged with %q", l.Prefix)
		case ir.NFLog:
			add("logged to group %d with %q", l.Group, l.Prefix)
		case ir.Audit:
			add("written to the audit log")
		}
	}
	return list
}

// steps are the rules to show: all that matched, or those that did something, the deciding one, and the jumps that led there.
func (e *explanation) steps() []eval.Step {
	trace, decisive := e.result.Trace, e.result.Decisive()
	if e.all {
		return trace
	}
	keep := make([]bool, len(trace))
	above := -1 // the depth of the jump that led to what is kept
	for i := len(trace) - 1; i >= 0; i-- {
		s := &trace[i]
		if s == decisive || acts(s.Rule) || s.Depth == above {
			keep[i], above = true, s.Depth-1
		}
	}
	var kept []eval.Step
	for i, s := range trace {
		if keep[i] {
			kept = append(kept, s)
		}
	}
	return kept
}

// acts says whether a rule does more than deciding where a packet goes on.
func acts(r *ir.Rule) bool {
	for _, a := range r.Actions {
		switch a.(type) {
		case ir.Verdict, ir.Jump, ir.Decide:
		default:
			return true
		}
	}
	return false
}

func chainName(s eval.Step) string {
	if s.Chain.Table != "" {
		return s.Chain.Table + " " + s.Chain.Name
	}
	return s.Chain.Name
}

// ruleText is a rule as the back end's tools have it, and the element of a set that the packet is in.
func (e *explanation) ruleText(s eval.Step) string {
	var b []byte
	var err error
	if e.backend == ir.NFTables {
		b, err = nft.Spec(nil, s.Rule)
	} else {
		b, err = iptables.Spec(nil, s.Rule, e.packet.Family)
	}
	text := strings.TrimSpace(string(b))
	if err != nil { // the back end's tools have no words for it
		text = s.Rule.String()
	}
	if s.Element != nil {
		text += " (" + s.Element.Text + ")"
	}
	return text
}

// explainJSON is the explanation for programs.
type explainJSON struct {
	Backend ir.Backend        `json:"backend"`
	Packet  string            `json:"packet"`
	Verdict eval.Verdict      `json:"verdict"`
	Answer  string            `json:"answer,omitempty"` // of reject
	Why     string            `json:"why,omitempty"`    // of unknown
	By      *ir.Origin        `json:"by,omitempty"`     // what the deciding rule comes from
	Effects []string          `json:"effects"`
	Rules   []explainRuleJSON `json:"rules"`
}

type explainRuleJSON struct {
	Hook   string     `json:"hook"`
	Table  string     `json:"table,omitempty"` // of iptables
	Chain  string     `json:"chain"`
	Depth  int        `json:"depth"` // of jumps
	Rule   string     `json:"rule"`
	Origin *ir.Origin `json:"origin"`
}

func (e *explanation) json() explainJSON {
	out := explainJSON{Backend: e.backend, Packet: e.sentence(), Verdict: e.result.Verdict, Why: e.result.Why,
		Effects: append([]string{}, e.effects()...), Rules: []explainRuleJSON{}}
	if e.result.Verdict == eval.Reject {
		out.Answer = e.answer()
	}
	if d := e.result.Decisive(); d != nil {
		out.By = d.Rule.Origin
	}
	for _, s := range e.steps() {
		out.Rules = append(out.Rules, explainRuleJSON{s.Hook, s.Chain.Table, s.Chain.Name, s.Depth, e.ruleText(s), s.Rule.Origin})
	}
	return out
}
