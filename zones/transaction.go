package zones

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// transaction is a number of files that change together, as far as a file system can do that.
type transaction struct {
	root string
	done []saved
}

// saved is what was at a path before.
type saved struct {
	path   string
	data   []byte
	mode   fs.FileMode
	exists bool
	folder bool // the path is a folder that was made
}

// replace puts a file in its place, and what was there beside it as NAME.old.
func (t *transaction) replace(f file) error {
	path := filepath.Join(t.root, filepath.FromSlash(f.path))
	if err := t.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	before, err := t.save(path)
	if err != nil {
		return err
	}
	if before.exists {
		if _, err := t.save(path + ".old"); err != nil {
			return err
		}
		if err := writeWhole(path+".old", before.data, before.mode); err != nil {
			return err
		}
	}
	if f.data != nil {
		return writeWhole(path, f.data, f.mode)
	}
	if err := os.Remove(path); err != nil && before.exists {
		return failed("remove", path, err)
	}
	return syncFolder(filepath.Dir(path))
}

// makeFolder makes a folder and those above it.
func (t *transaction) makeFolder(path string) error {
	err := os.Mkdir(path, folderMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := t.makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, folderMode)
	}
	switch {
	case err == nil:
		t.done = append(t.done, saved{path: path, folder: true})
	case !errors.Is(err, fs.ErrExist):
		return failed("make", path, err)
	}
	return nil
}

// save remembers what is at a path.
func (t *transaction) save(path string) (saved, error) {
	s := saved{path: path}
	data, err := os.ReadFile(path)
	if err == nil {
		var info fs.FileInfo
		if info, err = os.Stat(path); err == nil {
			s.data, s.mode, s.exists = data, info.Mode().Perm(), true
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, failed("read", path, err)
	}
	t.done = append(t.done, s)
	return s, nil
}

// undo puts back what was there before, the last change first. The error is what could not be put back.
func (t *transaction) undo() error {
	var problems []error
	for len(t.done) > 0 {
		s := t.done[len(t.done)-1]
		t.done = t.done[:len(t.done)-1]
		var err error
		if s.exists {
			err = writeWhole(s.path, s.data, s.mode)
		} else if err = os.Remove(s.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil && !s.folder { // a folder that others use by now stays
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// writeWhole writes a file beside its place and then puts it there, so that nobody ever sees a part of it.
func writeWhole(path string, data []byte, mode fs.FileMode) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)[:1]+"*.tmp")
	if err != nil {
		return failed("write", path, err)
	}
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err == nil {
		err = temp.Sync()
	}
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(failed("write", path, err), os.Remove(temp.Name()))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder waits until the names in a folder are on the disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return failed("write", path, err)
	}
	err = folder.Sync()
	if closing := folder.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return failed("write", path, err)
	}
	return nil
}
