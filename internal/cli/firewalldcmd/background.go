package firewalldcmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// readyFD is the file descriptor on which a process in the background tells that it serves.
const readyFD = 3

// readyVariable is set for a process in the background.
const readyVariable = "FIREWALLD_READY_FD"

// background starts the daemon again as a process of its own, without a terminal, and waits until it serves. It returns the
// exit status: that of the process, if it does not come that far.
func background(args []string, stderr io.Writer) int {
	status, err := startBackground(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "firewalld: cannot start in the background: %v\n", err)
	case status != 0:
		fmt.Fprintln(stderr, "firewalld: cannot start: the log says why")
	}
	return status
}

func startBackground(args []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return statusFailed, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return statusFailed, err
	}
	defer read.Close()
	cmd := exec.Command(self, append([]string{"--nofork"}, args...)...)
	cmd.Env = append(os.Environ(), readyVariable+"=1")
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return statusFailed, err
	}
	if n, _ := read.Read(make([]byte, 1)); n == 1 {
		return 0, cmd.Process.Release()
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return statusFailed, err
}

// leaveFolder makes a process in the background leave the folder that it was started in: it could not be unmounted. Paths on the
// command line are independent of it by then.
func leaveFolder() error {
	if os.Getenv(readyVariable) == "" {
		return nil
	}
	return os.Chdir("/")
}

// tellReady tells the process that started this one in the background, if there is one.
func tellReady() {
	if os.Getenv(readyVariable) == "" {
		return
	}
	pipe := os.NewFile(readyFD, "ready")
	defer pipe.Close()
	pipe.Write([]byte{1}) // the starter may have gone, and that does not matter
}
