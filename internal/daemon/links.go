package daemon

import (
	"context"
	"slices"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// Clamps with value=link follow the machine's links. The compiler does not ask for these: its rules refer to maps, which are filled in here
// with what each link carries, on the way from the compiler to the kernel. When a link comes, goes or changes its MTU, what was compiled last is
// filled in again and committed as at any other change: the difference is an element of each map, or with iptables a rule for the link.

// links is what is known of the machine's links, and what was made of them. The lock of the daemon guards it.
type links struct {
	stop    func() error    // ends following them; nil while they are not followed
	read    []kernel.Link   // as they were told last
	known   []compile.Link  // what they carry
	refused map[string]bool // names that the log has told of
	from    *ir.Ruleset     // the ruleset that was filled in last
	filled  *ir.Ruleset     // what it has become
	cfg     *zones.Config   // what desired was compiled from
	desired *kernel.Desired // of cfg, before it was filled in
	again   *time.Timer     // when a commit is tried again that has failed; nil for none
}

// linksRetry is how soon it is tried again to follow the links, or to commit what they have become.
const linksRetry = 10 * time.Second

// fill fills the links into a ruleset. It begins to follow them if it is the first that needs them. Where that is not possible the error is
// for a change that would be made; a start goes on without sizes, as do rules that are in force, and it is tried again. The lock is held.
func (d *Daemon) fill(rs *ir.Ruleset) (*ir.Ruleset, error) {
	if rs == nil || !rs.Links {
		return rs, nil
	}
	l := &d.links
	if l.stop == nil && d.opt.FollowLinks != nil {
		stop, now, err := d.opt.FollowLinks(d.linksChanged)
		switch {
		case err == nil:
			l.stop = stop
			d.learn(now)
		case !d.starting && !d.followsLinks():
			return nil, refuse(CommandFailed, "cannot clamp to what links carry: %v", err)
		default:
			d.opt.Log.Error("nothing is clamped by value=link, as the links cannot be read; it is tried again soon", "reason", err)
			d.linksLater()
		}
	}
	if l.from != rs {
		l.from, l.filled = rs, compile.WithLinks(rs, l.known)
	}
	return l.filled, nil
}

// followsLinks says whether the rules in force clamp to what links carry. The lock is held.
func (d *Daemon) followsLinks() bool {
	l := &d.links
	return l.desired != nil && l.cfg == d.runtime && l.desired.Rules != nil && l.desired.Rules.Links
}

// learn notes what the links are now. The lock is held.
func (d *Daemon) learn(now []kernel.Link) {
	l := &d.links
	l.read, l.from, l.filled = now, nil, nil
	l.known = carried(slices.DeleteFunc(slices.Clone(now), func(k kernel.Link) bool {
		err := compile.NameOfLink(k.Name)
		if err != nil && !l.refused[k.Name] {
			if l.refused == nil {
				l.refused = map[string]bool{}
			}
			l.refused[k.Name] = true
			d.opt.Log.Warn("a link is not clamped by value=link for its name", "link", k.Name, "reason", err)
		}
		return err != nil
	}), now)
}

// carried is what each of some links carries: as much as its MTU, and no more than the smallest of what is a part of it and up, as the ports of
// a bridge and the links of a VRF. all are the links that there are. What goes to the machine itself needs no clamp.
func carried(list, all []kernel.Link) []compile.Link {
	least := map[int]int{} // the smallest MTU of the parts, by the index of the master
	for _, k := range all {
		if k.Master == 0 || !k.Up {
			continue
		}
		if known, ok := least[k.Master]; !ok || k.MTU < known {
			least[k.Master] = k.MTU
		}
	}
	var links []compile.Link
	for _, k := range list {
		if k.Loopback {
			continue
		}
		mtu, mtu6 := k.MTU, k.MTU6
		if of, ok := least[k.Index]; ok {
			mtu, mtu6 = min(mtu, of), min(mtu6, of)
		}
		links = append(links, compile.Link{Name: k.Name, MTU: map[ir.Families]int{ir.V4: mtu, ir.V6: mtu6}})
	}
	return links
}

// compiledFrom keeps what a configuration was compiled to, before the links are filled in, which nobody changes then. The lock is held.
func (d *Daemon) compiledFrom(cfg *zones.Config, desired *kernel.Desired) {
	d.links.cfg, d.links.desired = cfg, desired
}

// linksChanged commits what the links have become.
func (d *Daemon) linksChanged(now []kernel.Link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.links.stop == nil {
		return
	}
	d.learn(now)
	d.commitLinks()
}

// commitLinks commits the rules in force with the links as they are. Before the first commit there is nothing to do: that has them. The lock is held.
func (d *Daemon) commitLinks() {
	if d.kernel == nil || d.runtime == nil || d.starting || d.repairs.waiting != "" || d.repairs.stopped {
		return
	}
	if err := d.commitFilled(); err != nil {
		d.opt.Log.Error("what value=link clamps to is not what the links carry now; it is tried again soon", "reason", err)
		d.linksLater()
		return
	}
	d.inKernel(context.Background())
}

// commitFilled is commitLinks. What was compiled from the runtime configuration is not compiled again.
func (d *Daemon) commitFilled() error {
	desired := d.links.desired
	if d.links.cfg != d.runtime || desired == nil {
		var err error
		if desired, _, err = desire(d.history, d.runtime, d.panic, d.awaits); err != nil {
			return err
		}
		d.compiledFrom(d.runtime, desired)
	}
	if desired.Rules == nil || !desired.Rules.Links {
		return nil
	}
	next := *desired
	next.Panic, next.Anew, next.Guarded = d.panic, false, d.repairs.remnant != nil
	var err error
	if next.Rules, err = d.fill(next.Rules); err != nil {
		return err
	}
	return commit(context.Background(), d.kernel, d.runtime.Direct, &next)
}

// linksLater tries it again after a while. The lock is held.
func (d *Daemon) linksLater() {
	if d.links.again != nil {
		d.links.again.Stop()
	}
	d.links.again = time.AfterFunc(linksRetry, func() {
		_ = d.guarded("following links", func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.links.again != nil {
				d.links.again = nil
				d.commitLinks()
			}
			return nil
		})
	})
}

// stopLinks ends following the links. The lock is held.
func (d *Daemon) stopLinks() {
	l := &d.links
	if l.again != nil {
		l.again.Stop()
		l.again = nil
	}
	if l.stop != nil {
		if err := l.stop(); err != nil {
			d.opt.Log.Warn("following links does not end as it should", "reason", err)
		}
		l.stop = nil
	}
}
