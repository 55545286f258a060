package zones

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"richwall/internal/sha2"
)

// journalName is the file in the administrator's folder that is there while several files change. Each of its lines is a saved in JSON,
// written to the disk before what it tells of is changed. Whoever changes the files holds a lock on it (flock(2)), which ends with
// him: one without a lock is left of a change that was cut off.
const journalName = ".unfinished-change"

type journal struct {
	path string
	file *os.File
	ends []int64 // where each line ends
}

// Recover takes back a change of several files that was cut off, as by a loss of power, and tells whether there was one. The error, with
// code COMMAND_FAILED, is that it cannot be taken back, or that somebody else is changing the files now.
func (s Store) Recover() (bool, error) {
	path := filepath.Join(s.Dirs.System, journalName)
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if s.Dirs.System == "" || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, failed("open", path, err)
	}
	j := &journal{path: path, file: file}
	if there, err := j.lock(); err != nil || !there {
		j.close()
		return false, err
	}
	done, err := j.read()
	if err == nil {
		err = unchangedSince(done)
	}
	if err != nil {
		j.close()
		return false, &Problem{Path: path, Code: CommandFailed, Msg: fmt.Sprintf(
			"a change of several files was cut off, and cannot be taken back: %v; see to it that the files are as they should be, and remove %s", err, path)}
	}
	return len(done) > 0, (&transaction{store: s, several: true, done: done, journal: j}).undo()
}

// unfinished is the problem that several files change, or that such a change was cut off, in a folder; nil if neither is so.
func (f *folder) unfinished() *Problem {
	if f.path == "" {
		return nil
	}
	if _, err := f.stat(journalName); err != nil {
		return nil
	}
	return &Problem{Path: f.join(journalName), Code: CommandFailed, Msg: "several files of the folder are being changed, or such a change was cut off: " +
		"some are new and others old; a start of firewalld, a reload and firewall-offline-cmd take back one that was cut off"}
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

// busy is the error that somebody else has the journal.
func busy(path string, err error) error {
	return &Problem{Path: path, Code: CommandFailed, Msg: fmt.Sprintf("somebody else is changing the files, as %s says: %v; try again", path, err)}
}

// begin makes the journal with what is noted already, as a whole, and the folder that it is in.
func (t *transaction) begin() error {
	folder := t.store.Dirs.System
	if err := t.makeFolder(folder); err != nil {
		return err
	}
	path := filepath.Join(folder, journalName)
	file, err := os.CreateTemp(folder, ".new*.tmp")
	if err != nil {
		return failed("make", path, err)
	}
	defer os.Remove(file.Name())
	j := &journal{path: path, file: file}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = j.add(t.done...)
	}
	if err == nil {
		err = os.Link(file.Name(), path)
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

// add writes lines, and waits until they are on the disk.
func (j *journal) add(list ...saved) error {
	for _, s := range list {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		end := j.end()
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
		return 0
	}
	return j.ends[len(j.ends)-1]
}

// cut leaves only the first n lines.
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
func (j *journal) read() ([]saved, error) {
	info, err := j.file.Stat()
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(j.file)
	if err != nil {
		return nil, err
	}
	var done []saved
	for line := range bytes.Lines(data) {
		var s saved
		if err := json.Unmarshal(line, &s); err != nil || line[len(line)-1] != '\n' {
			if j.end()+int64(len(line)) == int64(len(data)) {
				break
			}
			return nil, fmt.Errorf("line %d of it is damaged", len(done)+1)
		}
		done, j.ends = append(done, s), append(j.ends, j.end()+int64(len(line)))
	}
	return done, nil
}

// remove makes what was changed final.
func (j *journal) remove() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove", j.path, err)
	}
	return syncFolder(filepath.Dir(j.path))
}

func (j *journal) close() error { return j.file.Close() }

// unchangedSince is an error if somebody else has changed files after a change that was cut off: to take it back would undo that.
func unchangedSince(done []saved) error {
	for i, s := range done {
		again := func(o saved) bool { return o.Path == s.Path }
		if i == len(done)-1 || s.Folder || s.Link != "" || slices.ContainsFunc(done[i+1:], again) {
			continue
		}
		data, err := readRegular(s.Path)
		sum := sha2.Sum256(data)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case s.Renamed:
			return fmt.Errorf("somebody has made %s since", s.Path)
		case s.Next == nil:
		case err != nil:
			return failed("read", s.Path, err)
		case !bytes.Equal(sum[:], s.Next) && !(s.Exists && bytes.Equal(data, s.Data)):
			return fmt.Errorf("somebody has changed %s since", s.Path)
		}
	}
	return nil
}
