package firewallcmd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A command that only reads takes nothing back of a change of several files that was cut off: it fails and names the file that tells of
// it. The next command that changes something takes it back first.
func TestReadingTakesNothingBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	zone, journal := filepath.Join(dir, "zones/home.xml"), filepath.Join(dir, ".unfinished-change")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(zone), 0o755); err != nil {
		t.Fatal(err)
	}
	inode := func(path string) uint64 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	write(zone, "<zone/>")
	write(journal, "")
	write(journal, fmt.Sprintf(`{"Folder":%d,"Journal":%d}`+"\n"+`{"Path":"zones/home.xml","Exists":false}`+"\n", inode(dir), inode(journal)))
	offline := func(arg string) (status int, text string) {
		var out bytes.Buffer
		status = Offline([]string{"--system-config", dir, "--default-config", dir + "/none", arg}, strings.NewReader(""), &out, &out)
		return status, out.String()
	}
	for _, arg := range []string{"--check-config", "--list-all", "--list-all-zones", "--get-default-zone", "--get-zones", "--query-port=80/tcp", "--info-zone=home",
		"--get-log-denied", "--version", "--help"} {
		status, text := offline(arg)
		if about := arg == "--version" || arg == "--help"; about != (status == 0) || !about && !strings.Contains(text, journal) {
			t.Errorf("%s: the status is %d:\n%s", arg, status, text)
		}
		_, err := os.Lstat(journal)
		_, err2 := os.Lstat(zone)
		if err != nil || err2 != nil {
			t.Fatalf("%s has taken something back: %v, %v", arg, err, err2)
		}
	}
	if status, text := offline("--add-port=80/tcp"); status != 0 || !strings.Contains(text, "is taken back") {
		t.Errorf("the status of a change is %d:\n%s", status, text)
	}
	if _, err := os.Lstat(zone); err == nil {
		t.Error("a change has not taken back what was cut off")
	}
}
