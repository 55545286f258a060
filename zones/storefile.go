package zones

import (
	"io/fs"
	"path/filepath"
)

// ReadFile is the content of a regular file of the administrator's folder, by its path below it. It is read as Load reads files:
// nothing is waited for, and what is larger than Load takes is an error. The error is of package fs if there is no such file.
func (s Store) ReadFile(path string) ([]byte, error) {
	f, err := openFolder(s.Dirs.System, s.Dirs.Follow)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.read(filepath.ToSlash(path), maxFileBytes)
}

// EmptyFolder tells whether a folder holds no file, at whatever depth: as one does whose disk is not mounted. The error is of package fs if
// there is no such folder.
func EmptyFolder(path string) (bool, error) {
	empty := true
	err := filepath.WalkDir(path+"/", func(_ string, e fs.DirEntry, err error) error { // the folder itself may be a link
		if err != nil || e.IsDir() {
			return err
		}
		empty = false
		return fs.SkipAll
	})
	return empty, err
}

// WithoutErrors is a configuration without what Check refuses of it, left out as LoadRest leaves it out.
func WithoutErrors(c *Config) *Config { return new(Rest).settle(c, Dirs{}) }
