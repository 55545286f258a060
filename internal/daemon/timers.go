package daemon

import (
	"context"
	"time"

	"richwall/internal/fault"
	"richwall/zones"
)

// timers are the entries of the runtime configuration that end by themselves. Each has a deadline, and one timer of the
// system runs, for the nearest.
type timers struct {
	entries map[string]timedEntry // by what the entry is
	timer   *time.Timer
	fire    func()
}

// timedEntry is an entry that ends.
type timedEntry struct {
	deadline time.Time
	there    func(*zones.Config) bool // whether the entry is still in a configuration
	remove   zones.Edit               // takes it out
	whole    zones.Object             // as of Change
}

func (t *timers) init(fire func()) {
	t.entries, t.fire = map[string]timedEntry{}, fire
}

// set starts the time of an entry; one that has a time already gets the new one.
func (t *timers) set(key string, e timedEntry) {
	t.entries[key] = e
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

// due are the entries whose time has come.
func (t *timers) due(at time.Time) []timedEntry {
	var list []timedEntry
	for _, e := range t.entries {
		if !e.deadline.After(at) {
			list = append(list, e)
		}
	}
	return list
}

// arm sets the system's timer to the nearest deadline.
func (t *timers) arm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	var next time.Time
	for _, e := range t.entries {
		if next.IsZero() || e.deadline.Before(next) {
			next = e.deadline
		}
	}
	if !next.IsZero() {
		t.timer = time.AfterFunc(time.Until(next), t.fire)
	}
}

func (t *timers) stop() {
	t.entries = map[string]timedEntry{}
	t.arm()
}

// expire commits the runtime configuration without the entries whose time has come. After a fault it is tried again in a minute.
func (d *Daemon) expire() {
	if fault.Guard(d.opt.Log, "what has timed out", d.expireDue) == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.timed.entries) > 0 {
		d.timed.timer = time.AfterFunc(time.Minute, d.expire)
	}
}

func (d *Daemon) expireDue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, next, whole := d.runtime, d.runtime, map[zones.Object]bool{}
	for _, e := range d.timed.due(now()) {
		if edited, err := e.remove(next); err == nil {
			next = edited
			whole[e.whole] = true
		}
	}
	if err := d.commitRuntime(context.Background(), next); err != nil {
		d.opt.Log.Error("cannot remove what has timed out; it is tried again in a minute", "reason", err)
		d.timed.timer = time.AfterFunc(time.Minute, d.expire)
		return
	}
	d.timed.keep(d.runtime)
	if next != old {
		d.emit(RuntimeChanged{Old: old, New: next, Whole: whole})
	}
}
