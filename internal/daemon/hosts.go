package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"richwall/internal/kernel"
	"richwall/zones"
)

// unheard are the direct rules that a start has left out for nothing but that no address is known of their hosts. They are tried again until a
// name server tells it, or a reload reads the files.
type unheard struct {
	cfg    *zones.Config // of the files, with these rules
	texts  []string      // what Snapshot says of them
	asking bool          // whether the hosts are asked for now
}

// bringTime is the longest that changes wait while hosts, which were known a moment ago, are looked up once more by the commit that brings their
// rules. It is shorter than one host takes of which no name server tells anything.
const bringTime = 5 * time.Second

// hostsAlone tells whether an error of a commit is about nothing but rules whose hosts have no address.
func hostsAlone(err error) bool {
	list := ruleErrors(err)
	return len(list) > 0 && !slices.ContainsFunc(list, func(e *kernel.RuleError) bool { return !errors.Is(e, kernel.ErrNoAddress) })
}

// awaitHosts has the rules that a start has left out for their hosts tried again after a while; nil is that there are none. The lock is held.
func (d *Daemon) awaitHosts(u *unheard) {
	d.repairs.unheard = u
	d.askSoon()
}

// askSoon asks for hosts after a while, unless something else is to be done before. The lock is held.
func (d *Daemon) askSoon() {
	if d.repairs.unheard != nil && d.repairs.timer == nil && !d.repairs.stopped {
		d.attendIn(retryInterval)
	}
}

// askAgain asks for the hosts of rules that were left out, beside everything else, and puts the rules into the kernel once all are known. The
// lock is held.
func (d *Daemon) askAgain() {
	u := d.repairs.unheard
	if u == nil || u.asking {
		return
	}
	if d.repairs.waiting != "" { // no rules are in the kernel yet
		d.askSoon()
		return
	}
	u.asking = true
	next := d.withHosts(u)
	d.spawn("asking for hosts", func() {
		err := d.checkKernel(context.Background(), next)
		d.mu.Lock()
		defer d.mu.Unlock()
		if u.asking = false; d.repairs.unheard != u || d.repairs.stopped {
			return
		}
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), bringTime)
			defer cancel()
			err = d.bringHosts(ctx, u)
		}
		if err != nil {
			d.opt.Log.Warn("direct rules that name hosts are still left out; it is tried again in a minute", "reason", err)
			d.askSoon()
		}
	})
}

// forgetUnheard has rules that were left out not tried again where an edit takes one of them out, of the runtime configuration or of the files: a
// reload reads what the files have then. The lock is held.
func (d *Daemon) forgetUnheard(edit zones.Edit) {
	u := d.repairs.unheard
	if u == nil {
		return
	}
	next, err := edit(u.cfg)
	if err != nil || u.cfg.Direct.Without(d.loaded.Direct).Without(next.Direct).IsEmpty() {
		return
	}
	d.repairs.unheard = nil
	d.opt.Log.Warn("direct rules that name hosts are left out until the next reload: one of them was taken out")
}

// withHosts is the runtime configuration with the rules that were left out. The lock is held.
func (d *Daemon) withHosts(u *unheard) *zones.Config {
	return d.runtime.WithDirect(u.cfg.Direct.Changed(d.runtime.Direct, d.loaded.Direct))
}

// bringHosts puts the rules that were left out into the kernel. The lock is held.
func (d *Daemon) bringHosts(ctx context.Context, u *unheard) error {
	old, next := d.runtime, d.withHosts(u)
	if err := d.commitRuntime(ctx, next); err != nil {
		return err
	}
	d.opt.Log.Warn("the direct rules that name hosts are in the kernel now")
	d.repairs.unheard = nil
	d.loaded = d.loaded.WithDirect(u.cfg.Direct)
	d.failures = slices.DeleteFunc(slices.Clone(d.failures), func(f string) bool { return slices.Contains(u.texts, f) })
	if slices.Equal(d.failures, []string{d.remedy()}) {
		d.state, d.failures, d.unkept = Running, nil, u.cfg
		d.spawn("keeping the last good configuration", d.keepUnkept)
	}
	d.publish()
	d.emit(RuntimeChanged{Old: old, New: next})
	return nil
}
