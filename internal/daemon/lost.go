package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"richwall/zones"
)

// missing is an error when the administrator's folder, or the shipped one, is not there, or holds no file although it held some when the
// last good configuration was kept: its disk is not mounted, or somebody has emptied it. Without a last good configuration, such a
// folder means what is built in.
func (d *Daemon) missing(ctx context.Context) error {
	own, shipped := d.opt.Dirs.System, d.opt.Dirs.Default
	type folder struct{ gone, empty bool }
	look := func(path string) folder {
		empty, err := zones.EmptyFolder(path)
		return folder{errors.Is(err, fs.ErrNotExist), err == nil && empty}
	}
	type both struct{ own, shipped folder }
	found, err := inTime(ctx, d, own, func() both { return both{look(own), look(shipped)} })
	if err != nil || found == (both{}) {
		return err
	}
	good := d.lastGood()
	switch {
	case found.own.gone && !good.none():
		return fmt.Errorf("%s is not there; %s", own, meantSo(own))
	case found.own.empty && good.hadFiles:
		return fmt.Errorf("%s holds no file, and did when it was used last; %s", own, meantSo(own))
	case shipped != "" && found.shipped != (folder{}) && good.hadShipped:
		return fmt.Errorf("%s is not there or holds no file, and did when it was used last; for what is built in instead, make an empty file %s",
			shipped, filepath.Join(shipped, "firewalld.conf"))
	}
	return nil
}

// lostConf is an error when firewalld.conf is gone or empty although the last good configuration had a setting: it may be lost. Where
// the state folder does not answer (silent), or not say, it may have had one.
func (d *Daemon) lostConf(ctx context.Context, rest *zones.Rest, silent bool) error {
	if !rest.NoConf {
		return nil
	}
	if !silent {
		text := rest.Config.Conf.Text()
		differs, err := askState(ctx, d, func() bool { return d.opt.State.Differs("firewalld.conf", text) })
		if err == nil && !differs {
			return nil
		}
	}
	return fmt.Errorf("firewalld.conf in %s is gone or empty, and was not when it was used last, as far as that is known; "+
		"to do without it, write the line DefaultZone=%s into it",
		d.opt.Dirs.System, rest.Config.Conf.DefaultZone)
}

// meantSo says how the shipped configuration can be chosen on purpose.
func meantSo(folder string) string {
	return fmt.Sprintf("for the shipped configuration, run firewall-cmd --reset-to-defaults, or make an empty file %s", filepath.Join(folder, "firewalld.conf"))
}

// held notes what folders the files of a last good configuration were from. Of one that cannot be used it is not known: the administrator
// may have had files of his own.
func (d *Daemon) held(g *lastGood) {
	if g.folder == "" {
		g.hadFiles = g.damaged != nil
		return
	}
	list, err := os.ReadFile(filepath.Join(g.folder, zones.OwnFiles))
	own := strings.FieldsFunc(string(list), func(c rune) bool { return c == '\n' })
	g.hadFiles = len(own) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) || d.hadSettings()
	g.hadShipped = err == nil && hasOthers(g.folder, own) // a former version wrote no list
}

// hadSettings tells whether a setting of the last good configuration was another one than the default.
func (d *Daemon) hadSettings() bool {
	builtIn, _ := zones.Load(zones.Dirs{})
	defaults := zones.Export(builtIn)
	return slices.ContainsFunc([]string{"firewalld.conf", "richwall.conf"}, func(name string) bool { return d.opt.State.Differs(name, defaults[name]) })
}

// hasOthers tells whether a last good configuration has the file of an object that is not the administrator's: it was in the shipped folder.
func hasOthers(folder string, own []string) bool {
	mine := make(map[string]bool, len(own))
	for _, path := range own {
		mine[path] = true
	}
	others := false
	filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(folder, path)
		inFolder := filepath.Dir(name) != "." // direct.xml is there in any case
		others = err == nil && !e.IsDir() && inFolder && !mine[filepath.ToSlash(name)]
		if others {
			return fs.SkipAll
		}
		return err
	})
	return others
}
