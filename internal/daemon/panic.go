package daemon

import (
	"context"
	"errors"
	"time"

	"richwall/zones"
)

// panicPatience is how long panic mode waits for a change that is under way, before it drops everything by another way.
const panicPatience = 500 * time.Millisecond

// SetPanic switches panic mode: nothing passes while it is on. It stays on for later processes, until the machine boots. It
// comes on at once, whatever the firewall is doing.
func (d *Daemon) SetPanic(ctx context.Context, on bool) error {
	if err := d.setPanic(ctx, on); err != nil {
		return err
	}
	d.notePanic(on)
	return nil
}

// notePanic notes for later processes whether panic mode is on.
func (d *Daemon) notePanic(on bool) {
	if err := d.opt.State.SetPanic(on); err != nil {
		d.opt.Log.Error("cannot note that panic mode was switched: a restart does not know of it", "on", on, "reason", err)
	}
}

func (d *Daemon) setPanic(ctx context.Context, on bool) error {
	now := d.Snapshot()
	switch {
	case on && now.Panic:
		return refuse(zones.AlreadyEnabled, "panic mode already enabled")
	case !on && !now.Panic:
		return refuse(NotEnabled, "panic mode is not enabled")
	}
	done := make(chan error, 1)
	go func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		done <- d.commitPanic(context.WithoutCancel(ctx), on)
	}()
	if !on || d.opt.DropAll == nil {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-time.After(panicPatience):
	}
	if err := d.dropAll(); err != nil {
		return errors.Join(err, <-done)
	}
	go func() {
		if err := <-done; err != nil {
			d.opt.Log.Error("panic mode is on by its table alone", "reason", err)
		}
	}()
	return nil
}

// dropAll drops everything while another change is under way, or other programs keep panic mode from being committed.
func (d *Daemon) dropAll() error {
	if err := d.opt.DropAll(true); err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	d.emergency.Store(true)
	d.opt.Log.Warn("panic mode is on, while another change of the firewall is still under way")
	return nil
}

// commitPanic switches panic mode. The lock is held.
func (d *Daemon) commitPanic(ctx context.Context, on bool) error {
	desired, _, err := desire(d.history, d.runtime, d.backend, on)
	if err != nil {
		return err
	}
	if err := d.commit(ctx, d.kernel, desired); err != nil {
		return err
	}
	if !on && d.emergency.Load() {
		if err := d.opt.DropAll(false); err != nil {
			return refuse(CommandFailed, "%v", err)
		}
		d.emergency.Store(false)
	}
	d.panic = on
	d.publish()
	if on {
		d.opt.Log.Warn("panic mode is on: every packet is dropped")
	} else {
		d.opt.Log.Warn("panic mode is off")
	}
	d.emit(PanicChanged{On: on})
	return nil
}

// recallPanic switches panic mode on if it was on when the last process ended.
func (d *Daemon) recallPanic() {
	on, err := d.opt.State.Panic()
	switch {
	case err != nil:
		d.opt.Log.Error("cannot read whether panic mode was on before this start: it is on now, and no packet passes until firewall-cmd --panic-off", "reason", err)
	case on:
		d.opt.Log.Warn("panic mode was on before this start and still is: no packet passes until firewall-cmd --panic-off")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.panic = on
	d.publish()
}
