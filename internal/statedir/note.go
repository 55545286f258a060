package statedir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/disk"
	"richwall/internal/fault"
)

// noteTime is the longest that a note is waited for: a disk that does not answer must not hold the firewall up. It is a
// variable for tests.
var noteTime = 2 * time.Second

// Note is a file of a Dir about what is in the kernel: it counts until the machine boots, and in the network namespace that it was
// written in. Its methods may be called at the same time.
type Note struct {
	dir  *Dir
	name string

	mu      sync.Mutex
	next    []byte // the content to be written
	changes int    // counts what was to be written
	busy    bool   // somebody is writing

	reading disk.Reading[[]byte]
}

// Note returns the note with a name. Nothing is made on disk yet.
func (d *Dir) Note(name string) *Note { return &Note{dir: d, name: name} }

// stamp is the line that a note of this boot and this network namespace begins with.
func stamp() ([]byte, error) {
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return nil, err
	}
	namespace, err := networkNamespace()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s\n", bytes.TrimSpace(boot), namespace), nil
}

// networkNamespace tells this network namespace from all others of this boot: by its cookie, a number that Linux (5.14 and later) never
// gives again, or else by its inode, which another one may have once this one is gone.
func networkNamespace() (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return os.Readlink("/proc/thread-self/ns/net")
	}
	return fmt.Sprintf("net:%d", cookie), err
}

// Read returns what was written last; nothing if that was before the last boot, or elsewhere. A disk that does not answer in time is an
// error, at once while a reading before this one has no answer. That one goes on, however long it takes, and what it finds is for the next
// who asks.
func (n *Note) Read() ([]byte, error) {
	if n.dir == nil {
		return nil, nil
	}
	data, ok, err := n.reading.Get(noteTime, 0, func() (data []byte, err error) {
		err = fault.Call(n.name, func() (err error) {
			data, err = n.read()
			return err
		})
		return data, err
	})
	if !ok {
		return nil, n.tooSlow("read")
	}
	return data, err
}

func (n *Note) read() ([]byte, error) {
	data, err := read(filepath.Join(n.dir.path, n.name), mostNoted)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	head, err := stamp()
	if err != nil {
		return nil, err
	}
	content, ok := bytes.CutPrefix(data, head)
	if !ok {
		return nil, nil
	}
	return content, nil
}

// Write writes the note as a whole: it is the former or the new one whenever this process ends. That of a disk which loses its power
// is of no use after the boot. A disk that does not answer in time is an os.ErrDeadlineExceeded, and has the latest note when it answers again;
// until then nobody waits for it.
func (n *Note) Write(data []byte) error {
	if n.dir == nil {
		return nil
	}
	n.reading.Forget()
	n.mu.Lock()
	n.next, n.changes = data, n.changes+1
	busy := n.busy
	n.busy = true
	n.mu.Unlock()
	if busy {
		return n.noAnswer()
	}
	return n.inTime("written", n.writeLatest)
}

// noAnswer is the error that somebody else waits for the disk already.
func (n *Note) noAnswer() error { return late(fmt.Sprintf("%s still does not answer", n.dir.path)) }

// late is an error that is an os.ErrDeadlineExceeded, and says what.
type late string

func (l late) Error() string { return string(l) }

func (l late) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// writeLatest writes until what is to be written is on the disk.
func (n *Note) writeLatest() error {
	for {
		n.mu.Lock()
		data, at := n.next, n.changes
		n.mu.Unlock()
		err := fault.Call(n.name, func() error { return n.write(data) })
		n.mu.Lock()
		if n.changes == at {
			n.busy = false
			n.mu.Unlock()
			return err
		}
		n.mu.Unlock()
	}
}

func (n *Note) write(data []byte) error {
	head, err := stamp()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(n.dir.path, 0o700); err != nil {
		return err
	}
	path := filepath.Join(n.dir.path, n.name)
	temp := path + ".new"
	if err := os.WriteFile(temp, append(head, data...), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// inTime calls f. The error is its own, or that it did not return in time.
func (n *Note) inTime(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- fault.Call(n.name, f) }()
	select {
	case err := <-done:
		return err
	case <-time.After(noteTime):
		return n.tooSlow(what)
	}
}

// tooSlow is the error that something could not be done in time.
func (n *Note) tooSlow(what string) error {
	return late(fmt.Sprintf("%s could not be %s within %v", filepath.Join(n.dir.path, n.name), what, noteTime))
}
