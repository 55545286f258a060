package daemon

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"strings"

	"richwall/zones"
)

// FilesTouched says in the log when files of the administrator's configuration, by their paths, were changed by somebody
// else: what is otherwise in them now, or why a reload would be refused, with file and line where that is known; and later, that it would not
// be any more. Nothing else comes of it before a reload: as in firewalld, the permanent configuration is what was last read or written. A
// file that holds what it held when this looked at it last is no news.
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
		ours bool
		sums map[string]string // of what the files hold, by path
	}
	now, err := inTime(context.Background(), d, d.opt.Dirs.System, func() found {
		return found{d.holdsAll(before, paths), d.sums(paths)}
	})
	if err != nil {
		d.opt.Log.Warn("files were changed, and it is not known how", "reason", err)
	}
	if err != nil || !d.isNews(now.sums) || now.ours && !d.unusable {
		return
	}
	loaded, err := d.wouldLoad(before)
	mended := d.unusable && err == nil
	d.unusable = err != nil
	switch {
	case err != nil && now.ours:
		return
	case err != nil:
		d.opt.Log.Warn("files were changed by somebody else, and a reload would be refused now; the running firewall is as it was")
		d.logRefusal(err)
		return
	case mended:
		d.opt.Log.Warn("the files can be used again: a reload would not be refused for them any more")
	}
	if changed := differing(before, loaded); len(changed) > 0 {
		d.opt.Log.Warn("files were changed by somebody else: what they say now is in force after firewall-cmd --reload",
			"changed", strings.Join(changed, ", "))
	}
}

// HasFile tells whether the administrator's folder has a file, by its path below it, whether it was read or not.
func (d *Daemon) HasFile(ctx context.Context, path string) bool {
	found, err := inTime(ctx, d, d.opt.Dirs.System, func() bool { return d.store.Exists(path) })
	return err == nil && found
}

// wouldLoad reads the files as a reload would, and changes nothing. The error is why a reload would be refused, but for what the kernel would
// refuse. files is held.
func (d *Daemon) wouldLoad(before *zones.Config) (*zones.Config, error) {
	if err := d.missing(context.Background()); err != nil {
		return nil, commandFailed(err)
	}
	r, err := d.readFiles(context.Background(), func() zones.Problems { return nil }, before)
	if err != nil {
		return nil, err
	}
	d.opt.Memory.Tidy()
	defer d.opt.Memory.Tidy()
	return r.rest.Config, d.compilesAll(r.rest.Config)
}

// logRefusal logs why files cannot be put in force.
func (d *Daemon) logRefusal(err error) {
	var list zones.Problems
	if !errors.As(err, &list) {
		list = blamed(err)
	}
	if len(list) == 0 {
		d.opt.Log.Error(err.Error())
	}
	d.logProblems(list)
}

// sums tell what files hold, by their paths.
func (d *Daemon) sums(paths []string) map[string]string {
	sums := make(map[string]string, len(paths))
	for _, path := range paths {
		name, err := filepath.Rel(d.opt.Dirs.System, path)
		var sum [32]byte
		if err == nil {
			sum, err = d.store.Sum256(name)
		}
		sums[path] = string(sum[:])
		if err != nil {
			sums[path] = err.Error()
		}
	}
	return sums
}

// isNews tells whether a file holds something else than when this was called last, given the sums of some. files is held.
func (d *Daemon) isNews(sums map[string]string) bool {
	news := false
	for path, sum := range sums {
		was, told := d.told[path]
		news = news || !told || was != sum
	}
	if d.told == nil {
		d.told = map[string]string{}
	}
	maps.Copy(d.told, sums)
	return news
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
