package daemon

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
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
		if f.ours = d.wroteAll(before, paths); !f.ours {
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

// wroteAll says whether files are as the daemon writes them. What it cannot tell by their bytes alone it says no to.
func (d *Daemon) wroteAll(cfg *zones.Config, paths []string) bool {
	for _, path := range paths {
		name, err := filepath.Rel(d.opt.Dirs.System, path)
		if err != nil {
			return false
		}
		written, known := objectFile(cfg, filepath.ToSlash(name))
		if !known {
			return false
		}
		data, err := d.store.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || (err == nil) != (written != nil) || !bytes.Equal(data, written) {
			return false
		}
	}
	return true
}

// objectFile is what is written to a file of the administrator's folder for the object in it; nil is no file. known is false
// for what is no object's file.
func objectFile(c *zones.Config, path string) (data []byte, known bool) {
	folder, file, _ := strings.Cut(path, "/")
	name, xml := strings.CutSuffix(file, ".xml")
	switch {
	case !xml:
		return nil, false
	case folder == "zones":
		all := c.Zones
		if strings.Contains(name, "/") {
			all = c.ZoneParts
		}
		return written(all, name, func(z *zones.Zone) *zones.Meta { return &z.Meta }, zones.WriteZone), true
	case folder == "policies":
		return written(c.Policies, name, func(p *zones.Policy) *zones.Meta { return &p.Meta }, zones.WritePolicy), true
	case folder == "services":
		return written(c.Services, name, func(s *zones.Service) *zones.Meta { return &s.Meta }, zones.WriteService), true
	case folder == "ipsets":
		return written(c.IPSets, name, func(s *zones.IPSet) *zones.Meta { return &s.Meta }, zones.WriteIPSet), true
	case folder == "icmptypes":
		return written(c.ICMPTypes, name, func(t *zones.ICMPType) *zones.Meta { return &t.Meta }, zones.WriteICMPType), true
	case folder == "helpers":
		return written(c.Helpers, name, func(h *zones.Helper) *zones.Meta { return &h.Meta }, zones.WriteHelper), true
	}
	return nil, false
}

func written[T any](all map[string]*T, name string, meta func(*T) *zones.Meta, write func(*T) []byte) []byte {
	if o := all[name]; o != nil && !meta(o).Origin.Builtin {
		return write(o)
	}
	return nil
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
