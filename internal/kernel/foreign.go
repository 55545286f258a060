package kernel

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"
)

// Foreign is a change, by another program, of what was committed.
type Foreign struct {
	By      []Writer // who it may have been; empty if that is not known
	Changes []string // what is not as it was committed: "chain filter_IN_public: 2 rules removed"
	// Unfinished says that it is no other program's change: a commit has failed, and these are what could not be put back to what
	// it was before. The next commit begins with that.
	Unfinished bool
}

// Watcher is a Kernel that notices when another program changes what was committed.
type Watcher interface {
	Kernel
	// Watch has f called for each such change, within a second, from a goroutine of the Kernel's. f may call the Kernel: the
	// next Commit, also of what was committed last, puts things right. One function can watch.
	Watch(f func(Foreign))
	// Allow calls f, which has a process change what is in the kernel by other means than Commit because the user wants it so,
	// and returns its error. f calls started as soon as the process runs. What the process changes is not taken for another
	// program's change; what others change meanwhile is, and is noticed while f goes on. The commit that repairs that puts all
	// rules of ours back as they were committed. So does the next commit behind a process of iptables-legacy, of which the
	// kernel tells nothing. f must not call the Kernel, nor be called twice at once.
	Allow(f func(started func(pid int)) error) error
}

// watch is what a Kernel knows of other programs. The Kernel's lock guards it.
type watch struct {
	monitor    *monitor // nil if there is nothing to hear
	socket     *socket
	generation uint32   // when it was last known what the kernel has
	changed    []string // what is not as it was committed; empty if all is
	suspect    bool     // something may have been changed, and it was not looked at yet
	unreported []Foreign
	told       func(Foreign)
	guard      *guard // nil if there can be none
	log        *slog.Logger
	alarm      func()        // called when something of ours may have been changed, before it is looked at; may be nil
	took       time.Duration // how long the last look has taken; only what looks and who follows touch it
}

// readings is how often the tables are read in a row while other programs change what is ours.
const readings = 3

// subject is what is watched.
type subject interface {
	// concerns says whether a part of a table is one of what was committed.
	concerns(part) bool
	// differences reads what there is, and says what is not as it was committed.
	differences() ([]string, error)
}

// review finds out what other programs have changed. Where it cannot, it is asked for again after a while: the guard may stand, and only
// a review takes it away.
func (w *watch) review(s subject) error {
	err := w.reviewNow(s)
	if err != nil {
		time.AfterFunc(quiet, w.monitor.wakeUp)
	}
	return err
}

// reviewNow is one attempt. Mostly the events say that it is nothing of ours; only if they do not, the tables are read. What is heard only behind
// a reading may be who has changed what was read, and may have changed more: so the tables are read again. What is not heard in time is left
// to the next review.
func (w *watch) reviewNow(s subject) error {
	var by []Writer
	var found []string
	read := false
	for range readings {
		generation, err := w.socket.generation()
		if err != nil {
			return err
		}
		complete := w.monitor.reached(generation)
		heard := w.monitor.take()
		var ours bool
		by, ours = heard.concerning(w.generation, s, by)
		if w.suspect = w.suspect || heard.lost || ours; complete {
			w.generation = generation
		}
		if !w.suspect {
			if read {
				w.note(found, by)
			}
			return nil
		}
		if ours && w.alarm != nil {
			w.alarm()
		}
		now, err := s.differences()
		if err != nil {
			if read { // it was so a moment ago
				w.note(found, by)
			}
			return fmt.Errorf("cannot see what other programs have changed: %w", err)
		}
		found, w.suspect, read = now, false, true
	}
	w.note(found, by)
	w.suspect = true // for the next time
	w.monitor.wakeUp()
	return nil
}

// concerning adds who has changed something of a subject behind a generation, and says whether anybody has.
func (n news) concerning(since uint32, s subject, known []Writer) (by []Writer, ours bool) {
	by = known
	for _, t := range n.list {
		if !later(t.generation, since) {
			continue
		}
		for p := range t.parts {
			if s.concerns(p) {
				ours = true
				if !slices.Contains(by, t.by) {
					by = append(by, t.by)
				}
				break
			}
		}
	}
	return by, ours
}

// note keeps what was found, and reports it if it is new.
func (w *watch) note(found []string, by []Writer) {
	if len(found) > 0 && !slices.Equal(found, w.changed) {
		w.unreported = append(w.unreported, Foreign{By: by, Changes: found})
		w.guard.noticed()
		w.monitor.wakeUp()
	}
	w.changed = found
}

// report has somebody told of a change.
func (w *watch) report(f Foreign) {
	switch {
	case w.monitor != nil:
		w.unreported = append(w.unreported, f)
		w.monitor.wakeUp()
	case w.told != nil: // nothing is heard: nobody follows
		go w.tell(f)
	}
}

// committed notes that all is as it should be.
func (w *watch) committed() { w.changed, w.suspect = nil, false }

// reports are the changes that nobody was told of yet.
func (w *watch) reports() []Foreign {
	list := w.unreported
	w.unreported = nil
	return list
}

// follow tells of changes until the monitor is closed. look reviews, and returns the reports. Looking takes a fifth of the
// time at most, however often another program changes something. What look waits for a commit to end is no looking: what was changed
// behind it would go unnoticed for four times as long.
func (w *watch) follow(look func() []Foreign) {
	const shortest = 100 * time.Millisecond
	for {
		select {
		case <-w.monitor.wake:
		case <-w.monitor.done:
			return
		}
		list := w.look(look)
		next := time.Now().Add(max(shortest, 4*w.took)) // being told may take longer than that: a commit may put things right
		for _, f := range list {
			w.tell(f)
		}
		time.Sleep(time.Until(next))
	}
}

// looking begins a look, once the Kernel's lock is held, and end notes how long it took, without what it has waited for the kernel to tell
// of other programs' commits.
func (w *watch) looking() (end func()) {
	begun, waited := time.Now(), w.monitor.waitedFor()
	return func() { w.took = time.Since(begun) - (w.monitor.waitedFor() - waited) }
}

// look is what look returns; nothing if that fails by a fault of its own.
func (w *watch) look(look func() []Foreign) []Foreign {
	defer recovered(w.log, "a fault in looking at what other programs have changed")
	return look()
}

// tell reports one change.
func (w *watch) tell(f Foreign) {
	defer recovered(w.log, "a fault in reporting what other programs have changed")
	w.told(f)
}

// recovered logs a fault of the function that has deferred it. The machine's firewall does not end for that.
func recovered(log *slog.Logger, what string) {
	if fault := recover(); fault != nil {
		log.Error(what, "fault", fault, "stack", string(debug.Stack()))
	}
}
