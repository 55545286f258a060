package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"richwall/internal/kernel"
	"richwall/zones"
)

// panicPatience is how long a switch of panic mode waits for a change that is under way, before it does what can be done beside that.
const panicPatience = 500 * time.Millisecond

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

// order is that panic mode is to be on, or off: a call of SetPanic, and those that ask for the same while that is under way. Only an order in
// the other direction overtakes it.
type order struct {
	on   bool
	over bool          // the switch has ended, or was made beside a change; Daemon.dropping guards it
	done chan struct{} // closed when the switch has ended, by err
	err  error
	late sync.Once // for who does what is to be done then, when no caller waits any more
}

func (d *Daemon) setPanic(ctx context.Context, on bool) error {
	o, err := d.ordered(context.WithoutCancel(ctx), on)
	if err != nil {
		return err
	}
	if d.opt.DropAll == nil && on {
		<-o.done
		return o.err
	}
	select {
	case <-o.done:
		return o.err
	case <-time.After(panicPatience):
	}
	if on {
		return d.panicBeside(o)
	}
	return d.endBeside(o)
}

// ordered is the last order, which a call of SetPanic gives or joins. The error is that panic mode is so already.
func (d *Daemon) ordered(ctx context.Context, on bool) (*order, error) {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	underWay := d.order != nil && !d.order.over
	switch now := d.Snapshot(); {
	case underWay && d.order.on == on:
		return d.order, nil
	case underWay || now.Panic != on:
		d.order = &order{on: on, done: make(chan struct{})}
		go d.carryOut(ctx, d.order)
		return d.order, nil
	case on:
		return nil, refuse(zones.AlreadyEnabled, "panic mode already enabled")
	}
	return nil, refuse(NotEnabled, "panic mode is not enabled")
}

// carryOut switches panic mode as soon as the lock can be had, and, where it is to end, there are rules.
func (d *Daemon) carryOut(ctx context.Context, o *order) {
	defer close(o.done)
	o.err = d.guarded("panic mode", func() error {
		if !o.on {
			<-d.begun
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.switchPanic(ctx, o)
	})
	d.dropping.Lock()
	defer d.dropping.Unlock()
	o.over = true
}

// overtaken tells whether an order in the other direction has come behind one. dropping is held.
func (d *Daemon) overtaken(o *order) bool { return d.order.on != o.on }

// switchPanic switches panic mode, unless that was overtaken. The lock is held.
func (d *Daemon) switchPanic(ctx context.Context, o *order) error {
	switch {
	case !o.on && !d.Snapshot().Panic: // it ended beside a change
		return nil
	case !d.begins(o):
		return commandFailed(errOvertaken)
	case !o.on && d.repairs.stopped:
		return refuse(CommandFailed, "panic mode stays on: the firewall has stopped")
	}
	err := d.guarded("panic mode", func() error { return d.commitPanic(ctx, o) })
	if err != nil && o.on && d.kernel != nil {
		return d.panicAlone(err)
	}
	return err
}

// begins notes that an order begins to change the kernel by more than the table of DropAll, and says whether it may: it was not overtaken.
func (d *Daemon) begins(o *order) bool {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	if d.overtaken(o) {
		return false
	}
	d.committed = d.committed || o.on
	return true
}

// panicBeside has the table of DropAll drop everything while a change is under way behind which panic mode is committed.
func (d *Daemon) panicBeside(o *order) error {
	err := d.dropFor(o)
	if err == nil {
		d.opt.Log.Warn("panic mode is on, while another change of the firewall is still under way")
		d.finishLate(o, false)
		return nil
	}
	if errors.Is(err, errOvertaken) {
		return commandFailed(err)
	}
	d.opt.Log.Error("not every packet is dropped while another change of the firewall is still under way", "reason", err)
	select { // the commit may succeed all the same
	case <-o.done:
		return o.err
	case <-time.After(panicPatience):
	}
	d.finishLate(o, true)
	return later("it comes on as soon as that is over, unless it is switched off before; firewall-cmd --query-panic tells whether it is on")
}

// endBeside ends panic mode beside a change that is under way where DropAll alone drops everything. Else the switch goes on by itself.
func (d *Daemon) endBeside(o *order) error {
	ended, err := d.passBeside(o)
	switch {
	case errors.Is(err, errOvertaken):
		return commandFailed(err)
	case err != nil:
		d.opt.Log.Error("panic mode does not end while another change of the firewall is still under way", "reason", err)
	case ended:
		d.opt.Log.Warn("panic mode is off, while another change of the firewall is still under way")
		return nil
	}
	d.finishLate(o, true)
	return later("panic mode ends as soon as that is over, unless it is switched on again before; firewall-cmd --query-panic tells whether it is on")
}

// later is errLater with what happens then.
func later(then string) error {
	return &Error{Code: CommandFailed, Msg: errLater.Error() + "; " + then, cause: errLater}
}

// finishLate does what is to be done when an order is carried out whose callers do not wait for that any more. What it comes to is noted, unless
// that is done by then.
func (d *Daemon) finishLate(o *order, note bool) {
	o.late.Do(func() {
		d.spawn("panic mode", func() {
			<-o.done
			if o.err != nil && !errors.Is(o.err, errOvertaken) {
				d.opt.Log.Error("panic mode is not switched as it was asked for", "on", o.on, "reason", o.err)
			}
			if note {
				d.noteSwitch(o.on, o.err)
			}
		})
	})
}

// dropFor drops everything by the table of DropAll for an order, unless that was overtaken.
func (d *Daemon) dropFor(o *order) error {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	if d.overtaken(o) {
		return errOvertaken
	}
	if err := d.dropAll(); err != nil {
		return err
	}
	o.over = o.on
	return nil
}

// passFor ends for an order what DropAll does, unless the order was overtaken. An earlier process may have called it, too.
func (d *Daemon) passFor(o *order) error {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	return d.pass(o)
}

// passBeside is passFor where nothing but the table of DropAll can belong to panic mode, and says whether that is so.
func (d *Daemon) passBeside(o *order) (ended bool, err error) {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	if d.committed {
		return false, nil
	}
	err = d.pass(o)
	o.over = err == nil
	return o.over, err
}

// pass is passFor by one who holds dropping.
func (d *Daemon) pass(o *order) error {
	if d.overtaken(o) {
		return errOvertaken
	}
	if d.opt.DropAll != nil {
		if err := d.opt.DropAll(false); err != nil {
			return err
		}
	}
	d.emergency.Store(false)
	return nil
}

// dropAll drops everything by the table of DropAll. dropping is held.
func (d *Daemon) dropAll() error {
	if err := d.opt.DropAll(true); err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	d.emergency.Store(true)
	return nil
}

// dropAlone is dropAll by one who does not hold dropping.
func (d *Daemon) dropAlone() error {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	return d.dropAll()
}

// panicAlone drops everything by the table of DropAll alone, because panic mode cannot be committed for a reason. The lock is held.
func (d *Daemon) panicAlone(reason error) error {
	if d.opt.DropAll == nil {
		return reason
	}
	if err := d.dropAlone(); err != nil {
		return errors.Join(reason, err)
	}
	d.opt.Log.Error("panic mode cannot be committed: a table of its own alone drops every packet", "reason", reason)
	d.emit(PanicChanged{On: true})
	return nil
}

// commitPanic switches panic mode. The lock is held. Before the first rules are in the kernel they are yet to come with it.
func (d *Daemon) commitPanic(ctx context.Context, o *order) error {
	if d.kernel == nil {
		return d.panicBefore()
	}
	if !o.on {
		return d.endPanic(ctx, o)
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
func (d *Daemon) endPanic(ctx context.Context, o *order) error {
	commit := func(on bool) error {
		_, _, err := d.put(ctx, d.kernel, d.history, d.runtime, on)
		return err
	}
	open := func() error { return commit(false) }
	pass := func() error { return d.passFor(o) }
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
		if still := d.endGuarded(ctx, err, o); still != nil {
			return commandFailed(fmt.Errorf("panic mode stays on: %w", still))
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
// again by itself. The error is why panic mode stays on: the reason, and that something drops every packet still, or that the order was overtaken.
// The table of DropAll drops everything from the beginning and goes last: behind an error it is there. The lock is held.
func (d *Daemon) endGuarded(ctx context.Context, reason error, o *order) error {
	waits := d.repairs.waiting != ""
	others := errors.Is(reason, kernel.ErrForeignChain) || errors.Is(reason, kernel.ErrForeignOwner)
	g, ok := d.kernel.(kernel.Guarder)
	if !ok || !waits && (d.panic || !others) {
		return reason
	}
	if d.opt.DropAll != nil {
		if err := d.dropFor(o); err != nil {
			return errors.Join(reason, err)
		}
	}
	left := d.noneLeft(ctx)
	if left != nil && waits && d.commitGuarded(ctx) == nil { // what keeps the start waiting may be rules of bridges
		left = d.noneLeft(ctx)
	}
	if left != nil {
		return errors.Join(reason, left)
	}
	if err := d.openGuarded(ctx, g, o); err != nil {
		return errors.Join(reason, err)
	}
	d.opt.Log.Error("panic mode ends, and nothing new is let in until the rules are in the kernel; that is tried again soon", "reason", reason)
	d.panicIs(false)
	if !waits {
		d.cannotPutBack(&kernel.Foreign{Unfinished: true, Changes: []string{"rules that another program has taken out"}}, repairInterval, reason)
	}
	return nil
}

// openGuarded turns a guard that drops everything into one that keeps out what is new, and ends what else drops everything beside the rules. The
// lock is held.
func (d *Daemon) openGuarded(ctx context.Context, g kernel.Guarder, o *order) error {
	if err := g.KeepOut(context.WithoutCancel(ctx), false); err != nil {
		return err
	}
	if d.opt.PassFrames != nil {
		if err := d.opt.PassFrames(); err != nil {
			return err
		}
	}
	return d.passFor(o)
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

// panicBefore switches panic mode on before there are rules. It can be switched off when they are there. The lock is held.
func (d *Daemon) panicBefore() error {
	if d.opt.DropAll == nil {
		return refuse(CommandFailed, "the firewall has not started yet")
	}
	if err := d.dropAlone(); err != nil {
		return err
	}
	d.panicIs(true)
	return nil
}

// panicIs notes and tells that panic mode is on or off. The lock is held.
func (d *Daemon) panicIs(on bool) {
	d.panic = on
	d.committedIs(on)
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
	d.committedIs(on)
	d.publish()
}

// committedIs notes whether more than the table of DropAll may belong to panic mode in the kernel.
func (d *Daemon) committedIs(may bool) {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	d.committed = may
}
