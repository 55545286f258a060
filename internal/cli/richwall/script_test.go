package richwall

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"richwall":            func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"make-hostile-folder": makeHostileFolder,
	})
}

// TestScripts runs the scripts of testdata/script with the program itself. Beside the commands of testscript they have
// "exits STATUS PROGRAM ARG…", and the conditions "lab", which holds where "richwall lab" can make its network, and "root".
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../../testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Getuid() == 0, nil
			}
			if name != "lab" {
				return false, fmt.Errorf("there is no condition %q", name)
			}
			if why := noLab(); why != "" {
				t.Log(why)
				return false, nil
			}
			return true, nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("cannot run %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("the exit status is %d, not %d", got, want)
	}
}

// noLab says why there can be no lab here; "" if there can.
var noLab = sync.OnceValue(func() string {
	out, _ := exec.Command("richwall", "lab", "--mss", "1460", "rule tcp-mss-clamp").CombinedOutput()
	if strings.Contains(string(out), "cannot make the lab") {
		return string(out)
	}
	return ""
})

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What cannot be printed is no success, whichever subcommand prints it, and whether it is what was asked for or help.
func TestPrintingOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "firewalld.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"explain", "--config", dir, "--in", "eth1", "--source", "192.0.2.1", "tcp", "22"}, {"help"}, {"lab", "--help"}, {"--version"},
		{"compile", "rule service name=ssh accept"}, {"check", "--json", dir},
	} {
		var errors bytes.Buffer
		if status := Main(args, strings.NewReader(""), full{}, &errors); status != 2 || !strings.Contains(errors.String(), "no space left") {
			t.Errorf("%q ends with %d and says %q", args, status, &errors)
		}
	}
}
