package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"richwall/compile/ir"
)

// Of twice as many hosts as are asked for at once all are silent but one. That one is found, wherever it stands: each has a time of its own.
func TestSilentHostsTakeNoTimeOfOthers(t *testing.T) {
	dir := t.TempDir()
	program := "#!/bin/sh\nfor a; do case $a in silent*) exec sleep 100;; esac; done\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	defer SetHostTime(time.Second)()
	k := &iptablesKernel{tools: tools{enter: func(f func() error) error { return f() }}}
	var hosts []host
	for i := range 2 * hostsAtOnce {
		hosts = append(hosts, host{ir.V4, fmt.Sprint("silent", i)})
	}
	const known = 3 * hostsAtOnce / 2
	hosts[known].name = "known"
	defer silent.Clear()
	for i, why := range k.lookUp(t.Context(), hosts) {
		if (why == nil) != (i == known) {
			t.Errorf("%s: %v", hosts[i].name, why)
		}
	}
}
