package kernel

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

// tools runs the programs of iptables and ipset.
type tools struct {
	enter func(func() error) error
	kind  string // of iptables, nft or legacy; empty for the one that goes by the plain names
}

// program is the name of a program of the variant.
func (t tools) program(name string) string {
	for _, plain := range []string{"iptables", "ip6tables"} {
		if rest, ok := strings.CutPrefix(name, plain); ok && t.kind != "" {
			return plain + "-" + t.kind + rest
		}
	}
	return name
}

// versionLine is what a program of iptables says of itself. Those from before there were two variants do not name theirs.
var versionLine = regexp.MustCompile(`^ip6?tables(?:-(?:nft|legacy))?(?:-restore)? v\d[^ ]*(?: \((nf_tables|legacy)\))?\n?$`)

// kindOf is the variant of a program: nft or legacy. The error is that the program cannot be asked, or says something else.
func (t tools) kindOf(ctx context.Context, name string) (string, error) {
	line, err := t.run(ctx, "", name, "--version")
	if err != nil {
		return "", fmt.Errorf("it is not known which variant %s is: %w", name, err)
	}
	m := versionLine.FindStringSubmatch(line)
	switch {
	case m == nil:
		return "", fmt.Errorf("it is not known which variant %s is: it says %q", name, line)
	case m[1] == "nf_tables":
		return "nft", nil
	}
	return "legacy", nil
}

// kindsOf are the variants of a family's programs: of the one that lists and of the one that commits, which are one variant unless somebody
// has mixed them up. The error is as of kindOf.
func (t tools) kindsOf(ctx context.Context, family ir.Families) ([]string, error) {
	var kinds []string
	for _, name := range []string{tool(family), tool(family) + "-restore"} {
		kind, err := t.kindOf(ctx, name)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// find is the path of a program, which the PATH of a service may lack.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", &NotInstalledError{name}
}

// toolError is a program that said no.
type toolError struct {
	name string
	said string // its error output
	err  error
}

func (e *toolError) Error() string {
	if e.said == "" {
		return e.name + ": " + e.err.Error()
	}
	return e.name + ": " + e.said
}

func (e *toolError) Unwrap() error { return e.err }

// reason is the first line of what the program said, without one that is only its name and version.
func (e *toolError) reason() string {
	first, rest, _ := strings.Cut(e.said, "\n")
	if first = strings.TrimSpace(first); strings.HasSuffix(first, ":") && rest != "" {
		first, _, _ = strings.Cut(rest, "\n")
	}
	return strings.TrimSpace(first)
}

// run runs a program with its input, without a shell, and returns its output. The error is a *toolError if it ran.
func (t tools) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	return t.runAs(ctx, func(int) {}, stdin, name, args...)
}

// runAs is run, and calls a function with the id of the process while that runs.
func (t tools) runAs(ctx context.Context, started func(pid int), stdin, name string, args ...string) (string, error) {
	in := &input{}
	defer in.close()
	io.WriteString(in, stdin) // what goes wrong with it is said when it is read
	return t.runOn(ctx, started, in, name, args...)
}

// runOn is runAs with an input that may be long.
func (t tools) runOn(ctx context.Context, started func(pid int), stdin *input, name string, args ...string) (string, error) {
	path, err := find(t.program(name))
	if err != nil {
		return "", err
	}
	in, err := stdin.fromStart()
	if err != nil {
		return "", &toolError{name: name, err: err}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	longest := stdin.longest()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, errTooLong)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { // with what it has begun, which would go on with its work
		err := cmd.Process.Kill()
		if err == nil {
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
		return err
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what it says is read
	var out, said string
	err = t.enter(func() (err error) {
		out, said, err = piped(cmd, in, started, mostPrinted(), stop)
		return err
	})
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTooMuch):
		return "", fmt.Errorf("%s: %w", name, errTooMuch)
	case err != nil && errors.Is(cause, errTooLong):
		return "", fmt.Errorf("%s: %w: that is %v here", name, errTooLong, longest)
	case err != nil && strings.Contains(said, "xtables lock") && !signalled(err):
		return out, fmt.Errorf("%s: %w: it holds %s%s", name, ErrBusy, lockFile(), lockHolder(lockFile()))
	case err != nil:
		return out, &toolError{name: name, said: strings.TrimSpace(said), err: err}
	}
	return out, nil
}

// errLimit is that a program was ended, as it went beyond a limit: errTooMuch or errTooLong. It is not known how much of its work it had done.
var (
	errLimit   = errors.New("the program was ended")
	errTooMuch = fmt.Errorf("%w: it prints more than there is room for", errLimit)
	errTooLong = fmt.Errorf("%w: it takes longer than a program may", errLimit)
)

// ended says whether a program was ended before it said what it has done, by a limit or a signal. It may have done all.
func ended(err error) bool {
	var said *toolError
	return errors.Is(err, errLimit) || errors.As(err, &said) && signalled(said.err)
}

// signalled says whether a signal has ended a program.
func signalled(err error) bool {
	var status *exec.ExitError
	return errors.As(err, &status) && status.ExitCode() < 0
}

// mostText is the most bytes that a program may print: a million rules fit in. It is a variable for tests.
var mostText int64 = 512 << 20

// mostPrinted is mostText, or an eighth of the data memory that the process may have (ulimit -d) if that is less: what is printed is in memory
// up to twice, beside what is made of it.
func mostPrinted() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &limit); err != nil || limit.Cur/8 > uint64(mostText) {
		return mostText
	}
	return int64(limit.Cur / 8)
}

// longestRun is how long a program may take at most, without an input: as long as the start of the daemon waits for a lock (patientChains). It is
// a variable for tests. Each MiB of its input is worth longestRead more.
var longestRun = time.Minute

const longestRead = 10 * time.Second

// memoryFile is a new file without a name (memfd_create(2)). What is in it is none of the process's data memory.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("richwall", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "memfd"), nil
}

// input is what a program is to read, in a memoryFile, so that it may be long. The zero input is empty. A write has no error: the first thing that
// went wrong is the error of fromStart. It is closed with the last pointer to it, if not before.
type input struct {
	file *os.File
	buf  *bufio.Writer // nil while nothing was written
	err  error
}

func (t *input) empty() bool { return t.buf == nil }

func (t *input) Write(b []byte) (int, error) {
	if len(b) == 0 || t.err != nil {
		return len(b), nil
	}
	if t.file == nil {
		if t.file, t.err = memoryFile(); t.err != nil {
			return len(b), nil
		}
	}
	if t.buf == nil {
		t.buf = bufio.NewWriter(t.file)
	}
	if _, err := t.buf.Write(b); err != nil {
		t.err = fmt.Errorf("cannot write a file in memory: %w", err)
	}
	return len(b), nil
}

// longest is how long a program may take that reads it.
func (t *input) longest() time.Duration {
	size := int64(0)
	if t.file != nil {
		if info, err := t.file.Stat(); err == nil {
			size = info.Size()
		}
	}
	return longestRun + time.Duration(size>>20)*longestRead
}

// fromStart is the file, to be read from its start.
func (t *input) fromStart() (f *os.File, err error) {
	if t.err == nil && t.file == nil {
		t.file, t.err = memoryFile()
	}
	if t.err == nil && t.buf != nil {
		t.err = t.buf.Flush()
	}
	if t.err == nil {
		_, t.err = t.file.Seek(0, io.SeekStart)
	}
	return t.file, t.err
}

// eachLine calls f with each line and its number, from 1, without what ends it, until f is false. The error is that it cannot be read.
func (t *input) eachLine(f func(n int, line string) bool) error {
	file, err := t.fromStart()
	if err != nil {
		return err
	}
	scanner := bufio.NewScanner(file)
	for n := 1; scanner.Scan(); n++ {
		if !f(n, scanner.Text()) {
			return nil
		}
	}
	return scanner.Err()
}

func (t *input) close() {
	t.file.Close() // nil is an error that matters to nobody
}

// lockSeconds is how long the programs of iptables-legacy wait for others to give up the lock of all tables; it is a variable
// for tests.
var lockSeconds = 10

// waitForLock is the option that says so.
func waitForLock() string { return fmt.Sprintf("--wait=%d", lockSeconds) }

// lockFile is that lock (iptables(8), -w).
func lockFile() string { return cmp.Or(os.Getenv("XTABLES_LOCKFILE"), "/run/xtables.lock") }

// lockHolder names who has locked a file, as /proc/locks tells it; empty if nobody has, or it is not known.
func lockHolder(path string) string {
	var file unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	at := fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino)
	for line := range strings.Lines(string(locks)) { // "1: FLOCK  ADVISORY  WRITE 1234 00:19:861 0 EOF"
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != at {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		name, reading := os.ReadFile("/proc/" + f[4] + "/comm")
		if err == nil && reading == nil {
			return fmt.Sprintf(", by %s", Writer{PID: pid, Name: strings.TrimSpace(string(name))})
		}
	}
	return ""
}

// tool is the name of a family's program: iptables or ip6tables.
func tool(family ir.Families) string {
	if family == ir.V6 {
		return "ip6tables"
	}
	return "iptables"
}

// hasIPv6 says whether the kernel has IPv6, or that is not known. One without it, or that began with ipv6.disable=1, lacks the
// file; it is made for each network namespace (net/ipv6/addrconf.c).
func (t tools) hasIPv6() bool {
	has := true
	err := t.enter(func() error {
		_, err := os.Stat("/proc/thread-self/net/if_inet6")
		_, other := os.Stat("/proc/thread-self/net/dev")
		has = err == nil || other != nil
		return nil
	})
	return has || err != nil
}

// ruleExists looks one rule up by its words, as the kernel has it. What the tool does not understand is not there. The error is that the tool
// does not say: it waits for a lock, lacks memory, or was ended.
func (t tools) ruleExists(ctx context.Context, family ir.Families, table, chain string, words []string) (found bool, err error) {
	_, err = t.run(ctx, "", tool(family), append([]string{"-t", table, "-C", chain, waitForLock()}, words...)...)
	var status *exec.ExitError
	switch {
	case err == nil:
		return true, nil
	case !ended(err) && errors.As(err, &status) && status.ExitCode() != resourceProblem:
		return false, nil
	}
	return false, err
}

// Passthrough runs a command line of the direct interface: iptables for ipv4, ip6tables for ipv6 and ebtables for eb, with
// the arguments as they are and the wish to wait for whoever else changes tables. It calls started
// with the id of the process, for Watcher.Allow, and returns the program's output; the error says what the program said.
func Passthrough(ctx context.Context, o Options, ipv string, args []string, started func(pid int)) (output string, err error) {
	programs := map[string][]string{"ipv4": {"iptables", waitForLock()}, "ipv6": {"ip6tables", waitForLock()}, "eb": {"ebtables", "--concurrent"}}
	command := programs[ipv]
	if command == nil {
		return "", fmt.Errorf("there is no program for %q: say ipv4, ipv6 or eb", ipv)
	}
	o = o.withDefaults()
	out, err := tools{enter: o.Enter}.runAs(ctx, started, "", command[0], append(command[1:], args...)...)
	var said *toolError
	if errors.As(err, &said) && said.said != "" {
		return out, errors.New(said.said)
	}
	return out, err
}
