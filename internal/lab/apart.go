package lab

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// apartMark is set in the environment of a test program that has a single test to run.
const apartMark = "RICHWALL_LAB_APART"

// MainApart is Main for tests that cannot run in parallel, because they change what a process has once, such as PATH or a variable of a package.
// Each test gets a process of its own. Two for each processor run at a time, as a test waits for the kernel half of its time. Before them
// those of alone run one by one, which measure time. Each test's output is printed as a whole when it has ended. The time limit of go test
// holds for each test. go test caches no result: it is not told which files the tests have read.
//
// The tests run in this process, one by one, where go test was told which tests to run, or was asked for more than results, such as a profile.
func MainApart(tests interface{ Run() int }, alone ...string) {
	flag.Parse()
	args, usual := forEach(flag.CommandLine)
	if usual || os.Getenv(apartMark) != "" {
		Main(tests)
	}
	code, done, err := Reexec(context.Background())
	switch {
	case err != nil:
		Main(tests) // which says why; the tests skip
	case done:
		os.Exit(code)
	}
	names, err := listApart()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot list the tests:", err)
		os.Exit(1)
	}
	os.Exit(runApart(names, alone, func(name string) ([]byte, int) { return apart(name, args) }, os.Stdout))
}

// forEach is the arguments of a process for a test: those of this one that do not choose tests. usual says that there are others, so that
// the tests are not to run apart.
func forEach(given *flag.FlagSet) (args []string, usual bool) {
	given.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "test.v", "test.count", "test.short", "test.timeout", "test.paniconexit0":
			args = append(args, "-"+f.Name+"="+f.Value.String())
		case "test.testlogfile", "test.parallel":
		default:
			usual = true
		}
	})
	return args, usual
}

// listApart is the names of the tests of this program.
func listApart() ([]string, error) {
	list, err := exec.Command("/proc/self/exe", "-test.list=^(Test|Example|Fuzz)").Output()
	return strings.Fields(string(list)), err
}

// runApart runs tests by their names, some at a time behind those that are alone, writes what they print, and returns the code to exit with.
func runApart(names, alone []string, run func(name string) (output []byte, code int), to io.Writer) int {
	r := apartResult{to: to}
	for _, name := range names {
		if slices.Contains(alone, name) {
			r.add(run(name))
		}
	}
	next := make(chan string)
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for name := range next {
				r.add(run(name))
			}
		})
	}
	for _, name := range names {
		if !slices.Contains(alone, name) {
			next <- name
		}
	}
	close(next)
	workers.Wait()
	_, _ = io.WriteString(to, r.verdict)
	return r.code
}

// apart runs a test in a process, and returns what that printed and its exit code.
func apart(name string, args []string) (output []byte, code int) {
	cmd := exec.Command("/proc/self/exe", append(slices.Clone(args), "-test.run=^"+name+"$")...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), apartMark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // whose end is the parent's for Pdeathsig
	defer runtime.UnlockOSThread()
	output, err := cmd.CombinedOutput()
	if err != nil {
		code = 1
		output = fmt.Appendf(output, "the process of %s: %v\n", name, err)
	}
	return output, code
}

// apartResult is what has become of the tests until now.
type apartResult struct {
	mu      sync.Mutex
	to      io.Writer
	code    int    // to exit with
	verdict string // the last line of a test program's output
}

// add prints what a test's process printed, without the last line of success, which stands once at the end of all.
func (r *apartResult) add(output []byte, code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if code != 0 {
		r.code, r.verdict = code, ""
	} else {
		body := bytes.TrimSuffix(output, []byte("PASS\n"))
		body = bytes.TrimSuffix(body, []byte{0x16}) // of test2json
		if r.code == 0 {
			r.verdict = string(output[len(body):])
		}
		output = body
	}
	_, _ = r.to.Write(output)
}
