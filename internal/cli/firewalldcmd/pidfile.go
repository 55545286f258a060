package firewalldcmd

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// pidPath is where firewalld's tools look for the process id.
const pidPath = "/var/run/firewalld.pid"

// pidFile is the file with the process id. It is locked while the process runs, so that one left by a process that died does
// not count.
type pidFile struct{ file *os.File }

// writePID writes the process id. The error says so when another process has the file.
func writePID(path string) (*pidFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write the pid file: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot start: another firewalld runs, which has %s", path)
	}
	if err = file.Truncate(0); err == nil {
		_, err = file.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot write the pid file: %w", err)
	}
	return &pidFile{file}, nil
}

// remove takes the file away; a nil pidFile has none.
func (p *pidFile) remove() {
	if p != nil {
		os.Remove(p.file.Name())
		p.file.Close()
	}
}
