package firewallcmd

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"firewall-cmd":         func() { os.Exit(Online(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"firewall-offline-cmd": func() { os.Exit(Offline(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts of testdata/script/offline. Beside the commands of testscript they have "fw STATUS ARG…",
// which runs firewall-offline-cmd on the folder etc of the script and with the definitions that richwall comes with.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../../testdata/script/offline",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"fw": fw},
	})
}

func fw(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: fw STATUS ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	call := append([]string{"--system-config", ts.Getenv("WORK") + "/etc", "--default-config", ts.Getenv("WORK") + "/none"}, args[1:]...)
	err = ts.Exec("firewall-offline-cmd", call...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("cannot run firewall-offline-cmd: %v", err)
	}
	if got != want {
		ts.Fatalf("the exit status is %d, not %d", got, want)
	}
}
