package zones

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Lock keeps others who lock the administrator's folder from doing so, until unlock is called or the process ends: who reads files, changes
// what he has read and writes it loses nothing that another one has written meanwhile. It waits for its turn for as long as it may; then the
// error, with code COMMAND_FAILED, is that somebody else is changing the files. A folder that is not there, or whose file system has no
// locks (flock(2)), is not locked, and that is no error.
func (s Store) Lock(wait time.Duration) (unlock func(), err error) {
	folder, err := os.OpenFile(s.Dirs.System, syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return func() {}, nil // who reads it says what is wrong
	}
	for until := time.Now().Add(wait); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return func() { folder.Close() }, nil
		case time.Now().After(until):
			folder.Close()
			return nil, refuse(CommandFailed, "cannot change the files in %s: somebody else is changing them; try again", s.Dirs.System)
		}
	}
}

// lockPause is between two tries to lock the folder.
const lockPause = 10 * time.Millisecond
