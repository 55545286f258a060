package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// tempName is the name of a file that is being written, and gets its own name when it is whole.
var tempName = regexp.MustCompile(`^\.new[0-9]{1,20}\.tmp$`)

// makeTemp makes a file in an open folder that is to have another name when it is written. Who made it holds a lock on it (flock(2)) until
// it is closed, so that removeTemps leaves it alone. One that removeTemps has taken before it was locked is made again.
func makeTemp(root *os.Root) (file *os.File, name string, err error) {
	for {
		name = fmt.Sprintf(".new%d.tmp", rand.Uint64())
		file, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, "", err
		}
		reached()
		err = lockTemp(root, name, file)
		if err == nil {
			return file, name, nil
		}
		if file.Close(); !errors.Is(err, errTaken) {
			return nil, "", errors.Join(err, root.Remove(name))
		}
	}
}

// errTaken is that somebody else has locked a file, or has removed it before it was locked.
var errTaken = errors.New("somebody else has the file")

// lockTemp locks an open file, of a name in an open folder, without waiting. The error is errTaken or another one.
func lockTemp(root *os.Root, name string, file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errTaken
	}
	if err != nil {
		return err
	}
	mine, err := file.Stat()
	if err != nil {
		return err
	}
	if now, err := root.Lstat(name); err != nil || !os.SameFile(mine, now) {
		return errTaken
	}
	return nil
}

// removeTemps removes the files that a process which was killed has left half written, in the folder and those below that files are
// written to. A file that somebody is writing stays, as does what cannot be removed: it is in nobody's way.
func (f *folder) removeTemps() {
	for _, name := range f.writtenTo() {
		entries, err := f.list(name)
		if err != nil || !slices.ContainsFunc(entries, isTemp) {
			continue
		}
		root, err := f.root.OpenRoot(filepath.FromSlash(name)) // nothing outside of the folder is opened
		if err != nil {
			continue
		}
		for _, e := range entries {
			if isTemp(e) {
				removeTemp(root, e.Name())
			}
		}
		root.Close()
	}
}

// writtenTo are the folders, by their names below the folder, that files are written to: also where links to files lead, as far as that is
// below the folder.
func (f *folder) writtenTo() []string {
	list := append([]string{"."}, objectFolders...)
	entries, _ := f.list("zones") // what cannot be listed has nothing to remove
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			list = append(list, "zones/"+e.Name())
		}
	}
	for _, name := range slices.Clone(list) {
		entries, _ := f.list(name)
		for _, e := range entries {
			if e.Type()&fs.ModeSymlink == 0 || !slices.Contains([]string{".xml", ".conf"}, filepath.Ext(e.Name())) {
				continue
			}
			to := filepath.Dir(linked(f.join(name + "/" + e.Name())))
			if below, err := filepath.Rel(f.path, to); err == nil && !slices.Contains(list, below) {
				list = append(list, below)
			}
		}
	}
	return list
}

func isTemp(e fs.DirEntry) bool { return e.Type().IsRegular() && tempName.MatchString(e.Name()) }

// removeTemp removes a file of an open folder, if it is a regular one that nobody has locked.
func removeTemp(root *os.Root, name string) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() && lockTemp(root, name, file) == nil {
		_ = root.Remove(name)
	}
}
