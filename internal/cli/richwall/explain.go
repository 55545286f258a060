package richwall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"richwall/compile"
	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

type explainOptions struct {
	directories
	backend     string
	in, out     string
	source      string
	destination string
	family      string
	sourcePort  int
	mac         string
	state       string
	mss         int
	links       map[string]int
	all         bool
	json        bool
}

func newExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain PROTOCOL [PORT|ICMP-TYPE]",
		Short: "Say what a configuration does to a packet, and why",
		Long: `Works out what becomes of one packet, and shows the rules that decide about it, with the
file and line that each comes from. No packet is sent, and nothing of this machine is asked.

The interfaces say where the packet goes:

  --in eth0               to this machine
  --in eth0 --out eth1    through it
  --out eth1              from it

What is not given is not guessed: where a rule asks for it, the answer is "unknown", and
which fact is missing. A packet is within all limits, comes from where answers to it
would be sent, and opens a connection unless --state says otherwise. If a forward-port
sends it on to another machine, --out is the interface that leads there.

Shown are the rules on the way to the verdict, and those that log, mark, clamp or translate;
--all adds those that were passed. Each stands for itself, even where RuleFolding makes one
of many.

The exit status is 1 if the answer is "unknown".`,
		Example: `  Why can 10.1.0.2 not open https here?
  richwall explain --config /etc/firewalld --in eth0 --source 10.1.0.2 --destination 10.2.0.2 tcp 443

  Which rule lets pings through to the LAN?
  richwall explain --config /etc/firewalld --in eth0 --out lan0 --source 198.51.100.9 --destination 192.168.1.7 icmp echo-request

  richwall explain --config ./firewalld --in eth0 --json udp 53 | jq -r .verdict`,
		Args:              words(1, 2, "a protocol and what it goes to, such as tcp 443 or icmp echo-request"),
		ValidArgsFunction: cobra.FixedCompletions([]string{"tcp", "udp", "icmp", "sctp", "dccp"}, cobra.ShellCompDirectiveNoFileComp),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.directories.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.backend, "backend", "", "`BACKEND` of the firewall, nftables or iptables; without it, what the configuration says")
	f.StringVar(&o.in, "in", "", "`INTERFACE` that the packet comes in by")
	f.StringVar(&o.out, "out", "", "`INTERFACE` that it goes out by")
	f.StringVar(&o.source, "source", "", "`ADDRESS` that it comes from")
	f.StringVar(&o.destination, "destination", "", "`ADDRESS` that it was sent to")
	f.StringVar(&o.family, "family", "", "ipv4 or ipv6; without it, the `FAMILY` of the addresses, or ipv4")
	f.IntVar(&o.sourcePort, "source-port", 0, "`PORT` that it comes from, 1 to 65535")
	f.StringVar(&o.mac, "mac", "", "MAC `ADDRESS` that it comes from, or none for what has come in without, as by a tunnel")
	f.StringVar(&o.state, "state", "new", "`STATE` of its connection: "+strings.Join(stateNames, ", "))
	f.IntVar(&o.mss, "mss", 1460, "segment size that a TCP SYN announces, in `BYTES`, 1 to 65535")
	f.StringToIntVar(&o.links, "link", nil, "MTU of a link in bytes, as in `ppp0=1492`, for clamps with value=link; several with commas between them")
	f.BoolVar(&o.all, "all", false, "show also the rules that matched and changed nothing")
	f.BoolVar(&o.json, "json", false, "print a JSON object")
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("family", cobra.FixedCompletions([]string{"ipv4", "ipv6"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(stateNames, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"in", "out"} {
		completeNames(cmd, name, func(cfg *zones.Config) []string {
			var list []string
			for _, z := range cfg.Zones {
				list = append(list, z.Interfaces...)
			}
			return list
		})
	}
	return cmd
}

// states are those of connections by their names.
var states = map[string]eval.State{
	"new": eval.StateNew, "established": eval.StateEstablished, "related": eval.StateRelated, "invalid": eval.StateInvalid,
}

var stateNames = []string{"new", "established", "related", "invalid"}

func (o *explainOptions) run(cmd *cobra.Command, args []string) error {
	p, err := o.packet(args)
	if err != nil {
		return err
	}
	if o.backend != "" {
		if err := checkBackends([]string{o.backend}); err != nil {
			return err
		}
	}
	cfg, err := o.load(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	backend := ir.Backend(cmp.Or(o.backend, cfg.Conf.FirewallBackend))
	rs, err := compile.Compile(unfolded(cfg), backend)
	if err != nil {
		return statusOf(err)
	}
	if len(o.links) > 0 {
		links, err := linksGiven(o.links)
		if err != nil {
			return err
		}
		rs = compile.WithLinks(rs, links)
	}
	if direct, err := compile.Direct(cfg); backend == ir.NFTables && (direct != nil || err != nil) {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: the rules of direct.xml are with iptables, beside these, and are not looked at")
	}
	e := explanation{backend: backend, packet: p, result: eval.Evaluate(rs, p), all: o.all}
	if o.json {
		err = printJSON(cmd.OutOrStdout(), e.json())
	} else {
		err = e.print(cmd.OutOrStdout())
	}
	if err == nil && e.result.Verdict == eval.Unknown {
		return exitError{status: 1}
	}
	return err
}

// linksGiven are links with MTUs.
func linksGiven(given map[string]int) (list []compile.Link, err error) {
	for name, mtu := range given {
		if err := errors.Join(zones.CheckInterface(name), compile.NameOfLink(name)); err != nil {
			return nil, err
		}
		if mtu < 1 || mtu > 1<<31-1 {
			return nil, fmt.Errorf("cannot use an MTU of %d for %s: it is a positive number of bytes", mtu, name)
		}
		list = append(list, compile.Link{Name: name, MTU: map[ir.Families]int{ir.V4: mtu, ir.V6: mtu}})
	}
	return list, nil
}

// unfolded is a configuration whose rules stay what they are, so that each has its own origin.
func unfolded(cfg *zones.Config) *zones.Config {
	own, next := *cfg.Own, *cfg
	own.RuleFolding = "no"
	next.Own = &own
	return &next
}

// packet is what the flags and arguments say.
func (o *explainOptions) packet(args []string) (p eval.Packet, err error) {
	p = eval.Packet{In: o.in, Out: o.out, SourcePort: o.sourcePort, EtherSource: o.mac}
	switch {
	case o.in == "" && o.out != "":
		p.Path = eval.Output
	case o.out != "":
		p.Path = eval.Forward
	default:
		p.Path = eval.Input
	}
	for _, name := range []string{o.in, o.out} {
		if name == "" {
			continue
		}
		if err := zones.CheckInterface(name); err != nil {
			return p, err
		}
	}
	if o.sourcePort < 0 || o.sourcePort > grammar.MaxPort {
		return p, fmt.Errorf("cannot come from port %d: the highest port is %d", o.sourcePort, grammar.MaxPort)
	}
	if o.mss < 1 || o.mss > 65535 {
		return p, fmt.Errorf("cannot announce an MSS of %d: it is from 1 to 65535", o.mss)
	}
	if o.mac != "" && o.mac != eval.NoMAC {
		if _, err := grammar.ParseMAC(o.mac); err != nil {
			return p, fmt.Errorf("cannot come from MAC address %q: six pairs of digits such as 02:00:00:00:00:01, or %s", o.mac, eval.NoMAC)
		}
	}
	if !slices.Contains(stateNames, o.state) {
		return p, fmt.Errorf("there is no state %q; say %s", o.state, strings.Join(stateNames, ", "))
	}
	p.State = states[o.state]
	if err := o.addresses(&p); err != nil {
		return p, err
	}
	return p, o.protocol(&p, args)
}

// addresses reads the ends, and the family that they or the flag have.
func (o *explainOptions) addresses(p *eval.Packet) error {
	families := map[string]ir.Families{"": 0, "ipv4": ir.V4, "ipv6": ir.V6}
	family, ok := families[o.family]
	if !ok {
		return fmt.Errorf("there is no family %q; say ipv4 or ipv6", o.family)
	}
	for _, end := range []struct {
		flag, text string
		addr       *netip.Addr
	}{{"--source", o.source, &p.Source}, {"--destination", o.destination, &p.Destination}} {
		if end.text == "" {
			continue
		}
		a, err := netip.ParseAddr(end.text)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("cannot use %s %s: it is an address such as 192.0.2.1 or 2001:db8::1", end.flag, end.text)
		}
		f := ir.V6
		if a.Is4() {
			f = ir.V4
		}
		if family != 0 && f != family {
			return fmt.Errorf("cannot use %s %s: it is %s, and the packet is %s", end.flag, end.text, f, family)
		}
		family, *end.addr = f, a
	}
	p.Family = max(family, ir.V4)
	return nil
}

// protocol reads the arguments.
func (o *explainOptions) protocol(p *eval.Packet, args []string) error {
	word, more := args[0], ""
	if len(args) > 1 {
		more = args[1]
	}
	icmp := map[ir.Families]int{ir.V4: 1, ir.V6: 58}[p.Family]
	if slices.Contains([]string{"icmp", "icmpv6", "ipv6-icmp"}, word) {
		word = strconv.Itoa(icmp)
	}
	n, err := grammar.ParseProtocol(word)
	if err != nil {
		return err
	}
	switch p.Protocol = n; {
	case n == icmp:
		return o.icmp(p, more)
	case eval.HasPorts(n):
		if more == "" {
			return fmt.Errorf("cannot send %s without a port: say which, as in richwall explain %s 443", args[0], args[0])
		}
		low, high, err := grammar.ParsePort(more)
		if err != nil {
			return err
		}
		if low != high || low == 0 {
			return fmt.Errorf("cannot send one packet to port %s: say one port, from 1 to %d", more, grammar.MaxPort)
		}
		p.DestPort = low
	case more != "":
		return fmt.Errorf("cannot use %s: protocol %s has no ports", more, args[0])
	}
	if n == 6 {
		p.Flags, p.MSS = eval.SYN, o.mss
		if p.State != eval.StateNew {
			p.Flags, p.MSS = eval.ACK, 0
		}
	}
	return nil
}

// icmp reads a type by its name, or as its numbers.
func (o *explainOptions) icmp(p *eval.Packet, word string) error {
	typ, code, ok := compile.ICMPType(cmp.Or(word, "echo-request"), p.Family)
	if !ok {
		first, second, both := strings.Cut(word, "/")
		var err, err2 error
		typ, err = strconv.Atoi(first)
		if both {
			code, err2 = strconv.Atoi(second)
		}
		if errors.Join(err, err2) != nil || min(typ, code) < 0 || max(typ, code) > 255 {
			return fmt.Errorf("cannot send ICMP %q: there is no such type of %s; say a name such as echo-request, or numbers such as 3/4", word, p.Family)
		}
	}
	p.ICMPType, p.ICMPCode = typ, max(code, 0)
	return nil
}
