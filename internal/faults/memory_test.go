package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// dataLimit is what a container or LimitDATA= may leave to the daemon, in KiB as "ulimit -d" takes it.
const dataLimit = 102400

// dataRoom is what must be left of that, in KiB: the most that was seen on a busy machine left twice as much.
const dataRoom = dataLimit / 20

// build makes firewalld as it is installed: the program of the tests has more data of its own.
func build(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "firewalld")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "richwall/cmd/firewalld")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build firewalld: %v\n%s", err, out)
	}
	return program
}

// A configuration with an ipset of 100,000 entries and a zone of 5,000 rich rules lives within 100 MB of data memory, with both back
// ends, and leaves some: it starts, takes runtime and permanent changes of the ipset and of the zone, and is reloaded. A list that is too large for that
// is refused, and the daemon goes on with what it has.
func TestLittleMemory(t *testing.T) {
	if missing := lab.Missing("nft", "iptables", "ipset", "dbus-daemon"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	program := build(t)
	for _, tt := range []struct {
		backend, typ string
		entry        func(n int) string
	}{
		{"nftables", "hash:ip", func(n int) string { return fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255) }},
		{"iptables", "hash:net", func(n int) string { return fmt.Sprintf("%d.%d.%d.0/24", 20+n%70, n/70>>8, n/70&255) }},
	} {
		t.Run(tt.backend, func(t *testing.T) {
			var set, zone strings.Builder
			fmt.Fprintf(&set, "<ipset type=%q>\n<option name=\"maxelem\" value=\"1000000\"/>\n", tt.typ)
			for n := range 100_000 {
				fmt.Fprintf(&set, "<entry>%s</entry>\n", tt.entry(n+1))
			}
			zone.WriteString("<zone>\n")
			for n := range 5000 {
				fmt.Fprintf(&zone, `<rule family="ipv4"><source address="172.16.%d.%d"/><port port="%d" protocol="tcp"/><accept/></rule>`+"\n", n>>8, n&255, n+1)
			}
			s := newService(t, map[string]string{
				"ipsets/block.xml": set.String() + "</ipset>\n", "zones/public.xml": zone.String() + "</zone>\n",
				"firewalld.conf": "FirewallBackend=" + tt.backend + "\n",
			})
			s.command = []string{"sh", "-c", fmt.Sprintf(`ulimit -d %d && exec "$0" "$@"`, dataLimit), program}
			daemon, log := s.start()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the daemon says\n%s", log)
				}
			})
			s.livesWith(tt.entry, func(step string) {
				t.Logf("%6d of %d KiB of data memory after %s", dataMemory(t, daemon.Process.Pid), dataLimit, step)
			})
			if most := dataMemory(t, daemon.Process.Pid); most > dataLimit-dataRoom {
				t.Errorf("the daemon has needed %d KiB of data memory, and may have %d: that leaves less than %d", most, dataLimit, dataRoom)
			}
			daemon.Process.Signal(unix.SIGTERM)
			if err := daemon.Wait(); err != nil {
				t.Errorf("the daemon ends with %v", err)
			}
		})
	}
}

// dataMemory is how much data memory a process has, in KiB (VmData in proc_pid_status(5)). Go gives the address space of its heap never
// back, so that this is the most that the process ever had.
func dataMemory(t *testing.T, pid int) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nVmData:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("it is not known how much data memory the daemon has: %v\n%s", err, status)
	}
	return kib
}

// livesWith makes changes of the ipset and the zone, and then one that is too large. It calls a function after each step.
func (s *service) livesWith(entry func(n int) string, done func(step string)) {
	s.Helper()
	conn, err := dbus.Connect("unix:path=" + filepath.Join(s.dir, "bus"))
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	const name, path = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
	call := func(object dbus.ObjectPath, method string, args ...any) *dbus.Call {
		return conn.Object(name, object).Call(name+"."+method, 0, args...)
	}
	must := func(c *dbus.Call, result ...any) {
		s.Helper()
		if err := c.Store(result...); err != nil {
			s.Fatalf("%s: %v", c.Method, err)
		}
	}
	var set, zone dbus.ObjectPath
	must(call(path+"/config", "config.getIPSetByName", "block"), &set)
	must(call(path+"/config", "config.getZoneByName", "public"), &zone)
	done("the start")
	var entries []string
	for n := range 2 {
		must(call(path, "zone.addPort", "public", fmt.Sprint(6000+n), "tcp", 0), new(string))
		done("a port more in force")
		must(call(set, "config.ipset.getEntries"), &entries)
		done("a reading of all entries")
		must(call(set, "config.ipset.setEntries", append(entries, entry(200_000+n))))
		done("a setting of all entries")
		must(call(set, "config.ipset.removeEntry", entries[50_000]))
		done("an entry less in the file")
		must(call(zone, "config.zone.addPort", fmt.Sprint(7000+n), "tcp"))
		done("a port more in the file")
		must(call(path, "reload"))
		done("a reload")
	}
	must(call(path, "ipset.getEntries", "block"), &entries)
	done("a reading of the set in force")
	if len(entries) != 100_000 || entries[len(entries)-1] != entry(200_001) {
		s.Errorf("the set has %d entries, the last %s", len(entries), entries[len(entries)-1])
	}
	for n := range 400_000 {
		entries = append(entries, entry(300_000+n))
	}
	if err := call(set, "config.ipset.setEntries", entries).Err; err == nil || !strings.Contains(err.Error(), "ulimit -d") {
		s.Errorf("a list of %d entries gets the error %v", len(entries), err)
	}
	done("the refusal of a list that is too large")
	must(call(path, "zone.addPort", "public", "8000", "tcp", 0), new(string))
	must(call(path, "reload"))
	done("all of it")
}
