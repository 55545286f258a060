package daemon

import (
	"context"
	"errors"
	"time"

	"richwall/zones"
)

// timers are the entries of the runtime configuration that end by themselves. Each has a deadline, and one timer of the
// system runs, for the nearest.
type timers struct {
	entries map[string]*timedEntry // by what the entry is
	timer   *time.Timer
	fire    func()
	why     string // why what was overdue could not be taken out, at the last attempt
}

// timedEntry is an entry that ends.
type timedEntry struct {
	deadline time.Time
	again    time.Time                // when taking it out is tried again; zero unless that has failed
	there    func(*zones.Config) bool // whether the entry is still in a configuration
	remove   zones.Edit               // takes it out
	whole    zones.Object             // as of Change
}

func (t *timers) init(fire func()) {
	t.entries, t.fire = map[string]*timedEntry{}, fire
}

// set starts the time of an entry; one that has a time already gets the new one.
func (t *timers) set(key string, e timedEntry) {
	t.entries[key] = &e
	t.arm()
}

// keep forgets the entries that a configuration no longer has: somebody removed them before their time.
func (t *timers) keep(cfg *zones.Config) {
	for key, e := range t.entries {
		if !e.there(cfg) {
			delete(t.entries, key)
		}
	}
	t.arm()
}

// without is a configuration without the entries that have a timeout, but for those that another one has for good.
func (t *timers) without(cfg, forGood *zones.Config) *zones.Config {
	for _, e := range t.entries {
		if e.there(forGood) {
			continue
		}
		if edited, err := e.remove(cfg); err == nil {
			cfg = edited
		}
	}
	return cfg
}

// next is when an entry is to be taken out.
func (e *timedEntry) next() time.Time {
	if e.again.After(e.deadline) {
		return e.again
	}
	return e.deadline
}

// overdue tells whether an entry could not be taken out when its time had come, and is there still.
func (t *timers) overdue() bool {
	for _, e := range t.entries {
		if !e.again.IsZero() {
			return true
		}
	}
	return false
}

// due are the entries that are to be taken out.
func (t *timers) due(at time.Time) []*timedEntry {
	var list []*timedEntry
	for _, e := range t.entries {
		if !e.next().After(at) {
			list = append(list, e)
		}
	}
	return list
}

// arm sets the system's timer to when the next entry is to be taken out.
func (t *timers) arm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	var next time.Time
	for _, e := range t.entries {
		if at := e.next(); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if !next.IsZero() {
		t.timer = time.AfterFunc(time.Until(next), t.fire)
	}
}

func (t *timers) stop() {
	t.entries = map[string]*timedEntry{}
	t.arm()
}

// notTakenOut is what Snapshot says while something that has timed out is still in force.
const notTakenOut = "what was added with a timeout has timed out and cannot be taken out now, so that it stays in force: it is tried again within a minute"

// expire takes what has timed out out of the runtime configuration. What cannot be taken out is tried again in a minute, and Snapshot says so
// until it is not there any more.
func (d *Daemon) expire() {
	err := d.guarded("what has timed out", d.expireDue)
	if err == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opt.Log.Error("cannot remove what has timed out; it is tried again in a minute", "reason", err)
	for _, e := range d.timed.due(now()) {
		e.again = now().Add(retryInterval)
	}
	d.timed.why = inOneLine(err.Error())
	d.timed.arm()
	d.publish()
}

// expireDue is one attempt. An entry that cannot be taken out keeps no other one in.
func (d *Daemon) expireDue() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, next, whole := d.runtime, d.runtime, map[zones.Object]bool{}
	var stay []error
	for _, e := range d.timed.due(now()) {
		edited, err := e.remove(next)
		if err == nil {
			next, whole[e.whole] = edited, true
		} else if e.there(next) {
			e.again, stay = now().Add(retryInterval), append(stay, err)
		}
	}
	if err := d.commitRuntime(context.Background(), next); err != nil {
		return err
	}
	d.keepTimed(next)
	if next != old {
		d.emit(RuntimeChanged{Old: old, New: next, Whole: whole})
	}
	return errors.Join(stay...)
}

// keepTimed has the timers, and what Snapshot says of them, follow a configuration that was committed. The lock is held.
func (d *Daemon) keepTimed(cfg *zones.Config) {
	d.timed.keep(cfg)
	d.publish()
}
