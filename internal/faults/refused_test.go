package faults

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/internal/daemon"
	"richwall/internal/testlog"
)

// A daemon is started again, on a machine with iptables-legacy, after a direct rule was written into direct.xml that the kernel takes
// from nobody. Without a last good configuration the rule costs itself alone: what is not let in is not let in then either, with IPv4 and
// with IPv6, and the log and the state name the line.
func TestRefusedDirectRule(t *testing.T) {
	programs := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, rest := range []string{"", "-save", "-restore"} {
			if err := os.Symlink("/usr/sbin/"+name+"-legacy"+rest, filepath.Join(programs, name+rest)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(programs, "lock"))
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			l, dir := newLab(t, "iptables-legacy", "ip6tables-legacy", "ipset"), t.TempDir()
			write(t, dir, map[string]string{
				"firewalld.conf":   "FirewallBackend=" + backend + "\nCleanupOnExit=no\n",
				"zones/public.xml": `<zone><interface name="c0"/><port port="80-81" protocol="tcp"/></zone>`,
				"direct.xml":       `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 81 -j DROP</rule></direct>`,
			})
			for _, bad := range []string{"", `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 81 -j DROP</rule>
<rule ipv="ipv6" table="filter" chain="INPUT" priority="0">-p tcp --dport 80 -j MASQUERADE</rule></direct>`} {
				if bad != "" {
					write(t, dir, map[string]string{"direct.xml": bad})
				}
				var log testlog.Log
				d := newDaemon(dir, nil, l.Firewall().Do, slog.New(slog.NewTextHandler(&log, nil)))
				if err := d.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if s := d.Snapshot(); (s.State == daemon.Running) != (bad == "") || strings.Contains(strings.Join(s.Failures, "\n"), "direct.xml:2: ") != (bad != "") {
					t.Errorf("the state is %v: %v", s.State, s.Failures)
				}
				if got, want := openPorts(t, l, 79, 80, 81), []int{80, 80, 81}; !slices.Equal(got, want) { // 81 by IPv6 alone
					t.Errorf("open are %v, want %v", got, want)
				}
				if said := strings.Contains(log.String(), "direct.xml:2: "); said != (bad != "") {
					t.Errorf("the log names the line: %v\n%s", said, &log)
				}
				if err := d.Stop(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
