package faults

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/internal/daemon"
)

// restoresOnce has iptables-restore change one table, and then fail, until end is called.
func restoresOnce(t *testing.T) (end func()) {
	t.Helper()
	path, err := exec.LookPath("iptables-restore")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *--test*) ;; *) if [ -e %[1]s/ended ]; then :; elif [ -e %[1]s/once ]; then echo no memory >&2; exit 3; else touch %[1]s/once; fi ;; esac\nexec -a iptables-restore %[2]s \"$@\"\n", dir, path)
	script = strings.Replace(script, "#!/bin/sh", "#!/bin/bash", 1)
	if err := os.WriteFile(filepath.Join(dir, "iptables-restore"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() {
		if err := os.WriteFile(filepath.Join(dir, "ended"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A reload that changes from nftables to iptables changes one table and fails at the next, and the first cannot be taken back. Nothing new is
// let in then, and the state is FAILED. Once the tables can be changed again, all is as before the reload.
func TestChangeOfTheBackEndThatFailsHalfway(t *testing.T) {
	l, dir := newLab(t, "nft", "iptables", "ip6tables", "ipset"), t.TempDir()
	write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=nftables\n", "zones/public.xml": `<zone><interface name="c0"/><port port="80" protocol="tcp"/></zone>`})
	var log logText
	d := newDaemon(dir, nil, l.Firewall().Do, slog.New(slog.NewTextHandler(&log, nil)))
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop(t.Context()) })
	before := table(t, l.Firewall())
	write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n"})
	end := restoresOnce(t)
	if err := d.Reload(t.Context()); err == nil {
		t.Fatal("the reload succeeds")
	}
	now := d.Snapshot()
	if said := strings.Join(now.Failures, "\n"); now.State != daemon.Failed || now.Backend != "nftables" || !strings.Contains(said, "cannot be put back now") {
		t.Errorf("the state is %s with %s: %s", now.State, now.Backend, said)
	}
	const chain = " - " // what the save tools list of a chain that is not the kernel's
	if left := saved(t, l); !strings.Contains(left, chain) {
		t.Fatalf("nothing of the reload is there, but\n%s", left)
	}
	if open := openPorts(t, l, 80, closedPort); open != nil || !guards(t, l.Firewall()) {
		t.Errorf("open are %v; the guard stands: %v; the log says\n%s", open, guards(t, l.Firewall()), log.String())
	}
	end()
	eventually(t, "it is not tried again", func() bool { return d.Snapshot().State == daemon.Running })
	if left := saved(t, l); strings.Contains(left, chain) {
		t.Errorf("iptables has still\n%s", left)
	}
	if difference := tableDifference(before, table(t, l.Firewall())); difference != "" {
		t.Errorf("the rules of nftables are not what they were: %s", difference)
	}
	if open := openPorts(t, l, 80, closedPort); !slices.Equal(open, []int{80, 80}) || guards(t, l.Firewall()) {
		t.Errorf("at last open are %v; the guard stands: %v", open, guards(t, l.Firewall()))
	}
}
