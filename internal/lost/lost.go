// Package lost tells files that are lost from files that are as they are meant: a folder that is gone or empty, as where its disk is not
// mounted, and a firewalld.conf that is gone or empty, do not mean the shipped configuration and the defaults if they held something when
// they were used last.
package lost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"richwall/internal/statedir"
	"richwall/zones"
)

// Held is what the folders of a configuration held when it was used last. The zero value is that it was never used.
type Held struct {
	Used bool
	// Files is that the administrator had objects or settings of his own. Of a last good configuration that cannot be used it is not known,
	// and may be.
	Files bool
	// Shipped is that there were objects in the shipped folder, and not only what is built in.
	Shipped bool
}

// HeldBy is what the folders held that a last good configuration was read from, by the folder that it is kept in; "" for one that cannot be
// used.
func HeldBy(folder string) Held {
	if folder == "" {
		return Held{Used: true, Files: true}
	}
	list, err := os.ReadFile(filepath.Join(folder, zones.OwnFiles))
	own := strings.FieldsFunc(string(list), func(c rune) bool { return c == '\n' })
	return Held{
		Used:    true,
		Files:   len(own) > 0 || err != nil, // a former version wrote no list
		Shipped: err == nil && hasOthers(folder, own),
	}
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

// Folders is what there is of the folders of a configuration.
type Folders struct {
	dirs         zones.Dirs
	own, shipped folder
}

type folder struct{ gone, empty bool }

// Look looks at the folders of a configuration.
func Look(dirs zones.Dirs) Folders {
	look := func(path string) folder {
		empty, err := zones.EmptyFolder(path)
		return folder{errors.Is(err, fs.ErrNotExist), err == nil && empty}
	}
	return Folders{dirs, look(dirs.System), look(dirs.Default)}
}

// There tells whether both folders are there, with files in them: nothing is lost then, whatever they held.
func (f Folders) There() bool { return f.own == folder{} && f.shipped == folder{} }

// Lost is an error when the administrator's folder, or the shipped one, is not there, or holds no file although it held some. Where the
// configuration was never used, such a folder means what is built in.
func (f Folders) Lost(held Held) error {
	own, shipped := f.dirs.System, f.dirs.Default
	switch {
	case f.own.gone && held.Used:
		return fmt.Errorf("%s is not there; %s", own, meantSo(own))
	case f.own.empty && held.Files:
		return fmt.Errorf("%s holds no file, and did when it was used last; %s", own, meantSo(own))
	case shipped != "" && f.shipped != (folder{}) && held.Shipped:
		return fmt.Errorf("%s is not there or holds no file, and did when it was used last; for what is built in instead, make an empty file %s",
			shipped, filepath.Join(shipped, "firewalld.conf"))
	}
	return nil
}

// meantSo says how the shipped configuration can be chosen on purpose.
func meantSo(folder string) string {
	return fmt.Sprintf("for the shipped configuration, run firewall-cmd --reset-to-defaults, or make an empty file %s", filepath.Join(folder, "firewalld.conf"))
}

// conf is the error that firewalld.conf is gone or empty, given what is read of its folder without it.
func conf(folder string, rest *zones.Rest) error {
	return fmt.Errorf("firewalld.conf in %s is gone or empty, and was not when it was used last, as far as that is known; to do without it, write the line DefaultZone=%s into it",
		folder, rest.Config.Conf.DefaultZone)
}

// ConfUnknown is the error that firewalld.conf is not there or sets nothing, and that it is not known for a reason whether it did when it was
// used last, given what is read of its folder without it.
func ConfUnknown(folder string, rest *zones.Rest, why error) error {
	return fmt.Errorf("it cannot be read what was in force last (%w), so that firewalld.conf in %s, which is not there or sets nothing, may have had settings then; to do without them, write the line DefaultZone=%s into it",
		why, folder, rest.Config.Conf.DefaultZone)
}

// OfState is an error when firewalld.conf is gone or empty although what was used last, as it is known to state, had a setting, or that cannot
// be read; given what is read of its folder without it.
func OfState(folder string, rest *zones.Rest, state *statedir.Dir) error {
	if !state.Differs("firewalld.conf", rest.Config.Conf.Text()) {
		return nil
	}
	if why := state.Unknown(); why != nil {
		return ConfUnknown(folder, rest, why)
	}
	return conf(folder, rest)
}

// Check is an error when a daemon that keeps its last good configuration in state would take the files for lost. It is for programs beside
// the daemon: where there is nothing in state, or it may not be read, nothing is known, and nothing is lost.
func Check(store zones.Store, state *statedir.Dir) error {
	if !state.There() {
		return nil
	}
	if folders := Look(store.Dirs); !folders.There() {
		held := Held{}
		if folder, _, err := state.LastGood(); !errors.Is(err, statedir.ErrNone) {
			held = HeldBy(folder)
		}
		if err := folders.Lost(held); err != nil {
			return err
		}
	}
	if !store.NoConf() {
		return nil
	}
	rest := zones.LoadRest(store.Dirs, &zones.Config{})
	return OfState(store.Dirs.System, rest, state)
}
