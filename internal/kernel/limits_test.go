package kernel

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

// limited changes a limit for the time of a test.
func limited[T any](t *testing.T, limit *T, to T) {
	was := *limit
	*limit = to
	t.Cleanup(func() { *limit = was })
}

// inPlaceOf puts a script in the place of iptables.
func inPlaceOf(t *testing.T, script string) tools {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return tools{enter: func(do func() error) error { return do() }}
}

// A program in the place of iptables may print without end, on either output, by itself or by a child that it leaves behind. It is ended, and
// the error says why.
func TestProgramThatPrintsWithoutEnd(t *testing.T) {
	limited(t, &mostText, 1<<20)
	for _, script := range []string{"yes", "yes >&2", "exec yes", "yes &\nsleep 1", "head -c 3000000 /dev/zero"} {
		t.Run(script, func(t *testing.T) {
			out, err := inPlaceOf(t, script+"\n").run(context.Background(), "", "iptables")
			if !errors.Is(err, errTooMuch) || !strings.Contains(err.Error(), "prints more") || out != "" {
				t.Errorf("there are %d bytes, error %v", len(out), err)
			}
		})
	}
}

// What fits is all there.
func TestProgramThatPrintsMuch(t *testing.T) {
	limited(t, &mostText, 1<<20)
	out, err := inPlaceOf(t, "head -c 1048576 /dev/zero\n").run(context.Background(), "", "iptables")
	if err != nil || len(out) != 1<<20 {
		t.Errorf("there are %d bytes, error %v", len(out), err)
	}
}

// A program that never ends is ended, whether it says something now and then or not; one with a long input has more time.
func TestProgramThatDoesNotEnd(t *testing.T) {
	limited(t, &longestRun, time.Second)
	for _, script := range []string{"exec sleep 600", "while :; do echo x; sleep 0.1; done"} {
		t.Run(script, func(t *testing.T) {
			if _, err := inPlaceOf(t, script+"\n").run(context.Background(), "", "iptables"); !errors.Is(err, errTooLong) || !passes(err) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := inPlaceOf(t, "sleep 2; cat >/dev/null\n").run(context.Background(), strings.Repeat("x", 1<<20), "iptables"); err != nil {
		t.Error(err)
	}
}

// A program that is ended, and that has begun another one, ends with that: it does not go on with the work of a change that has failed.
func TestWhatAProgramHasBegunEndsWithIt(t *testing.T) {
	limited(t, &longestRun, time.Second)
	alive := filepath.Join(t.TempDir(), "alive")
	if err := unix.Mkfifo(alive, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(alive, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := inPlaceOf(t, "sleep 600 >"+alive+" & wait\n").run(context.Background(), "", "iptables"); !errors.Is(err, errTooLong) {
		t.Fatalf("the error is %v", err)
	}
	if err := reader.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); err != io.EOF { // which comes when nobody can write any more
		t.Errorf("what it has begun goes on: %v", err)
	}
}

// An ipset that does not end is no ipset that is not there.
func TestIpsetThatDoesNotEnd(t *testing.T) {
	limited(t, &longestRun, time.Second)
	in := inPlaceOf(t, "exec sleep 600\n")
	path, err := find("iptables")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), "ipset")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.listSets(context.Background()); !errors.Is(err, errTooLong) {
		t.Errorf("the error is %v", err)
	}
}

// program is inPlaceOf for any program.
func program(t *testing.T, name, script string) tools {
	t.Helper()
	in := inPlaceOf(t, script)
	path, err := find("iptables")
	if err == nil {
		err = os.Rename(path, filepath.Join(filepath.Dir(path), name))
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// A look-up of a single rule has the limits of every other program. One that was ended, or waits for a lock, does not say that the rule is not
// there; any other refusal does.
func TestRuleThatIsLookedUp(t *testing.T) {
	limited(t, &longestRun, time.Second)
	limited(t, &mostText, 1<<20)
	for script, want := range map[string]error{
		"exec sleep 600": errTooLong, "exec yes": errTooMuch, "kill -9 $$": nil, "exit 4": nil,
		"echo Another app is currently holding the xtables lock >&2; exit 4": ErrBusy,
	} {
		found, err := inPlaceOf(t, script+"\n").ruleExists(context.Background(), ir.V4, "filter", "INPUT", []string{"-j", "DROP"})
		if found || err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: found %v, error %v", script, found, err)
		}
	}
	for script, there := range map[string]bool{"exit 0": true, "exit 1": false, "echo 'unknown option' >&2; exit 2": false} {
		found, err := inPlaceOf(t, script+"\n").ruleExists(context.Background(), ir.V4, "filter", "INPUT", []string{"-j", "DROP"})
		if found != there || err != nil {
			t.Errorf("%s: found %v, error %v", script, found, err)
		}
	}
}

// A restore tool that is killed while rules are tried has refused none of them.
func TestTrialThatIsKilled(t *testing.T) {
	k := &iptablesKernel{tools: program(t, "iptables-restore", "kill -9 $$\n")}
	tried := &trial{k: k, s: &script{family: ir.V4, table: "filter"}, ctx: t.Context(), until: time.Now().Add(time.Hour)}
	if bad := tried.refused([]candidate{{spec: "-j one"}, {spec: "-j two"}}); bad != nil {
		t.Errorf("refused are %v", bad)
	}
}

// An ebtables-restore that is killed, at first or while lines are tried, has refused none of them.
func TestBridgeTrialThatIsKilled(t *testing.T) {
	lines := [][]string{{"-A", "INPUT", "-j", "good"}, {"-A", "INPUT", "-j", "bad"}, {"-A", "INPUT", "-j", "other"}}
	for _, script := range []string{"kill -9 $$\n", `in=$(cat)
case $in in *bad*other*)
	if test $(echo "$in" | wc -l) = 3; then echo "line 3 failed" >&2; exit 1; fi;;
esac
case $in in *bad*) kill -9 $$;; esac
echo "line $(echo "$in" | wc -l) failed" >&2; exit 1
`} {
		in := program(t, "ebtables-restore", script)
		input, err := joinLines(lines)
		if err != nil {
			t.Fatal(err)
		}
		_, err = in.run(t.Context(), input, "ebtables-restore", "--noflush")
		var refused *BridgeError
		if said := in.refusedLines(t.Context(), err, "filter", lines); err == nil || errors.As(said, &refused) {
			t.Errorf("the error is %v", said)
		}
	}
}
