package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/zones"
)

// part is what a start can use of the files.
type part struct {
	cfg    *zones.Config
	losses []zones.Loss
	good   lastGood
	direct *zones.Direct // of the last good configuration, in place of the one in cfg; nil for none
}

// whole is the configuration with the direct rules that are to be in force.
func (p *part) whole() *zones.Config {
	if p.direct == nil {
		return p.cfg
	}
	return p.cfg.WithDirect(p.direct)
}

// leaveOut takes out what problems of the whole are about, and returns what is lost by that.
func (p *part) leaveOut(problems zones.Problems) []zones.Loss {
	next, lost := zones.LeaveOut(p.whole(), problems)
	if p.direct != nil {
		next, p.direct = next.WithDirect(p.cfg.Direct), next.Direct
	}
	p.cfg = next
	return lost
}

// lose notes and logs losses. When a direct rule is among them that may have refused something, those of the last good configuration
// stand in for all of direct.xml, if there is one.
func (d *Daemon) lose(p *part, lost []zones.Loss) {
	p.losses = append(p.losses, lost...)
	if p.direct == nil && p.good.folder != "" && zones.InDoubt(ofDirect(lost)) {
		if p.direct = d.goodDirect(p.good); p.direct != nil {
			d.opt.Log.Error("the direct rules of the last good configuration are tried in place of those of direct.xml")
		}
	}
	for _, l := range lost {
		d.opt.Log.Error(p.text(l))
	}
}

// text says what is lost, in one line.
func (p *part) text(l zones.Loss) string {
	if p.direct != nil && isDirect(l) && !p.ofGood(l) {
		return l.Problem.String() + "; nothing of direct.xml is used"
	}
	return l.String()
}

// ofGood tells whether what is lost is in the files of the last good configuration.
func (p *part) ofGood(l zones.Loss) bool { return strings.HasPrefix(l.Problem.Path, p.good.link) }

// failed says what is lost of a part that is in force, a line each, and what is in force instead.
func (p *part) failed() []string {
	var texts []string
	for _, l := range p.losses {
		texts = append(texts, p.text(l))
	}
	if p.direct != nil {
		texts = append(texts, p.standIn())
	}
	return texts
}

// unheard is what is tried again of a start with a configuration, of which no direct rule was left out but for its hosts if alone says so; nil
// for nothing.
func (p *part) unheard(cfg *zones.Config, alone bool) *unheard {
	u := &unheard{cfg: p.cfg.WithDirect(cfg.Direct)}
	for _, l := range ofDirect(p.losses) {
		u.texts = append(u.texts, p.text(l))
	}
	if p.direct != nil {
		u.texts = append(u.texts, p.standIn())
	}
	if !alone || u.texts == nil {
		return nil
	}
	return u
}

// standIn says which direct rules are in force in place of direct.xml.
func (p *part) standIn() string {
	from := fmt.Sprintf("the last good configuration, of %s, in %s", p.good.installed.Local().Format(time.DateTime), p.good.link)
	none := len(p.direct.Chains)+len(p.direct.Rules)+len(p.direct.Passthroughs) == 0
	switch refused := slices.ContainsFunc(p.losses, func(l zones.Loss) bool { return isDirect(l) && p.ofGood(l) }); {
	case none && refused:
		return "no direct rules are in force: those of direct.xml cannot be used, and neither can those of " + from
	case none:
		return "no direct rules are in force: those of direct.xml cannot be used, and there are none in " + from
	case refused:
		return "in force instead of direct.xml are the direct rules of " + from + ", but for those of them that cannot be used either"
	}
	return "in force instead of direct.xml are the direct rules of " + from
}

// causes says what is wrong with a part that does not come into force, a line each.
func (p *part) causes() []string {
	var texts []string
	for _, l := range p.losses {
		texts = append(texts, l.Problem.Cause())
	}
	return texts
}

// goodDirect is direct.xml of the last good configuration; nil if it cannot be read.
func (d *Daemon) goodDirect(good lastGood) *zones.Direct {
	data := d.readGood(good, "direct.xml")
	if data == nil {
		return nil
	}
	direct, problems := zones.ReadDirect(data, filepath.Join(good.link, "direct.xml"))
	d.logWarnings(problems)
	return direct
}

// readGood is a file of the last good configuration; nil if it cannot be read.
func (d *Daemon) readGood(good lastGood, name string) []byte {
	if good.folder == "" {
		return nil
	}
	type result struct {
		data []byte
		err  error
	}
	r, err := askState(context.Background(), d, func() (r result) {
		r.data, r.err = os.ReadFile(filepath.Join(good.folder, name))
		return r
	})
	if err = errors.Join(err, r.err); err != nil {
		d.opt.Log.Error("a file of the last good configuration cannot be read", "reason", good.named(err.Error()))
	}
	return r.data
}

// await says which chains of other programs may be missing when the first rules are committed: those that the last good configuration has
// rules in. Without one, any other name may be a misspelled one, and a rule in it would do nothing. So would one beside nftables in a chain
// of the ruleset that the last good configuration had for iptables: no other program makes that chain.
func (d *Daemon) await(p *part) {
	var known map[[2]string]bool
	ours := p.good.damaged != nil
	if p.good.folder != "" && len(p.cfg.Direct.Rules)+len(p.cfg.Direct.Passthroughs) > 0 {
		if direct := d.goodDirect(p.good); direct != nil {
			known = directChains(p.cfg.WithDirect(direct))
			conf := d.goodConf(p.good)
			ours = conf == nil || ir.Backend(conf.FirewallBackend) == ir.IPTables
		}
	}
	if p.good.damaged != nil { // it may have had rules in any
		known = nil
	} else if known == nil {
		known = map[[2]string]bool{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.awaits = awaited(known, ours)
}

// directChains are the chains that direct rules of a configuration are in, by table and name; none if they do not compile.
func directChains(cfg *zones.Config) map[[2]string]bool {
	chains := map[[2]string]bool{}
	if rules, err := compile.Direct(cfg); err == nil && rules != nil {
		for _, c := range rules.Chains {
			chains[[2]string{c.Table, c.Name}] = true
		}
	}
	return chains
}

// awaited says of these chains, and no others, that they may be missing (kernel.Desired); of all if they are nil. ours says that those among them
// with a name of a ruleset for iptables may be of such a ruleset, and not another program's.
func awaited(chains map[[2]string]bool, ours bool) func(table, chain string, beside bool) bool {
	return func(table, chain string, beside bool) bool {
		return (chains == nil || chains[[2]string{table, chain}]) && !(beside && ours && ir.IsChain(table, chain))
	}
}

// decisive are the losses that decide whether the files are used: not those of direct.xml, if other direct rules can stand in.
func (g lastGood) decisive(losses []zones.Loss) []zones.Loss {
	if g.folder == "" {
		return losses
	}
	return slices.DeleteFunc(slices.Clone(losses), isDirect)
}

// ofDirect are the losses of direct.xml.
func ofDirect(losses []zones.Loss) []zones.Loss {
	return slices.DeleteFunc(slices.Clone(losses), func(l zones.Loss) bool { return !isDirect(l) })
}

func isDirect(l zones.Loss) bool { return l.Problem.Object.Kind == zones.KindDirect }
