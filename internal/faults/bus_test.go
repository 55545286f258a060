package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"richwall/internal/cli/firewalldcmd"
	"richwall/internal/lab"
	"richwall/internal/testlog"
)

// program is firewalld itself, over a folder. Its end may take longer than that of firewalld, as the machine is busy with other tests.
func program() {
	firewalldcmd.StopTime, firewalldcmd.ConfTime = 30*time.Second, 3*time.Second
	os.Exit(firewalldcmd.Main(os.Args[1:], os.Stdout, os.Stderr))
}

// options are those of firewalld over a folder.
func options(folder string) []string {
	return []string{"--nofork", "--nopid", "--log-target=console", "--default-config=/nonexistent",
		"--system-config=" + folder, "--state-dir=" + folder + ".state"}
}

const busConfig = `<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
`

// service is a message bus and firewalld on it.
type service struct {
	*testing.T
	lab     *lab.Lab
	dir     string
	command []string // what starts firewalld, without its options; nil is the program of the tests
}

// startBus starts the bus, always at the same address, and returns what stops it.
func (s *service) startBus() (stop func()) {
	s.Helper()
	config := filepath.Join(s.dir, "bus.conf")
	write(s.T, s.dir, map[string]string{"bus.conf": strings.ReplaceAll(busConfig, "SOCKET", filepath.Join(s.dir, "bus"))})
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 500)); n == 0 {
		s.Fatalf("the bus does not start: %v", err)
	}
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.Remove(filepath.Join(s.dir, "bus"))
	}
}

// start starts firewalld and waits until it says that it serves.
func (s *service) start() (cmd *exec.Cmd, log *testlog.Log) {
	s.Helper()
	cmd, log, ready := s.begin()
	if err := ready(); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		s.Fatalf("firewalld does not start: %v\n%s", err, log)
	}
	return cmd, log
}

// begin starts firewalld. ready waits until it says that it serves.
func (s *service) begin() (cmd *exec.Cmd, log *testlog.Log, ready func() error) {
	s.Helper()
	notify := filepath.Join(s.dir, "notify")
	os.Remove(notify)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { socket.Close() })
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Minute) // one that hangs is killed
	s.Cleanup(cancel)
	words := slices.Concat(s.command, options(filepath.Join(s.dir, "firewalld")))
	if s.command == nil {
		words = append([]string{self}, words...)
	}
	cmd, log = exec.CommandContext(ctx, words[0], words[1:]...), &testlog.Log{}
	cmd.Env = append(os.Environ(), roleVariable+"=firewalld", "NOTIFY_SOCKET="+notify,
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(s.dir, "bus"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := s.lab.Firewall().Do(cmd.Start); err != nil {
		s.Fatal(err)
	}
	return cmd, log, func() error {
		message := make([]byte, 100)
		socket.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := socket.Read(message)
		if err == nil && !strings.HasPrefix(string(message[:n]), "READY=1") {
			err = fmt.Errorf("it says %q", message[:n])
		}
		return err
	}
}

// When the message bus goes away the daemon and its rules stay; when the bus is back so is the daemon, and ends as usual. One
// that starts and finds no bus touches nothing.
func TestBusGoneAndBack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("firewalld wants to be root")
	}
	l := newLab(t, "nft", "dbus-daemon")
	s := &service{T: t, lab: l, dir: t.TempDir()}
	write(t, s.dir, map[string]string{"firewalld/zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/></zone>`})
	stopBus := s.startBus()
	daemon, log := s.start()
	whole := table(t, l.Firewall())
	stopBus()
	check := func(when string) {
		t.Helper()
		if d := tableDifference(whole, table(t, l.Firewall())); d != "" || openPorts(t, l, closedPort) != nil {
			t.Errorf("%s the rules are not what they were: %s", when, d)
		}
	}
	check("without a bus")
	self, _ := os.Executable()
	lost := exec.CommandContext(t.Context(), self, options(filepath.Join(s.dir, "firewalld"))...)
	lost.Env = append(os.Environ(), roleVariable+"=firewalld", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(s.dir, "bus"))
	if err := l.Firewall().Do(lost.Run); err == nil {
		t.Error("a daemon starts without a bus")
	}
	check("after a start without a bus")
	stopBus = s.startBus()
	defer stopBus()
	s.awaitName()
	check("when the bus is back")
	daemon.Process.Signal(unix.SIGTERM)
	if err := daemon.Wait(); err != nil || !strings.Contains(log.String(), "the message bus is gone") {
		t.Errorf("the daemon ends with %v, and says\n%s", err, log)
	}
}

// awaitName waits until a daemon has its name on the bus.
func (s *service) awaitName() {
	s.Helper()
	conn, err := dbus.Connect("unix:path=" + filepath.Join(s.dir, "bus"))
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		var has bool
		if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.fedoraproject.FirewallD1").Store(&has); err != nil {
			s.Fatal(err)
		}
		if has {
			return
		}
		if time.Now().After(deadline) {
			s.Fatal("the daemon does not come back")
		}
	}
}

// call calls a method of the daemon without arguments, and waits for the answer.
func (s *service) call(method string) error {
	s.Helper()
	conn, err := dbus.Connect("unix:path=" + filepath.Join(s.dir, "bus"))
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	const name = "org.fedoraproject.FirewallD1"
	return conn.Object(name, "/org/fedoraproject/FirewallD1").Call(name+"."+method, 0).Err
}
