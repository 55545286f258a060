package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of a program that Reexec started.
const inside = "RICHWALL_LAB_USERNS"

// Missing says, a sentence each, what this process lacks to make namespaces and to run programs in them; nil means
// nothing. Tests skip for it.
func Missing(programs ...string) []string {
	var missing []string
	if err := makesNamespaces(); err != nil {
		missing = append(missing, err.Error())
	}
	for _, p := range programs {
		if _, err := find(p); err != nil {
			missing = append(missing, fmt.Sprintf("cannot run %s: %v", p, err))
		}
	}
	return missing
}

// makesNamespaces is why this process cannot make a namespace. It is found out once.
var makesNamespaces = sync.OnceValue(func() error {
	ns, err := NewNamespace()
	if err == nil {
		ns.Close()
	}
	return err
})

// Main runs a test program's tests, a *testing.M, in a user namespace when whoever runs them is not root, and exits.
func Main(tests interface{ Run() int }) {
	code, done, err := Reexec(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // those that need a namespace skip for the same reason
	}
	if !done {
		code = tests.Run()
	}
	os.Exit(code)
}

// Reexec gives a program that may not make network namespaces the right to: it runs the program again, with the same
// arguments, environment and standard streams, as root of a user namespace. It is called before the program does anything
// else. done is false when nothing had to be done and the program goes on; otherwise the program ran elsewhere, and code
// is what to exit with. An error says what is missing. When the context ends the other program is interrupted.
func Reexec(ctx context.Context) (code int, done bool, err error) {
	ns, err := NewNamespace()
	if err == nil {
		ns.Close()
		return 0, false, nil
	}
	if os.Getenv(inside) != "" {
		return 0, false, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false, fmt.Errorf("cannot run in a user namespace: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return 0, false, fmt.Errorf("cannot run in a user namespace (%w): %s", err, whyNotPermitted())
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, true, fmt.Errorf("cannot run in a user namespace: %w", err)
	}
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal()), true, nil // as shells say it
	}
	return cmd.ProcessState.ExitCode(), true, nil
}

// userSwitches are the settings that keep users from making user namespaces, with the value that does.
var userSwitches = []struct{ path, off, enable string }{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"},
	{"/proc/sys/user/max_net_namespaces", "0", "user.max_net_namespaces=10000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
}

// whyNotPermitted says what to do for a network namespace.
func whyNotPermitted() string {
	for _, s := range userSwitches {
		if v, err := os.ReadFile(s.path); err == nil && strings.TrimSpace(string(v)) == s.off {
			return "that needs root, or else user namespaces, which are switched off: sysctl -w " + s.enable
		}
	}
	if os.Getuid() == 0 {
		return "that needs the capability CAP_SYS_ADMIN, which this process lacks, as in a container without privileges"
	}
	return "that needs root, or a user namespace"
}
