package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/internal/testlog"
)

// newService is a message bus and a folder for firewalld.
func newService(t *testing.T, files map[string]string) *service {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("firewalld wants to be root")
	}
	s := &service{T: t, lab: newLab(t, "nft", "dbus-daemon"), dir: t.TempDir()}
	for name, text := range files {
		write(t, filepath.Join(s.dir, "firewalld"), map[string]string{name: text})
	}
	t.Cleanup(s.startBus())
	return s
}

// A start with many files takes its time. From the moment the daemon has its name on the bus until it serves, no packet is let in
// that the rules will not let in; and the service manager is told only when the rules are there.
func TestStartIsClosed(t *testing.T) {
	s := newService(t, slow())
	daemon, log, ready := s.begin()
	defer daemon.Process.Kill()
	served := make(chan error, 1)
	go func() { served <- ready() }()
	s.awaitName()
	for asked := 0; ; asked++ {
		select {
		case err := <-served:
			if err != nil {
				t.Fatalf("firewalld does not start: %v\n%s", err, log)
			}
			if asked == 0 {
				t.Error("the start was too quick to see what it lets in")
			}
			if !strings.Contains(table(t, s.lab.Firewall()), "filter_IN_public_allow") {
				t.Error("the rules are not there when the service manager is told")
			}
			if open := openPorts(t, s.lab, openPort); len(open) != 2 {
				t.Errorf("ssh is open %d times, want it with both families", len(open))
			}
			return
		default:
		}
		if open := openPorts(t, s.lab, closedPort); open != nil {
			t.Fatalf("ports %v are open during the start", open)
		}
	}
}

// A daemon that is killed in panic mode is in panic mode when it starts again, and so is one that was stopped; in between
// nothing passes either. This is so with both back ends.
func TestPanicOutlivesTheDaemon(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) { testPanicOutlivesTheDaemon(t, backend) })
	}
}

func testPanicOutlivesTheDaemon(t *testing.T, backend string) {
	s := newService(t, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n",
		"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`})
	daemon, _ := s.start()
	if err := s.call("enablePanicMode"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		daemon.Process.Signal(end)
		daemon.Wait()
		if open := openPorts(t, s.lab, openPort); open != nil {
			t.Errorf("after %v ports %v are open", end, open)
		}
		daemon, _ = s.start()
		if open := openPorts(t, s.lab, openPort); open != nil {
			t.Errorf("after %v and a start ports %v are open", end, open)
		}
		if raw, err := s.lab.Firewall().Run(t.Context(), "", "iptables", "-t", "raw", "-S"); strings.Contains(raw, "-P PREROUTING DROP") != (backend == "iptables") {
			t.Errorf("after %v and a start another back end is in use (%v):\n%s", end, err, raw)
		}
	}
	if err := s.call("disablePanicMode"); err != nil && !strings.Contains(err.Error(), "accepted, and not done yet") {
		t.Fatal(err)
	}
	eventually(t, "panic mode does not end", func() bool { return len(openPorts(t, s.lab, openPort)) == 2 })
	if open := openPorts(t, s.lab, openPort); len(open) != 2 {
		t.Errorf("without panic mode ssh is open %d times, want it with both families", len(open))
	}
	daemon.Process.Signal(unix.SIGTERM)
	daemon.Wait()
}

// slow is files of many rules, with which a start takes its time, and of a zone that lets in ssh.
func slow() map[string]string {
	files := map[string]string{"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`}
	for i := range 40 {
		var rules strings.Builder
		for k := range 600 {
			fmt.Fprintf(&rules, `<rule priority="%d" family="ipv4"><source address="10.%d.%d.0/28"/><port port="%d" protocol="tcp"/><accept/></rule>`, k+1, i, k%250, 1000+k)
		}
		files[fmt.Sprintf("zones/z%d.xml", i)] = fmt.Sprintf(`<zone><interface name="x%d"/>%s</zone>`, i, &rules)
	}
	return files
}

// A stop during a start ends it, and leaves nothing that drops packets behind.
func TestStopDuringStart(t *testing.T) {
	s := newService(t, map[string]string{"zones/public.xml": `<zone><interface name="c0"/></zone>`})
	daemon, log, _ := s.begin()
	s.awaitName()
	daemon.Process.Signal(unix.SIGTERM)
	if err := daemon.Wait(); err != nil {
		t.Errorf("the daemon ends with %v, and says\n%s", err, log)
	}
	if open := openPorts(t, s.lab, closedPort); len(open) != 2 {
		listing, _ := s.lab.Firewall().Run(t.Context(), "", "nft", "list", "ruleset")
		t.Errorf("port %d is open %d times after a stop, want it with both families:\n%s", closedPort, len(open), listing)
	}
}

// A stop during a start does what a stop does: with CleanupOnExit=yes neither the rules of an earlier process stay nor what stands
// until the first ones are there. With CleanupOnExit=no either stays, and so it does where firewalld.conf cannot be read.
func TestBrokenOffStarts(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		for _, earlier := range []bool{false, true} {
			for _, cleanup := range []string{"yes", "no", "unknown"} {
				t.Run(fmt.Sprintf("%s-%v-%s", backend, earlier, cleanup), func(t *testing.T) {
					s := newService(t, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n",
						"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`,
						"direct.xml":       `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
					if earlier {
						daemon, _ := s.start()
						daemon.Process.Kill()
						daemon.Wait()
					}
					conf := filepath.Join(s.dir, "firewalld", "firewalld.conf")
					write(t, filepath.Join(s.dir, "firewalld"), slow())
					write(t, filepath.Dir(conf), map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\nCleanupOnExit=" + cleanup + "\n"})
					if cleanup == "unknown" {
						if err := errors.Join(os.Remove(conf), unix.Mkfifo(conf, 0o600)); err != nil {
							t.Fatal(err)
						}
					}
					daemon, log, _ := s.begin()
					s.awaitName()
					daemon.Process.Signal(unix.SIGTERM)
					if err := daemon.Wait(); err != nil {
						t.Errorf("the daemon ends with %v, and says\n%s", err, log)
					}
					if said := strings.Contains(log.String(), "was broken off: what keeps packets out stays"); said == (cleanup == "yes") {
						t.Errorf("the log says\n%s", log)
					}
					if bridged := arpDropped(t, s.lab.Firewall()); bridged != (earlier && cleanup != "yes") {
						t.Errorf("the rule for bridges is there: %v", bridged)
					}
					ssh, other := len(openPorts(t, s.lab, openPort)) > 0, len(openPorts(t, s.lab, closedPort)) > 0
					if open := cleanup == "yes"; ssh != (open || earlier) || other != open {
						t.Errorf("ssh is open: %v; another port is: %v", ssh, other)
					}
				})
			}
		}
	}
}

// arpDropped tells whether ebtables has the rule of the test.
func arpDropped(t *testing.T, ns *lab.Namespace) bool {
	t.Helper()
	text, err := ns.Run(t.Context(), "", "ebtables-save")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(text, " -p ARP -j DROP\n")
}

// The rules of an earlier process are gone but for those for bridges, so that what lets in nothing new stands in their place. A stop during
// the start, with CleanupOnExit=yes, takes out those for bridges all the same.
func TestBrokenOffStartWithBridgeRulesAlone(t *testing.T) {
	s := newService(t, slow())
	write(t, filepath.Join(s.dir, "firewalld"), map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
	daemon, _ := s.start()
	daemon.Process.Kill()
	daemon.Wait()
	if _, err := s.lab.Firewall().Run(t.Context(), "", "nft", "delete", "table", "inet", "firewalld"); err != nil || !arpDropped(t, s.lab.Firewall()) {
		t.Fatalf("only the rule for bridges should be there: %v", err)
	}
	daemon, log, _ := s.begin()
	s.awaitName()
	daemon.Process.Signal(unix.SIGTERM)
	if err := daemon.Wait(); err != nil {
		t.Errorf("the daemon ends with %v, and says\n%s", err, log)
	}
	if arpDropped(t, s.lab.Firewall()) {
		t.Error("the rule for bridges stays")
	}
}

// While another program owns the table, the first rules of a start wait, and the rules for bridges of the earlier process stay in force.
func TestBridgeRulesWhileTheTableIsAnothers(t *testing.T) {
	s := newService(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
	daemon, _ := s.start()
	daemon.Process.Kill()
	daemon.Wait()
	owner, err := kernel.New(kernel.Options{Backend: ir.NFTables, Enter: s.lab.Firewall().Do})
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Commit(t.Context(), &kernel.Desired{Rules: &ir.Ruleset{Backend: ir.NFTables, Owner: true}}); err != nil {
		t.Fatal(err)
	}
	daemon, log, ready := s.begin()
	if err := ready(); err != nil {
		t.Fatalf("firewalld does not start: %v\n%s", err, log)
	}
	stays := arpDropped(t, s.lab.Firewall())
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	daemon.Process.Signal(unix.SIGTERM)
	daemon.Wait()
	if !stays {
		t.Errorf("the rule for bridges has gone; the log says\n%s", log)
	}
	if !strings.Contains(log.String(), "cannot be put into the kernel now") {
		t.Errorf("the rules did not have to wait; the log says\n%s", log)
	}
	if arpDropped(t, s.lab.Firewall()) {
		t.Errorf("the rule for bridges stays behind a stop; the log says\n%s", log)
	}
}

// When another firewall takes the name on the bus while the daemon still starts, the daemon ends as it does later on: with the status for
// that, and without a guard that would drop what the other one lets in.
func TestTakenOverDuringStart(t *testing.T) {
	files := map[string]string{"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`}
	for i := range 40 {
		var rules strings.Builder
		for k := range 600 {
			fmt.Fprintf(&rules, `<rule priority="%d" family="ipv4"><source address="10.%d.%d.0/28"/><port port="%d" protocol="tcp"/><accept/></rule>`, k+1, i, k%250, 1000+k)
		}
		files[fmt.Sprintf("zones/z%d.xml", i)] = fmt.Sprintf(`<zone><interface name="x%d"/>%s</zone>`, i, &rules)
	}
	s := &service{T: t, lab: newLab(t, "nft", "dbus-daemon"), dir: t.TempDir()}
	write(t, filepath.Join(s.dir, "firewalld"), files)
	stop := s.startBus()
	daemon, log, _ := s.begin()
	defer daemon.Process.Kill()
	s.awaitName()
	s.takenOver(daemon, log, stop)
}

// takenOver has another firewall take the name of a daemon, and checks how the daemon ends. stop stops the bus.
func (s *service) takenOver(daemon *exec.Cmd, log *testlog.Log, stop func()) {
	s.Helper()
	daemon.Process.Signal(unix.SIGSTOP) // while the bus goes and comes back, with the name in another's hands
	stop()
	s.Cleanup(s.startBus())
	other, err := dbus.Connect("unix:path=" + filepath.Join(s.dir, "bus"))
	if err != nil {
		s.Fatal(err)
	}
	defer other.Close()
	if _, err := other.RequestName("org.fedoraproject.FirewallD1", dbus.NameFlagDoNotQueue); err != nil {
		s.Fatal(err)
	}
	daemon.Process.Signal(unix.SIGCONT)
	daemon.Wait()
	if status := daemon.ProcessState.ExitCode(); status != 1 {
		s.Errorf("the daemon ends with status %d, and says\n%s", status, log)
	}
	if guards(s.T, s.lab.Firewall()) {
		s.Errorf("the guard stays; the log says\n%s", log)
	}
}

// The same goes for a daemon that has started, and whose rules are not in the kernel yet.
func TestTakenOverWhileNoRulesAreThere(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			s := &service{T: t, lab: newLab(t, "nft", "iptables", "ip6tables", "dbus-daemon"), dir: t.TempDir()}
			write(t, filepath.Join(s.dir, "firewalld"), map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n",
				"direct.xml": `<direct><rule ipv="ipv6" table="filter" chain="INPUT" priority="0">-p tcp --dport 99 -j DROP</rule></direct>`})
			stop := s.startBus()
			withoutIP6tables(t)
			daemon, log := s.start()
			defer daemon.Process.Kill()
			if !guards(t, s.lab.Firewall()) {
				t.Fatalf("the guard does not stand; the log says\n%s", log)
			}
			s.takenOver(daemon, log, stop)
		})
	}
}

// A daemon that was killed, or stopped with CleanupOnExit=no, and is started again has in the kernel what its first start has put there,
// byte for byte: with both back ends, and in panic mode.
func TestStartedAgainIsAsStartedOnce(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		for _, panicked := range []bool{false, true} {
			t.Run(fmt.Sprint(backend, panicked), func(t *testing.T) { testStartedAgain(t, backend, panicked) })
		}
	}
}

func testStartedAgain(t *testing.T, backend string, panicked bool) {
	s := newService(t, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\nCleanupOnExit=no\nLogDenied=all\nRFC3964_IPv4=yes\nStrictForwardPorts=yes\nIPv6_rpfilter=strict\n",
		"richwall.conf": "RuleFolding=yes\n",
		"zones/work.xml": `<zone><interface name="c0"/><source address="198.51.100.0/24"/><service name="ftp"/><port port="80" protocol="tcp"/><port port="81" protocol="tcp"/><masquerade/>` +
			`<forward-port port="82" protocol="tcp" to-addr="192.0.2.9"/><rule><tcp-mss-clamp value="1300"/></rule><rule priority="-5"><port port="99" protocol="udp"/><mark set="5"/></rule></zone>`,
		"zones/bad.xml":              `<zone target="DROP"><source ipset="listed"/><rule><tcp-mss-clamp value="1200"/></rule></zone>`,
		"ipsets/listed.xml":          `<ipset type="hash:ip"><entry>203.0.113.1</entry></ipset>`,
		"policies/averylongname.xml": `<policy target="REJECT"><ingress-zone name="work"/><egress-zone name="HOST"/><rule><tcp-mss-clamp value="1250"/></rule></policy>`,
		"direct.xml": `<direct><chain ipv="ipv4" table="nat" chain="mine"/><rule ipv="ipv4" table="nat" chain="PREROUTING" priority="1">-p udp -j mine</rule>` +
			`<rule ipv="ipv6" table="filter" chain="FORWARD" priority="0">-s fd00::2 -j ACCEPT</rule><passthrough ipv="ipv4">-I INPUT -p tcp --dport 83 -j ACCEPT</passthrough>` +
			`<rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
	inKernel := func() string {
		bridges, err := s.lab.Firewall().Run(t.Context(), "", "ebtables-save")
		if err != nil {
			t.Fatal(err)
		}
		text := saved(t, s.lab) + noise.ReplaceAllString(bridges, "")
		if backend == "nftables" {
			text += table(t, s.lab.Firewall())
		}
		return text
	}
	daemon, log := s.start()
	if panicked {
		if err := s.call("enablePanicMode"); err != nil {
			t.Fatal(err)
		}
	}
	want := inKernel()
	for deadline := time.Now().Add(time.Minute); panicked && backend == "iptables" && strings.Count(want, " DROP \n") < 26; want = inKernel() {
		if time.Now().After(deadline) { // until it is committed the table of DropAll drops all; nat has no such policies
			t.Fatalf("panic mode is not in all tables:\n%s", want)
		}
	}
	if strings.Count(want, "-p ARP -j DROP") != 1 || !strings.Contains(want, "FORWARD_mss") {
		t.Fatalf("there is\n%s\nand the log says\n%s", want, log)
	}
	for _, end := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGKILL} {
		daemon.Process.Signal(end)
		daemon.Wait()
		daemon, log = s.start()
		if line := difference(want, inKernel()); line != "" {
			t.Errorf("after %v and a start, %s; the log says\n%s", end, line, log)
		}
	}
	daemon.Process.Kill()
	daemon.Wait()
}

// A stop while a reload waits for ebtables gives that up: the rules go as at any other time, those for bridges, too.
func TestStopWhileEbtablesDoesNotAnswer(t *testing.T) {
	path, err := exec.LookPath("ebtables-save")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	link, hangs, begun := filepath.Join(dir, "real", "ebtables-save"), filepath.Join(dir, "hangs"), filepath.Join(dir, "begun")
	if err := errors.Join(os.Mkdir(filepath.Dir(link), 0o755), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"ebtables-save": fmt.Sprintf("#!/bin/sh\nif rm %s 2>/dev/null; then echo >%s; exec sleep 60; fi\nexec %s \"$@\"\n", hangs, begun, link)})
	if err := os.Chmod(filepath.Join(dir, "ebtables-save"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s := newService(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
	daemon, log := s.start()
	if !arpDropped(t, s.lab.Firewall()) {
		t.Fatal("the rule for bridges is not there")
	}
	write(t, dir, map[string]string{"hangs": ""})
	daemon.Process.Signal(unix.SIGHUP)
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the reload does not ask ebtables; the log says\n%s", log)
		}
	}
	daemon.Process.Signal(unix.SIGTERM)
	daemon.Wait()
	if arpDropped(t, s.lab.Firewall()) {
		t.Errorf("the rule for bridges stays; the log says\n%s", log)
	}
}
