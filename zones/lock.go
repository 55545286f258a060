package zones

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// lockName is the file in the administrator's folder that is there while somebody has locked it. Only the owner can open it: whoever can open
// a file could lock it (flock(2)). One that a process which was killed has left is in nobody's way.
const lockName = ".locked"

// Lock keeps others who lock the administrator's folder from doing so, until unlock is called or the process ends: who reads files, changes
// what he has read and writes it loses nothing that another one has written meanwhile. It waits for its turn for as long as it may; then the
// error, with code COMMAND_FAILED, is that somebody else is changing the files. A folder that is not there, that cannot be written to, or
// whose file system has no locks, is not locked, and that is no error.
func (s Store) Lock(wait time.Duration) (unlock func(), err error) {
	root, err := os.OpenRoot(s.Dirs.System)
	if err != nil {
		return func() {}, nil // who reads it says what is wrong
	}
	for until := time.Now().Add(wait); ; time.Sleep(lockPause) {
		file, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
		if err == nil {
			if err = lockTemp(root, lockName, file); err == nil {
				return func() {
					_ = root.Remove(lockName) // before the lock goes; one that stays is in nobody's way
					file.Close()
					root.Close()
				}, nil
			}
			file.Close()
		}
		taken := errors.Is(err, errTaken)
		if taken && time.Now().Before(until) {
			continue
		}
		root.Close()
		if taken {
			return nil, refuse(CommandFailed, "cannot change the files in %s: somebody else is changing them; try again", s.Dirs.System)
		}
		return func() {}, nil
	}
}

// lockPause is between two tries to lock the folder.
const lockPause = 10 * time.Millisecond
