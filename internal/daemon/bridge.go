package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// bridgeChains are the kernel's chains for bridges that have one of ours behind them with the iptables back end, by table.
var bridgeChains = map[string][]string{"filter": {"INPUT", "FORWARD", "OUTPUT"}, "nat": {"PREROUTING", "OUTPUT", "POSTROUTING"}, "broute": {"BROUTING"}}

// bridgeRules is what the direct interface of a configuration has for ebtables. Rules of one of the kernel's chains, which may be
// named with "_direct" behind it, are in that chain with nftables; with iptables they are in a chain of that name, to which it
// jumps.
func bridgeRules(cfg *zones.Config) *kernel.Bridge {
	b := &kernel.Bridge{}
	for _, c := range cfg.Direct.Chains {
		if c.IPV == "eb" {
			b.Chains = append(b.Chains, kernel.BridgeChain{Table: c.Table, Chain: c.Chain})
		}
	}
	rules := slices.Clone(cfg.Direct.Rules)
	slices.SortStableFunc(rules, func(a, b zones.DirectRule) int { return a.Priority - b.Priority })
	for _, r := range rules {
		if r.IPV != "eb" {
			continue
		}
		own := kernel.BridgeChain{Table: r.Table, Chain: r.Chain}
		if builtin := strings.TrimSuffix(r.Chain, "_direct"); slices.Contains(bridgeChains[r.Table], builtin) && !slices.Contains(b.Chains, own) {
			own.Chain = builtin
			if ir.Backend(cfg.Conf.FirewallBackend) == ir.IPTables {
				own.Chain += "_direct"
				if !slices.Contains(b.Chains, own) {
					b.Chains = append(b.Chains, own)
					b.Rules = append(b.Rules, kernel.BridgeRule{Table: r.Table, Chain: builtin, Args: []string{"-j", own.Chain}})
				}
			}
		}
		b.Rules = append(b.Rules, kernel.BridgeRule{Table: r.Table, Chain: own.Chain, Args: r.Args})
	}
	for _, p := range cfg.Direct.Passthroughs {
		if p.IPV == "eb" {
			b.Commands = append(b.Commands, p.Args)
		}
	}
	return b
}

// commitBridge makes ebtables' rules those of a configuration, and then does the rest. If that fails, what was there is put back, also what
// an earlier process has left there. When it cannot be put back it is not known any more what is there, and the next commit finds out, which is made soon.
func (d *Daemon) commitBridge(ctx context.Context, cfg *zones.Config, rest func() error) error {
	next := bridgeRules(cfg)
	if d.opt.Bridge == nil || reflect.DeepEqual(d.bridge, next) {
		err := rest()
		if err == nil {
			d.bridge = next
		}
		return err
	}
	was, err := d.opt.Bridge(ctx, d.bridge, next)
	if err != nil {
		err = needed(cfg.Direct, true, err)
		if d.bridge = was; errors.Is(err, kernel.ErrNotPutBack) {
			d.findBridgeOut()
		}
		return &Error{Code: CommandFailed, Msg: err.Error(), cause: bridgeRefusal(cfg.Direct, err)}
	}
	old := d.bridge
	d.bridge = nil // until it is settled, also where the rest has a fault
	defer d.findBridgeOut()
	if err := rest(); err != nil {
		_, back := d.opt.Bridge(context.WithoutCancel(ctx), next, was)
		if d.bridge = cmp.Or(old, was); back != nil {
			d.bridge = nil
			d.opt.Log.Error("cannot put back the rules of bridges; it is tried again soon", "reason", back)
		}
		return err
	}
	d.bridge = next
	return nil
}

// findBridgeOut has ebtables' rules made those in force soon, where nobody knows what they are behind a change that has failed. A start is
// tried again as a whole. The lock is held.
func (d *Daemon) findBridgeOut() {
	if d.bridge == nil && !d.starting && d.kernel != nil && d.repairs.waiting == "" && !d.repairs.stopped {
		d.cannotPutBack(&kernel.Foreign{Unfinished: true, Changes: []string{"rules of bridges"}}, repairInterval, nil)
	}
}

// checkBridge asks ebtables about what a configuration has for it, without a change.
func (d *Daemon) checkBridge(ctx context.Context, cfg *zones.Config) error {
	next := bridgeRules(cfg)
	if d.opt.CheckBridge == nil || reflect.DeepEqual(next, &kernel.Bridge{}) {
		return nil
	}
	return bridgeRefusal(cfg.Direct, needed(cfg.Direct, true, d.opt.CheckBridge(ctx, next)))
}

// bridgeRefusal is the errors of the direct chains, rules and commands that the lines are about which ebtables refuses; another error as
// it is.
func bridgeRefusal(direct *zones.Direct, err error) error {
	var refused *kernel.BridgeError
	if !errors.As(err, &refused) {
		return err
	}
	var list []error
	blame := func(said *kernel.BridgeLine, about fmt.Stringer, line int) {
		if said == nil {
			return
		}
		list = append(list, &kernel.RuleError{Origin: directOrigin(direct, about, line), Err: fmt.Errorf("ebtables refuses %q: %w", about, said.Why)})
	}
	for i := range direct.Chains {
		c := &direct.Chains[i]
		if c.IPV == "eb" && c.Table == refused.Table {
			blame(refused.AboutChain(c.Chain), c, c.Line)
		}
	}
	for i := range direct.Rules {
		r := &direct.Rules[i]
		builtin := strings.TrimSuffix(r.Chain, "_direct")
		if r.IPV == "eb" && r.Table == refused.Table {
			blame(cmp.Or(refused.AboutRule(builtin, r.Args), refused.AboutRule(builtin+"_direct", r.Args)), r, r.Line)
		}
	}
	for i := range direct.Passthroughs {
		p := &direct.Passthroughs[i]
		if p.IPV == "eb" {
			blame(refused.AboutCommand(p.Args), p, p.Line)
		}
	}
	if list == nil {
		return err
	}
	return errors.Join(list...)
}

// directOrigin is where something of the direct interface is.
func directOrigin(direct *zones.Direct, about fmt.Stringer, line int) *ir.Origin {
	return &ir.Origin{Object: "direct", Path: direct.Origin.Path, Line: line, Rule: about}
}

// chainRefusal is the errors of the direct chains and passthroughs that make a chain which another program has made; another error as it
// is.
func chainRefusal(direct *zones.Direct, err error) error {
	var taken *kernel.TakenError
	if !errors.As(err, &taken) {
		return err
	}
	var list []error
	blame := func(about fmt.Stringer, line int) {
		list = append(list, &kernel.RuleError{Origin: directOrigin(direct, about, line), Err: fmt.Errorf("cannot make %q: %w", about, taken)})
	}
	ipv := map[string]string{"iptables": "ipv4", "ip6tables": "ipv6"}[taken.Tool]
	for i := range direct.Chains {
		if c := &direct.Chains[i]; c.IPV == ipv && c.Table == taken.Table && c.Chain == taken.Chain {
			blame(c, c.Line)
		}
	}
	for i := range direct.Passthroughs {
		p := &direct.Passthroughs[i]
		if p.IPV != ipv {
			continue
		}
		if c, wrong := p.Command(); wrong == nil && c.Kind == zones.PassNew && c.Table == taken.Table && c.Chain == taken.Chain {
			blame(p, p.Line)
		}
	}
	if list == nil {
		return err
	}
	return errors.Join(list...)
}
