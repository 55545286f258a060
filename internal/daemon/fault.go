package daemon

import "richwall/internal/fault"

// spawn calls f beside everything else. A fault in it is logged.
func (d *Daemon) spawn(what string, f func()) { go fault.Guard(d.opt.Log, what, f) }

// guarded is fault.Guard of a function that has an error of its own.
func (d *Daemon) guarded(what string, f func() error) (err error) {
	if fault := fault.Guard(d.opt.Log, what, func() { err = f() }); fault != nil {
		return fault
	}
	return err
}
