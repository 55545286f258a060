package firewallcmd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
