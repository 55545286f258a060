package zones

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// transaction is a number of files that change together. Nothing is changed before it is noted what was there, in memory and, where a
// crash could leave some files changed and others not, in the journal.
type transaction struct {
	store   Store
	several bool // files
	done    []saved
	journal *journal // nil while there is none
	strange []string // paths of files that held what is not known
}

// saved is what was at a path before.
type saved struct {
	Path string
	Data []byte
	attributes
	Link   string // where it led, if it was a link
	Exists bool
	Folder bool   // the path is a folder that was made
	Next   []byte // the SHA-256 of what is written there; nil if that is not known

	Renamed bool   // what was there has another name
	Old     string // the path with that name; "" is NAME.old
}

// note remembers what was at a path, which is about to change.
func (t *transaction) note(s saved) error {
	if t.journal != nil {
		if err := t.journal.add(s); err != nil {
			return failed("write", t.journal.path, err)
		}
	}
	t.done = append(t.done, s)
	return nil
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
	before, err := t.save(target, f.data)
	if err != nil {
		return err
	}
	kept := newAttributes(f.mode)
	if before.Exists && f.known != nil && !f.known(before.Data) {
		t.strange = append(t.strange, path)
	}
	if before.Exists && before.Link == "" {
		kept = before.attributes
		if err := t.keepOld(oldName(path), before); err != nil {
			return err
		}
	}
	if f.fixed {
		kept.Mode = f.mode
	}
	return writeWhole(target, f.data, kept)
}

// keepOld writes what a file held beside its place, with its mode and extended attributes, but an owner of its own.
func (t *transaction) keepOld(path string, before saved) error {
	if _, err := t.save(path, before.Data); err != nil {
		return err
	}
	kept := before.attributes
	kept.UID, kept.GID = sameOwner, sameOwner
	return writeWhole(path, before.Data, kept)
}

// remove makes what is at a path, a link too, NAME.old, without looking into it.
func (t *transaction) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	old := oldName(path)
	if _, err := t.save(old, nil); err != nil {
		return err
	}
	if err := t.note(saved{Path: path, Renamed: true, Old: old}); err != nil {
		return err
	}
	if err := os.Rename(path, old); err != nil {
		return failed("remove", path, err)
	}
	return syncFolder(filepath.Dir(path))
}

// oldName is where what is at a path is kept: NAME.old or, where that is something that cannot be replaced and put back, such as a folder,
// the first of NAME.old.2, NAME.old.3 and so on that is not.
func oldName(path string) string {
	old := path + ".old"
	for n := 2; ; n++ {
		info, err := os.Lstat(old)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 || info.Mode().IsRegular() && info.Size() <= maxFileBytes {
			return old
		}
		old = fmt.Sprintf("%s.old.%d", path, n)
	}
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
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // if it is no folder, what is to be in it says so
	}
	if err := t.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := t.note(saved{Path: path, Folder: true}); err != nil {
		return err
	}
	if err := os.Mkdir(path, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed("make", path, err)
	}
	reached()
	return nil
}

// save notes what is at a path, where data is to be written; nil is not known.
func (t *transaction) save(path string, data []byte) (saved, error) {
	s := saved{Path: path}
	if data != nil {
		sum := sha256.Sum256(data)
		s.Next = sum[:]
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, t.note(s)
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		s.Link, err = os.Readlink(path)
	case err == nil:
		if s.Data, err = readRegular(path); err == nil {
			s.attributes, err = attributesOf(path, info)
		}
	}
	if err != nil {
		return s, failed("read", path, err)
	}
	s.Exists = true
	return s, t.note(s)
}

// readRegular reads a file that is there, and is no link.
func readRegular(path string) ([]byte, error) {
	f, err := openFolder(filepath.Dir(path), true)
	if err != nil {
		return nil, err
	}
	return f.read(filepath.Base(path), maxFileBytes)
}

// undo puts back what was there before, the last change first. The error is what could not be put back. What the journal holds of that
// stays in it, so that it can be tried again.
func (t *transaction) undo() error {
	var problems []error
	var first saved
	if len(t.done) > 0 {
		first = t.done[0]
	}
	for len(t.done) > 0 {
		s := t.done[len(t.done)-1]
		if err := s.restore(); err != nil && !s.Folder { // a folder that others use by now stays
			problems = append(problems, failed("restore", s.Path, err))
			if t.journal != nil {
				return errors.Join(append(problems, t.journal.close())...)
			}
		}
		t.done = t.done[:len(t.done)-1]
		if t.journal != nil {
			if err := t.journal.cut(len(t.done)); err != nil {
				return errors.Join(failed("write", t.journal.path, err), t.journal.close())
			}
		}
	}
	if err := t.end(); err != nil {
		problems = append(problems, err, t.journal.close())
	}
	if first.Path == t.store.Dirs.System && first.Folder {
		_ = os.Remove(first.Path) // which the journal was in
	}
	return errors.Join(problems...)
}

// takeBack is undo of a transaction that has ended.
func (t *transaction) takeBack() error {
	if t.several {
		if err := t.begin(); err != nil {
			return errors.Join(err, t.undo()) // better without a journal than not at all
		}
	}
	return t.undo()
}

// end is that the files are as they are to be.
func (t *transaction) end() error {
	if t.journal == nil {
		return nil
	}
	if err := t.journal.remove(); err != nil {
		return err
	}
	err := t.journal.close()
	t.journal = nil
	return err
}

// restore puts back what was at the path, also if it is there again already.
func (s *saved) restore() error {
	if s.Renamed {
		if _, err := os.Lstat(s.Path); err == nil {
			return nil
		}
		return os.Rename(cmp.Or(s.Old, s.Path+".old"), s.Path)
	}
	if s.Exists && s.Link == "" {
		if s.there() {
			return nil // a full disk may have no room to write it again
		}
		return writeWhole(s.Path, s.Data, s.attributes)
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.Link != "" {
		return os.Symlink(s.Link, s.Path)
	}
	return nil
}

// there tells whether the file at the path is as it was.
func (s *saved) there() bool {
	info, err := os.Lstat(s.Path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := readRegular(s.Path)
	if err != nil || !bytes.Equal(data, s.Data) {
		return false
	}
	now, err := attributesOf(s.Path, info)
	return err == nil && now.Mode == s.Mode && now.UID == s.UID && now.GID == s.GID && maps.EqualFunc(now.Extended, s.Extended, bytes.Equal)
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
	reached()
	return nil
}

// reached is called whenever something has changed on the disk. It is a variable for tests.
var reached = func() {}
