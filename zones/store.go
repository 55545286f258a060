package zones

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Store keeps the permanent configuration in the administrator's folder.
type Store struct {
	Dirs Dirs
	// Unchanged is that a file of an object is written only if it is as it was read; another one is an error. If not, it is written over, as
	// by firewalld, and told as Strange.
	Unchanged bool
	// Whole is that the file of every object of the administrator's is written that is not as it was read. If not, only those of objects that
	// an edit was about are looked at.
	Whole bool
	// KeepsOld tells whether what NAME.old of a file holds is to stay, given the file's path; nil for none.
	KeepsOld func(path string) bool
}

// Load reads the configuration, as the function of that name. It changes nothing.
func (s Store) Load() (*Config, Problems) { return Load(s.Dirs) }

// Read reads the configuration without checking it as a whole, as the function of that name. It changes nothing.
func (s Store) Read() (*Config, Problems) { return Read(s.Dirs) }

// ReadToChange is Read for one who is about to change the files: first a change that was cut off is taken back.
func (s Store) ReadToChange() (*Config, Problems) {
	found := s.TakeBack()
	if found.Err() != nil {
		return nil, found
	}
	c, problems := s.Read()
	return c, append(found, problems...)
}

// LoadAgain reads the configuration, as the function of that name. It changes nothing.
func (s Store) LoadAgain(before *Config) (*Config, Problems) { return LoadAgain(s.Dirs, before) }

// TakeBack is Recover, and tells what came of it as a problem of the files: an Error if it fails, and a Warning if there was something to
// take back.
func (s Store) TakeBack() Problems {
	switch found, err := s.Recover(); {
	case err != nil:
		p := problemOf(err, CommandFailed)
		p.Path = filepath.Join(s.Dirs.System, journalName)
		return Problems{p}
	case found:
		return Problems{{Path: s.Dirs.System, Severity: Warning, Code: CommandFailed,
			Msg: "a change of several files was cut off, and is taken back: the files are as they were before it"}}
	}
	return nil
}

// Shipped is the configuration without anything of the administrator's.
func (s Store) Shipped() (*Config, Problems) { return Load(Dirs{Default: s.Dirs.Default}) }

// file is what is to become of a file.
type file struct {
	kind kindOps // of the object in it; nil for the files that have none
	name string  // of the object
	path string  // below the administrator's folder
	data []byte  // nil means that it goes
	mode fs.FileMode
	like string // the path of a file whose attributes this one gets if it is not there; "" for none

	fixed bool // one that is there gets the mode as well, as firewalld does

	had   bool                   // the file was there when it was read
	known func(data []byte) bool // tells whether the file may hold something, as far as is known; nil for anything
}

// The modes of files and folders are firewalld's.
const (
	objectMode fs.FileMode = 0o644
	confMode   fs.FileMode = 0o600
	folderMode fs.FileMode = 0o750
)

// Save writes what next has and old, which is what the folder holds, has not. The result is next with its objects as they
// read back, so that they know their files; what would not read back is an error before any file is written. What a file held
// before is kept beside it as NAME.old. A file is written whole and then put in its place; when one cannot be, those before it are
// put back, and the error names the path. Its code is INVALID_NAME, INVALID_VALUE or COMMAND_FAILED, or that of what cannot be read.
func (s Store) Save(old, next *Config) (*Config, error) {
	stored, _, err := s.SaveIf(old, next, Always)
	return stored, err
}

// Always is for one who never gives up waiting for the disk.
func Always() bool { return true }

// Written is what came of writing files.
type Written struct {
	// Strange are files that held something else than was known, because somebody had changed them since they were read: as with firewalld,
	// they are written over.
	Strange []Strange
	// Undo puts back what was there, byte for byte, with its mode, owner and attributes.
	Undo func() error
}

// Strange is a file that somebody had changed, and was written over.
type Strange struct {
	Path string
	Kept string // the path of what holds what it held
}

// SaveIf is Save by one who may give up waiting for the disk: keep is called once, when all files are written and
// nothing more is to be done on the disk. If it is false the error is ErrGivenUp, and they are put back, unless somebody else is changing files
// by then.
func (s Store) SaveIf(old, next *Config, keep func() bool) (stored *Config, w Written, err error) {
	if _, err := s.Recover(); err != nil {
		return nil, w, err
	}
	var files []file
	for _, k := range kinds {
		same, list, err := k.files(s, old, next)
		if err != nil {
			return nil, w, err
		}
		next, files = same, append(files, list...)
	}
	confs, err := s.confFiles(old, next)
	if err != nil {
		return nil, w, err
	}
	files = append(files, confs...)
	if next.Conf.asked != "" {
		next = next.WithConf(next.Conf.unasked())
	}
	if stored, err = s.reread(next, files); err != nil {
		return nil, w, err
	}
	t := &transaction{store: s, several: len(files) > 1}
	if err := t.put(files, keep); err != nil {
		return nil, w, err
	}
	return stored, Written{Strange: t.strange, Undo: t.takeBack}, nil
}

// ErrGivenUp is that nobody waits any more for files to be written.
var ErrGivenUp = errors.New("nobody waits any more for the files to be written")

// put changes files, or none of them.
func (t *transaction) put(files []file, keep func() bool) error {
	if t.several {
		if err := t.begin(); err != nil {
			return t.putBack(err)
		}
	}
	asNew, err := attributesOfNew(files)
	if err != nil {
		return t.putBack(err)
	}
	for i, f := range files {
		if err := t.replace(f, asNew[i]); err != nil {
			return t.putBack(err)
		}
	}
	if err := t.end(); err != nil {
		return t.putBack(err)
	}
	if t.spoilt != nil {
		if err := t.spoilt.setAside(); err != nil {
			return told(err, t.takeBack())
		}
	}
	if !keep() {
		return errors.Join(ErrGivenUp, t.takeBack())
	}
	return nil
}

// putBack undoes what was done before an error.
func (t *transaction) putBack(err error) error { return told(err, t.undo()) }

// told is an error, and what has become of what was changed before it, in one message.
func told(err, undoing error) error {
	p := problemOf(err, CommandFailed)
	become := "the files are as they were"
	if undoing != nil {
		_, reason := codeOf(undoing, CommandFailed)
		become = "what was changed before that is not all put back: " + reason
	}
	p.Msg += "; " + become
	return p
}

// path is where a file of the administrator's folder is written, which links may lead to.
func (s Store) path(name string) string {
	path := filepath.Join(s.Dirs.System, filepath.FromSlash(name))
	if s.Dirs.Follow {
		return linked(path)
	}
	return path
}

// files are the objects of a kind whose files change. A shipped object has no file of the administrator's. The result has
// the old objects in place of those whose files would be the same.
func (k *objectKind[T]) files(s Store, old, next *Config) (*Config, []file, error) {
	before, after := k.objects(old), k.objects(next)
	var files []file
	result := next
	for _, name := range unionNames(before, after) {
		a, b := before[name], after[name]
		if a == b && !s.Whole {
			continue
		}
		if err := fileName(k.kind, name); err != nil {
			return nil, nil, err
		}
		had, has := a != nil && !k.meta(a).Origin.Builtin, b != nil && !k.meta(b).Origin.Builtin
		f := file{kind: k, name: name, path: k.path(name), mode: objectMode, had: had && k.meta(a).Origin.Path != "", known: func(data []byte) bool {
			return had && (k.meta(a).sum == 0 || k.meta(a).sum == fileSum(data) || bytes.Equal(k.write(a), data))
		}}
		switch {
		case has:
			f.data, f.like = k.write(b), k.meta(b).renamed
			if a != nil && bytes.Equal(k.write(a), f.data) {
				result = k.with(*result, a)
				if f.had && !k.meta(a).lossy && !s.holds(f) {
					files = append(files, f)
				}
				continue
			}
			if a != nil && k.meta(b).lossy {
				return nil, nil, refuse(CommandFailed, "cannot write %s: it holds what could not be read or used, and would lose it: mend that first", filepath.Join(s.Dirs.System, f.path))
			}
		case !had:
			continue
		}
		files = append(files, f)
	}
	return result, files, nil
}

// holds tells whether a file on the disk is as it was read.
func (s Store) holds(f file) bool {
	data, err := readRegular(s.path(f.path))
	return err == nil && f.known(data)
}

// fileName tells why an object of a name cannot have a file.
func fileName(kind Kind, name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." || strings.ContainsAny(part, "\\\x00") {
			return refuse(InvalidName, "cannot use %s name %q: no file can have it", kind, name)
		}
	}
	if kind != KindZone && strings.Contains(name, "/") {
		return refuse(InvalidName, "cannot use %s name %q: only zones can be in folders", kind, name)
	}
	if longest := 255 - len(".xml.old"); len(name) > longest { // NAME_MAX of limits.h, and what is behind the name
		return refuse(InvalidName, "cannot use %s name %q: it has %d bytes, and a file's name at most %d", kind, name, len(name), longest)
	}
	return nil
}

// confFiles are firewalld.conf and richwall.conf, if a value of them changes. Their comments stay.
func (s Store) confFiles(old, next *Config) ([]file, error) {
	values := map[string]map[string]string{"firewalld.conf": {}, "richwall.conf": {}}
	for _, key := range old.Conf.respelled(next.Conf) {
		values["firewalld.conf"][key] = next.Conf.Written(key)
	}
	for _, key := range keysWith(next.Conf.isAsked) {
		if value := next.Conf.Written(key); !s.Says(key, value) {
			values["firewalld.conf"][key] = value
		}
	}
	if old.Own.TCPMSSClamp != next.Own.TCPMSSClamp {
		values["richwall.conf"]["TCPMSSClamp"] = next.Own.TCPMSSClamp
	}
	var files []file
	for _, name := range Names(values) {
		data, err := readRegular(s.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failed("read", filepath.Join(s.Dirs.System, name), err)
		}
		conf := ParseConfFile(data)
		for _, key := range Names(values[name]) {
			if conf, err = conf.Set(key, values[name][key]); err != nil {
				return nil, err
			}
		}
		if !bytes.Equal(conf.Bytes(), data) && len(values[name]) > 0 {
			files = append(files, file{path: name, data: conf.Bytes(), mode: confMode, fixed: true})
		}
	}
	return files, nil
}

// reread is a configuration with the objects that are to be written as they will read back.
func (s Store) reread(c *Config, files []file) (*Config, error) {
	for _, f := range files {
		if f.kind == nil || f.data == nil {
			continue
		}
		var problems Problems
		if c, problems = f.kind.reread(c, f.name, f.data, filepath.Join(s.Dirs.System, f.path)); problems.Err() != nil {
			return nil, fmt.Errorf("internal error: what would be written could not be read again: %w", problems.Err())
		}
	}
	return c, nil
}

func (k *objectKind[T]) reread(c *Config, name string, data []byte, path string) (*Config, Problems) {
	o, problems := k.read(name, data, path)
	if problems.Err() != nil {
		return nil, problems
	}
	k.meta(o).Origin.Shadows = k.meta(k.objects(c)[name]).Origin.Shadows
	if len(problems) == 0 {
		k.meta(o).sum = fileSum(data)
	}
	return k.with(*c, o), nil
}

// failed is the error of a file operation. It names the file in its message, as that is all that goes over D-Bus.
func failed(what, path string, err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		err = link.Err
	}
	return refuse(CommandFailed, "cannot %s %s: %v", what, path, err)
}
