package zones

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"richwall/internal/disk"
	"richwall/internal/sha2"
)

// transaction is a number of files that change together. Nothing is changed before it is noted what was there, in memory and, where a
// crash could leave some files changed and others not, in the journal.
type transaction struct {
	store   Store
	several bool // files
	done    []saved
	journal *journal // nil while there is none
	spoilt  *spoilt  // what is in the place of a journal until all is done, and says that the files are not to be used; else nil
	strange []Strange
	made    []string // the administrator's folder and those above it, where they were not there
	root    *os.Root // the administrator's folder, of what was read from a journal; else nil
}

// saved is what was at a path before.
type saved struct {
	Path   string // below the administrator's folder
	Linked bool   // there is a link at Path, and this is about what it leads to

	at    string // the whole path of what this is about
	below string // the same below the administrator's folder; "" if it is not there, or a journal has nothing to do with it

	Data []byte
	attributes
	Link   string // where it led, if it was a link
	Exists bool
	Folder bool   // the path is a folder that was made
	Next   []byte // the SHA-256 of what is written there; nil if that is not known

	Beside  bool   // what is renamed comes here
	Renamed bool   // what was there has another name
	Old     string // that name, in the same folder; "" is NAME.old
}

// oldName is the name that what was there has, if it was renamed.
func (s *saved) oldName() string { return cmp.Or(s.Old, filepath.Base(s.at)+".old") }

// note remembers what was at a path, which is about to change.
func (t *transaction) note(s saved) error {
	if !s.Linked {
		below, err := filepath.Rel(t.store.Dirs.System, s.at)
		if err != nil {
			return failed("note", s.at, err)
		}
		s.Path = below
	}
	if t.journal != nil {
		if err := t.journal.add(s); err != nil {
			return failed("write", t.journal.path, err)
		}
	}
	t.done = append(t.done, s)
	return nil
}

// replace puts a file in its place, and what was there beside it as NAME.old. As with firewalld a link stays one, to a file with
// the new content, and a file that was not there gets the attributes asNew. A file keeps its owner, mode and extended attributes; one that goes becomes NAME.old as it is.
func (t *transaction) replace(f file, asNew attributes) error {
	path := filepath.Join(t.store.Dirs.System, filepath.FromSlash(f.path))
	if err := t.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if f.data == nil {
		return t.remove(f, path)
	}
	target := t.store.path(f.path)
	before, err := look(saved{at: target, Path: filepath.FromSlash(f.path), Linked: target != path}, f.data)
	if err != nil {
		return err
	}
	known := f.known == nil || !before.Exists || f.known(before.Data)
	if err := t.unchanged(f, path, before.Exists, known); err != nil {
		return err
	}
	kept := asNew
	if before.Exists && before.Link == "" {
		kept = before.attributes
		old := t.oldName(path, known)
		if err := t.keepOld(old, before); err != nil {
			return err
		}
		if !known {
			t.strange = append(t.strange, Strange{path, old})
		}
	}
	// It is noted behind NAME.old, so that it is put back before that: what was there is in one of the two at each moment.
	if err := t.note(before); err != nil {
		return err
	}
	if f.fixed {
		kept.Mode = f.mode
	}
	return writeWhole(target, f.data, kept)
}

// keepOld writes what a file held beside its place, with its mode and extended attributes, but an owner of its own. Without a path it is not
// kept.
func (t *transaction) keepOld(path string, before saved) error {
	if path == "" {
		return nil
	}
	if err := t.save(saved{at: path}, before.Data); err != nil {
		return err
	}
	kept := before.attributes
	kept.UID, kept.GID = sameOwner, sameOwner
	return writeWhole(path, before.Data, kept)
}

// unchanged is the error that a file is not as it was read, where that matters.
func (t *transaction) unchanged(f file, path string, there, known bool) error {
	if !t.store.Unchanged || f.known == nil || known && there == f.had {
		return nil
	}
	return refuse(CommandFailed, "cannot write %s: somebody else has changed it since it was read; try again", path)
}

// remove makes what is at a path, a link too, NAME.old, whether it can be read or not.
func (t *transaction) remove(f file, path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	old := t.oldName(path, false)
	goes, err := readRegular(path) // what cannot be read is renamed all the same
	if err == nil {
		if err := t.unchanged(f, path, true, f.known == nil || f.known(goes)); err != nil {
			return err
		}
	}
	if err := t.save(saved{at: old, Beside: true}, goes); err != nil {
		return err
	}
	if err := t.note(saved{at: path, Renamed: true, Old: filepath.Base(old)}); err != nil {
		return err
	}
	if err := os.Rename(path, old); err != nil {
		return failed("remove", path, err)
	}
	return syncFolder(filepath.Dir(path))
}

// oldName is where what is at a path is kept, as the function of that name says. Where NAME.old is to stay, what is not known comes beside it,
// and what is known to nowhere: "".
func (t *transaction) oldName(path string, known bool) string {
	switch {
	case t.store.KeepsOld == nil || !t.store.KeepsOld(path):
		return oldName(path)
	case known:
		return ""
	}
	return unusedName(path)
}

// oldName is where what is at a path is kept: NAME.old or, where that is something that cannot be replaced and put back, such as a folder,
// the first of NAME.old.2, NAME.old.3 and so on that is not. A folder replaces nothing.
func oldName(path string) string {
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return unusedName(path)
	}
	return firstName(path, func(info fs.FileInfo) bool {
		return info.Mode()&fs.ModeSymlink != 0 || info.Mode().IsRegular() && info.Size() <= maxFileBytes
	})
}

// unusedName is the first of NAME.old, NAME.old.2 and so on that is not there.
func unusedName(path string) string {
	return firstName(path, func(fs.FileInfo) bool { return false })
}

// firstName is the first of NAME.old, NAME.old.2 and so on that is not there or can be replaced.
func firstName(path string, replaced func(fs.FileInfo) bool) string {
	old := path + ".old"
	for n := 2; ; n++ {
		if info, err := os.Lstat(old); err != nil || replaced(info) {
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
	if below, err := filepath.Rel(t.store.Dirs.System, path); err != nil || below == "." || !filepath.IsLocal(below) {
		t.made = append(t.made, path)
	} else if err := t.note(saved{at: path, Folder: true}); err != nil {
		return err
	}
	if err := os.Mkdir(path, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed("make", path, err)
	}
	reached()
	return nil
}

// save notes what is at the path of s, where data is to be written; nil is not known.
func (t *transaction) save(s saved, data []byte) error {
	s, err := look(s, data)
	if err != nil {
		return err
	}
	return t.note(s)
}

// look completes s by what is at its path, where data is to be written; nil is not known.
func look(s saved, data []byte) (saved, error) {
	path := s.at
	if data != nil {
		sum := sha2.Sum256(data)
		s.Next = sum[:]
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
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

// undo puts back what was there before, the last change first. The error is what could not be put back. What the journal holds of that
// stays in it, so that it can be tried again.
func (t *transaction) undo() error {
	var problems []error
	for len(t.done) > 0 {
		s := t.done[len(t.done)-1]
		if err := t.restore(&s); err != nil && !s.Folder { // a folder that others use by now stays
			problems = append(problems, failed("restore", s.at, err))
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
	problems = append(problems, t.end())
	if t.journal != nil { // it could not be removed
		problems = append(problems, t.journal.close())
	}
	for _, path := range slices.Backward(t.made) { // the journal was in the last one
		_ = os.Remove(path) // one that others use by now stays
	}
	return errors.Join(problems...)
}

// takeBack is undo of a transaction that has ended. If somebody else has changed the files since, or is changing them, that is an error,
// and they stay. In the second case it can be tried again.
func (t *transaction) takeBack() error {
	if err := t.unchangedSince(); err != nil {
		return &Problem{Path: t.store.Dirs.System, Code: CommandFailed, Msg: fmt.Sprintf("the files are not put back as they were: %v", err)}
	}
	if err := t.alone(); err != nil {
		return err
	}
	switch {
	case t.spoilt != nil:
		if err := t.spoilt.putBack(); err != nil {
			return err // the files that the change has made are at least whole
		}
	case t.several:
		err := t.begin()
		if errors.As(err, new(busyError)) {
			return err
		}
		if err != nil {
			return errors.Join(err, t.undo()) // better without a journal than not at all
		}
	}
	return t.undo()
}

// alone is an error if there is a journal, unless it is the spoilt one, which is still in its place.
func (t *transaction) alone() error {
	if t.spoilt != nil && t.spoilt.old == "" {
		return nil
	}
	path := filepath.Join(t.store.Dirs.System, journalName)
	if _, err := os.Lstat(path); err == nil {
		return busy(path, fs.ErrExist)
	}
	return nil
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

// parent opens the folder that something is in. What a journal tells of in the administrator's folder stays in it, whatever becomes of links.
func (t *transaction) parent(s *saved) (*os.Root, error) {
	if t.root == nil || s.below == "" {
		return os.OpenRoot(filepath.Dir(s.at))
	}
	return t.root.OpenRoot(filepath.Dir(s.below))
}

// restore puts back what was at the path, also if it is there again already.
func (t *transaction) restore(s *saved) error {
	root, err := t.parent(s)
	if errors.Is(err, fs.ErrNotExist) && !s.Exists && !s.Renamed {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	name := filepath.Base(s.at)
	if s.Renamed {
		if _, err := root.Lstat(name); err == nil {
			return nil
		}
		return root.Rename(s.oldName(), name)
	}
	if s.Exists && s.Link == "" {
		if s.there(root) {
			return nil // a full disk may have no room to write it again
		}
		return writeIn(root, s.at, s.Data, s.attributes)
	}
	if to, err := root.Readlink(name); s.Link != "" && err == nil && to == s.Link {
		return nil
	}
	_, err = root.Lstat(name)
	if err == nil {
		err = root.Remove(name)
	}
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist): // of what is not there, a disk that can only be read says that it cannot be removed
		return err
	case s.Link != "":
		return root.Symlink(s.Link, name)
	}
	return nil
}

// there tells whether the file at the path, in an open folder, is as it was.
func (s *saved) there(root *os.Root) bool {
	data, err := readIn(root, filepath.Base(s.at))
	if err != nil || !bytes.Equal(data, s.Data) {
		return false
	}
	info, err := root.Lstat(filepath.Base(s.at))
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	now, err := attributesOf(s.at, info)
	return err == nil && now.Mode == s.Mode && now.UID == s.UID && now.GID == s.GID && maps.EqualFunc(now.Extended, s.Extended, bytes.Equal)
}

// readIn reads a file of an open folder that is no link.
func readIn(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil, errors.New("it is a link now")
	}
	f := &folder{path: root.Name(), root: root, bytes: maxFileBytes}
	return f.read(name, maxFileBytes)
}

// writeWhole writes a file beside its place and then puts it there, so that nobody ever sees a part of it.
func writeWhole(path string, data []byte, kept attributes) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return failed("write", path, err)
	}
	defer root.Close()
	return writeIn(root, path, data, kept)
}

// writeIn is writeWhole in an open folder, that of the path.
func writeIn(root *os.Root, path string, data []byte, kept attributes) error {
	temp, name, err := makeTemp(root)
	if err != nil {
		return failed("write", path, err)
	}
	_, err = temp.Write(data)
	if err == nil {
		err = kept.give(temp, filepath.Join(filepath.Dir(path), name))
	}
	if err == nil {
		err = temp.Sync()
	}
	if err == nil {
		err = root.Rename(name, filepath.Base(path))
	}
	if closing := temp.Close(); err == nil && closing != nil {
		return failed("write", path, closing)
	}
	if err != nil {
		return errors.Join(failed("write", path, err), root.Remove(name))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder waits until the names in a folder are on the disk.
func syncFolder(path string) error {
	if err := syncNames(path); err != nil {
		return failed("write", path, err)
	}
	reached()
	return nil
}

// syncNames is what waits for that. It is a variable for tests.
var syncNames = disk.SyncFolder

// reached is called whenever something has changed on the disk. It is a variable for tests.
var reached = func() {}
