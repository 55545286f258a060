package daemon

import (
	"context"
	"path/filepath"
	"reflect"
	"strings"

	"richwall/zones"
)

// FilesTouched says in the log when files of the administrator's configuration, by their paths, were changed by somebody
// else: what is otherwise in them now, and what is wrong with it, with file and line. Nothing else comes of it before a reload:
// as in firewalld, the permanent configuration is what was last read or written.
func (d *Daemon) FilesTouched(paths []string) {
	if err := d.lockFiles(context.Background()); err != nil {
		d.opt.Log.Warn("files were changed, and it is not known by whom", "reason", err)
		return
	}
	defer d.unlockFiles()
	before := d.Snapshot().Permanent
	if before == nil {
		return
	}
	type found struct {
		ours     bool
		loaded   *zones.Config
		problems zones.Problems
	}
	now, err := inTime(context.Background(), d, d.opt.Dirs.System, func() (f found) {
		if f.ours = d.holdsAll(before, paths); !f.ours {
			f.loaded, f.problems = d.store.LoadAgain(before)
		}
		return f
	})
	if err != nil {
		d.opt.Log.Warn("files were changed, and it is not known how", "reason", err)
	}
	if err != nil || now.ours {
		return
	}
	loaded, problems := now.loaded, now.problems
	if loaded == nil {
		d.sayOnce("files were changed by somebody else, and have errors now: a reload would be refused; the running firewall is as it was", problems.Err().Error(), func() {
			d.logProblems(problems)
		})
		return
	}
	if changed := differing(before, loaded); len(changed) > 0 {
		list := strings.Join(changed, ", ")
		d.sayOnce("files were changed by somebody else: what they say now is in force after firewall-cmd --reload", list, nil)
	}
}

// sayOnce warns of something, unless that was the last warning of its sort.
func (d *Daemon) sayOnce(message, what string, more func()) {
	if d.said == message+what {
		return
	}
	d.said = message + what
	if more == nil {
		d.opt.Log.Warn(message, "changed", what)
		return
	}
	d.opt.Log.Warn(message)
	more()
}

// holdsAll says whether files hold what was last read of them, or written to them. What it cannot tell by their bytes alone it says no to.
func (d *Daemon) holdsAll(cfg *zones.Config, paths []string) bool {
	for _, path := range paths {
		name, err := filepath.Rel(d.opt.Dirs.System, path)
		if err != nil {
			return false
		}
		if same, known := d.store.Holds(cfg, name); !same || !known {
			return false
		}
	}
	return true
}

// differing are the objects and files that are not the same in two configurations.
func differing(a, b *zones.Config) []string {
	var list []string
	for _, change := range zones.Difference(a, b) {
		switch change.Object.Kind {
		case zones.KindConf:
			list = append(list, "firewalld.conf")
		case zones.KindDirect:
			list = append(list, "direct.xml")
		default:
			list = append(list, string(change.Object.Kind)+" "+change.Object.Name)
		}
	}
	if !reflect.DeepEqual(a.Own, b.Own) {
		list = append(list, "richwall.conf")
	}
	return list
}
