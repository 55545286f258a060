package daemon

import "richwall/internal/kernel"

// logNotes says in the log what was compiled otherwise than the configuration asks for, once for each ruleset that is new.
func (d *Daemon) logNotes(desired *kernel.Desired) {
	if desired.Rules == nil {
		return
	}
	for _, note := range desired.Rules.Notes {
		d.opt.Log.Warn(note)
	}
}
