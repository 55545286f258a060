package faults

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"richwall/internal/cli/firewallcmd"
)

// On a disk that is full, or can only be read, a command says which file it could not write, and that the files are as they were.
func TestDiskErrorsNameTheFile(t *testing.T) {
	disk := smallDisk(t, 8)
	etc := filepath.Join(disk, "etc")
	if err := os.MkdirAll(filepath.Join(etc, "zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "firewalld.conf"), []byte("LogDenied=all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill(t, disk, 0)
	try := func(reason string) {
		t.Helper()
		for args, file := range map[string]string{
			"--zone=public --add-port=80/tcp": "zones/public.xml", "--set-default-zone=work": "firewalld.conf", "--new-zone=mine": "zones/mine.xml", "--reset-to-defaults": "firewalld.conf",
		} {
			var stdout, stderr strings.Builder
			status := firewallcmd.Offline(append(strings.Fields(args), "--system-config", etc), nil, &stdout, &stderr)
			said := stderr.String()
			if status != 13 || !strings.Contains(said, "cannot write "+filepath.Join(etc, file)) || !strings.Contains(said, reason+"; the files are as they were\n") {
				t.Errorf("%s: exit status %d, %q", args, status, said)
			}
		}
	}
	try("no space left on device")
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	try("read-only file system")
}
