package zones

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// transaction is a number of files that change together, as far as a file system can do that.
type transaction struct {
	store   Store
	done    []saved
	strange []string // paths of files that held what is not known
}

// saved is what was at a path before.
type saved struct {
	path string
	data []byte
	attributes
	link   string // where it led, if it was a link
	exists bool
	folder bool // the path is a folder that was made

	renamed bool // what was there is NAME.old
}

// replace puts a file in its place, and what was there beside it as NAME.old. As with firewalld a link stays one, to a file with
// the new content, and a file keeps its owner, mode and extended attributes; one that goes becomes NAME.old as it is.
func (t *transaction) replace(f file) error {
	path := filepath.Join(t.store.Dirs.System, filepath.FromSlash(f.path))
	if err := t.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if f.data == nil {
		return t.remove(path)
	}
	target := t.store.path(f.path)
	before, err := t.save(target)
	if err != nil {
		return err
	}
	kept := newAttributes(f.mode)
	if before.exists && f.known != nil && !f.known(before.data) {
		t.strange = append(t.strange, path)
	}
	if before.exists && before.link == "" {
		kept = before.attributes
		if err := t.keepOld(path+".old", before); err != nil {
			return err
		}
	}
	if f.fixed {
		kept.mode = f.mode
	}
	return writeWhole(target, f.data, kept)
}

// keepOld writes what a file held beside its place, with its mode and extended attributes, but an owner of its own.
func (t *transaction) keepOld(path string, before saved) error {
	if _, err := t.save(path); err != nil {
		return err
	}
	kept := before.attributes
	kept.uid, kept.gid = sameOwner, sameOwner
	return writeWhole(path, before.data, kept)
}

// remove makes what is at a path, a link too, NAME.old, without looking into it.
func (t *transaction) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := t.save(path + ".old"); err != nil {
		return err
	}
	if err := os.Rename(path, path+".old"); err != nil {
		return failed("remove", path, err)
	}
	t.done = append(t.done, saved{path: path, renamed: true})
	return syncFolder(filepath.Dir(path))
}

// linked is the path that a link leads to, over any number of links; of anything else it is the same path.
func linked(path string) string {
	for range 40 { // as in the kernel (path_resolution(7))
		next, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		path = next
	}
	return path
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
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.done = append(t.done, s)
		return s, nil
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		s.link, err = os.Readlink(path)
	case err == nil:
		if s.data, err = readRegular(path); err == nil {
			s.attributes, err = attributesOf(path, info)
		}
	}
	if err != nil {
		return s, failed("read", path, err)
	}
	s.exists = true
	t.done = append(t.done, s)
	return s, nil
}

// readRegular reads a file that is there, and is no link.
func readRegular(path string) ([]byte, error) {
	f, err := openFolder(filepath.Dir(path), true)
	if err != nil {
		return nil, err
	}
	return f.read(filepath.Base(path), maxFileBytes)
}

// undo puts back what was there before, the last change first. The error is what could not be put back.
func (t *transaction) undo() error {
	var problems []error
	for len(t.done) > 0 {
		s := t.done[len(t.done)-1]
		t.done = t.done[:len(t.done)-1]
		if err := s.restore(); err != nil && !s.folder { // a folder that others use by now stays
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// restore puts back what was at the path.
func (s *saved) restore() error {
	if s.renamed {
		return os.Rename(s.path+".old", s.path)
	}
	if s.exists && s.link == "" {
		return writeWhole(s.path, s.data, s.attributes)
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.link != "" {
		return os.Symlink(s.link, s.path)
	}
	return nil
}

// writeWhole writes a file beside its place and then puts it there, so that nobody ever sees a part of it.
func writeWhole(path string, data []byte, kept attributes) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new*.tmp")
	if err != nil {
		return failed("write", path, err)
	}
	_, err = temp.Write(data)
	if err == nil {
		err = kept.give(temp)
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
