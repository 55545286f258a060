package firewallcmd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"richwall/zones"
)

// Several calls of firewall-offline-cmd at once lose nothing of each other: each reads what the ones before it have written.
func TestOfflineAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "zones/vpn.xml"), []byte("<zone/>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const calls = 16
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			var out bytes.Buffer
			if status := Offline([]string{"--system-config", dir, "--zone=vpn", fmt.Sprintf("--add-port=%d/tcp", 5000+2*i)}, strings.NewReader(""), &out, &out); status != 0 {
				t.Errorf("call %d ends with %d: %s", i, status, &out)
			}
		})
	}
	all.Wait()
	if data, err := os.ReadFile(filepath.Join(dir, "zones/vpn.xml")); err != nil || bytes.Count(data, []byte("<port ")) != calls {
		t.Errorf("of %d ports the file has\n%s%v", calls, data, err)
	}
}

// A file that somebody else changes, makes or takes away between being read and written, such as the daemon, is not written over.
func TestOfflineBesideAnotherWriter(t *testing.T) {
	vpn, public := zones.Object{Kind: zones.KindZone, Name: "vpn"}, zones.Object{Kind: zones.KindZone, Name: "public"}
	port := zones.Item{Key: zones.KeyPort, Args: []string{"22", "tcp"}}
	const before, others = "<zone/>\n", "<zone><service name=\"ssh\"/></zone>\n"
	for what, c := range map[string]struct {
		edit           zones.Edit
		file           string
		before, others string // what it holds; "" is that it is not there
	}{
		"a change of a zone that was changed":         {zones.Add(zones.Permanent, vpn, port), "zones/vpn.xml", before, others},
		"a change of a zone that was deleted":         {zones.Add(zones.Permanent, vpn, port), "zones/vpn.xml", before, ""},
		"a deletion of a zone that was changed":       {zones.Delete(vpn), "zones/vpn.xml", before, others},
		"a change of a shipped zone that was changed": {zones.Add(zones.Permanent, public, port), "zones/public.xml", "", others},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.file)
		write := func(text string) {
			t.Helper()
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			os.Remove(path)
			if text == "" {
				return
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write(c.before)
		f, problems := openFiles(dir, "", true)
		if f == nil {
			t.Fatal(problems)
		}
		write(c.others)
		if err := f.apply(c.edit); err == nil || !strings.Contains(err.Error(), "somebody else has changed it") {
			t.Errorf("%s ends with %v", what, err)
		}
		if data, err := os.ReadFile(path); string(data) != c.others || (c.others != "") != (err == nil) {
			t.Errorf("%s: the file holds %q, %v", what, data, err)
		}
	}
}

// Nobody but who owns the folder keeps firewall-offline-cmd from changing it, whoever may read it; and it leaves nothing behind.
func TestOfflineBesideAReader(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil { // all that a reader can lock
		t.Fatal(err)
	}
	store := zones.Store{Dirs: zones.Dirs{System: dir}}
	unlock, err := store.Lock(0)
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("in the locked folder there is %v, %v", list, err)
	}
	if info, err := list[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("the lock is a file of mode %v, %v", info.Mode(), err)
	}
	if empty, err := zones.EmptyFolder(dir); err != nil || !empty {
		t.Errorf("a folder that holds a lock alone is empty: %v, %v", empty, err)
	}
	if _, err := store.Lock(0); err == nil {
		t.Error("the folder is locked twice")
	}
	unlock()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("behind it there is %v, %v", list, err)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A listing that cannot be written is no success: a script that keeps it would take it for the whole.
func TestListingOnAFullDisk(t *testing.T) {
	for _, args := range [][]string{{"--list-all-zones"}, {"--list-all-zones", "--json"}, {"--get-services"}, {"--zone=public", "--query-service=ssh"}} {
		var errors bytes.Buffer
		status := Offline(append([]string{"--system-config", t.TempDir()}, args...), strings.NewReader(""), full{}, &errors)
		if status == 0 || !strings.Contains(errors.String(), "no space left") {
			t.Errorf("%q ends with %d and says %q", args, status, &errors)
		}
	}
}

// What is wrong with files is a line each, whatever they are called: a name cannot make a line of its own.
func TestLineBreakInAFileName(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"zones/work.xml": `<zone><interface name="wg0"/></zone>`, "zones/a\nERROR: forged.xml": `<zone><interface name="wg0"/><port/></zone>`} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"--check-config"}, {"--get-zones"}, {"--zone=work", "--add-port=1/tcp"}} {
		var out bytes.Buffer
		Offline(append([]string{"--system-config", dir}, args...), strings.NewReader(""), &out, &out)
		if said := out.String(); !strings.Contains(said, `a\nERROR: forged`) || strings.Contains(said, "\nERROR: forged") {
			t.Errorf("%q says\n%s", args, said)
		}
	}
}

// An empty name, such as of a variable that a script has not set, and a file of entries that cannot be read are errors: nothing was done.
func TestNothingToDoIsNoSuccess(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--set-default-zone="}, 2, "No option specified."}, {[]string{"--info-zone="}, 2, "No option specified."},
		{[]string{"--path-service="}, 2, "No option specified."}, {[]string{"--delete-zone="}, 2, "No option specified."},
		{[]string{"--new-ipset=x", "--type=hash:ip"}, 0, "success"},
		{[]string{"--ipset=x", "--add-entries-from-file=" + filepath.Join(dir, "none")}, 254, "no such file"},
		{[]string{"--ipset=x", "--remove-entries-from-file=" + filepath.Join(dir, "none")}, 254, "no such file"},
	} {
		var out bytes.Buffer
		status := Offline(append([]string{"--system-config", dir}, c.args...), strings.NewReader(""), &out, &out)
		if status != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q ends with %d and says %q, want %d and %q", c.args, status, &out, c.status, c.says)
		}
	}
}
