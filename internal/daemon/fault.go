package daemon

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Guard calls f. A fault in it does not end the program: it is logged, with where it was, and is the error. what names f in the log.
// Whoever starts a goroutine does so with it.
func Guard(log *slog.Logger, what string, f func()) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			log.Error("internal error", "in", what, "fault", fault, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error in %s: %v", what, fault)
		}
	}()
	f()
	return nil
}

// spawn calls f beside everything else.
func (d *Daemon) spawn(what string, f func()) { go Guard(d.opt.Log, what, f) }

// guarded is Guard of a function that has an error of its own.
func (d *Daemon) guarded(what string, f func() error) (err error) {
	if fault := Guard(d.opt.Log, what, func() { err = f() }); fault != nil {
		return fault
	}
	return err
}
