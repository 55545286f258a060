package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"richwall/internal/fault"
	"richwall/internal/kernel"
)

// Limits of putting back what other programs have changed: so often at once, and then at this interval, so that two
// programs that want different rules do not keep the machine busy.
const (
	promptRepairs  = 5
	repairInterval = 10 * time.Second
	retryInterval  = time.Minute // after one that failed
)

// repairs is when changes by other programs were attended to.
type repairs struct {
	done     []time.Time     // the latest, at most promptRepairs
	pending  *kernel.Foreign // told of and not attended to yet
	timer    *time.Timer     // for that, and for unheard; nil if none runs
	waiting  string          // why the first rules could not be committed; "" if they were
	open     error           // why new connections are not kept out meanwhile; nil if they are
	failed   string          // what Snapshot says while what is in the kernel cannot be put back; "" if it is as it was committed
	stopped  bool
	remnant  kernel.Kernel // of another back end, which a reload has failed to change to: what it has left is still to be taken back; nil for nothing
	settling *time.Timer   // for the next attempt to do that; nil if none runs
	left     string        // what Snapshot says of the remnant
	unheard  *unheard      // rules that were left out for their hosts; nil for none
}

// wait is how long the next one must wait at a moment. As many as promptRepairs follow at once; then one an interval.
func (r *repairs) wait(at time.Time) time.Duration {
	if len(r.done) < promptRepairs {
		return 0
	}
	oldest, latest := r.done[0], r.done[len(r.done)-1]
	if at.Sub(oldest) >= promptRepairs*repairInterval {
		return 0
	}
	return max(0, latest.Add(repairInterval).Sub(at))
}

func (r *repairs) note(at time.Time) {
	r.done = append(r.done, at)
	if len(r.done) > promptRepairs {
		r.done = slices.Delete(r.done, 0, 1)
	}
}

// stop ends waiting for anything.
func (r *repairs) stop() {
	r.stopped = true
	r.attended()
	r.settled()
}

// settled ends waiting for the next attempt to take back what another back end has left.
func (r *repairs) settled() {
	if r.settling != nil {
		r.settling.Stop()
	}
	r.settling = nil
}

// attended ends waiting for what is pending: nothing is any more.
func (r *repairs) attended() {
	if r.timer != nil {
		r.timer.Stop()
	}
	r.pending, r.timer = nil, nil
}

// follow has a kernel tell of what other programs change.
func (d *Daemon) follow(k kernel.Kernel) {
	if w, ok := k.(kernel.Watcher); ok {
		w.Watch(func(f kernel.Foreign) { d.foreign(k, f) })
	}
}

// allow calls f, which has a process change the packet filter because the user has asked for it.
func (d *Daemon) allow(f func(started func(pid int)) error) error {
	if w, ok := d.kernel.(kernel.Watcher); ok {
		return w.Allow(f)
	}
	return f(func(int) {})
}

// foreign attends to a change by another program, or puts that off.
func (d *Daemon) foreign(k kernel.Kernel, f kernel.Foreign) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k != d.kernel || d.repairs.stopped {
		return
	}
	waits := d.repairs.pending != nil && d.repairs.timer != nil
	f.Unfinished = f.Unfinished || d.repairs.pending != nil && d.repairs.pending.Unfinished
	d.repairs.pending = &f
	if waits {
		return
	}
	wait := d.repairs.wait(now())
	if wait == 0 {
		d.attend()
		return
	}
	d.opt.Log.Warn("another program changes the firewall's rules again and again", "program", programs(f.By),
		"next look", "in "+wait.Round(time.Second).String())
	d.attendIn(wait)
}

// attendIn attends to what is pending after a while, and not before. The lock is held.
func (d *Daemon) attendIn(wait time.Duration) {
	if d.repairs.timer != nil {
		d.repairs.timer.Stop()
	}
	d.repairs.timer = time.AfterFunc(wait, func() {
		if fault.Guard(d.opt.Log, "putting rules back", d.attendPending) != nil {
			d.attendLater()
		}
	})
}

// attendPending attends to what is pending now.
func (d *Daemon) attendPending() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.repairs.timer = nil
	if d.repairs.stopped {
		return
	}
	if d.repairs.pending != nil {
		d.attend()
	}
	d.askAgain()
}

// attendLater has the rules put back again after a while, because there was a fault.
func (d *Daemon) attendLater() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.repairs.stopped {
		d.cannotPutBack(&kernel.Foreign{}, retryInterval, nil)
	}
}

// keepOut has a Kernel that has committed nothing keep new connections out: the rules of an earlier process, which may be in force still,
// let in what the files may not. The lock is held.
func (d *Daemon) keepOut(ctx context.Context, k kernel.Kernel) {
	g, ok := k.(kernel.Guarder)
	if !ok {
		return
	}
	if d.repairs.open = g.KeepOut(context.WithoutCancel(ctx), d.panic); d.repairs.open != nil {
		d.opt.Log.Error("new connections are not kept out, although no rules of this start are in the kernel", "reason", d.repairs.open)
	}
}

// waitForKernel tries the first commit again after a while. The lock is held.
func (d *Daemon) waitForKernel(reason error) {
	d.repairs.waiting = reason.Error()
	passes := "nothing new is let in"
	if d.repairs.open != nil {
		passes = "what passes is not what the files say"
	}
	d.opt.Log.Error("the rules cannot be put into the kernel now: "+passes+"; it is tried again every few seconds", "reason", reason)
	d.saysNow()
	d.repairs.pending = &kernel.Foreign{}
	d.attendIn(repairInterval)
}

// attendFirst commits the first rules, which could not be committed before. The lock is held.
func (d *Daemon) attendFirst() {
	ctx := context.Background()
	_, _, err := d.put(ctx, d.kernel, d.history, d.runtime, d.panic)
	if len(blamed(err)) > 0 {
		d.opt.Log.Error("the kernel refuses a part of the configuration: the start is made again without it", "reason", err)
		d.spawn("the start that is made again", d.startAgain)
		return
	}
	if err != nil {
		if err.Error() != d.repairs.waiting {
			d.opt.Log.Error("the rules still cannot be put into the kernel", "reason", err)
			d.repairs.waiting = err.Error()
		}
		d.keepOut(ctx, d.kernel)
		d.saysNow()
		d.repairs.pending = &kernel.Foreign{}
		d.attendIn(repairInterval)
		return
	}
	d.inKernel(ctx)
}

// inKernel is called when the runtime configuration has been committed, and does what has waited for that since the start. The lock is held.
func (d *Daemon) inKernel(ctx context.Context) {
	d.repaired()
	if d.waitNoLonger() {
		d.stand(ctx)
	}
}

// waitNoLonger notes that the rules are in the kernel, and says whether they had been missing since the start. The lock is held.
func (d *Daemon) waitNoLonger() (waited bool) {
	if d.repairs.waiting == "" {
		return false
	}
	d.opt.Log.Warn("the rules are in the kernel now")
	d.failures = slices.DeleteFunc(slices.Clone(d.failures), saysNotInForce)
	d.repairs.waiting, d.repairs.open = "", nil
	d.repairs.attended()
	d.askSoon()
	if len(d.failures) == 0 {
		d.state = Running
	}
	d.spawn("keeping the last good configuration", d.keepUnkept)
	return true
}

// saysNow has Snapshot say what notInForce says now, in place of what it said before. The lock is held.
func (d *Daemon) saysNow() {
	if i := slices.IndexFunc(d.failures, saysNotInForce); i >= 0 && d.notInForce() != d.failures[i] {
		d.failures = slices.Clone(d.failures)
		d.failures[i] = d.notInForce()
		d.publish()
	}
}

// What Snapshot says, with the reason behind it, while the first rules are not in the kernel: notKeptOut where new connections cannot be kept
// out meanwhile.
const (
	notInKernel = "the rules are not in the kernel yet, so that nothing new is let in; it is tried again every few seconds"
	notKeptOut  = "the rules are not in the kernel yet, and new connections cannot be kept out, so that what passes is not what the files say; it is tried again every few seconds"
)

// notInForce is the one of the two that holds now, with the reason. The lock is held.
func (d *Daemon) notInForce() string {
	said := notInKernel
	if d.repairs.open != nil {
		said = notKeptOut
	}
	return said + ": " + inOneLine(d.repairs.waiting)
}

// saysNotInForce tells whether one of what Snapshot says is that of notInForce.
func saysNotInForce(failure string) bool {
	return strings.HasPrefix(failure, notInKernel) || strings.HasPrefix(failure, notKeptOut)
}

// inOneLine is the text of an error, which may be several errors, a line each.
func inOneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// notPutBack is what Snapshot says while the rules that were committed cannot be put back.
const notPutBack = "the rules in the kernel are not as they were committed and cannot be put back now; the table firewalld_guard may keep out what is new until they are; it is tried again within a minute"

// cannotPutBack has what is pending tried again after a while, and Snapshot say so, and the reason, until a commit succeeds. nil is that the
// log alone has the reason. The lock is held.
func (d *Daemon) cannotPutBack(f *kernel.Foreign, wait time.Duration, reason error) {
	why := "; the log says why"
	if reason != nil {
		why = ": " + inOneLine(reason.Error())
	}
	d.repairs.pending, d.repairs.failed = f, notPutBack+why
	d.publish()
	d.attendIn(wait)
}

// notTakenBack is what Snapshot says while a part of another back end's rules is in the kernel, beside those in force.
const notTakenBack = "a change of the back end has failed midway, and a part of its rules cannot be taken out of the kernel now: nothing new is let in until it is; it is tried again every few seconds"

// giveUp ends the use of a Kernel that is not the one in force, and whose commit has failed. Where it has left something that could not be
// taken back, it stays open until that is done, and the Kernel in force keeps out what is new meanwhile. A start goes on with another one,
// which replaces all. The lock is held.
func (d *Daemon) giveUp(k kernel.Kernel) {
	r, ok := k.(kernel.Remnant)
	if !ok || !r.Unfinished() || d.starting || d.repairs.stopped {
		d.close(k)
		return
	}
	d.repairs.remnant, d.repairs.left = k, notTakenBack
	d.takeGuard(r)
	d.publish()
	d.settleLater()
}

// takeGuard has the Kernel in force guard the machine in place of a remnant, whose rules are beside those in force. The one's guard stands
// before the other's goes; where it cannot stand, the other's stays. The lock is held.
func (d *Daemon) takeGuard(r kernel.Remnant) {
	g, ok := d.kernel.(kernel.Guarder)
	if !ok {
		return
	}
	if err := g.KeepOutAlone(context.Background(), d.panic); err != nil {
		d.opt.Log.Error("the back end in force cannot keep out what is new, although rules of another one are in the kernel beside its own: that does it as long as it can", "reason", err)
		return
	}
	if err := r.YieldGuard(); err != nil {
		d.opt.Log.Error("what is new is dropped by more than one table until what is left of another back end is taken back", "reason", err)
	}
}

// close closes a Kernel that is not in use any more.
func (d *Daemon) close(k kernel.Kernel) {
	if err := k.Close(); err != nil {
		d.opt.Log.Error("a back end that is not in use does not end as it should", "reason", err)
	}
}

// settle takes back what a reload that has failed has left of another back end. The guard of the Kernel in force stays until its next
// commit. The lock is held.
func (d *Daemon) settle(ctx context.Context) error {
	k := d.repairs.remnant
	if k == nil {
		return nil
	}
	if err := k.Commit(context.WithoutCancel(ctx), &kernel.Desired{Succeeded: true}); err != nil {
		return fmt.Errorf("what an earlier change of the back end has left cannot be taken back: %w", err)
	}
	d.repairs.remnant = nil
	d.close(k)
	d.publish()
	return nil
}

// settleLater has what another back end has left taken back after a while. The lock is held.
func (d *Daemon) settleLater() {
	d.repairs.settled()
	d.repairs.settling = time.AfterFunc(repairInterval, func() {
		fault.Guard(d.opt.Log, "taking back what another back end has left", d.settleNow)
	})
}

// settleNow takes back what another back end has left, once the rules in force are in the kernel, or the guard stands for them; it goes when
// all is as it was. What fails is tried again after a while.
func (d *Daemon) settleNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.repairs.stopped {
		return
	}
	d.settleLater() // also behind a fault
	err := d.commitAgain()
	guard, _ := d.kernel.(kernel.Sentinel)
	if d.repairs.remnant != nil && (err == nil || guard != nil && guard.Guarded()) {
		if err = d.settle(context.Background()); err == nil {
			err = d.commitAgain()
		}
	}
	if err != nil {
		d.opt.Log.Error("what is left of another back end cannot be taken back yet: nothing new is let in; it is tried again soon", "reason", err)
		d.repairs.left = notTakenBack + ": " + inOneLine(err.Error())
		d.publish()
		return
	}
	d.opt.Log.Warn("what was left of another back end was taken back")
}

// repaired notes that a commit has succeeded, which puts back whatever could not be put back before, but for what settle takes back, and
// takes away the guard that has stood for that. The lock is held.
func (d *Daemon) repaired() {
	if d.repairs.remnant == nil {
		d.repairs.settled()
	}
	if d.repairs.failed == "" {
		return
	}
	d.repairs.failed = ""
	d.repairs.attended()
	d.askSoon()
	d.publish()
}

// attend says what was changed, and puts the rules back unless the configuration says not to. The lock is held.
func (d *Daemon) attend() {
	f := d.repairs.pending
	d.repairs.pending = nil
	if d.repairs.waiting != "" {
		d.attendFirst()
		return
	}
	d.repairs.note(now())
	if f.Unfinished {
		d.finish(f)
		return
	}
	log := d.opt.Log.With("program", programs(f.By), "changes", changes(f.Changes))
	if d.runtime.Own.OnForeignChange == "warn" {
		log.Warn("another program has changed the firewall's rules; that stays until they are changed or reloaded here")
		return
	}
	if err := d.commitAgain(); err != nil {
		log.Error("another program has changed the firewall's rules, and they cannot be put back; it is tried again in a minute", "reason", err)
		d.cannotPutBack(f, retryInterval, err)
		return
	}
	log.Warn("another program had changed the firewall's rules; they were put back")
}

// finish takes back what a change that was refused has left, and what could not be taken back then. The lock is held.
func (d *Daemon) finish(f *kernel.Foreign) {
	log := d.opt.Log.With("left", changes(f.Changes))
	if err := d.commitAgain(); err != nil {
		log.Error("what a refused change has left cannot be taken back yet: nothing new is let in; it is tried again soon", "reason", err)
		d.cannotPutBack(f, repairInterval, err)
		return
	}
	log.Warn("what a refused change has left was taken back")
}

// commitAgain commits what is in force. Rules of bridges come last, as what keeps ebtables busy keeps no packet filter from being put back;
// where they are known they are left alone. The lock is held.
func (d *Daemon) commitAgain() error {
	desired, _, err := d.desireHere(d.history, d.runtime, d.panic)
	if err != nil {
		return err
	}
	if err := commit(context.Background(), d.kernel, d.runtime.Direct, desired); err != nil {
		return err
	}
	if d.bridge == nil {
		if err := d.commitBridge(context.Background(), d.runtime, func() error { return nil }); err != nil {
			return err
		}
	}
	d.inKernel(context.Background())
	return nil
}

// programs names who may have made a change.
func programs(list []kernel.Writer) string {
	if len(list) == 0 {
		return "unknown"
	}
	return enumerate(list, ", ")
}

func changes(list []string) string { return enumerate(list, "; ") }

// enumerate is the first of a list's values, and how many more there are.
func enumerate[T any](list []T, separator string) string {
	const most = 10
	var texts []string
	for _, v := range list[:min(len(list), most)] {
		texts = append(texts, fmt.Sprint(v))
	}
	text := strings.Join(texts, separator)
	if more := len(list) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
