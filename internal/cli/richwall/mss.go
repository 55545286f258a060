package richwall

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/mss"
	"richwall/zones"
)

type mssOptions struct {
	directories
	kind string
	mtu  int
	json bool
}

func newMSS() *cobra.Command {
	var o mssOptions
	cmd := &cobra.Command{
		Use:   "mss",
		Short: "Say which TCP maximum segment size fits, and which rule sets it",
		Long: `Reads this machine's links, routes and IPsec policies, and its packet filter's rules, and
says for each path which maximum segment size (MSS) fits, whether all TCP connections that
are forwarded over it are clamped to that now, by which rules, and what to add.

  SYN out, SYN/ACK in     connections that are opened from here by the path
  SYN in, SYN/ACK out     connections that come in by it

With --config it also counts what that configuration would do, and names the zones to add
rules to. IPsec policies and rules can be read by root only.

With --for it reads nothing, but says what fits a kind of path.`,
		Example: `  richwall mss                          this machine
  richwall mss --config /etc/firewalld  and its firewall, running or not
  richwall mss --for pppoe              what fits PPPoE
  richwall mss --for wireguard --mtu 1492
                                        WireGuard over PPPoE
  richwall mss --for all                the whole table`,
		Args:              words(0, 0, "no argument, only options"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.directories.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.kind, "for", "", "say what fits this `KIND` of path, or all kinds: "+kindNames())
	f.IntVar(&o.mtu, "mtu", mss.Ethernet, "with --for: MTU of what the path goes over, in `BYTES`, 576 to 65535")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.RegisterFlagCompletionFunc("for", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return append(kindList(), "all"), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.AddCommand(newObserve(), newVerify(), newWatch())
	return cmd
}

func kindList() []string {
	var names []string
	for _, k := range mss.Kinds {
		names = append(names, k.Name)
	}
	return names
}

// kindNames is the list for messages.
func kindNames() string {
	text := ""
	for i, name := range kindList() {
		if i > 0 {
			text += ", "
		}
		text += name
	}
	return text
}

func (o *mssOptions) run(cmd *cobra.Command) error {
	if o.kind != "" {
		return o.kinds(cmd)
	}
	if cmd.Flags().Changed("mtu") {
		return fmt.Errorf("--mtu goes with --for: this machine's links have MTUs of their own")
	}
	options, rules, err := o.advice(cmd)
	if err != nil {
		return err
	}
	machine, err := mss.Read()
	if err != nil {
		return err
	}
	if rules != nil {
		options.Rules = []*mss.Rules{mss.FromIR(compile.WithLinks(rules, linksOf(machine)))}
	}
	found, notes := mss.ReadRules(cmd.Context())
	options.Rules = append(found, options.Rules...)
	options.RulesUnknown = len(notes) > 0
	machine.Notes = append(machine.Notes, notes...)
	report := mss.Advise(machine, options)
	if o.json {
		return printJSON(cmd.OutOrStdout(), report)
	}
	return report.Text(cmd.OutOrStdout())
}

// advice is what --config says: the zone of each interface, and its rules; nil without it.
func (o *mssOptions) advice(cmd *cobra.Command) (mss.Options, *ir.Ruleset, error) {
	if o.config == "" {
		return mss.Options{}, nil, nil
	}
	cfg, err := o.load(cmd.ErrOrStderr())
	if err != nil {
		return mss.Options{}, nil, err
	}
	rules, err := compile.Compile(cfg, ir.Backend(cfg.Conf.FirewallBackend))
	if err != nil {
		return mss.Options{}, nil, statusOf(err)
	}
	zone := func(iface string) string {
		for _, name := range zones.Names(cfg.Zones) {
			if slices.Contains(cfg.Zones[name].Interfaces, iface) {
				return name
			}
		}
		return cfg.Conf.DefaultZone
	}
	return mss.Options{Zone: zone}, rules, nil
}

// linksOf are a machine's links, for clamps that follow them, as the daemon would have them: a bridge, bond or VRF carries no more than the
// smallest of what is a part of it.
func linksOf(m *mss.Machine) (list []compile.Link) {
	for _, l := range m.Links {
		if l.Loopback || compile.NameOfLink(l.Name) != nil {
			continue
		}
		mtu, mtu6 := l.MTU, l.MTU
		if l.MTU6 != 0 {
			mtu6 = min(mtu6, l.MTU6)
		}
		for _, port := range m.Ports(l) {
			if port.Up {
				mtu, mtu6 = min(mtu, port.MTU), min(mtu6, port.MTU)
			}
		}
		list = append(list, compile.Link{Name: l.Name, MTU: map[ir.Families]int{ir.V4: mtu, ir.V6: mtu6}})
	}
	return list
}

// kindJSON is what fits a kind of path, as it is printed in JSON.
type kindJSON struct {
	Name  string   `json:"name"`
	Path  string   `json:"path"`
	Fits  mss.Fit  `json:"fits"`
	Rule  string   `json:"rule"`
	Plain []string `json:"firewalld_rules"` // the same without what only richwall has
}

// kinds prints what fits kinds of paths.
func (o *mssOptions) kinds(cmd *cobra.Command) error {
	if o.mtu < grammar.MinMTU || o.mtu > grammar.MaxMTU {
		return fmt.Errorf("cannot use an MTU of %d: it is from %d to %d bytes", o.mtu, grammar.MinMTU, grammar.MaxMTU)
	}
	list := mss.Kinds
	if o.kind != "all" {
		k, ok := mss.KindNamed(o.kind)
		if !ok {
			return fmt.Errorf("there is no kind of path %q; there are %s, or all", o.kind, kindNames())
		}
		if k.Over(o.mtu).MTU < grammar.MinMTU {
			return fmt.Errorf("cannot use an MTU of %d for %s: what is left is less than the %d bytes that IPv4 needs", o.mtu, k.Words, grammar.MinMTU)
		}
		list = []mss.Kind{k}
	}
	if !o.json {
		return mss.KindsText(cmd.OutOrStdout(), list, o.mtu)
	}
	shown := make([]kindJSON, len(list))
	for i, k := range list {
		f := k.Over(o.mtu)
		shown[i] = kindJSON{k.Name, k.Words, f, f.Rule(), f.Plain()}
	}
	return printJSON(cmd.OutOrStdout(), shown)
}
