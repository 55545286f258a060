package daemon

import (
	"cmp"
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

// switchTime is how long the end of panic mode is waited for, before what can be done beside a change is done: programs of iptables may take a while,
// and a commit that switches panic mode on may still be under way.
const switchTime = 1500 * time.Millisecond

// notePatience is how long an answer waits for panic mode to be noted on disk.
const notePatience = time.Second

// SetPanic switches panic mode: nothing passes while it is on. It stays on for later processes, until the machine boots. It
// comes on at once, whatever the firewall is doing, also before Start has ended. Where it cannot be committed, whatever the reason, the
// table of DropAll alone drops everything.
//
// It ends at once where the table of DropAll alone drops everything beside a change that is under way: what is in the kernel then is what would
// be there without panic mode, which is the guard, or the rules before the change. Else a commit ends it.
//
// The answer comes within two seconds. The error is that nothing can be done: then all is as it was. Or it is errLater: the switch is accepted
// and not made yet, as another change is under way, or a program does not answer. It is made behind that, unless panic mode is switched again.
func (d *Daemon) SetPanic(ctx context.Context, on bool) error {
	err := d.setPanic(ctx, on)
	if !errors.Is(err, errLater) {
		d.noteSwitch(on, err)
	}
	return err
}

// noteSwitch notes what a switch of panic mode has come to.
func (d *Daemon) noteSwitch(on bool, err error) {
	if err == nil || !on && d.Snapshot().Panic { // what an earlier process would be told by may be gone
		d.notePanic()
	}
}

// errLater is that a switch of panic mode is accepted and not made yet; errOvertaken that panic mode was switched again since.
var (
	errLater     = errors.New("accepted, and not done yet: another change of the firewall is still under way, or a program that it needs does not answer")
	errOvertaken = errors.New("panic mode was switched again meanwhile")
)

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
	kept := make(chan struct{})
	d.spawn("panic mode", func() {
		defer close(kept)
		d.dropForNext()
	})
	select {
	case <-kept:
	case <-time.After(panicPatience):
	}
}

// dropForNext puts up the table that tells a later process of panic mode, if it is on.
func (d *Daemon) dropForNext() {
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
	case on && now.Panic && d.ending.Load() == 0:
		return refuse(zones.AlreadyEnabled, "panic mode already enabled")
	case !on && !now.Panic && d.wishes.Load()%2 == 0: // else it is yet to come on
		return refuse(NotEnabled, "panic mode is not enabled")
	}
	wish := d.order(on)
	done := d.beginSwitch(context.WithoutCancel(ctx), on, wish)
	if d.opt.DropAll == nil && on {
		return <-done
	}
	patience := panicPatience
	if !on {
		patience = cmp.Or(d.opt.SwitchTime, switchTime)
	}
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
	}
	if on {
		return d.panicBeside(done, wish)
	}
	return d.endBeside(done, wish)
}

// order is the number of an order to switch panic mode: odd to switch it on, even to switch it off. It is that of the order before if that says
// the same, so that only an order to the contrary overtakes one that is not carried out yet.
func (d *Daemon) order(on bool) uint64 {
	for {
		last := d.wishes.Load()
		if on == (last%2 == 1) {
			return last
		}
		if d.wishes.CompareAndSwap(last, last+1) {
			return last + 1
		}
	}
}

// beginSwitch switches panic mode as soon as the lock can be had, and, where it is to end, there are rules. The error comes by the channel.
func (d *Daemon) beginSwitch(ctx context.Context, on bool, wish uint64) <-chan error {
	done := make(chan error, 1)
	if !on {
		d.ending.Add(1)
	}
	go func() {
		err := d.guarded("panic mode", func() error {
			if !on {
				<-d.begun
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.switchPanic(ctx, on, wish)
		})
		if !on {
			d.ending.Add(-1)
		}
		done <- err
	}()
	return done
}

// switchPanic switches panic mode, unless that was overtaken. The lock is held.
func (d *Daemon) switchPanic(ctx context.Context, on bool, wish uint64) error {
	switch now := d.Snapshot(); {
	case !on && !now.Panic, on && d.panic && d.wishes.Load() == wish: // it ended beside a change, or another order has said the same
		return nil
	case d.wishes.Load() != wish:
		if now.Panic == on {
			return nil
		}
		return commandFailed(errOvertaken)
	case !on && d.repairs.stopped:
		return refuse(CommandFailed, "panic mode stays on: the firewall has stopped")
	}
	if on {
		d.committing(true)
	}
	err := d.guarded("panic mode", func() error { return d.commitPanic(ctx, on, wish) })
	if err != nil && on && d.kernel != nil {
		err = d.panicAlone(err)
	}
	if err != nil && on {
		d.wishes.CompareAndSwap(wish, wish+1) // all is as it was: there is nothing to take back
	}
	return err
}

// panicBeside has the table of DropAll drop everything while a change is under way behind which panic mode is committed.
func (d *Daemon) panicBeside(done <-chan error, wish uint64) error {
	if err := d.dropBeside(wish); err != nil { // the commit may succeed all the same
		if !errors.Is(err, errOvertaken) {
			d.opt.Log.Error("not every packet is dropped while another change of the firewall is still under way", "reason", err)
		}
		select {
		case err := <-done:
			return err
		case <-time.After(panicPatience):
		}
		d.finishSwitch(done, true)
		return later("it comes on as soon as that is over, unless it is switched off before; firewall-cmd --query-panic tells whether it is on")
	}
	d.opt.Log.Warn("panic mode is on, while another change of the firewall is still under way")
	d.spawn("panic mode", func() {
		if err := <-done; err != nil && !errors.Is(err, errOvertaken) {
			d.opt.Log.Error("panic mode is on by its own table alone", "reason", err)
		}
	})
	return nil
}

// endBeside ends panic mode beside a change that is under way where DropAll alone drops everything. Else the switch goes on by itself.
func (d *Daemon) endBeside(done <-chan error, wish uint64) error {
	ended, err := d.passBeside(wish)
	switch {
	case err != nil && !errors.Is(err, errOvertaken):
		d.opt.Log.Error("panic mode does not end while another change of the firewall is still under way", "reason", err)
	case ended:
		d.opt.Log.Warn("panic mode is off, while another change of the firewall is still under way")
		return nil
	}
	d.finishSwitch(done, false)
	return later("panic mode ends as soon as that is over, unless it is switched on again before; firewall-cmd --query-panic tells whether it is on")
}

// later is errLater with what happens then.
func later(then string) error {
	return &Error{Code: CommandFailed, Msg: errLater.Error() + "; " + then, cause: errLater}
}

// finishSwitch does what is to be done when a switch has been made for whose end nobody waits.
func (d *Daemon) finishSwitch(done <-chan error, on bool) {
	d.spawn("panic mode", func() {
		err := <-done
		if err != nil {
			d.opt.Log.Error("panic mode is not switched as it was asked for", "on", on, "reason", err)
		}
		d.noteSwitch(on, err)
	})
}

// committing notes that a commit with panic mode begins, or that panic mode has ended. Behind a commit that has failed it is not known what is left of
// it in the kernel.
func (d *Daemon) committing(begins bool) {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	d.panicking, d.beside = begins, false
}

// dropBeside drops everything by the table of DropAll, for a switch that may not have the lock.
func (d *Daemon) dropBeside(wish uint64) error {
	return d.unlessOvertaken(wish, func() error {
		before := d.Snapshot().Panic
		if err := d.dropAll(); err != nil {
			return err
		}
		d.beside = !d.panicking && (d.beside || !before)
		return nil
	})
}

// passBeside takes away the table of DropAll where nothing but that belongs to panic mode, and says whether panic mode is off.
func (d *Daemon) passBeside(wish uint64) (ended bool, err error) {
	err = d.unlessOvertaken(wish, func() error {
		if d.beside {
			if err := d.passAll(); err != nil {
				return err
			}
		}
		ended = !d.Snapshot().Panic
		return nil
	})
	return ended, err
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
func (d *Daemon) commitPanic(ctx context.Context, on bool, wish uint64) error {
	if d.kernel == nil {
		return d.panicBefore()
	}
	if !on {
		return d.endPanic(ctx, wish)
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
func (d *Daemon) endPanic(ctx context.Context, wish uint64) error {
	commit := func(on bool) error {
		_, _, err := d.put(ctx, d.kernel, d.history, d.runtime, on)
		return err
	}
	open := func() error { return commit(false) }
	pass := func() error { return d.endDropAll(wish) }
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
		steps = append(steps, pass, open)
	} else { // it was DropAll alone
		steps = append(steps, open, pass)
	}
	for _, step := range steps {
		err := step()
		switch {
		case err == nil:
			continue
		case errors.Is(err, errOvertaken):
			if waited {
				d.stand(ctx)
			}
			return err
		}
		if still := d.endGuarded(ctx, err, wish); still != nil {
			return refuse(CommandFailed, "panic mode stays on: %v", still)
		}
		return nil
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
func (d *Daemon) endGuarded(ctx context.Context, reason error, wish uint64) error {
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
	if err := d.unlessOvertaken(wish, d.dropEverything); err != nil { // nothing passes until the last step
		return errors.Join(reason, err)
	}
	if err := g.KeepOut(context.WithoutCancel(ctx), false); err != nil {
		return errors.Join(reason, err)
	}
	if d.opt.PassFrames != nil {
		if err := d.opt.PassFrames(); err != nil {
			return errors.Join(reason, err)
		}
	}
	if err := d.endDropAll(wish); err != nil {
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

// endDropAll ends what DropAll does. An earlier process may have called it, too. The error is also that panic mode was switched again.
func (d *Daemon) endDropAll(wish uint64) error {
	return d.unlessOvertaken(wish, d.passAll)
}

// unlessOvertaken does something by the table of DropAll, or about it, unless panic mode was switched again since an order.
func (d *Daemon) unlessOvertaken(wish uint64, do func() error) error {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	if d.wishes.Load() != wish {
		return errOvertaken
	}
	return do()
}

// passAll takes the table of DropAll away. The lock dropping is held.
func (d *Daemon) passAll() error {
	if d.opt.DropAll == nil {
		return nil
	}
	if err := d.opt.DropAll(false); err != nil {
		return err
	}
	d.emergency.Store(false)
	d.beside = false
	return nil
}

// dropEverything is dropAll where there is DropAll.
func (d *Daemon) dropEverything() error {
	if d.opt.DropAll == nil {
		return nil
	}
	return d.dropAll()
}

// panicBefore switches panic mode on before there are rules. It can be switched off when they are there. The lock is held.
func (d *Daemon) panicBefore() error {
	if d.opt.DropAll == nil {
		return refuse(CommandFailed, "the firewall has not started yet")
	}
	if err := d.dropAll(); err != nil {
		return err
	}
	d.panicIs(true)
	return nil
}

// panicIs notes and tells that panic mode is on or off. The lock is held.
func (d *Daemon) panicIs(on bool) {
	d.panic = on
	if !on {
		d.committing(false)
	}
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
