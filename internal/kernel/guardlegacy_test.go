package kernel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// Another program takes rules out with iptables-legacy, of which the kernel tells nobody. The next change finds that, and fails, as the programs do:
// nothing new is let in from then on. When they work again, the rules come back, and the guard goes.
func TestGuardWhereRulesOfLegacyAreNotPutBack(t *testing.T) {
	useVariant(t, "legacy")
	failing := filepath.Join(t.TempDir(), "failing")
	for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
		path, err := findVariant(program)
		if err != nil {
			t.Skip(err)
		}
		t.Setenv("PATH", shim(t, program, fmt.Sprintf("test -e %s && exit 4\nexec %s \"$@\"", failing, path))+":"+os.Getenv("PATH"))
	}
	l := newLab(t)
	ns := l.Firewall()
	k := open(t, ns, ir.IPTables)
	commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.IPTables, "")})
	want := saved(t, ns)
	run(t, ns, "", "iptables", "-F", "INPUT")
	run(t, ns, "", "ip6tables", "-F", "INPUT")
	write(t, failing, "")
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: letsIn(t, ir.IPTables, "")}); err == nil {
		t.Fatal("the change is made")
	}
	if got := arrive(t, l, 9); len(got) > 0 || !guardStands(t, ns) {
		t.Errorf("packets come %v, and the guard stands: %v", got, guardStands(t, ns))
	}
	if err := os.Remove(failing); err != nil {
		t.Fatal(err)
	}
	commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.IPTables, "")})
	if guardStands(t, ns) {
		t.Error("the guard stays")
	}
	sameLines(t, sortedLines(want), sortedLines(saved(t, ns)))
}

// shim is a folder with a program that is a script of a shell.
func shim(t *testing.T, program, script string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, program), "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(filepath.Join(dir, program), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
