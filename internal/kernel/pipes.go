package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// piped runs a command that reads a text, and returns what it has written on both its outputs by its end. Nothing more is waited for then: a
// child of the command that still holds an output open keeps nobody waiting, and what the command itself has written is read to its end,
// however long that takes on a busy machine. started is called with the id of the process. The streams are pipes, as rules of SELinux
// let each program use those. No more than so many bytes are read of each: when there are more, stop is called with errTooMuch, to end the
// command.
func piped(cmd *exec.Cmd, stdin io.Reader, started func(pid int), most int64, stop func(error)) (out, said string, err error) {
	var pipes []*os.File
	defer func() {
		for _, f := range pipes {
			f.Close()
		}
	}()
	ends := [6]*os.File{}
	for i := 0; i < len(ends); i += 2 {
		if ends[i], ends[i+1], err = os.Pipe(); err != nil {
			return "", "", fmt.Errorf("cannot make a pipe: %w", err)
		}
		pipes = append(pipes, ends[i], ends[i+1])
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = ends[0], ends[3], ends[5]
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	started(cmd.Process.Pid)
	for _, theirs := range []*os.File{ends[0], ends[3], ends[5]} {
		theirs.Close()
	}
	written := write(ends[1], stdin)
	texts := [2]*reading{read(ends[2], most, stop), read(ends[4], most, stop)}
	err = cmd.Wait()
	errs := []error{err, written()}
	for _, t := range texts {
		errs = append(errs, t.end())
	}
	return texts[0].text.String(), texts[1].text.String(), errors.Join(errs...)
}

// past is a deadline that ends what waits for a pipe.
var past = time.Unix(1, 0)

// write writes a text into a pipe, and closes it. The function that it returns ends that. Its error is that the text could not be read:
// whether the program has read all of it is the program's matter.
func write(pipe *os.File, text io.Reader) (end func() error) {
	done := make(chan struct{})
	from := &failing{Reader: text}
	go func() {
		defer close(done)
		_, _ = io.Copy(pipe, from)
		pipe.Close()
	}()
	return func() error {
		_ = pipe.SetWriteDeadline(past)
		<-done
		return from.err
	}
}

// failing remembers why a Reader could not be read.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// reading is what a program writes into a pipe.
type reading struct {
	pipe *os.File
	text strings.Builder
	left int64 // how many bytes more it may be
	stop func(error)
	err  error
	done chan struct{}
}

func read(pipe *os.File, most int64, stop func(error)) *reading {
	r := &reading{pipe: pipe, left: most, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		_, r.err = io.Copy(r, pipe)
	}()
	return r
}

// Write keeps what there is room for. The error is errTooMuch.
func (r *reading) Write(b []byte) (int, error) {
	if r.left -= int64(len(b)); r.left < 0 {
		r.stop(errTooMuch)
		return 0, errTooMuch
	}
	return r.text.Write(b)
}

// end reads what the pipe holds now, once the program has ended, and no more.
func (r *reading) end() error {
	_ = r.pipe.SetReadDeadline(past)
	<-r.done
	if !errors.Is(r.err, os.ErrDeadlineExceeded) {
		return r.err
	}
	if err := r.pipe.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	raw, err := r.pipe.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	failed := raw.Read(func(fd uintptr) bool {
		for {
			n, reading := unix.Read(int(fd), buf)
			switch {
			case errors.Is(reading, unix.EINTR):
			case errors.Is(reading, unix.EAGAIN), reading == nil && n == 0:
				return true
			case reading != nil:
				err = reading
				return true
			default:
				if _, err = r.Write(buf[:n]); err != nil {
					return true
				}
			}
		}
	})
	return errors.Join(failed, err)
}
