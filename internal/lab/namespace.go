package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace without a name, with its loopback interface up. It is gone when it was closed and
// nothing runs in it any more, and at the end of this process at the latest.
type Namespace struct{ file *os.File }

// NewNamespace makes a namespace. It fails for want of what Missing tells.
func NewNamespace() (*Namespace, error) {
	n := &Namespace{}
	err := aside(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		n.file, err = os.Open(threadNamespace)
		return err
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) { // the latter for the limit on their number
		return nil, fmt.Errorf("cannot make a network namespace: %s", whyNotPermitted())
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a network namespace: %w", err)
	}
	err = n.netlink(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("cannot set the interface lo up: %w", err)
	}
	return n, nil
}

// Close gives the namespace up. Closing again does nothing.
func (n *Namespace) Close() { n.file.Close() }

func (n *Namespace) fd() int { return int(n.file.Fd()) }

// Do calls f on an OS thread that is in the namespace, and returns its error. Sockets that f opens stay in the namespace
// and may be used from anywhere later; goroutines that f starts are outside. f must return: it must not call
// runtime.Goexit, nor what calls it, such as testing's Fatal.
func (n *Namespace) Do(f func() error) error {
	return aside(func() error {
		if err := unix.Setns(n.fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter a network namespace: %w", err)
		}
		return nil
	}, f)
}

// threadNamespace is the network namespace of the calling thread.
const threadNamespace = "/proc/thread-self/ns/net"

// aside calls enter, which changes the network namespace of the calling thread, and then f, on a thread that nothing else
// runs on meanwhile and that is put back afterwards.
func aside(enter, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(threadNamespace)
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer home.Close()
		if err = enter(); err == nil {
			err = f()
		}
		// A thread that cannot go back stays locked, and so ends with this goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// Run runs a program in the namespace until it ends or the context does, and returns what it wrote to its output. stdin
// is its whole input. name is looked up in PATH, then in the folders of administrators' programs, which the PATH of other
// users may lack. An error says what the program wrote to its error output.
func (n *Namespace) Run(ctx context.Context, stdin, name string, args ...string) (stdout string, err error) {
	path, err := find(name)
	if err != nil {
		return "", fmt.Errorf("cannot run %s: %w", name, err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = time.Second // for a child of the program that keeps its output open
	// The machine's lock file of iptables is no concern of the namespace, and may not be writable.
	cmd.Env = append(os.Environ(), fmt.Sprintf("XTABLES_LOCKFILE=/proc/%d/fd/%d", os.Getpid(), n.fd()))
	if err = n.Do(cmd.Run); err == nil {
		return out.String(), nil
	}
	line := strings.Join(append([]string{name}, args...), " ")
	if said := strings.TrimSpace(errs.String()); said != "" {
		return out.String(), fmt.Errorf("%s: %w: %s", line, err, said)
	}
	return out.String(), fmt.Errorf("%s: %w", line, err)
}

// find is the path of a program.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errors.New("it is not installed")
}

// netlink calls f with a routing socket of the namespace.
func (n *Namespace) netlink(f func(*netlink.Handle) error) error {
	var h *netlink.Handle
	err := n.Do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// sysctl writes a setting of the namespace; key is a path under /proc/sys/net.
func (n *Namespace) sysctl(key, value string) error {
	return n.Do(func() error {
		err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist) && slices.Contains(optionalSysctls, key):
			return nil
		case errors.Is(err, unix.EROFS):
			return fmt.Errorf("cannot set %s: /proc/sys is read-only, as in a container without privileges", key)
		}
		return fmt.Errorf("cannot set %s: %w", key, err)
	})
}

// optionalSysctls are newer than the oldest kernel that everything else here runs on.
var optionalSysctls = []string{"ipv6/icmp/ratemask"}
