package zones

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"richwall/internal/sha2"
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

// Sum256 is the SHA-256 of what ReadFile would read; the error is as of that. It takes no memory for it.
func (s Store) Sum256(path string) (sum [32]byte, err error) {
	f, err := openFolder(s.Dirs.System, s.Dirs.Follow)
	if err != nil {
		return sum, err
	}
	defer f.close()
	file, info, err := f.openRegular(filepath.ToSlash(path))
	if err != nil {
		return sum, err
	}
	defer file.Close()
	if info.Size() > maxFileBytes {
		return sum, tooLarge(maxFileBytes)
	}
	return sha2.Sum256Of(io.LimitReader(file, maxFileBytes))
}

// Holds tells whether an object's file of the administrator's folder, by its path below it, holds what was last read of it, or written to
// it; or is not there, as the object is not. known is false for what is no object's file, and where something was wrong with what
// was read.
func (s Store) Holds(c *Config, path string) (same, known bool) {
	f, err := openFolder(s.Dirs.System, s.Dirs.Follow)
	if err != nil {
		return false, false
	}
	defer f.close()
	path = filepath.ToSlash(path)
	kind, file, _ := strings.Cut(path, "/")
	name, ok := strings.CutSuffix(file, ".xml")
	if !ok {
		return false, false
	}
	var o *Meta
	if kind == "zones" && strings.Contains(name, "/") {
		o = metaOf(zoneKind, c.ZoneParts, name)
	} else if o, ok = fileMeta(c, kind, name); !ok {
		return false, false
	}
	if o == nil || o.Origin.Builtin {
		_, err := f.stat(path)
		return errors.Is(err, fs.ErrNotExist), true
	}
	return f.holds(path, maxFileBytes, o.sum), o.sum != 0
}

// fileMeta is what there is of an object by the name of its kind's folder; nil if there is none. ok is false for another folder.
func fileMeta(c *Config, folder, name string) (m *Meta, ok bool) {
	switch folder {
	case "zones":
		return metaOf(zoneKind, c.Zones, name), true
	case "policies":
		return metaOf(policyKind, c.Policies, name), true
	case "services":
		return metaOf(serviceKind, c.Services, name), true
	case "ipsets":
		return metaOf(ipsetKind, c.IPSets, name), true
	case "icmptypes":
		return metaOf(icmpTypeKind, c.ICMPTypes, name), true
	case "helpers":
		return metaOf(helperKind, c.Helpers, name), true
	}
	return nil, false
}

func metaOf[T any](k *objectKind[T], all map[string]*T, name string) *Meta {
	if o := all[name]; o != nil {
		return k.meta(o)
	}
	return nil
}

// EmptyFolder tells whether a folder holds no file but that of a lock, at whatever depth: as one does whose disk is not mounted. The error is of package fs if
// there is no such folder.
func EmptyFolder(path string) (bool, error) {
	empty := true
	err := filepath.WalkDir(path+"/", func(_ string, e fs.DirEntry, err error) error { // the folder itself may be a link
		if err != nil || e.IsDir() || e.Name() == lockName {
			return err
		}
		empty = false
		return fs.SkipAll
	})
	return empty, err
}

// Exists tells whether there is something by a path below the administrator's folder.
func (s Store) Exists(path string) bool {
	f, err := openFolder(s.Dirs.System, s.Dirs.Follow)
	if err != nil {
		return false
	}
	defer f.close()
	_, err = f.stat(filepath.ToSlash(path))
	return err == nil
}

// Says tells whether firewalld.conf gives a key a value: in a line that can be used, or, as no line sets the key, by its default. It is
// false where the file cannot be read.
func (s Store) Says(key, value string) bool {
	data, err := readRegular(s.path("firewalld.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	says, wants := DefaultConf(), DefaultConf()
	if line, ok := ParseConfFile(data).get(key); ok && setConf(says, key, line) != nil || setConf(wants, key, value) != nil {
		return false
	}
	said, _ := says.Value(key)
	wanted, _ := wants.Value(key)
	return said == wanted
}

// NoConf tells whether firewalld.conf is not there, or sets nothing, as Rest has it.
func (s Store) NoConf() bool {
	data, err := s.ReadFile("firewalld.conf")
	return errors.Is(err, fs.ErrNotExist) || err == nil && ParseConfFile(data).empty()
}

// WithoutErrors is a configuration without what Check refuses of it, left out as LoadRest leaves it out.
func WithoutErrors(c *Config) *Config { return new(Rest).settle(c, Dirs{}) }
