package kernel_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// held has a program wait, each time it is run from now on, until the test has done something.
func held(t *testing.T, program string, meanwhile func()) {
	t.Helper()
	path, err := findProgram(program)
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	run, ready := filepath.Join(dir, "run"), filepath.Join(dir, "ready")
	write(t, filepath.Join(dir, program), fmt.Sprintf("#!/bin/sh\n: >%s\nuntil [ -e %s ]; do sleep 0.02; done\nexec %s \"$@\"\n", run, ready, path))
	if err := os.Chmod(filepath.Join(dir, program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	go func() {
		for _, err := os.Stat(run); err != nil && t.Context().Err() == nil; _, err = os.Stat(run) {
			time.Sleep(20 * time.Millisecond)
		}
		meanwhile()
		_ = os.WriteFile(ready, nil, 0o644)
	}()
}

// The firewall ends, and the programs take longer to take out the direct rules than the end may take, as where there are thousands. What they have
// taken out is not put back for that: all rules go.
func TestEndOfManyDirectRules(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		before := all(t, ns)
		k, _, _ := process(t, ns, backend, &disk{})
		commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.1.1.1,10.1.1.2 -j DROP</rule>`))
		ctx, cancel := context.WithCancel(t.Context())
		held(t, "iptables-restore", cancel)
		if err := k.Commit(ctx, &kernel.Desired{}); err != nil {
			t.Error(err)
		}
		if ctx.Err() == nil {
			t.Fatal("the time was not over")
		}
		if now := all(t, ns); strings.Contains(now, "10.1.1.") || strings.Contains(now, "firewalld") {
			t.Errorf("there was\n%s\nand is now\n%s", before, now)
		}
	})
}
