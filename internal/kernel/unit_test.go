package kernel

import (
	"os"
	"regexp"
	"testing"
)

// What keeps the daemon from its work is named: who has locked the tables of iptables, and who owns a table. The daemon reads
// that in /proc, so that the service must show it processes with more capabilities than its own, which ProtectProc= hides, and
// /proc/locks, which ProcSubset=pid hides (systemd.exec(5)).
func TestServiceShowsOtherProcesses(t *testing.T) {
	unit, err := os.ReadFile("../../packaging/firewalld.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^(ProtectProc|ProcSubset)=.*`).FindAllString(string(unit), -1) {
		if line != "ProtectProc=default" && line != "ProcSubset=all" {
			t.Errorf("the service has %s", line)
		}
	}
}
