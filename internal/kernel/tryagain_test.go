package kernel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"richwall/internal/testlog"
)

// memoryNote is a Store that keeps nothing.
type memoryNote struct{}

func (memoryNote) Read() ([]byte, error) { return nil, nil }
func (memoryNote) Write([]byte) error    { return nil }

// What could not be taken out before is tried behind each commit, one chain after the other. A commit whose context has ended, as at the
// end of the daemon, begins no more of these programs, and what was not tried stays for the next one. The iptables and ipset of this test
// touch nothing: they write down that they ran, and take nothing out.
func TestNothingMoreIsTriedAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	for _, name := range []string{"iptables", "ipset"} {
		script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> '%s'\ncase \"$*\" in *-X*|*destroy*) exit 1;; esac\n", count)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var log testlog.Log
	l := NewLeft(memoryNote{}, slog.New(slog.NewTextHandler(&log, nil)))
	for i := range 20 {
		l.stay.Chains = append(l.stay.Chains, leftChain{"iptables", "filter", fmt.Sprint("c", i)})
	}
	l.stay.Sets = []string{"s"}
	asked := 0
	stopped := func() error {
		if asked++; asked > 2 {
			return context.Canceled
		}
		return nil
	}
	taken := l.tryAgain(t.Context(), stopped, tools{enter: func(f func() error) error { return f() }})
	said, err := os.ReadFile(count)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(said, []byte("-X")); n != 2 || bytes.Contains(said, []byte("list")) {
		t.Errorf("two chains were to be tried; run was\n%s", said)
	}
	if len(taken) != 0 || len(l.stay.Chains) != 20 || len(l.stay.Sets) != 1 || len(log.String()) != 0 {
		t.Errorf("taken out are %v, what stays is %v; the log says\n%s", taken, l.stay, &log)
	}
}
