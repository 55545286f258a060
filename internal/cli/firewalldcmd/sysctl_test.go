package firewalldcmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A setting is a file whose folders are the parts of its name.
func TestSysctl(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "net/ipv4/ip_no_pmtu_disc")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ value, was string }{{"", "0"}, {"1", "0"}, {"1", "1"}, {"0", "1"}, {"", "0"}} {
		if was, err := sysctl(dir, "net.ipv4.ip_no_pmtu_disc", step.value); err != nil || was != step.was {
			t.Errorf("set to %q it was %q, want %q; %v", step.value, was, step.was, err)
		}
	}
	if _, err := sysctl(dir, "net.ipv4.ip_forward", "1"); err == nil || !strings.Contains(err.Error(), "net.ipv4.ip_forward") {
		t.Errorf("a setting that is not there: %v", err)
	}
}
