package faults

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/internal/testlog"
	"richwall/zones"
)

// stuck is why the rules of a start cannot be put into the kernel, and what ends that.
type stuck struct {
	bridge error // what each change of the rules for bridges says
	begin  func(t *testing.T) (end func())
}

// withoutIP6tables has each program of ip6tables fail, as where it has no memory.
func withoutIP6tables(t *testing.T) (end func()) {
	t.Helper()
	dir, path := t.TempDir(), os.Getenv("PATH")
	for _, name := range []string{"ip6tables", "ip6tables-save", "ip6tables-restore"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho no memory >&2\nexit 4\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+path)
	return func() { os.Setenv("PATH", path) }
}

// A port was taken out of the files while no daemon was running, and the rules of the former one are still in the kernel, where the port
// is open. The next daemon cannot put its rules into the kernel, for a reason that lies in no file: nothing new is let in then, and no
// other program can change that. It stays so after another try that fails, and ends with the one that succeeds.
func TestRulesOfAKilledDaemonWhileNoneCanBePut(t *testing.T) {
	locked := errors.New("another program holds the lock of ebtables")
	for _, backend := range []string{"nftables", "iptables"} {
		for name, cause := range map[string]*stuck{
			"the rules for bridges": {bridge: locked, begin: func(*testing.T) func() { return func() {} }},
			"ip6tables":             {begin: withoutIP6tables},
		} {
			t.Run(backend+", "+name, func(t *testing.T) {
				l, dir := newLab(t, "nft", "iptables", "ip6tables"), t.TempDir()
				write(t, dir, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\nCleanupOnExit=no\n",
					"zones/public.xml": `<zone><interface name="c0"/><port port="80-81" protocol="tcp"/></zone>`,
					"direct.xml":       `<direct><rule ipv="ipv6" table="filter" chain="INPUT" priority="0">-p tcp --dport 99 -j DROP</rule></direct>`})
				bridge := error(nil)
				start := func(begin func()) (d *daemon.Daemon, guard *kernel.Guard, log *testlog.Log) {
					log = &testlog.Log{}
					o := kernel.Options{Enter: l.Firewall().Do, Log: slog.New(slog.NewTextHandler(log, nil))}
					var err error
					if guard, err = kernel.Base(t.Context(), o, false); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { guard.Close() })
					begin()
					d = daemon.New(daemon.Options{Dirs: zones.Dirs{System: dir}, Log: o.Log,
						Kernel: func(backend ir.Backend) (kernel.Kernel, error) {
							return kernel.New(kernel.Options{Backend: backend, Enter: o.Enter, Log: o.Log, Guard: guard})
						},
						Bridge: func(_ context.Context, old, _ *kernel.Bridge) (*kernel.Bridge, error) { return old, bridge },
					})
					if err := d.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					return d, guard, log
				}
				d, guard, _ := start(func() {})
				if got := openPorts(t, l, 79, 80, 81); !slices.Equal(got, []int{80, 80, 81, 81}) {
					t.Fatalf("open are %v", got)
				}
				if err := errors.Join(d.Stop(t.Context()), guard.Close()); err != nil {
					t.Fatal(err)
				}
				write(t, dir, map[string]string{"zones/public.xml": `<zone><interface name="c0"/><port port="81" protocol="tcp"/></zone>`})
				var end func()
				d, guard, log := start(func() { end, bridge = cause.begin(t), cause.bridge })
				if guard.Earlier() != ir.Backend(backend) {
					t.Fatalf("the rules of the former daemon are not found: %q", guard.Earlier())
				}
				for _, when := range []string{"the start", "a reload"} {
					if said := strings.Join(d.Snapshot().Failures, "\n"); d.Snapshot().State != daemon.Failed || !strings.Contains(said, "nothing new is let in") {
						t.Errorf("after %s the state is %v: %s", when, d.Snapshot().State, said)
					}
					if got := openPorts(t, l, 79, 80, 81); got != nil {
						t.Errorf("after %s open are %v; the log says\n%s", when, got, log)
					}
					if _, err := l.Firewall().Run(t.Context(), "", "nft", "delete", "table", "inet", "firewalld_guard"); err == nil {
						t.Errorf("after %s another program takes the guard away", when)
					}
					if err := d.Reload(t.Context()); err == nil {
						t.Fatal("the rules can be put into the kernel")
					}
				}
				bridge = nil
				end()
				if err := d.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := openPorts(t, l, 79, 80, 81); !slices.Equal(got, []int{81, 81}) || d.Snapshot().State != daemon.Running {
					t.Errorf("at last the state is %v, and open are %v", d.Snapshot().State, got)
				}
				if guards(t, l.Firewall()) {
					t.Error("the guard stands beside the rules")
				}
				if err := d.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// guards tells whether the guard stands.
func guards(t *testing.T, ns *lab.Namespace) bool {
	t.Helper()
	tables, err := ns.Run(t.Context(), "", "nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(tables, "firewalld_guard")
}

// The same where firewalld.conf names a back end whose programs are not installed any more. The daemon stays up, so that it can be asked and panic
// mode goes on and off, and tries again: once the programs are there, so are the rules.
func TestRulesOfAKilledDaemonWithoutABackEnd(t *testing.T) {
	s := newService(t, map[string]string{"zones/public.xml": `<zone><interface name="c0"/><port port="80-81" protocol="tcp"/></zone>`})
	first, _ := s.start()
	first.Process.Kill()
	first.Wait()
	write(t, filepath.Join(s.dir, "firewalld"), map[string]string{"firewalld.conf": "FirewallBackend=iptables\n",
		"zones/public.xml": `<zone><interface name="c0"/><port port="81" protocol="tcp"/></zone>`})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.command = []string{"unshare", "--mount", "sh", "-c", `mount --bind /dev/null "$(readlink -f "$(command -v iptables)")" && exec "$0" "$@"`, self}
	daemon, log := s.start()
	for _, mode := range []string{"enablePanicMode", "disablePanicMode"} {
		if got := openPorts(t, s.lab, 79, 80, 81); got != nil || !guards(t, s.lab.Firewall()) {
			t.Errorf("before %s open are %v; the log says\n%s", mode, got, log)
		}
		if err := s.call(mode); err != nil {
			t.Error(err)
		}
	}
	if got := openPorts(t, s.lab, 79, 80, 81); got != nil {
		t.Errorf("after panic mode open are %v; the log says\n%s", got, log)
	}
	hidden, err := exec.LookPath("iptables")
	if err == nil {
		hidden, err = filepath.EvalSymlinks(hidden)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nsenter", "--mount", "--root", "--target", strconv.Itoa(daemon.Process.Pid), "umount", hidden).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "the rules do not come", func() bool { return slices.Equal(openPorts(t, s.lab, 79, 80, 81), []int{81, 81}) })
	if guards(t, s.lab.Firewall()) {
		t.Error("the guard stands beside the rules")
	}
	daemon.Process.Signal(unix.SIGTERM)
	if err := daemon.Wait(); err != nil {
		t.Errorf("the daemon ends with %v; the log says\n%s", err, log)
	}
	s.command = nil
	write(t, filepath.Join(s.dir, "firewalld"), map[string]string{"firewalld.conf": "FirewallBackend=nftables\n"})
	last, _ := s.start()
	if got := openPorts(t, s.lab, 79, 80, 81); !slices.Equal(got, []int{81, 81}) || guards(t, s.lab.Firewall()) {
		t.Errorf("at last open are %v", got)
	}
	last.Process.Signal(unix.SIGTERM)
	last.Wait()
}
