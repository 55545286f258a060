package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	return fmt.Errorf("firewalld.conf in %s is gone or empty, and was not when it was used last, as far as that is known; to do without it, write the line DefaultZone=%s into it",
		d.opt.Dirs.System, rest.Config.Conf.DefaultZone)
}

// lost is an error when a reload would take the files for lost: they are not to be changed then, as what a change writes would look like
// all that they are meant to hold, and the next reload or start would do without the rest.
func (d *Daemon) lost(ctx context.Context) error {
	err := d.missing(ctx)
	if err == nil {
		err = d.lostConfNow(ctx)
	}
	if err != nil {
		return refuse(CommandFailed, "%v", err)
	}
	return nil
}

// lostConfNow is lostConf of what the folder holds now. All of it is read only where firewalld.conf sets nothing.
func (d *Daemon) lostConfNow(ctx context.Context) error {
	load := loadRest
	rest, err := inTime(ctx, d, d.opt.Dirs.System, func() *zones.Rest {
		if !d.store.NoConf() {
			return &zones.Rest{}
		}
		return load(d.opt.Dirs, &zones.Config{})
	})
	if err != nil {
		return err
	}
	return d.lostConf(ctx, rest, false)
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
	g.hadFiles = len(own) > 0 || err != nil // a former version wrote no list
	g.hadShipped = err == nil && hasOthers(g.folder, own)
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
