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

// A file that somebody else changes between being read and written, such as the daemon, is not written over.
func TestOfflineBesideAnotherWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "zones/vpn.xml")
	others := []byte("<zone><service name=\"ssh\"/></zone>\n")
	for _, edit := range []zones.Edit{
		zones.Add(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: "vpn"}, zones.Item{Key: zones.KeyPort, Args: []string{"22", "tcp"}}),
		zones.Delete(zones.Object{Kind: zones.KindZone, Name: "vpn"}),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("<zone/>\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, problems := openFiles(dir, "", true)
		if f == nil {
			t.Fatal(problems)
		}
		if err := os.WriteFile(path, others, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.apply(edit); err == nil || !strings.Contains(err.Error(), "somebody else has changed it") {
			t.Errorf("the change ends with %v", err)
		}
		if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, others) {
			t.Errorf("the file holds %q, %v", data, err)
		}
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
