package richwall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/lab"
	"richwall/zones"
)

type labOptions struct {
	directories
	place
	backends   []string
	clientZone string
	serverZone string
	open       bool
	mtu        int
	pathMTU    int
	size       size
	offered    []int
	port       int
	capture    bool
	json       bool
}

func newLab() *cobra.Command {
	var o labOptions
	cmd := &cobra.Command{
		Use:   "lab RULE…",
		Short: "Show what rich rules do to packets",
		Long: `Sends real packets through a firewall, before and after it gets the rules, and shows
the difference. Client, firewall and server are network namespaces that exist only
meanwhile; this machine's own network and firewall are neither touched nor seen.

  client ──────── c0 firewall s0 ──────── server
  10.1.0.2        10.1.0.1  10.2.0.1      10.2.0.2
  fd00:1::2       fd00:1::1 fd00:2::1     fd00:2::2

The packets are TCP SYNs with each MSS of --offered and the SYN/ACKs that answer them, over
IPv4 and IPv6, from either side; for rules that are about more than forwarded TCP also
towards the firewall, and datagrams or pings. They have the addresses and the port that
the rules name. A star marks what the rules changed.

Without --config the firewall has the definitions that richwall comes with: the client
is in the zone that the rules go to (or the policy's first ingress zone), the server in
zone trusted (or the policy's first egress zone), and what no rule decides about passes,
so that what is seen is what the rules do. With --config it has that configuration, and
--client-zone and --server-zone say where the two are.

With --path-mtu there is a smaller link further on, between s0 and the server, and no
ICMP that tells of it: what a VPN, a tunnel or PPPoE behind a careless firewall does.
Then real data goes up and down the path too, from 10.1.0.10 to 10.2.0.10 and back. An
upload that stalls while the download finishes is the SYN/ACK that was not clamped.
Since the smaller link is none of the firewall's own, value=pmtu and value=link do not
know of it: give value=N or mtu=M.

It works for root, and for other users where they may make user namespaces.`,
		Example: `  richwall lab 'rule tcp-mss-clamp value=1360'
  richwall lab --mtu 1400 --offered 1300,1460 'rule tcp-mss-clamp value=pmtu'
  richwall lab --capture --offered 1460 'rule tcp-mss-clamp value=1360'

  Downloads work, uploads hang over my VPN, whose packets are at most 1280 bytes:
  richwall lab --path-mtu 1280 'rule tcp-mss-clamp mtu=1280'

  richwall lab --backend iptables 'rule family=ipv4 source address=192.0.2.0/24 port port=22 protocol=tcp drop'
  richwall lab --config /etc/firewalld --policy out --client-zone home --server-zone external 'rule tcp-mss-clamp'`,
		Args:              words(1, math.MaxInt, "a rule, such as 'rule tcp-mss-clamp value=1360'"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("open") {
				o.open = o.config == ""
			}
			return o.run(cmd, args)
		},
	}
	o.directories.flags(cmd)
	o.place.flags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.backends, "backend", nil, "`BACKEND` of the firewall: nftables, iptables, or both with a comma between them; without it, what --config says, or both")
	f.StringVar(&o.clientZone, "client-zone", "", "`ZONE` that the client is in")
	f.StringVar(&o.serverZone, "server-zone", "", "`ZONE` that the server is in; with --config and without this, the default zone")
	f.BoolVar(&o.open, "open", false, "let pass what no rule decides about; it is so without --config")
	f.IntVar(&o.mtu, "mtu", lab.DefaultMTU, "MTU of the link between firewall and server in `BYTES`, 1280 to 65535")
	f.IntVar(&o.pathMTU, "path-mtu", 0, "MTU of a link behind that one in `BYTES`, 1280 to 65535, on a path without ICMP; and try uploads and downloads")
	o.size = 1 << 20
	f.Var(&o.size, "size", "`BYTES` to upload and download with --path-mtu, to 1G; K, M and G are powers of 1024")
	f.IntSliceVar(&o.offered, "offered", []int{1200, 1400, 1460}, "`LIST` of the MSS values that SYNs and SYN/ACKs offer, in bytes, 1 to 65535; --mss is the same")
	f.BoolVar(&o.capture, "capture", false, "print the packets as tcpdump on the firewall's interfaces would, before and after")
	f.IntVar(&o.port, "port", 0, "destination `PORT` of the packets; without it, the one that the rules name, or 80")
	f.BoolVar(&o.json, "json", false, "print a JSON list with an object for each back end")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "mss" {
			name = "offered"
		}
		return pflag.NormalizedName(name)
	})
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"client-zone", "server-zone"} {
		completeNames(cmd, name, func(cfg *zones.Config) []string { return zones.Names(cfg.Zones) })
	}
	return cmd
}

// check says which flag's value cannot be.
func (o *labOptions) check() error {
	if len(o.offered) == 0 {
		return errors.New("--offered has no value: say which to try, such as 1200,1460")
	}
	for _, mss := range o.offered {
		if mss < 1 || mss > 65535 {
			return fmt.Errorf("cannot try an MSS of %d: it is from 1 to 65535", mss)
		}
	}
	if o.port < 0 || o.port > grammar.MaxPort {
		return fmt.Errorf("cannot try port %d: the highest port is %d", o.port, grammar.MaxPort)
	}
	for _, mtu := range []int{o.mtu, cmp.Or(o.pathMTU, o.mtu)} {
		if mtu < 1280 || mtu > 65535 {
			return fmt.Errorf("cannot make a link with an MTU of %d: it is from 1280, which IPv6 needs, to 65535", mtu)
		}
	}
	return checkBackends(o.backends)
}

func (o *labOptions) run(cmd *cobra.Command, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	rules, err := parseRules(args)
	if err != nil {
		return err
	}
	cfg, err := o.load(cmd.ErrOrStderr())
	if err == nil {
		err = o.bounded(cfg, mostLabRules)
	}
	if err != nil {
		return err
	}
	if len(o.backends) == 0 {
		o.backends = backendNames
		if o.config != "" {
			o.backends = []string{cfg.Conf.FirewallBackend}
		}
	}
	bench, err := o.bench(cfg, rules)
	if err != nil {
		return err
	}
	bench.links = labLinks(o.mtu)
	plans, err := bench.plans(o.backends, rules)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	if err := ready(ctx, plans); err != nil {
		return err
	}
	shown := make([]labJSON, len(plans))
	for i, p := range plans {
		if shown[i], err = o.try(ctx, p, bench, rules); err != nil {
			return err
		}
	}
	if o.json {
		return printJSON(cmd.OutOrStdout(), shown)
	}
	return printLab(cmd.OutOrStdout(), shown)
}

// labLinks are the firewall's links, of which that to the server has an MTU in bytes.
func labLinks(mtu int) []compile.Link {
	return []compile.Link{
		{Name: lab.ClientLink, MTU: map[ir.Families]int{ir.V4: lab.ClientMTU, ir.V6: lab.ClientMTU}},
		{Name: lab.ServerLink, MTU: map[ir.Families]int{ir.V4: mtu, ir.V6: mtu}},
	}
}

// plan is the rulesets of one back end, or why it cannot have the rules.
type plan struct {
	backend       ir.Backend
	refused       error
	before, after *script
	added         string // what the rules mean, as the back end's tools print it
	notes         []string
}

// plans compiles for each back end. It is an error if none can have the rules.
func (b *bench) plans(backends []string, rules []*grammar.Rule) ([]plan, error) {
	var plans []plan
	var refused []error
	for _, name := range backends {
		p := plan{backend: ir.Backend(name)}
		if p.refused = p.compile(b, rules); p.refused != nil {
			refused = append(refused, p.refused)
		}
		plans = append(plans, p)
	}
	if len(refused) == len(plans) {
		return nil, statusOf(refused[0])
	}
	return plans, nil
}

func (p *plan) compile(b *bench, rules []*grammar.Rule) error {
	before, err := compile.Compile(b.before, p.backend)
	if err != nil {
		return err
	}
	after, err := compile.Compile(b.after, p.backend)
	if err != nil {
		return err
	}
	before, after = compile.WithLinks(before, b.links), compile.WithLinks(after, b.links)
	for _, rs := range []*ir.Ruleset{before, after} {
		if err := loadsInTime(rs); err != nil {
			return err
		}
	}
	if p.before, err = newScript(before); err != nil {
		return err
	}
	if p.after, err = newScript(after); err != nil {
		return err
	}
	p.notes = slices.Compact(p.after.notes)
	p.added, err = additionText(after.Only(fromRules(rules)))
	return err
}

// mostFields is how many elements of several fields, one of them with ranges, a set may have that is tried with nftables. The kernel takes a time
// for such a set that grows with the square of it (net/netfilter/nft_set_pipapo.c): on one machine 0.9 s for 40,000 elements, 8.6 s for 124,000.
const mostFields = 40_000

// loadsInTime is an error for a ruleset that takes the kernel too long to be tried. A daemon has the time, once.
func loadsInTime(rs *ir.Ruleset) error {
	for _, s := range rs.Sets {
		if rs.Backend == ir.NFTables && s.Wide() && strings.Contains(s.Type, ",") && len(s.Elements) > mostFields {
			return fmt.Errorf("cannot try nftables: ipset %s of type %s has %d elements, and more than %d of that type take the kernel too long", s.Name, s.Type, len(s.Elements), mostFields)
		}
	}
	return nil
}

// additionText is what rules alone mean, in the words of the back end's tools; for iptables that of both tools.
func additionText(rs *ir.Ruleset) (string, error) {
	var parts []string
	for _, f := range forms {
		if f.backend != rs.Backend {
			continue
		}
		var b strings.Builder
		if _, err := f.print(&b, rs, true, false); err != nil {
			return "", err
		}
		if b.Len() == 0 {
			continue
		}
		text := b.String()
		if rs.Backend == ir.IPTables {
			text = "# " + f.name + "\n" + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ""), nil
}

// ready makes sure, before anything is done, that namespaces can be made and that the programs are there. Another user
// than root goes on in a user namespace, as another process.
func ready(ctx context.Context, plans []plan) error {
	var programs []string
	for _, p := range plans {
		if p.refused == nil {
			programs = append(programs, p.before.programs()...)
			programs = append(programs, p.after.programs()...)
		}
	}
	slices.Sort(programs)
	code, done, err := lab.Reexec(ctx)
	if done {
		return exitError{status: code, err: err}
	}
	if err != nil {
		return fmt.Errorf("cannot make the lab: %w", err)
	}
	missing := lab.Missing(slices.Compact(programs)...)
	for i, m := range missing {
		for program, name := range packages {
			if strings.HasPrefix(m, "cannot run "+program+":") {
				missing[i] += "; install the package " + name
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("cannot make the lab:\n%s", strings.Join(missing, "\n"))
	}
	return nil
}

// packages have the programs that load rules, as Debian and Fedora call them.
var packages = map[string]string{"nft": "nftables", "iptables-restore": "iptables", "ip6tables-restore": "iptables", "ipset": "ipset"}

// try sends the packets through a firewall before and after it has the rules, and the data.
func (o *labOptions) try(ctx context.Context, p plan, b *bench, rules []*grammar.Rule) (labJSON, error) {
	shown := labJSON{Backend: p.backend, Bound: b.bound, Added: p.added, Notes: p.notes, pathMTU: o.pathMTU, size: o.size}
	for _, r := range rules {
		shown.Rules = append(shown.Rules, r.String())
	}
	if p.refused != nil {
		shown.Refused = p.refused.Error()
		return shown, nil
	}
	l, err := lab.New(ctx, lab.Options{MTU: o.mtu, PathMTU: o.pathMTU, Capture: o.capture})
	if err != nil {
		return shown, err
	}
	defer l.Close()
	probes := o.probes(b, rules)
	transfers := o.transfers(probes)
	measure := func(s *script) ([]lab.Result, []lab.TransferResult, error) {
		if err := s.load(ctx, l.Firewall()); err != nil {
			return nil, nil, err
		}
		packets, err := l.Probe(ctx, probes)
		if err != nil {
			return nil, nil, err
		}
		data, err := l.Transfer(ctx, transfers)
		return packets, data, err
	}
	before, dataBefore, err := measure(p.before)
	if err != nil {
		return shown, err
	}
	after, dataAfter, err := measure(p.after)
	if err != nil {
		return shown, err
	}
	shown.Packets = lab.Compare(probes, before, after).Rows
	shown.Transfers = lab.CompareTransfers(transfers, dataBefore, dataAfter).Rows
	if o.capture {
		shown.Captures = captures(probes, before, after)
	}
	return shown, nil
}
