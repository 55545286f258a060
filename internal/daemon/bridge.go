package daemon

import (
	"context"
	"reflect"
	"slices"

	"richwall/internal/kernel"
	"richwall/zones"
)

// bridgeRules is what the direct interface has for ebtables.
func bridgeRules(direct *zones.Direct) *kernel.Bridge {
	b := &kernel.Bridge{}
	for _, c := range direct.Chains {
		if c.IPV == "eb" {
			b.Chains = append(b.Chains, kernel.BridgeChain{Table: c.Table, Chain: c.Chain})
		}
	}
	rules := slices.Clone(direct.Rules)
	slices.SortStableFunc(rules, func(a, b zones.DirectRule) int { return a.Priority - b.Priority })
	for _, r := range rules {
		if r.IPV == "eb" {
			b.Rules = append(b.Rules, kernel.BridgeRule{Table: r.Table, Chain: r.Chain, Args: r.Args})
		}
	}
	for _, p := range direct.Passthroughs {
		if p.IPV == "eb" {
			b.Commands = append(b.Commands, p.Args)
		}
	}
	return b
}

// commitBridge makes ebtables' rules those of a configuration, and then does the rest. If that fails, they are put back.
func (d *Daemon) commitBridge(ctx context.Context, cfg *zones.Config, rest func() error) error {
	old, next := d.bridge, bridgeRules(cfg.Direct)
	empty := &kernel.Bridge{}
	if d.opt.Bridge == nil || reflect.DeepEqual(old, next) || old == nil && reflect.DeepEqual(next, empty) {
		err := rest()
		if err == nil {
			d.bridge = next
		}
		return err
	}
	if err := d.opt.Bridge(ctx, old, next); err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	if err := rest(); err != nil {
		if old == nil {
			old = empty
		}
		if back := d.opt.Bridge(ctx, next, old); back != nil {
			d.opt.Log.Error("cannot put back the rules of bridges", "reason", back)
		}
		return err
	}
	d.bridge = next
	return nil
}
