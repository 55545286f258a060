package zones

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
)

// Reset makes the administrator's folder mean the shipped configuration, whatever is in it: also files that cannot be read. The files of
// all objects become NAME.old. firewalld.conf gets the default values, and is made if there is none, which says that the folder is meant
// so. As in firewalld, direct.xml and richwall.conf stay; one that cannot be read becomes NAME.old, too, and so does one that is named in
// also. keep is as for SaveIf.
//
// A change that was cut off and cannot be taken back does not matter either: what tells of it becomes NAME.old, as the last of all. It says
// until then that the files are not to be used. Should the reset be cut off itself, it still says so, and another reset does the rest.
//
// The result is what the folder means then, and a function that puts back what was there.
func (s Store) Reset(keep func() bool, also ...string) (*Config, func() error, error) {
	var stays *spoilt
	if _, err := s.Recover(); err != nil {
		if stays, err = s.spoilt(err); err != nil {
			return nil, nil, err
		}
	}
	defer stays.close()
	next, files, err := s.resetFiles(also)
	if err != nil {
		return nil, nil, err
	}
	t := &transaction{store: s, several: len(files) > 1 && stays == nil, spoilt: stays}
	if err := t.put(files, keep); err != nil {
		return nil, nil, err
	}
	return next, t.takeBack, nil
}

// resetFiles are the files that a reset changes, and what the folder means then.
func (s Store) resetFiles(also []string) (*Config, []file, error) {
	shipped, problems := s.Shipped()
	if shipped == nil {
		return nil, nil, problems.Err()
	}
	next := *shipped
	next.Conf = DefaultConf()
	files := s.objectFiles()
	for _, f := range []struct {
		name string
		read func(data []byte, path string) bool // false for what cannot be used
	}{
		{"direct.xml", func(data []byte, path string) bool { return readTo(&next.Direct, ReadDirect, data, path) }},
		{"richwall.conf", func(data []byte, path string) bool { return readTo(&next.Own, ReadOwnConf, data, path) }},
	} {
		path := filepath.Join(s.Dirs.System, f.name)
		data, err := readRegular(path)
		stays := err == nil && !slices.Contains(also, f.name) && f.read(data, path)
		if !stays && !errors.Is(err, fs.ErrNotExist) {
			files = append(files, file{path: f.name})
		}
	}
	return &next, append(files, s.defaultConf()...), nil
}

// readTo reads a file into what is to have its content, if there is no error in it.
func readTo[T any](to **T, read func([]byte, string) (*T, Problems), data []byte, path string) bool {
	result, problems := read(data, path)
	if result == nil || problems.Err() != nil {
		return false
	}
	*to = result
	return true
}

// objectFolders are the folders of a configuration that objects are in.
var objectFolders = []string{"ipsets", "icmptypes", "helpers", "services", "zones", "policies"}

// objectFiles are the files of all objects, to go, and behind its files each folder of parts: without them it would be a zone whose files are
// lost. A folder that cannot be listed goes as a whole. What is there twice goes once.
func (s Store) objectFiles() []file {
	var files []file
	f := &folder{path: s.Dirs.System}
	var look func(name string, parts bool)
	look = func(name string, parts bool) {
		entries, err := f.list(name)
		if err != nil {
			files = append(files, file{path: name})
		}
		for _, e := range entries {
			path := name + "/" + e.Name()
			if _, object := objectName(e); object {
				files = append(files, file{path: path})
				continue
			}
			info, err := f.stat(path)
			folder := err == nil && info.IsDir()
			if parts && folder {
				look(path, false)
			}
			if parts && (folder || err != nil) && CheckName("zone", e.Name()) == nil { // an error is such as of a link that leads nowhere
				files = append(files, file{path: path})
			}
		}
	}
	for _, name := range objectFolders {
		look(name, name == "zones")
	}
	return files
}

// defaultConf is what becomes of firewalld.conf in a reset: its comments stay, unless it has lines that a load passes over,
// or sets nothing.
func (s Store) defaultConf() []file {
	const name = "firewalld.conf"
	all := file{path: name, data: DefaultConf().Text(), mode: confMode, fixed: true}
	data, err := readRegular(filepath.Join(s.Dirs.System, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []file{all}
	case err != nil:
		return []file{{path: name}, all}
	}
	was, _ := ReadConf(data, "")
	conf := ParseConfFile(data)
	for _, key := range was.respelled(DefaultConf()) {
		if conf, err = conf.Set(key, DefaultConf().Written(key)); err != nil {
			return []file{all}
		}
	}
	_, problems := ReadConf(conf.Bytes(), "")
	passed := slices.ContainsFunc(problems, func(p *Problem) bool { return !conf.deprecated(p.Line) })
	switch {
	case passed, conf.empty(): // an empty one does not say that it is meant so
	case bytes.Equal(conf.Bytes(), data):
		return nil
	default:
		all.data = conf.Bytes()
	}
	return []file{all}
}
