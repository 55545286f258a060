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
	lost, err := inTime(ctx, d.opt.Dirs.System, func() error {
		if err := d.lostOwn(); err != nil {
			return err
		}
		return d.lostShipped()
	})
	return errors.Join(err, lost)
}

func (d *Daemon) lostOwn() error {
	folder := d.opt.Dirs.System
	empty, err := zones.EmptyFolder(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !d.lastGood().none():
		return fmt.Errorf("%s is not there; %s", folder, meantSo(folder))
	case err == nil && empty && d.hadFiles(d.lastGood()):
		return fmt.Errorf("%s holds no file, and did when it was used last; %s", folder, meantSo(folder))
	}
	return nil
}

// meantSo says how the shipped configuration can be chosen on purpose.
func meantSo(folder string) string {
	return fmt.Sprintf("for the shipped configuration, run firewall-cmd --reset-to-defaults, or make an empty file %s", filepath.Join(folder, "firewalld.conf"))
}

// hadFiles tells whether the administrator had objects or settings of his own. Of a configuration that cannot be used it is not known, and
// may be.
func (d *Daemon) hadFiles(g lastGood) bool {
	if g.folder == "" {
		return g.damaged != nil
	}
	if own, _, err := g.own(); len(own) > 0 || err != nil {
		return true
	}
	shipped, _ := zones.Load(zones.Dirs{})
	defaults := zones.Export(shipped)
	return slices.ContainsFunc([]string{"firewalld.conf", "richwall.conf"}, func(name string) bool { return d.opt.State.Differs(name, defaults[name]) })
}

// own are the files of the administrator's objects, by their paths in the folder; known is false where a former version wrote no list of them.
func (g lastGood) own() (paths []string, known bool, err error) {
	list, err := os.ReadFile(filepath.Join(g.folder, zones.OwnFiles))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return strings.FieldsFunc(string(list), func(c rune) bool { return c == '\n' }), err == nil, err
}

// hadShipped tells whether there were files in the shipped folder, and not only what is built in.
func (g lastGood) hadShipped() bool {
	own, known, _ := g.own()
	if g.folder == "" || !known {
		return false
	}
	shipped := false
	filepath.WalkDir(g.folder, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(g.folder, path)
		inFolder := filepath.Dir(name) != "." // direct.xml is there in any case
		shipped = err == nil && !e.IsDir() && inFolder && !slices.Contains(own, filepath.ToSlash(name))
		if shipped {
			return fs.SkipAll
		}
		return err
	})
	return shipped
}

func (d *Daemon) lostShipped() error {
	folder := d.opt.Dirs.Default
	if folder == "" {
		return nil
	}
	empty, err := zones.EmptyFolder(folder)
	if (errors.Is(err, fs.ErrNotExist) || err == nil && empty) && d.lastGood().hadShipped() {
		return fmt.Errorf("%s is not there or holds no file, and did when it was used last; for what is built in instead, make an empty file %s",
			folder, filepath.Join(folder, "firewalld.conf"))
	}
	return nil
}
