package lab

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// DefaultMSS are MSS values in bytes worth trying: the least that IPv4 hosts take, two around that of tunnels, that of
// Ethernet, and that of jumbo frames.
var DefaultMSS = []int{536, 1300, 1400, 1460, 8960}

// Report is what rules did to probes.
type Report struct {
	Rows []Row `json:"rows"`
}

// Row is one packet of a probe: a SYN, the SYN/ACK that answers it, or a datagram.
type Row struct {
	Family  Family   `json:"family"`
	Packet  string   `json:"packet"` // SYN, SYN/ACK, TCP, UDP or ICMP
	From    Host     `json:"from"`
	To      Host     `json:"to"`
	Port    int      `json:"port,omitempty"`    // of the probe
	Offered int      `json:"offered,omitempty"` // MSS in bytes; 0 means no such option
	Before  Outcome  `json:"before"`
	After   Outcome  `json:"after"`
	Changed bool     `json:"changed"`
	Rules   []string `json:"rules,omitempty"` // that did it; Compare does not know them
	Probe   int      `json:"probe"`           // its place among the probes, from 0
}

// Outcome is what became of one packet.
type Outcome struct {
	Arrived bool   `json:"arrived"`
	At      Host   `json:"at,omitempty"`     // where, when it is not where it was sent to
	MSS     int    `json:"mss,omitempty"`    // as it arrived, in bytes; 0 means no such option
	Reason  string `json:"reason,omitempty"` // for not arriving
	tcp     bool
}

// String is the outcome for a person to read: "1460", "no MSS", "not forwarded".
func (o Outcome) String() string {
	text := o.Reason
	if o.Arrived {
		text = "arrived"
		if o.tcp {
			text = mssText(o.MSS)
		}
	}
	if o.At != "" {
		text += " at the " + string(o.At)
	}
	return text
}

func mssText(mss int) string {
	if mss == 0 {
		return "no MSS"
	}
	return strconv.Itoa(mss)
}

// Compare makes the table from the results of the same probes before and after the rules were loaded. A SYN/ACK has a row
// where its SYN arrived at least once.
func Compare(probes []Probe, before, after []Result) Report {
	var r Report
	add := func(row Row, o func(Result) Outcome, i int) {
		row.Before, row.After = o(before[i]), o(after[i])
		row.Changed = row.Before != row.After
		r.Rows = append(r.Rows, row)
	}
	for i, p := range probes {
		row := Row{Family: p.family(), Packet: p.packetName(), From: p.From, To: p.To, Port: p.Port, Probe: i}
		if p.isTCP() {
			row.Offered = p.MSS
		}
		add(row, p.way, i)
		if row.Packet == "SYN" && (before[i].At != "" || after[i].At != "") {
			row.Packet, row.From, row.To = "SYN/ACK", p.To, p.From
			row.Offered = max(before[i].Offered, after[i].Offered)
			add(row, p.wayBack, i)
		}
	}
	return r
}

func (p Probe) family() Family {
	if p.Family == "" {
		return IPv4
	}
	return p.Family
}

func (p Probe) isTCP() bool { return p.Protocol == "" || p.Protocol == TCP }

func (p Probe) packetName() string {
	if p.isTCP() && (p.Flags == 0 || p.Flags == SYN) {
		return "SYN"
	}
	if p.isTCP() {
		return "TCP"
	}
	return strings.ToUpper(string(p.Protocol))
}

// way is what became of a probe's own packet.
func (p Probe) way(r Result) Outcome {
	o := Outcome{Arrived: r.At != "", MSS: r.MSS, tcp: p.isTCP()}
	switch {
	case o.Arrived:
		if r.At != p.To {
			o.At = r.At
		}
	case r.Reply.Kind == GotRST || r.Reply.Kind == GotICMP:
		o.Reason = "rejected: " + r.Reply.String()
	case p.To == FirewallHost:
		o.Reason = "not let in"
	default:
		o.Reason = "not forwarded"
	}
	return o
}

// wayBack is what became of the SYN/ACK that answered a probe.
func (p Probe) wayBack(r Result) Outcome {
	o := Outcome{Arrived: r.Reply.Kind == GotSYNACK, MSS: r.Reply.MSS, tcp: true}
	switch {
	case o.Arrived:
	case r.At == "":
		o.Reason = "not sent"
	case r.At == FirewallHost:
		o.Reason = "not let out"
	default:
		o.Reason = "not forwarded"
	}
	return o
}

// icmpNames say what ICMP errors mean, by "type/code" (RFC 792, RFC 1812, RFC 4443).
var icmpNames = map[Family]map[[2]int]string{
	IPv4: {
		{3, 0}: "network unreachable", {3, 1}: "host unreachable", {3, 2}: "protocol unreachable", {3, 3}: "port unreachable",
		{3, 4}: "fragmentation needed", {3, 9}: "network prohibited", {3, 10}: "host prohibited", {3, 13}: "administratively prohibited",
		{11, 0}: "time exceeded",
	},
	IPv6: {
		{1, 0}: "no route", {1, 1}: "administratively prohibited", {1, 3}: "address unreachable", {1, 4}: "port unreachable",
		{1, 5}: "policy fail", {1, 6}: "reject route", {2, 0}: "packet too big", {3, 0}: "time exceeded",
	},
}

// String is the reply for a person to read: "SYN/ACK with MSS 1360", "ICMP 3/13, administratively prohibited".
func (r Reply) String() string {
	switch r.Kind {
	case NoReply:
		return "no answer"
	case GotSYNACK:
		if r.MSS == 0 {
			return "SYN/ACK without MSS"
		}
		return fmt.Sprintf("SYN/ACK with MSS %d", r.MSS)
	case GotICMP:
		family, text := IPv4, fmt.Sprintf("ICMP %d/%d", r.Type, r.Code)
		if r.From.Is6() {
			family, text = IPv6, fmt.Sprintf("ICMPv6 %d/%d", r.Type, r.Code)
		}
		if name := icmpNames[family][[2]int{r.Type, r.Code}]; name != "" {
			text += ", " + name
		}
		return text
	}
	return string(r.Kind)
}

// Text writes the table, each line once. A star marks what changed, a number in brackets the rules that did it, which
// stand below the table.
func (r Report) Text(w io.Writer) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, " \tFAMILY\tPACKET\tDIRECTION\tMSS\tBEFORE\tAFTER")
	var rules []string
	seen := map[string]bool{}
	for _, row := range r.Rows {
		mark, offered := " ", "–"
		if row.Changed {
			mark = "*"
		}
		if row.Before.tcp {
			offered = mssText(row.Offered)
		}
		line := fmt.Sprintf("%s\t%s\t%s\t%s → %s\t%s\t%s\t%s",
			mark, row.Family, row.Packet, row.From, row.To, offered, row.Before, row.After)
		for _, rule := range row.Rules {
			if !slices.Contains(rules, rule) {
				rules = append(rules, rule)
			}
			line += fmt.Sprintf(" [%d]", slices.Index(rules, rule)+1)
		}
		if !seen[line] {
			seen[line] = true
			fmt.Fprintln(t, line)
		}
	}
	t.Flush()
	if len(rules) > 0 {
		table.WriteByte('\n')
	}
	for i, rule := range rules {
		fmt.Fprintf(&table, "[%d] %s\n", i+1, rule)
	}
	_, err := io.WriteString(w, table.String())
	return err
}
