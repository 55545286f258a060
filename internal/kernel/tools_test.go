package kernel

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program in the place of iptables may leave something behind that still has its output open, and a program that has ended is not always
// read from at once: what it has said counts, and nobody waits for more. It reads its whole input.
func TestOutputOfAProgramThatHasEnded(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nsleep 5 &\nwc -c\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	inHere := tools{enter: func(do func() error) error { return do() }}
	out, err := inHere.run(context.Background(), strings.Repeat("x", 1<<20), "iptables")
	if err != nil || strings.TrimSpace(out) != "1048576" {
		t.Errorf("the output is %q, the error %v", out, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := inHere.run(ctx, "", "iptables"); err == nil {
		t.Error("a program that nobody waits for runs")
	}
}
