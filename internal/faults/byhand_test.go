package faults

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Panic mode was switched on, and the daemon is gone. The commands that docs/security.md has for that, as they stand there, end panic mode, and
// the next start does not switch it on again. This is so with both back ends, after a stop and after a kill.
func TestPanicEndedByHand(t *testing.T) {
	commands := documented(t, "### Panic mode that the daemon cannot end")
	for _, backend := range []string{"nftables", "iptables"} {
		for name, end := range map[string]unix.Signal{"stopped": unix.SIGTERM, "killed": unix.SIGKILL} {
			t.Run(backend+" "+name, func(t *testing.T) { testPanicEndedByHand(t, backend, end, commands) })
		}
	}
}

func testPanicEndedByHand(t *testing.T, backend string, end unix.Signal, commands string) {
	s := newService(t, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n",
		"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`})
	usualFolders(t, filepath.Join(s.dir, "firewalld"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.command = []string{"sh", "-c", `exec "$0" --nofork --nopid --log-target=console`, self} // what else it is given is not for it
	daemon, _ := s.start()
	if err := s.call("enablePanicMode"); err != nil {
		t.Fatal(err)
	}
	daemon.Process.Signal(end)
	daemon.Wait()
	if open := openPorts(t, s.lab, openPort); open != nil {
		t.Errorf("panic mode ends with the daemon: open are %v", open)
	}
	out, _ := s.lab.Firewall().Run(t.Context(), "", "sh", "-c", commands) // it fails where a table is not there
	if open := openPorts(t, s.lab, openPort); len(open) != 2 {
		t.Errorf("after the commands ssh is open %d times, want it with both families; they said\n%s", len(open), out)
	}
	daemon, log := s.start()
	if open := openPorts(t, s.lab, openPort, closedPort); len(open) != 2 || strings.Contains(log.String(), "panic") {
		t.Errorf("after the next start open are %v; the log says\n%s", open, log)
	}
	daemon.Process.Signal(unix.SIGTERM)
	daemon.Wait()
}

// documented are the commands below a heading of docs/security.md: what is indented there.
func documented(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	var commands strings.Builder
	for line := range strings.Lines(section) {
		if command, indented := strings.CutPrefix(line, "    "); indented {
			commands.WriteString(command)
		}
	}
	if !found || commands.Len() == 0 {
		t.Fatalf("there are no commands below %q", heading)
	}
	return commands.String()
}

// usualFolders makes a folder /etc/firewalld, and /var/lib/firewalld one that is empty, for this process and those that it starts.
func usualFolders(t *testing.T, etc string) {
	t.Helper()
	disk := t.TempDir()
	upper, work := filepath.Join(disk, "upper"), filepath.Join(disk, "work")
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", disk, "tmpfs", 0, ""))
	err = errors.Join(err, os.Mkdir(work, 0o755), os.Mkdir(upper, 0o755), unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount("/etc", unix.MNT_DETACH)
		unix.Unmount(disk, unix.MNT_DETACH)
	})
	if err := errors.Join(os.MkdirAll("/etc/firewalld", 0o755), unix.Mount(etc, "/etc/firewalld", "", unix.MS_BIND, ""),
		unix.Mount("tmpfs", "/var/lib", "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount("/var/lib", unix.MNT_DETACH)
		unix.Unmount("/etc/firewalld", unix.MNT_DETACH)
	})
}
