package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// What firewalld has on the bus.
const (
	busName = "org.fedoraproject.FirewallD1"
	busPath = "/org/fedoraproject/FirewallD1"
)

// longest is how long any one step may take: far longer than the slowest one measured, so that nothing hangs.
const longest = 10 * time.Minute

// settings are the same for all. Without an owner the table does not depend on what the machine's nft knows.
const settings = "FirewallBackend=nftables\nNftablesTableOwner=no\n"

// busConfig is a bus on which everybody may do everything, as on the system bus with the daemon's policy.
const busConfig = `<busconfig><type>system</type><listen>unix:path=DIR/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_type="method_return"/><allow send_type="error"/><allow receive_type="method_call"/><allow receive_type="signal"/>
<allow receive_type="method_return"/><allow receive_type="error"/></policy></busconfig>`

// bed is a firewall between networks of its own, with a bus, a configuration and at most one daemon.
type bed struct {
	*lab.Lab
	dir     string // of everything that lies around
	program *daemonProgram
	bus     *process
	daemon  *process
	conn    *dbus.Conn
}

// newBed makes a bed whose configuration has so many rich rules; the daemon does not run yet. The error leaves nothing behind.
func newBed(ctx context.Context, program *daemonProgram, rules int) (*bed, error) {
	b := &bed{program: program}
	if err := b.build(ctx, rules); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bed) build(ctx context.Context, rules int) (err error) {
	if b.dir, err = os.MkdirTemp("", "richwall-bench-"); err != nil {
		return err
	}
	if err := writeConfiguration(b.config(), rules, b.program.ownSettings); err != nil {
		return err
	}
	if b.Lab, err = lab.New(ctx, lab.Options{DMZ: true}); err != nil {
		return err
	}
	// The lab lifts the kernel's limit on ICMP errors, and their making would be measured along with each packet.
	err = b.Firewall().Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_ratemask", []byte("6168"), 0) })
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, "bus.conf")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(busConfig, "DIR", b.dir)), 0o644); err != nil {
		return err
	}
	if b.bus, err = start(b.Firewall(), exec.Command("dbus-daemon", "--nofork", "--config-file="+path)); err != nil {
		return fmt.Errorf("cannot start a message bus: %w", err)
	}
	return b.poll(ctx, b.bus, func() (err error) {
		b.conn, err = dbus.Connect("unix:path=" + b.dir + "/bus")
		return err
	})
}

// config is the folder of the configuration.
func (b *bed) config() string { return filepath.Join(b.dir, "etc") }

// writeConfiguration writes a configuration to a folder that it makes: so many rich rules in the zone public, and everything
// let through between the links to the server and to the second server.
func writeConfiguration(dir string, rules int, ownSettings string) error {
	var zone bytes.Buffer
	zone.WriteString("<zone>\n  <service name=\"ssh\"/>\n")
	for i := range rules {
		fmt.Fprintf(&zone, `  <rule family="ipv4"><source address="10.%d.%d.%d"/><port port="%d" protocol="tcp"/><accept/></rule>`+"\n",
			i>>16&255, i>>8&255, i&255, 1024+i%60000)
	}
	zone.WriteString("</zone>\n")
	trusted := fmt.Sprintf("<zone target=\"ACCEPT\">\n  <interface name=%q/>\n  <interface name=%q/>\n  <forward/>\n</zone>\n", lab.ServerLink, lab.DMZLink)
	for name, text := range map[string]string{
		"firewalld.conf":    settings,
		"richwall.conf":     ownSettings,
		"zones/public.xml":  zone.String(),
		"zones/trusted.xml": trusted,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// startDaemon starts the daemon and returns how long it took until the bus answered that it runs.
func (b *bed) startDaemon(ctx context.Context) (time.Duration, error) {
	log, err := os.Create(filepath.Join(b.dir, "output"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.Command(b.program.daemon, "--nofork", "--nopid", "--system-config", b.config(),
		"--default-config", b.program.shipped, "--log-target", "file", "--log-file", filepath.Join(b.dir, "log"))
	cmd.Env, cmd.Stdout, cmd.Stderr = b.environment(), log, log
	began := time.Now()
	if b.daemon, err = start(b.Firewall(), cmd); err != nil {
		return 0, err
	}
	err = b.poll(ctx, b.daemon, func() error {
		state, err := b.property(ctx, "state")
		if err == nil && state != "RUNNING" {
			err = fmt.Errorf("its state is %s", state)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cannot start %s: %w\n%s%s", b.program.daemon, err, b.tail("output"), b.tail("log"))
	}
	return time.Since(began), nil
}

// poll tries until there is no error, the process has ended, or it takes too long.
func (b *bed) poll(ctx context.Context, p *process, try func() error) error {
	deadline := time.Now().Add(longest)
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return errors.Join(errors.New("it has ended"), p.err)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer in %v: %w", longest, err)
		}
	}
}

// environment is what the program's daemon and client run with.
func (b *bed) environment() []string {
	return append(os.Environ(), append(b.program.environment, "LC_ALL=C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+b.dir+"/bus")...)
}

// tail is the end of a file, for an error.
func (b *bed) tail(name string) string {
	text, _ := os.ReadFile(filepath.Join(b.dir, name)) // none says nothing
	return string(text[max(0, len(text)-2000):])
}

// property is a property of the daemon's.
func (b *bed) property(ctx context.Context, name string) (value string, err error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	err = b.conn.Object(busName, busPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, busName, name).Store(&value)
	return value, err
}

// call calls a method of the daemon, whose name is without what all begin with, and returns how long that took.
func (b *bed) call(ctx context.Context, method string, args ...any) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	began := time.Now()
	if err := b.conn.Object(busName, busPath).CallWithContext(ctx, busName+"."+method, 0, args...).Err; err != nil {
		return 0, fmt.Errorf("cannot call %s: %w", method, err)
	}
	return time.Since(began), nil
}

// memory is the daemon's resident memory in bytes, after it has rested for a moment.
func (b *bed) memory() (float64, error) {
	time.Sleep(time.Second)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.daemon.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); n == 1 {
			return kilobytes * 1024, nil
		}
	}
	return 0, errors.New("the kernel does not say how much memory the daemon has")
}

// close ends everything and leaves nothing behind.
func (b *bed) close() {
	b.daemon.stop()
	if b.conn != nil {
		b.conn.Close()
	}
	b.bus.stop()
	if b.Lab != nil {
		b.Lab.Close()
	}
	os.RemoveAll(b.dir)
}

// process is a program that runs until stop, or until this one ends, however it does.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	err   error         // of its end; to be read when it has ended
}

// start starts a program in a namespace.
func start(ns *lab.Namespace, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		// The thread that starts it stays until it ends: the kernel takes the thread's end for that of the parent.
		p.err = ns.Do(func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}()
	select {
	case err := <-started:
		return p, err
	case <-p.ended:
		return p, p.err
	}
}

// stop ends the process if it runs, and waits for that. Nil is a process that was never started.
func (p *process) stop() {
	if p == nil || p.cmd.Process == nil {
		return
	}
	p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
}
