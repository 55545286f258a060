// Package faults has the tests of what goes wrong around the daemon: it is killed, other programs edit its rules, files are
// broken or half written, the disk is full, the message bus goes away. After each of them packets meet the old ruleset or
// the new one, never none and never a part of one.
package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/internal/statedir"
	"richwall/zones"
)

// roleVariable makes a process that the tests start something else than the tests; mountVariable is set in one that has
// mounts of its own.
const (
	roleVariable  = "RICHWALL_FAULTS_ROLE"
	mountVariable = "RICHWALL_FAULTS_MOUNTS"
)

// roles are what the tests start.
var roles = map[string]func(){"victim": victim, "firewalld": program}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		role()
		return
	}
	lab.MainApart(mounting{m})
}

// mounting runs tests where what they mount is seen by nobody else, if this process may.
type mounting struct{ *testing.M }

func (m mounting) Run() int {
	if os.Getenv(mountVariable) == "" && unix.Geteuid() == 0 {
		return ownMounts()
	}
	return m.M.Run()
}

// ownMounts runs the tests again, where what they mount is seen by nobody else.
func ownMounts() int {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), mountVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// newLab is a lab whose firewall is there for a daemon.
func newLab(t *testing.T, programs ...string) *lab.Lab {
	t.Helper()
	if missing := lab.Missing(programs...); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// write puts files into a folder.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// newDaemon makes a daemon over a folder, whose kernel is that of a namespace. A nil state keeps nothing for the next daemon.
func newDaemon(dir string, state *statedir.Dir, enter func(func() error) error, log *slog.Logger) *daemon.Daemon {
	return daemon.New(optionsOf(dir, state, enter, log))
}

// optionsOf are the options of newDaemon.
func optionsOf(dir string, state *statedir.Dir, enter func(func() error) error, log *slog.Logger) daemon.Options {
	return daemon.Options{
		Dirs: zones.Dirs{System: dir}, Log: log, State: state,
		Kernel: func(backend ir.Backend) (kernel.Kernel, error) {
			return kernel.New(kernel.Options{Backend: backend, Enter: enter, Log: log})
		},
		PanicLeft: func(ctx context.Context) ([]string, error) {
			return kernel.PanicLeft(ctx, kernel.Options{Enter: enter, Log: log})
		},
		PassFrames: func() error { return kernel.PassFrames(kernel.Options{Enter: enter, Log: log}) },
		DropAll:    func(on bool) error { return kernel.DropAll(kernel.Options{Enter: enter, Log: log}, on) },
		SwitchTime: time.Minute, // the machine may be busy
	}
}

// openPorts are those of TCP ports that the client gets through to on the firewall, with IPv4 and IPv6.
func openPorts(t *testing.T, l *lab.Lab, ports ...int) []int {
	t.Helper()
	var probes []lab.Probe
	for _, p := range ports {
		for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
			probes = append(probes, lab.Probe{From: lab.Client, To: lab.FirewallHost, Family: f, Port: p})
		}
	}
	results, err := l.Probe(t.Context(), probes)
	if err != nil {
		t.Fatal(err)
	}
	var open []int
	for i, r := range results {
		if r.At != "" {
			open = append(open, probes[i].Port)
		}
	}
	return open
}

// table is what nft lists of the firewall's table, without the owner and without what counters have counted.
func table(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	listing, err := ns.Run(t.Context(), "", "nft", "--stateless", "list", "table", "inet", "firewalld")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(` # progname.*|(?m:^\tflags .*\n)`).ReplaceAllString(listing, "")
}

var elements = regexp.MustCompile(`\{ ([^{}]*) \}`)

// sorted is a listing with all in order whose order says nothing: in which chains and sets were made, and elements are kept.
func sorted(listing string) string {
	listing = elements.ReplaceAllStringFunc(listing, func(list string) string {
		words := strings.Split(strings.Trim(list, "{ }"), ",")
		for i := range words {
			words[i] = strings.TrimSpace(words[i])
		}
		slices.Sort(words)
		return "{ " + strings.Join(words, ", ") + " }"
	})
	_, body, _ := strings.Cut(strings.TrimSuffix(listing, "}\n"), "{\n")
	blocks := strings.Split(body, "\n\n")
	for i := range blocks {
		blocks[i] = strings.TrimSpace(blocks[i]) + "\n"
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

// saved is what the save tools of iptables list, without counters and comments.
func saved(t *testing.T, l *lab.Lab) string {
	t.Helper()
	var all string
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		text, err := l.Firewall().Run(t.Context(), "", program)
		if err != nil {
			t.Fatal(err)
		}
		all += noise.ReplaceAllString(text, "")
	}
	return all
}

var noise = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)

// tableDifference is the first line in which two listings of nft differ; empty if they do not.
func tableDifference(want, got string) string { return difference(sorted(want), sorted(got)) }

// difference is the first line in which two texts differ; empty if they do not.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d: %q, want %q", i+1, strings.Join(b[min(i, len(b)):min(i+1, len(b))], ""), strings.Join(a[min(i, len(a)):min(i+1, len(a))], ""))
		}
	}
	return ""
}
