package zones

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The limits of what is read of a configuration's folder. No configuration comes near them; what is beyond is not read, as it would
// only cost time and memory.
const (
	maxFileBytes    = 64 << 20  // of one file
	maxConfBytes    = 1 << 20   // of firewalld.conf and richwall.conf
	maxFolderBytes  = 256 << 20 // of all files of a folder that is followed
	maxStrangeBytes = 12 << 20  // of all files of a folder that is not: a stranger may have written it
	maxEntries      = 10_000    // names in one folder
	maxStrangeFiles = 10_000    // files of objects in all, of a folder that is not followed
)

// folder is a folder whose files are read, and how much more of them may be.
type folder struct {
	path  string
	root  *os.Root                // to which reading is confined; nil means that links are followed wherever they lead
	bytes int64                   // that may still be read
	files int                     // of objects that may still be read
	room  func(bytes int64) error // as of Dirs

	exposed exposed // of what is read; nil where nobody says that only root can write the folder
}

// openFolder opens a folder. A path of "" and a folder that does not exist are empty.
func openFolder(path string, follow bool) (*folder, error) {
	f := &folder{path: path, bytes: maxFolderBytes, files: math.MaxInt}
	if follow && path != "" {
		f.exposed = exposed{}
	}
	if follow || path == "" {
		return f, nil
	}
	f.bytes, f.files = maxStrangeBytes, maxStrangeFiles
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &folder{}, nil
	case err == nil && !info.IsDir(): // which OpenRoot might wait for
		err = errNoFolder
	case err == nil:
		f.root, err = os.OpenRoot(path)
	}
	return f, err
}

var errNoFolder = errors.New("it is not a folder")

func (f *folder) close() {
	if f.root != nil {
		f.root.Close()
	}
}

// join is the path of what is in the folder, as messages have it.
func (f *folder) join(name string) string { return filepath.Join(f.path, filepath.FromSlash(name)) }

// read is the content of a regular file of so many bytes at most, by its name below the folder. Nothing else is even opened, and
// nothing is waited for. The error is of package fs if there is no such file.
func (f *folder) read(name string, most int64) ([]byte, error) {
	file, info, err := f.openRegular(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if f.room != nil {
		if err := f.room(min(info.Size(), most)); err != nil {
			return nil, err
		}
	}
	return f.all(file, info.Size(), most)
}

// openRegular opens a regular file, for read.
func (f *folder) openRegular(name string) (file *os.File, info fs.FileInfo, err error) {
	if f.path == "" {
		return nil, nil, fs.ErrNotExist
	}
	if info, err = f.stat(name); err != nil {
		return nil, nil, f.explain(name, err)
	}
	if err := regular(info); err != nil {
		return nil, nil, err
	}
	if file, err = f.open(name); err != nil {
		return nil, nil, f.explain(name, err)
	}
	// It may be another one by now.
	if info, err = file.Stat(); err == nil {
		err = regular(info)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	f.exposed.look(name, info)
	return file, info, nil
}

// holds tells whether a file, that read would read, has a content with a fileSum. It takes no memory for it.
func (f *folder) holds(name string, most int64, sum uint64) bool {
	file, info, err := f.openRegular(name)
	if err != nil {
		return false
	}
	defer file.Close()
	limit := min(most, f.bytes)
	if info.Size() > limit {
		return false
	}
	var h maphash.Hash
	h.SetSeed(hashSeed)
	n, err := io.Copy(&h, io.LimitReader(file, limit+1))
	if err != nil || n > limit || h.Sum64() != sum {
		return false
	}
	f.bytes -= n
	return true
}

// all reads a file within what may still be read.
func (f *folder) all(file io.Reader, size, most int64) ([]byte, error) {
	limit := min(most, f.bytes)
	data := make([]byte, 0, min(size, limit)+1)
	for {
		n, err := file.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case max(int64(len(data)), size) > most:
			return nil, tooLarge(most)
		case max(int64(len(data)), size) > limit:
			return nil, fmt.Errorf("there is more in its folder than is read of all files together: %d MiB, or %d MiB where links are followed",
				maxStrangeBytes>>20, maxFolderBytes>>20)
		case err == io.EOF:
			f.bytes -= int64(len(data))
			return data, nil
		case err != nil:
			return nil, err
		case len(data) == cap(data):
			data = slices.Grow(data, len(data))
		}
	}
}

// tooLarge is the error that a file has more than so many bytes.
func tooLarge(most int64) error {
	return fmt.Errorf("it has more than %d MiB, the most that is read of such a file", most>>20)
}

// regular is an error that says what a file is, if it is not a regular one.
func regular(info fs.FileInfo) error {
	what := "a device"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a folder"
	case mode&fs.ModeSymlink != 0:
		what = "a link"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	}
	return fmt.Errorf("it is %s, not a file", what)
}

func (f *folder) stat(name string) (fs.FileInfo, error) {
	if f.root == nil {
		return os.Stat(f.join(name))
	}
	return f.root.Stat(filepath.FromSlash(name))
}

// isLock tells whether something in a folder below is a lock of an editor, which names nothing of a configuration: a hidden link that leads
// nowhere, such as Emacs' .#public.xml, which "leads to" the user and the process that edit public.xml.
func (f *folder) isLock(name string, e fs.DirEntry) bool {
	if !strings.HasPrefix(e.Name(), ".") || e.Type()&fs.ModeSymlink == 0 {
		return false
	}
	_, err := f.stat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// lstat is stat of what is at a name, also of a link.
func (f *folder) lstat(name string) (fs.FileInfo, error) {
	if f.root == nil {
		return os.Lstat(f.join(name))
	}
	return f.root.Lstat(filepath.FromSlash(name))
}

// open opens what is at a name without waiting, whatever it is.
func (f *folder) open(name string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY
	if f.root == nil {
		return os.OpenFile(f.join(name), flags, 0)
	}
	return f.root.OpenFile(filepath.FromSlash(name), flags, 0)
}

// explain says what kept a file from being read, for a link that leads out of a folder that reading is confined to. A link that
// leads nowhere is no missing file.
func (f *folder) explain(name string, err error) error {
	var inner *fs.PathError
	switch {
	case f.root == nil || !errors.As(err, &inner):
		if _, missing := os.Lstat(f.join(name)); missing == nil && errors.Is(err, fs.ErrNotExist) {
			return errors.New("it is a link that leads nowhere")
		}
		return err
	case inner.Err.Error() == "path escapes from parent":
		return f.leadsOut(filepath.ToSlash(name))
	}
	if _, missing := f.root.Lstat(filepath.FromSlash(name)); missing == nil && errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is a link that leads nowhere")
	}
	return err
}

// leadsOut is the error for a file behind a link that leads out of a folder that reading is confined to: it names the first such link.
func (f *folder) leadsOut(name string) error {
	for range 40 { // as in the kernel (path_resolution(7))
		link, target := f.firstLink(name)
		if link == "" {
			break
		}
		next := path.Join(path.Dir(link), target)
		if !path.IsAbs(target) && filepath.IsLocal(next) {
			name = path.Join(next, strings.TrimPrefix(name, link))
			continue
		}
		if len(target) > shownTarget {
			target = target[:shownTarget] + "…"
		}
		return fmt.Errorf("the link %s leads to %s, and only relative links that stay within %s are followed: put a copy in its place, "+
			"or add --trusted if you trust who made it", f.join(link), target, f.path)
	}
	return fmt.Errorf("it is behind a link that leads out of %s, and nothing else is read", f.path)
}

// shownTarget is how much of where a link leads is shown, in bytes.
const shownTarget = 200

// firstLink is the first part of a path that is a link, and where it leads; "" if none is.
func (f *folder) firstLink(name string) (link, target string) {
	for end := range len(name) + 1 {
		if end < len(name) && name[end] != '/' {
			continue
		}
		if target, err := f.root.Readlink(filepath.FromSlash(name[:end])); err == nil {
			return name[:end], target
		}
	}
	return "", ""
}

// list is what is in a folder below, sorted by name; none when there is no such folder.
func (f *folder) list(name string) ([]fs.DirEntry, error) {
	if f.path == "" {
		return nil, nil
	}
	info, err := f.stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.explain(name, err) == err:
		return nil, nil
	case err != nil:
		return nil, f.explain(name, err)
	case !info.IsDir():
		return nil, errNoFolder
	}
	f.exposed.look(name, info)
	dir, err := f.open(name)
	if err != nil {
		return nil, f.explain(name, err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxEntries + 1)
	switch {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, err
	case len(entries) > maxEntries:
		return nil, fmt.Errorf("there are more than %d files in it, the most that are read of one folder", maxEntries)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// ReadFile is the content of a file that a user names, of any kind, such as a pipe; the error is of package fs, or says that it has
// more than is read of one file.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f := folder{bytes: maxFileBytes}
	return f.all(file, 0, maxFileBytes)
}
