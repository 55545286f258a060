package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// attributes is what a file has beside its content.
type attributes struct {
	Mode     fs.FileMode // the nine bits of permissions
	UID, GID int         // sameOwner is that of the process
	Extended map[string][]byte
}

// sameOwner leaves the owner as it is (chown(2)).
const sameOwner = -1

// newAttributes are those of a file that was not there.
func newAttributes(mode fs.FileMode) attributes { return attributes{mode, sameOwner, sameOwner, nil} }

// attributesOf are those of a file that is no link.
func attributesOf(path string, info fs.FileInfo) (attributes, error) {
	a := newAttributes(info.Mode().Perm())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID = int(stat.Uid), int(stat.Gid)
	}
	names, err := extendedNames(path)
	if err != nil {
		return a, err
	}
	a.Extended = map[string][]byte{}
	for _, name := range names {
		value, err := extendedValue(path, name)
		if err != nil {
			return a, fmt.Errorf("its attribute %s: %w", name, err)
		}
		a.Extended[name] = value
	}
	return a, nil
}

// attributesOfNew are those that each of some files gets if it is not there. They are read before any of the files changes, as what an object
// had under another name goes.
func attributesOfNew(files []file) ([]attributes, error) {
	all := make([]attributes, len(files))
	for i, f := range files {
		all[i] = newAttributes(f.mode)
		if f.like == "" {
			continue
		}
		info, err := os.Stat(f.like)
		if err == nil {
			all[i], err = attributesOf(f.like, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failed("read", f.like, err)
		}
	}
	return all, nil
}

// extendedNames are the names of a file's extended attributes; none on a file system that has no such thing.
func extendedNames(path string) ([]string, error) {
	list, err := grown(func(b []byte) (int, error) { return syscall.Listxattr(path, b) })
	if errors.Is(err, syscall.ENOTSUP) {
		return nil, nil
	}
	return strings.FieldsFunc(string(list), func(c rune) bool { return c == 0 }), err
}

func extendedValue(path, name string) ([]byte, error) {
	return grown(func(b []byte) (int, error) { return syscall.Getxattr(path, name, b) })
}

// grown calls a function with room for its result until that is large enough (listxattr(2): ERANGE).
func grown(call func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 4 {
		b := make([]byte, size)
		n, err := call(b)
		if !errors.Is(err, syscall.ERANGE) || size > 1<<20 {
			return b[:max(0, n)], err
		}
	}
}

// give makes them those of an open file, which is at a path. What the kernel gives each file by itself, such as a label of SELinux, may stay another.
func (a attributes) give(f *os.File, path string) error {
	if a.UID != sameOwner || a.GID != sameOwner {
		if err := f.Chown(a.UID, a.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(a.Mode); err != nil {
		return err
	}
	for name, value := range a.Extended {
		err := syscall.Setxattr(path, name, value, 0)
		if own := strings.HasPrefix(name, "security."); err != nil && !(own && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EACCES))) {
			return fmt.Errorf("its attribute %s: %w", name, err)
		}
	}
	return nil
}
