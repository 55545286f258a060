package zones

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"richwall/internal/sha2"
)

// journalName is the file in the administrator's folder that is there while several files change. Its first line says which file of which
// folder it is, and each other line is a saved in JSON, written to the disk before what it tells of is changed. Whoever changes the files
// holds a lock on it (flock(2)), which ends with him: one without a lock is left of a change that was cut off.
//
// Who obeys a journal writes what it says. So one is obeyed only where it was made, by who changes the files, and all that it
// says is below its folder, or where links of the folder lead.
const journalName = ".unfinished-change"

// maxJournalBytes is how large a journal may become: more than the files of a folder.
const maxJournalBytes = maxFolderBytes

type journal struct {
	path  string
	file  *os.File
	start int64   // where the first line ends
	ends  []int64 // where each other line ends
}

// origin is the first line of a journal. A copy of it, of its folder or of a disk's files has other numbers.
type origin struct {
	Folder, Journal uint64 // the numbers of the inodes
}

// Recover takes back a change of several files that was cut off, as by a loss of power, and tells whether there was one. Files that were left
// half written are removed then. The error, with code COMMAND_FAILED, is that it cannot be taken back, or that somebody else
// is changing the files now.
func (s Store) Recover() (bool, error) {
	f, err := openFolder(s.Dirs.System, false)
	if err != nil {
		return false, failed("open", s.Dirs.System, err)
	}
	if f.root == nil {
		return false, nil
	}
	defer f.close()
	path := filepath.Join(s.Dirs.System, journalName)
	j, err := openJournal(f.root, path)
	if err != nil {
		return false, err
	}
	if j == nil {
		f.removeTemps()
		return false, nil
	}
	t := &transaction{store: s, root: f.root, several: true, journal: j}
	if err := t.find(); err != nil {
		return false, errors.Join(notTakenBack(path, err), j.close())
	}
	found := len(t.done) > 0
	if err := t.undo(); err != nil {
		return found, err
	}
	f.removeTemps()
	return found, nil
}

// find reads what the journal tells of. The error is that it cannot be taken back.
func (t *transaction) find() (err error) {
	if t.done, err = t.journal.read(t.root); err == nil {
		err = t.locate()
	}
	if err == nil {
		err = t.unchangedSince()
	}
	return err
}

// notTakenBack is the problem that a change cannot be taken back, and what to do.
func notTakenBack(path string, reason error) *Problem {
	return &Problem{Path: path, Code: CommandFailed, Msg: fmt.Sprintf(
		"a change of several files was cut off, and cannot be taken back: %v; see to it that the files are as they should be, and remove %s", reason, path)}
}

// openJournal opens a journal and locks it; nil is that there is none. Only a regular file is opened.
func openJournal(root *os.Root, path string) (*journal, error) {
	info, err := root.Lstat(journalName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, failed("use", path, err)
	}
	file, err := root.OpenFile(journalName, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("open", path, err)
	}
	j := &journal{path: path, file: file}
	if there, err := j.lock(); err != nil || !there {
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

// spoilt is a journal that cannot be obeyed, or what is in the place of one. While it is there nobody uses the files.
type spoilt struct {
	folder string
	old    string   // the name it has when it is set aside; "" while it is in its place
	held   *journal // locked, so that nobody else changes the files; nil of what is no file
}

// spoilt is the journal that cannot be obeyed. The error is the reason why it cannot be, if somebody else is changing the files now.
func (s Store) spoilt(reason error) (*spoilt, error) {
	f, err := openFolder(s.Dirs.System, false)
	if err != nil || f.root == nil {
		return nil, reason
	}
	defer f.close()
	info, err := f.root.Lstat(journalName)
	if err != nil {
		return nil, reason
	}
	result := &spoilt{folder: s.Dirs.System}
	if info.Mode().IsRegular() {
		result.held, err = openJournal(f.root, filepath.Join(s.Dirs.System, journalName))
		if result.held == nil || err != nil {
			return nil, reason
		}
	}
	return result, nil
}

// setAside gives the journal another name, NAME.old or one that is not there yet: the files are as they are to be.
func (s *spoilt) setAside() error {
	path := filepath.Join(s.folder, journalName)
	old := unusedName(path)
	if err := os.Rename(path, old); err != nil {
		return failed("rename", path, err)
	}
	s.old = old
	return syncFolder(s.folder)
}

// putBack puts the journal back in its place, before the files are what they were.
func (s *spoilt) putBack() error {
	if s.old == "" {
		return nil
	}
	path := filepath.Join(s.folder, journalName)
	if err := os.Rename(s.old, path); err != nil {
		return failed("restore", path, err)
	}
	s.old = ""
	return syncFolder(s.folder)
}

func (s *spoilt) close() {
	if s != nil && s.held != nil {
		s.held.close()
	}
}

// unfinished is the problem that several files change, or that such a change was cut off, in a folder; nil if neither is so.
func (f *folder) unfinished() *Problem {
	if f.path == "" {
		return nil
	}
	info, err := f.lstat(journalName)
	if err != nil {
		return nil
	}
	path := f.join(journalName)
	if err := regular(info); err != nil {
		return &Problem{Path: path, Code: CommandFailed, Msg: fmt.Sprintf("a file of this name says that a change of several files was cut off, but %v: remove it", err)}
	}
	if err := f.spoilt(); err != nil {
		return notTakenBack(path, err)
	}
	return &Problem{Path: path, Code: CommandFailed, Msg: "several files of the folder are being changed, or such a change was cut off: some are new and others old; " +
		"a start of firewalld, a reload and the next change take back one that was cut off"}
}

// spoilt is the reason why a journal cannot be obeyed, as far as one can tell who may only read.
func (f *folder) spoilt() error {
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return nil
	}
	defer root.Close()
	file, err := root.OpenFile(journalName, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	t := &transaction{store: Store{Dirs: Dirs{System: f.path, Follow: f.root == nil}}, root: root, journal: &journal{path: f.join(journalName), file: file}}
	return t.find()
}

// lock makes a journal that of this process. there is false if somebody else has removed it. The error is that somebody else has it.
func (j *journal) lock() (there bool, err error) {
	if err := syscall.Flock(int(j.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return false, busy(j.path, err)
	}
	mine, err := j.file.Stat()
	if err != nil {
		return false, failed("read", j.path, err)
	}
	now, err := os.Lstat(j.path)
	return err == nil && os.SameFile(mine, now), nil
}

// busyError is that somebody else has the journal.
type busyError struct{ *Problem }

// Unwrap implements the interface of errors.As.
func (e busyError) Unwrap() error { return e.Problem }

// busy is a busyError about a journal.
func busy(path string, err error) error {
	return busyError{&Problem{Path: path, Code: CommandFailed, Msg: fmt.Sprintf("somebody else is changing the files, as %s says: %v; try again", path, err)}}
}

// begin makes the journal with what is noted already, as a whole, and the folder that it is in.
func (t *transaction) begin() error {
	folder := t.store.Dirs.System
	if err := t.makeFolder(folder); err != nil {
		return err
	}
	path := filepath.Join(folder, journalName)
	root, err := os.OpenRoot(folder)
	if err != nil {
		return failed("make", path, err)
	}
	defer root.Close()
	file, name, err := makeTemp(root)
	if err != nil {
		return failed("make", path, err)
	}
	defer root.Remove(name)
	j := &journal{path: path, file: file}
	if err = j.sign(root); err == nil {
		err = j.add(t.done...)
	}
	if err == nil {
		err = root.Link(name, journalName)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return errors.Join(busy(path, err), j.close())
	case err != nil:
		return errors.Join(failed("make", path, err), j.close())
	}
	t.journal = j
	return syncFolder(folder)
}

// sign writes the first line.
func (j *journal) sign(root *os.Root) error {
	o, err := j.origin(root)
	if err != nil {
		return err
	}
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = j.file.WriteAt(append(line, '\n'), 0)
	j.start = int64(len(line)) + 1
	return err
}

// origin is what the first line of a journal is.
func (j *journal) origin(root *os.Root) (o origin, err error) {
	folder, err := root.Stat(".")
	if err != nil {
		return o, err
	}
	file, err := j.file.Stat()
	if err != nil {
		return o, err
	}
	return origin{folder.Sys().(*syscall.Stat_t).Ino, file.Sys().(*syscall.Stat_t).Ino}, nil
}

// add writes lines, and waits until they are on the disk.
func (j *journal) add(list ...saved) error {
	for _, s := range list {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		end := j.end()
		if end+int64(len(line)) >= maxJournalBytes {
			return fmt.Errorf("the files that change have more than %d MiB in all", maxJournalBytes>>20)
		}
		if _, err := j.file.WriteAt(append(line, '\n'), end); err != nil {
			return err
		}
		j.ends = append(j.ends, end+int64(len(line))+1)
	}
	err := j.file.Sync()
	reached()
	return err
}

func (j *journal) end() int64 {
	if len(j.ends) == 0 {
		return j.start
	}
	return j.ends[len(j.ends)-1]
}

// cut leaves only the first n lines, and the one before them.
func (j *journal) cut(n int) error {
	j.ends = j.ends[:n]
	if err := j.file.Truncate(j.end()); err != nil {
		return err
	}
	err := j.file.Sync()
	reached()
	return err
}

// read is what a journal holds. The last line may have been cut off: then what it tells of was not changed.
func (j *journal) read(root *os.Root) ([]saved, error) {
	info, err := j.file.Stat()
	if err == nil {
		err = trusted(info)
	}
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(io.LimitReader(j.file, maxJournalBytes))
	if err := j.readOrigin(r, root); err != nil {
		return nil, err
	}
	var done []saved
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return nil, err
		}
		var s saved
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("line %d of it is damaged", len(done)+2)
		}
		done, j.ends = append(done, s), append(j.ends, j.end()+int64(len(line)))
	}
}

// trusted is an error if a journal may be somebody else's.
func trusted(info fs.FileInfo) error {
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	switch {
	case info.Size() > maxJournalBytes:
		return fmt.Errorf("it has more than %d MiB", maxJournalBytes>>20)
	case owner != 0 && owner != os.Geteuid():
		return fmt.Errorf("it belongs to user %d, who does not change the files", owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others than its owner can write it: its mode is %#o", info.Mode().Perm())
	}
	return nil
}

// readOrigin reads the first line. The error is that the journal was not made here.
func (j *journal) readOrigin(r *bufio.Reader, root *os.Root) error {
	line, err := r.ReadSlice('\n')
	var o origin
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	if err != nil {
		return errors.New("line 1 of it is damaged")
	}
	j.start = int64(len(line))
	if here, err := j.origin(root); err != nil || o != here {
		return errors.Join(errors.New("it was made in another folder, or is a copy"), err)
	}
	return nil
}

// locate finds where everything is that a journal tells of. The error is that something is neither below the folder nor where a link of it
// leads that may be followed.
func (t *transaction) locate() error {
	real, err := filepath.EvalSymlinks(t.store.Dirs.System)
	for i := range t.done {
		if err == nil {
			err = t.locateOne(&t.done[i], real)
		}
	}
	return err
}

// locateOne is locate of one path; real is the folder, without links.
func (t *transaction) locateOne(s *saved, real string) error {
	if !filepath.IsLocal(s.Path) || filepath.Clean(s.Path) != s.Path || s.Path == "." || s.Mode != s.Mode.Perm() {
		return fmt.Errorf("it tells of %q, which is no file of the folder", s.Path)
	}
	s.at = filepath.Join(real, s.Path)
	if s.Linked {
		if info, err := os.Lstat(s.at); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return fmt.Errorf("somebody has removed the link %s since", s.Path)
		}
		s.at = linked(s.at)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(s.at))
	if errors.Is(err, fs.ErrNotExist) {
		dir, err = filepath.Dir(s.at), nil
	}
	if err != nil {
		return err
	}
	s.at = filepath.Join(dir, filepath.Base(s.at))
	below, err := filepath.Rel(real, s.at)
	switch {
	case err == nil && filepath.IsLocal(below):
		s.below = below
	case !t.store.Dirs.Follow:
		return fmt.Errorf("a link leads %s out of the folder", s.Path)
	}
	return nil
}

// remove makes what was changed final.
func (j *journal) remove() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove", j.path, err)
	}
	return syncFolder(filepath.Dir(j.path))
}

func (j *journal) close() error { return j.file.Close() }

// unchangedSince is an error if somebody else has changed files since: to take them back would undo that. Of the last entry it is not known
// whether what it tells of was done, nor of any other whether it was taken back already: a file may be as it was or as it was to be.
func (t *transaction) unchangedSince() error {
	list := t.moved()
	last := make(map[string]int, len(list)) // by path
	for i := range list {
		last[list[i].at] = i
	}
	for i := range list {
		s := &list[i]
		again := last[s.at] > i
		var err error
		switch {
		case s.Folder:
		case s.Renamed:
			err = t.renamedSince(s, again, &list[max(0, i-1)])
		case !again:
			err = t.writtenSince(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moved is what was at each path before, with the path where that is now: of what is in a folder that has another name, in that one.
func (t *transaction) moved() []saved {
	list, renamed := slices.Clone(t.done), map[string]*saved{}
	for i := range slices.Backward(list) {
		s := &list[i]
		for dir := filepath.Dir(s.at); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			o := renamed[dir]
			if o == nil {
				continue
			}
			if there, err := t.exists(o, filepath.Base(dir)); err != nil || there {
				continue
			}
			rest := strings.TrimPrefix(s.at, dir)
			s.at = filepath.Join(filepath.Dir(dir), o.oldName(), rest)
			if s.below != "" {
				s.below = filepath.Join(filepath.Dir(o.below), o.oldName(), rest)
			}
		}
		if s.Renamed {
			renamed[t.done[i].at] = s
		}
	}
	return list
}

// writtenSince is unchangedSince of a path where something was to be written.
func (t *transaction) writtenSince(s *saved) error {
	if t.holdsBefore(s) || t.holdsNext(s) {
		return nil
	}
	there, err := t.exists(s, filepath.Base(s.at))
	switch {
	case err != nil:
		return err
	case there:
		return fmt.Errorf("somebody has changed %s since", s.at)
	case s.Exists && s.Link == "" && !s.Beside: // a link is removed before it is made again, and what is beside gets its first name again
		return fmt.Errorf("somebody has removed %s since", s.at)
	}
	return nil
}

// renamedSince is unchangedSince of a path where what was there was to get another name. again is that something else was written there then, and
// beside what was noted before it: of the path of that other name.
func (t *transaction) renamedSince(s *saved, again bool, beside *saved) error {
	there, err := t.exists(s, filepath.Base(s.at))
	if err != nil {
		return err
	}
	old, err := t.exists(s, s.oldName())
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(s.at), s.oldName())
	known := beside.at == path
	renamed := again || !there
	switch {
	case renamed && !old:
		return fmt.Errorf("somebody has removed %s since", path)
	case renamed && known && !t.holdsNext(beside):
		return fmt.Errorf("somebody has removed %s since", s.at)
	case !renamed && known && !t.holdsBefore(beside):
		return fmt.Errorf("somebody has made %s since", s.at)
	}
	return nil
}

// holdsNext tells whether there may be at a path what was to be written there.
func (t *transaction) holdsNext(s *saved) bool {
	if s.Next == nil {
		return true
	}
	data, err := t.now(s)
	sum := sha2.Sum256(data)
	return err == nil && bytes.Equal(sum[:], s.Next)
}

// holdsBefore tells whether there is at a path what was there before the change.
func (t *transaction) holdsBefore(s *saved) bool {
	there, err := t.exists(s, filepath.Base(s.at))
	if err != nil || there != s.Exists {
		return false
	}
	if s.Link != "" {
		to, err := os.Readlink(s.at)
		return err == nil && to == s.Link
	}
	data, err := t.now(s)
	return !there || err == nil && bytes.Equal(data, s.Data)
}

// exists tells whether there is anything of a name in the folder that a path is in.
func (t *transaction) exists(s *saved, name string) (bool, error) {
	root, err := t.parent(s)
	if err == nil {
		defer root.Close()
		_, err = root.Lstat(name)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err == nil, nil
	}
	return false, failed("read", s.at, err)
}

// now is what the file at a path holds now. A link is not followed.
func (t *transaction) now(s *saved) ([]byte, error) {
	root, err := t.parent(s)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readIn(root, filepath.Base(s.at))
}
