package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"richwall/internal/kernel"
	"richwall/zones"
)

// panicPatience is how long panic mode waits for a change that is under way, before it drops everything by another way.
const panicPatience = 500 * time.Millisecond

// notePatience is how long an answer waits for panic mode to be noted on disk.
const notePatience = time.Second

// SetPanic switches panic mode: nothing passes while it is on. It stays on for later processes, until the machine boots. It
// comes on at once, whatever the firewall is doing, also before Start has ended. Where it cannot be committed, whatever the reason, the
// table of DropAll alone drops everything. The error is that this cannot be done either: then all is as it was.
func (d *Daemon) SetPanic(ctx context.Context, on bool) error {
	err := d.setPanic(ctx, on)
	if err == nil || !on && d.Snapshot().Panic { // what an earlier process would be told by may be gone
		d.notePanic()
	}
	return err
}

// notePanic notes for later processes whether panic mode is on now. Where the disk does not take that, a table stays in the kernel
// that drops every packet, which a later process finds.
func (d *Daemon) notePanic() {
	err := d.inPatience(func() error {
		d.noting.Lock()
		defer d.noting.Unlock()
		return d.opt.State.SetPanic(d.Snapshot().Panic)
	})
	if err == nil {
		return
	}
	d.opt.Log.Error("cannot note on disk that panic mode was switched", "reason", err)
	d.mu.Lock() // so that nobody ends panic mode meanwhile
	defer d.mu.Unlock()
	if !d.panic || d.opt.DropAll == nil {
		return
	}
	if err := d.opt.DropAll(true); err != nil {
		d.opt.Log.Error("a restart does not know that panic mode is on", "reason", err)
	}
}

// inPatience calls a function that writes a note, and waits no longer than notePatience for it.
func (d *Daemon) inPatience(note func() error) error {
	noted := make(chan error, 1)
	go func() { noted <- d.guarded("noting panic mode", note) }()
	select {
	case err := <-noted:
		return err
	case <-time.After(notePatience):
		return errors.New("the disk does not answer; as soon as it does, the note is written")
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
	wish := d.wishes.Add(1)
	done := make(chan error, 1)
	go func() {
		done <- d.guarded("panic mode", func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.wishes.Load() != wish { // somebody has switched it again
				return nil
			}
			err := d.guarded("panic mode", func() error { return d.commitPanic(context.WithoutCancel(ctx), on) })
			if err != nil && on && d.kernel != nil {
				return d.panicAlone(err)
			}
			return err
		})
	}()
	if !on || d.opt.DropAll == nil {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-time.After(panicPatience):
	}
	if err := d.dropAll(); err != nil { // the commit may succeed all the same
		d.opt.Log.Error("not every packet is dropped while another change of the firewall is still under way", "reason", err)
		return <-done
	}
	d.opt.Log.Warn("panic mode is on, while another change of the firewall is still under way")
	d.spawn("panic mode", func() {
		if err := <-done; err != nil {
			d.opt.Log.Error("panic mode is on by its own table alone", "reason", err)
		}
	})
	return nil
}

// dropAll drops everything by the table of DropAll.
func (d *Daemon) dropAll() error {
	if err := d.opt.DropAll(true); err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	d.emergency.Store(true)
	return nil
}

// panicAlone drops everything by the table of DropAll alone, because panic mode cannot be committed for a reason. The lock is held.
func (d *Daemon) panicAlone(reason error) error {
	if d.opt.DropAll == nil {
		return reason
	}
	if err := d.dropAll(); err != nil {
		return errors.Join(reason, err)
	}
	d.opt.Log.Error("panic mode cannot be committed: a table of its own alone drops every packet", "reason", reason)
	d.emit(PanicChanged{On: true})
	return nil
}

// commitPanic switches panic mode. The lock is held. Before the first rules are in the kernel they are yet to come with it.
func (d *Daemon) commitPanic(ctx context.Context, on bool) error {
	if d.kernel == nil {
		return d.panicBefore(on)
	}
	if !on {
		return d.endPanic(ctx)
	}
	desired, _, err := d.put(ctx, d.kernel, d.history, d.runtime, true)
	if desired == nil {
		return err
	}
	if err != nil { // nothing is to pass, whatever there is to do for bridges: that is for the next commit
		err = d.kernel.Commit(ctx, desired)
	} else {
		d.inKernel(ctx)
	}
	if err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	d.panicIs(true)
	return nil
}

// endPanic switches panic mode off. Packets may be dropped by the rules of another back end, by the table of DropAll and by the rules of
// this daemon, each of which may be from an earlier process. What memory says is on goes last, so that an error leaves panic mode on: in
// the kernel, in memory and on disk. The lock is held.
func (d *Daemon) endPanic(ctx context.Context) error {
	commit := func(on bool) error {
		_, _, err := d.put(ctx, d.kernel, d.history, d.runtime, on)
		return err
	}
	open := func() error { return commit(false) }
	var steps []func() error
	waited := false
	if d.repairs.waiting != "" { // the rules of this back end come before those of another one go
		steps = append(steps, func() error {
			err := commit(d.panic)
			if err == nil {
				waited = d.waitNoLonger()
			}
			return err
		})
	}
	steps = append(steps, func() error { return d.removeOther(ctx) })
	if d.panic {
		steps = append(steps, d.endDropAll, open)
	} else { // it was DropAll alone
		steps = append(steps, open, d.endDropAll)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			if still := d.endGuarded(ctx, err); still != nil {
				return refuse(CommandFailed, "panic mode stays on: %v", still)
			}
			return nil
		}
	}
	if waited {
		d.stand(ctx)
	}
	d.repaired()
	d.panicIs(false)
	return nil
}

// endGuarded ends a panic mode that the Kernel has not committed, because a step of endPanic has failed for a reason: before the first commit, or
// where another program has taken rules of ours out. What is new is kept out from then on, until the rules are in the kernel; that is tried
// again by itself. The error is why panic mode stays on: the reason, and that something drops every packet still. The lock is held.
func (d *Daemon) endGuarded(ctx context.Context, reason error) error {
	waits := d.repairs.waiting != ""
	others := errors.Is(reason, kernel.ErrForeignChain) || errors.Is(reason, kernel.ErrForeignOwner)
	g, ok := d.kernel.(kernel.Guarder)
	if !ok || !waits && (d.panic || !others) {
		return reason
	}
	left := d.noneLeft(ctx)
	if left != nil && waits && d.commitGuarded(ctx) == nil { // what keeps the start waiting may be rules of bridges
		left = d.noneLeft(ctx)
	}
	if left != nil {
		return errors.Join(reason, left)
	}
	if err := g.KeepOut(context.WithoutCancel(ctx), false); err != nil {
		return errors.Join(reason, err)
	}
	if d.opt.PassFrames != nil {
		if err := d.opt.PassFrames(); err != nil {
			return errors.Join(reason, err)
		}
	}
	if err := d.endDropAll(); err != nil {
		return errors.Join(reason, err)
	}
	d.opt.Log.Error("panic mode ends, and nothing new is let in until the rules are in the kernel; that is tried again soon", "reason", reason)
	d.panicIs(false)
	if !waits {
		d.cannotPutBack(&kernel.Foreign{Unfinished: true, Changes: []string{"rules that another program has taken out"}}, repairInterval, reason)
	}
	return nil
}

// commitGuarded commits what is in force without panic mode, and without what there is to do for bridges, and the guard with it. The lock is held.
func (d *Daemon) commitGuarded(ctx context.Context) error {
	desired, _, err := d.desireHere(d.history, d.runtime, false)
	if err != nil {
		return err
	}
	desired.Guarded = true
	return commit(context.WithoutCancel(ctx), d.kernel, d.runtime.Direct, desired)
}

// noneLeft is an error where every packet is dropped by what only a commit takes away: it names that.
func (d *Daemon) noneLeft(ctx context.Context) error {
	if d.opt.PanicLeft == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leftTime)
	defer cancel()
	left, err := d.opt.PanicLeft(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("it cannot be found out what drops every packet: %w", err)
	case len(left) > 0:
		return fmt.Errorf("every packet is dropped until that is done, by %s", strings.Join(left, ", "))
	}
	return nil
}

// leftTime is the longest that it may take to find out what drops every packet: tools that are waited for may wait for others.
const leftTime = 10 * time.Second

// endDropAll ends what DropAll does. An earlier process may have called it, too.
func (d *Daemon) endDropAll() error {
	if d.opt.DropAll == nil {
		return nil
	}
	if err := d.opt.DropAll(false); err != nil {
		return err
	}
	d.emergency.Store(false)
	return nil
}

// panicBefore switches panic mode on before there are rules. It can be switched off when they are there.
func (d *Daemon) panicBefore(on bool) error {
	if !on || d.opt.DropAll == nil {
		return refuse(CommandFailed, "the firewall has not started yet")
	}
	if err := d.dropAll(); err != nil {
		return err
	}
	d.panicIs(on)
	return nil
}

// panicIs notes and tells that panic mode is on or off. The lock is held.
func (d *Daemon) panicIs(on bool) {
	d.panic = on
	d.publish()
	if on {
		d.opt.Log.Warn("panic mode is on: every packet is dropped")
	} else {
		d.opt.Log.Warn("panic mode is off")
	}
	d.emit(PanicChanged{On: on})
}

// reservePanic prepares the note about panic mode, which a disk that has become full could not take. It says, too, that nothing can be
// written into the state folder, of which nobody else hears as long as there is nothing to write.
func (d *Daemon) reservePanic() {
	if err := d.inPatience(d.opt.State.Writable); err != nil {
		d.opt.Log.Error("the state folder cannot be written: neither a new last good configuration is kept, nor is it noted which direct rules are in the kernel, and whether panic mode is on", "reason", err)
		return
	}
	err := d.inPatience(func() error {
		d.noting.Lock()
		defer d.noting.Unlock()
		return d.opt.State.ReservePanic()
	})
	if err != nil {
		d.opt.Log.Error("panic mode may not be noted on disk when it is switched on: a restart would not know of it", "reason", err)
	}
}

// recallPanic switches panic mode on if it was on when the last process ended: by the note, or by the kernel, where the process ended
// before it was noted, or the disk was full.
func (d *Daemon) recallPanic() {
	on, err := d.opt.State.Panic()
	if !on && d.opt.Dropping != nil {
		var asking error
		if on, asking = d.opt.Dropping(); asking != nil {
			d.opt.Log.Error("the kernel does not say whether panic mode was on before this start", "reason", asking)
		}
	}
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
