// Package statedir keeps on disk what must outlive the daemon's process: the last configuration that was installed without an
// error, that panic mode is on, and what of ours is in the kernel among what is others'.
//
// A Dir is one folder:
//
//	last-good   a link to the folder of the last good configuration, which "richwall check" reads like any other
//	outdated    the same link instead of last-good, when a later configuration could not be kept
//	good-N/     its files, and MANIFEST: when it was installed, and the SHA-256 of each file
//	panic       there while panic mode is on; it holds the id of the boot in which it was switched on
//	panic.off   the same file while panic mode is off, so that none has to be written when it is switched on
//	shared      a Note: what the kernel has of ours among rules, chains and sets of other programs
//
// The daemon imports it. It knows nothing of configurations: they are files to it.
package statedir

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/disk"
	"richwall/internal/fault"
	"richwall/internal/sha2"
)

// The names of what a Dir has.
const (
	link     = "last-good"
	outdated = "outdated"
	prefix   = "good-"
	manifest = "MANIFEST"
	panicked = "panic"
	reserved = "panic.off"
	nothing  = "nothing" // where the link outdated leads when there was no configuration before
)

// Dir is a folder for what outlives the process. A nil Dir keeps nothing and has nothing. Its methods may be called at the
// same time.
type Dir struct {
	path string
	mu   sync.Mutex
	kept map[string]string // the sums of the last good configuration, by path; nil for not known yet

	wasPanic disk.Reading[bool]
}

// For returns the Dir of an administrator's configuration: a folder below base that is named after the configuration's path.
// Nothing is made on disk yet.
func For(base, configuration string) (*Dir, error) {
	path, err := filepath.Abs(configuration)
	if err != nil {
		return nil, err
	}
	return &Dir{path: filepath.Join(base, folderName(path))}, nil
}

// Base is the folder for the Dirs of all configurations: the one that the service manager gives the daemon for its state (STATE_DIRECTORY,
// systemd.exec(5)), and without a service manager the one that it would give.
func Base() string {
	if base := os.Getenv("STATE_DIRECTORY"); base != "" {
		return base
	}
	return "/var/lib/firewalld"
}

// There tells whether there is such a folder, which this program may look into.
func (d *Dir) There() bool {
	_, err := os.ReadDir(d.path)
	return err == nil
}

// longestName leaves room below the 255 bytes that a file's name may have (NAME_MAX, limits.h).
const longestName = 200

// folderName is a file's name that stands for a path, as systemd-escape(1) makes it: "/etc/firewalld" is "etc-firewalld". A
// long path is cut, and told from others by a digest.
func folderName(path string) string {
	var b strings.Builder
	for _, c := range []byte(strings.Trim(path, "/")) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.' && b.Len() > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	name := b.String()
	if name == "" { // the root
		return "-"
	}
	if len(name) > longestName {
		sum := sha2.Sum256([]byte(path))
		name = name[:longestName-2*8-1] + "-" + hex.EncodeToString(sum[:8])
	}
	return name
}

// Link is the path by which people find the last good configuration, whichever folder that is.
func (d *Dir) Link() string { return filepath.Join(d.path, link) }

// ErrNone is that there is no last good configuration, and there never was one.
var ErrNone = errors.New("no configuration was kept yet")

// ErrOutdated is that the last good configuration could not be kept, as on a full disk: one before it may let in more.
var ErrOutdated = errors.New("the configuration that was installed last could not be kept, and one before it may let in more")

// Keep makes files, by their paths, the last good configuration. Files that are the last good configuration already, and are on the disk as
// they were written, are not written again. After a crash at any moment the one before is the last good one still. After an error, such as that of a full
// disk, LastGood gives ErrOutdated: the one before may let in more than is let in now. If that cannot be noted either, as on a disk that
// can only be read, the error says so.
func (d *Dir) Keep(files map[string][]byte, at time.Time) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := sums(files)
	d.kept = d.stored() // somebody may have damaged it since
	if maps.Equal(d.kept, next) {
		os.Remove(filepath.Join(d.path, outdated)) // it is older than the link, and nobody asks for it
		return nil
	}
	folder, err := d.put(files, next, at)
	if err != nil {
		d.kept = nil
		if unmarked := d.outdate(); unmarked != nil {
			err = errors.Join(err, fmt.Errorf("what was kept before cannot be marked as outdated, and still counts: %w", unmarked))
		}
		return err
	}
	d.kept = next
	os.Remove(filepath.Join(d.path, outdated)) // nobody asks for one that stays
	d.removeOthers(folder)
	return nil
}

// outdate marks what was kept as outdated. A name that is changed needs no room on the disk.
func (d *Dir) outdate() error {
	mark := filepath.Join(d.path, outdated)
	err := os.Rename(filepath.Join(d.path, link), mark)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = os.Lstat(mark); err == nil {
			return nil
		}
		if err = os.MkdirAll(d.path, 0o700); err == nil {
			err = os.Symlink(nothing, mark)
		}
	}
	if err != nil {
		return err
	}
	return disk.SyncFolder(d.path)
}

// Differs tells whether the last good configuration, or one before it that is outdated, has a file with another content. Its manifest is
// asked for that, also where files were damaged. It differs, too, when there is one whose manifest cannot be used.
func (d *Dir) Differs(path string, data []byte) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known, err := d.recorded()
	return err != nil || known[path] != "" && known[path] != sum(data)
}

// Unknown is why it is not known what the last good configuration, or one before it that is outdated, had in its files; nil if that is known.
// Differs is true of all of them then.
func (d *Dir) Unknown() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.recorded()
	return err
}

// recorded are the sums of the files of what LastGood is about, as far as there is such a thing. The error is that they are not known.
func (d *Dir) recorded() (map[string]string, error) {
	if len(d.kept) > 0 {
		return d.kept, nil
	}
	if err := leadsNowhere(d.path); err != nil {
		return nil, err
	}
	for _, name := range []string{filepath.Join(d.path, link), filepath.Join(d.path, outdated), d.abandoned()} {
		if to, _ := os.Readlink(name); to == nothing {
			return nil, nil
		}
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		m, err := listed(name)
		if err == nil {
			err = nothingElse(name, m.sums) // a file that is not listed shows that the list is another one
		}
		return m.sums, err
	}
	return nil, nil
}

// abandoned is a folder that was written to its end and that no link leads to; "" if there is none.
func (d *Dir) abandoned() string {
	entries, _ := os.ReadDir(d.path) // what cannot be read is not there for LastGood either
	for _, e := range entries {
		folder := filepath.Join(d.path, e.Name())
		if _, err := os.Lstat(filepath.Join(folder, manifest)); strings.HasPrefix(e.Name(), prefix) && err == nil {
			return folder
		}
	}
	return ""
}

// put writes files to a new folder, and makes that the last good one.
func (d *Dir) put(files map[string][]byte, next map[string]string, at time.Time) (folder string, err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return "", err
	}
	path, err := os.MkdirTemp(d.path, prefix)
	if err != nil {
		return "", err
	}
	folder = filepath.Base(path)
	err = d.writeAll(path, files, next, at)
	if err == nil {
		err = d.point(folder)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return folder, err
}

// Has tells whether files, by their paths, are the last good configuration.
func (d *Dir) Has(files map[string][]byte) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == nil {
		d.kept = d.stored()
	}
	return maps.Equal(d.kept, sums(files))
}

// sums are the SHA-256 of files, in hexadecimal digits.
func sums(files map[string][]byte) map[string]string {
	all := make(map[string]string, len(files))
	for path, data := range files {
		all[path] = sum(data)
	}
	return all
}

func sum(data []byte) string {
	digest := sha2.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// stored are the sums of the last good configuration on disk; empty if there is none that can be used.
func (d *Dir) stored() map[string]string {
	if m, err := verify(filepath.Join(d.path, link)); err == nil {
		return m.sums
	}
	return map[string]string{}
}

// writeAll writes files and their manifest into a folder, and waits until they are on the disk. Files that the last good
// configuration, whose sums kept are, has too are linked from there, so that a change of one file among many writes one.
func (d *Dir) writeAll(folder string, files map[string][]byte, next map[string]string, at time.Time) error {
	list := fmt.Appendf(nil, "installed %s\n", at.UTC().Format(time.RFC3339))
	folders := map[string]bool{folder: true}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		list = fmt.Appendf(list, "%s  %s\n", next[path], path) // as sha256sum(1) writes it
		to := filepath.Join(folder, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		folders[filepath.Dir(to)] = true
		kept := filepath.Join(d.path, link, filepath.FromSlash(path))
		if d.kept[path] == next[path] && os.Link(kept, to) == nil {
			continue
		}
		if err := write(to, files[path]); err != nil {
			return err
		}
	}
	list = fmt.Appendf(list, "%s  %s\n", sum(list), manifest)
	if err := write(filepath.Join(folder, manifest), list); err != nil {
		return err
	}
	for f := range folders {
		if err := disk.SyncFolder(f); err != nil {
			return err
		}
	}
	return nil
}

// The largest files there may be, in bytes. What is larger was not written by this package: a broken disk says so. It is not read.
const (
	mostKept   = 64 << 20 // of the files that are kept, as of those of a configuration
	mostListed = 8 << 20  // of the list of them
	mostNoted  = 64 << 20 // of a note
	mostSaid   = 4 << 10  // of what says one thing
)

// read is the content of a regular file with so many bytes at most. Nothing else is waited for.
func read(path string, most int64) ([]byte, error) {
	f, size, err := openRegular(path, most)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size)
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// openRegular opens a file to read it, without waiting, and says how many bytes it has. The error is also that it is no regular one, or has more
// bytes than it may.
func openRegular(path string, most int64) (f *os.File, size int64, err error) {
	f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", path)
	case info.Size() > most:
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// write writes a file and waits until it is on the disk. What stands in its place and is no file, such as a pipe, goes: it would be
// waited for.
func write(path string, data []byte) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// point makes a folder the last good one.
func (d *Dir) point(folder string) error {
	temp := filepath.Join(d.path, "."+link)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(folder, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(d.path, link)); err != nil {
		return err
	}
	return disk.SyncFolder(d.path)
}

// removeOthers removes the folders of former configurations, and of any that was not written to its end.
func (d *Dir) removeOthers(keep string) {
	entries, _ := os.ReadDir(d.path) // what cannot be removed now is removed the next time
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.Name() != keep {
			os.RemoveAll(filepath.Join(d.path, e.Name()))
		}
	}
}

// LastGood returns the folder of the last good configuration and when it was installed. The error is ErrNone when there is
// none, ErrOutdated when it could not be kept, and another one when there is one that is not as it was written.
func (d *Dir) LastGood() (folder string, installed time.Time, err error) {
	if d == nil {
		return "", time.Time{}, ErrNone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := leadsNowhere(d.path); err != nil {
		return "", time.Time{}, err
	}
	if _, err := os.Lstat(filepath.Join(d.path, link)); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(d.path, outdated)); !errors.Is(err, fs.ErrNotExist) {
			return "", time.Time{}, errors.Join(ErrOutdated, err)
		}
		if folder := d.abandoned(); folder != "" {
			return "", time.Time{}, fmt.Errorf("cannot use the last good configuration in %s: the link %s to it is gone", folder, link)
		}
		return "", time.Time{}, ErrNone
	}
	if folder, err = filepath.EvalSymlinks(d.Link()); err != nil {
		return "", time.Time{}, fmt.Errorf("cannot follow the link %s: %w", d.Link(), err)
	}
	m, err := verify(folder)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%s: %w", d.Link(), err)
	}
	d.kept = m.sums
	return folder, m.installed, nil
}

// leadsNowhere is an error when a folder, or one above it, is a link to what is not there: a disk may not be mounted.
func leadsNowhere(path string) error {
	for ; ; path = filepath.Dir(path) {
		switch _, err := os.Stat(path); {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is a link to what is not there", path)
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

// contents is what a manifest lists.
type contents struct {
	installed time.Time
	sums      map[string]string // by path
}

// listed is what the manifest of a folder says, and is not compared with its files. The error is that it is not as it was written.
func listed(folder string) (contents, error) {
	m := contents{sums: map[string]string{}}
	list, err := read(filepath.Join(folder, manifest), mostListed)
	if err != nil {
		return m, err
	}
	list, err = whole(list)
	if err != nil {
		return m, err
	}
	lines := bufio.NewScanner(bytes.NewReader(list))
	lines.Scan()
	at, ok := strings.CutPrefix(lines.Text(), "installed ")
	if m.installed, err = time.Parse(time.RFC3339, at); !ok || err != nil {
		return m, fmt.Errorf("%s does not say when it was installed", manifest)
	}
	for lines.Scan() {
		want, path, _ := strings.Cut(lines.Text(), "  ")
		m.sums[path] = want
	}
	return m, lines.Err()
}

// verify compares a folder with its manifest. The error is that they differ.
func verify(folder string) (contents, error) {
	m, err := listed(folder)
	if err != nil {
		return m, err
	}
	for _, path := range slices.Sorted(maps.Keys(m.sums)) {
		if !unchanged(filepath.Join(folder, filepath.FromSlash(path)), m.sums[path]) {
			return m, fmt.Errorf("%s was changed", path)
		}
	}
	return m, nothingElse(folder, m.sums)
}

// unchanged tells whether a file has a sum.
func unchanged(path, want string) bool {
	f, size, err := openRegular(path, mostKept)
	if err != nil {
		return false
	}
	defer f.Close()
	digest, err := sha2.Sum256Of(io.LimitReader(f, size))
	return err == nil && hex.EncodeToString(digest[:]) == want
}

// whole is a manifest without its last line, which has the sum of all lines before it.
func whole(list []byte) ([]byte, error) {
	end := bytes.LastIndexByte(bytes.TrimSuffix(list, []byte("\n")), '\n') + 1
	if string(list[end:]) != fmt.Sprintf("%s  %s\n", sum(list[:end]), manifest) {
		return nil, fmt.Errorf("%s is not whole", manifest)
	}
	return list[:end], nil
}

// nothingElse is an error when a folder has files that are not in a list.
func nothingElse(folder string, listed map[string]string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	return filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err == nil && name != manifest && listed[filepath.ToSlash(name)] == "" {
			err = fmt.Errorf("%s was added", name)
		}
		return err
	})
}

// bootID is where the kernel has the id of this boot (random(4)).
var bootID = "/proc/sys/kernel/random/boot_id"

// SetPanic notes that panic mode is on or off. Only one call of it and of ReservePanic may be made at a time.
func (d *Dir) SetPanic(on bool) error {
	if d == nil {
		return nil
	}
	d.wasPanic.Forget()
	path := filepath.Join(d.path, panicked)
	if !on {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return d.ReservePanic()
	}
	if err := d.ReservePanic(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(d.path, reserved), path); err != nil {
		return err
	}
	return disk.SyncFolder(d.path)
}

// ReservePanic writes in advance what SetPanic(true) needs on the disk, so that panic mode can be noted on a disk that has become
// full.
func (d *Dir) ReservePanic() error {
	if d == nil {
		return nil
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, reserved)
	if there, err := read(path, mostSaid); err == nil && bytes.Equal(there, boot) {
		return nil
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	return write(path, boot)
}

// Writable is an error when nothing can be written into the folder, as on a disk that is mounted read-only. A folder that is not there is
// none: it is made when it is needed. Nothing is written.
func (d *Dir) Writable() error {
	if d == nil {
		return nil
	}
	if err := unix.Access(d.path, unix.W_OK|unix.X_OK); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return nil
}

// panicTime is the longest that each call of Panic waits for the note about panic mode. It is a variable for tests.
var panicTime = 2 * time.Second

// Panic says whether panic mode was on when the last process ended. A boot ends it. Where that cannot be read, or not in time, or is damaged,
// it counts as on: the error says why. A reading that takes longer goes on for the next call.
func (d *Dir) Panic() (on bool, err error) {
	if d == nil {
		return false, nil
	}
	was, ok, err := d.wasPanic.Get(panicTime, panicTime, func() (was bool, err error) {
		was = true // unless it is known
		err = fault.Call("reading whether panic mode was on", func() (err error) {
			was, err = d.readPanic()
			return err
		})
		return was, err
	})
	if !ok {
		return true, fmt.Errorf("%s could not be read within %v", d.path, panicTime)
	}
	return was, err
}

func (d *Dir) readPanic() (bool, error) {
	data, err := read(filepath.Join(d.path, panicked), mostSaid)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return true, err
	}
	if !noteForm.Match(data) {
		return true, fmt.Errorf("%s is damaged", panicked)
	}
	return bytes.Equal(data, boot), nil
}

// noteForm is what a note about panic mode looks like: the id of a boot, a UUID as the kernel writes it (random(4)).
var noteForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$`)
