package firewallcmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/internal/statedir"
	"richwall/zones"
)

// firewall-offline-cmd changes no files that the daemon would take for lost at its next start: the change would make what is left look as if
// it was meant so. It says what the daemon would say, and so does its --check-config. Where no daemon has ever used the folder, as in an image, nothing is lost.
func TestNoOfflineChangeOfLostFiles(t *testing.T) {
	files := map[string]string{"firewalld.conf": "DefaultZone=drop\nStrictForwardPorts=yes\n", "zones/mine.xml": `<zone/>`}
	for name, c := range map[string]struct {
		lose func(dir string) error
		says string
	}{
		"nothing is lost":           {func(string) error { return nil }, ""},
		"the folder is gone":        {os.RemoveAll, "is not there"},
		"the folder is empty":       {emptied, "holds no file"},
		"firewalld.conf is gone":    {func(dir string) error { return os.Remove(filepath.Join(dir, "firewalld.conf")) }, "DefaultZone=public"},
		"firewalld.conf is emptied": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "firewalld.conf"), nil, 0o600) }, "DefaultZone=public"},
	} {
		for _, order := range [][]string{{"--set-log-denied=all"}, {"--set-default-zone=work"}, {"--zone=public", "--add-port=1/tcp"}, {"--new-zone=other"}, {"--port=2:tcp"}, {"--check-config"}} {
			for _, used := range []bool{false, true} {
				dir := filepath.Join(t.TempDir(), "etc")
				base := t.TempDir()
				t.Setenv("STATE_DIRECTORY", base)
				for name, text := range files {
					path := filepath.Join(dir, name)
					if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if used {
					keepAsGood(t, base, dir)
				}
				if err := c.lose(dir); err != nil {
					t.Fatal(err)
				}
				offline := func(args ...string) (int, string) {
					var out bytes.Buffer
					status := Offline(append([]string{"--system-config", dir, "--default-config", filepath.Join(dir, "none")}, args...), strings.NewReader(""), &out, &out)
					return status, out.String()
				}
				before, _ := os.ReadDir(dir)
				status, said := offline(order...)
				refused := used && c.says != ""
				if refused != (status != 0) || refused && !strings.Contains(said, c.says) {
					t.Errorf("%s, and the folder was used: %v; %q ends with %d and says %q, want %q", name, used, order, status, said, c.says)
				}
				if after, _ := os.ReadDir(dir); refused && len(after) != len(before) {
					t.Errorf("%s: %q has written %v", name, order, after)
				}
				if status, said := offline("--reset-to-defaults"); status != 0 {
					t.Errorf("%s: --reset-to-defaults ends with %d and says %q", name, status, said)
				}
				if status, said := offline(order...); status != 0 {
					t.Errorf("%s: behind --reset-to-defaults, %q ends with %d and says %q", name, order, status, said)
				}
			}
		}
	}
}

func emptied(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o750)
}

// keepAsGood notes a folder's configuration as the last good one, as the daemon does.
func keepAsGood(t *testing.T, base, dir string) {
	t.Helper()
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	state, err := statedir.For(base, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Keep(zones.Export(cfg), time.Now()); err != nil {
		t.Fatal(err)
	}
}
