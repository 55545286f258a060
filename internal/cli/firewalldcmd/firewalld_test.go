package firewalldcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"richwall/compile/ir"
	"richwall/internal/bus"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/statedir"
	"richwall/zones"
)

// What no option says is as firewalld has it; an option with an empty value says nothing.
func TestFlags(t *testing.T) {
	plain := options{system: "/etc/firewalld", shipped: "/usr/lib/firewalld", state: statedir.Base(), logTarget: "mixed", logFile: "/var/log/firewalld"}
	debug := func(level int) options { o := plain; o.debug = level; return o }
	here := t.TempDir()
	t.Chdir(here)
	for _, c := range []struct {
		args string
		want options
	}{
		{"", plain},
		{"--system-config= --default-config= --state-dir= --log-file=", plain},
		{"--nofork --nopid --system-config=/a --default-config /b --state-dir /d --log-target file --log-file /c --debug-gc",
			options{system: "/a", shipped: "/b", state: "/d", logTarget: "file", logFile: "/c", foreground: true, noPID: true}},
		{"--system-config=. --default-config lib --state-dir ./state --log-file ../log",
			options{system: here, shipped: here + "/lib", state: here + "/state", logTarget: "mixed", logFile: filepath.Dir(here) + "/log"}},
		{"--debug", debug(1)},
		{"--debug=7", debug(7)},
		{"--debug 7", debug(7)},
	} {
		if got, err := parse(strings.Fields(c.args), &bytes.Buffer{}); err != nil || got != c.want {
			t.Errorf("firewalld %s: %+v, %v, want %+v", c.args, got, err, c.want)
		}
	}
	for _, args := range []string{"--nosuch", "word", "--debug=11", "--debug=x", "--log-target=printer", "--debug 3 word"} {
		if _, err := parse(strings.Fields(args), &bytes.Buffer{}); err == nil || errors.Is(err, pflag.ErrHelp) {
			t.Errorf("firewalld %s: %v", args, err)
		}
	}
}

// Where the current folder is gone, a path that is relative to it is refused, and all others work.
func TestNoFolder(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := parse([]string{"--system-config=etc"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--system-config") {
		t.Errorf("a relative folder: %v", err)
	}
	if o, err := parse([]string{"--system-config=/etc/firewalld"}, &bytes.Buffer{}); err != nil || o.system != "/etc/firewalld" {
		t.Errorf("a full path: %+v, %v", o, err)
	}
}

func TestHelpAndMistakesEndAtOnce(t *testing.T) {
	var out, errs bytes.Buffer
	if status := Main([]string{"--help"}, &out, &errs); status != 0 || !strings.Contains(out.String(), "--system-config FOLDER") {
		t.Errorf("--help: status %d, %s", status, out.String())
	}
	if strings.Contains(out.String(), `[="1"]`) || strings.Contains(out.String(), " string") {
		t.Errorf("--help has words of the library:\n%s", out.String())
	}
	out.Reset()
	if status := Main([]string{"--version"}, &out, &errs); status != 0 || !strings.HasSuffix(out.String(), "for what firewalld 2.5.2 reads\n") {
		t.Errorf("--version: status %d, %s", status, out.String())
	}
	if status := Main([]string{"--nosuch"}, &out, &errs); status != statusUsage || !strings.Contains(errs.String(), "--nosuch") {
		t.Errorf("--nosuch: status %d, %s", status, errs.String())
	}
}

// The service manager shows that the last reload was refused, and why, until one is not.
func TestStatusOfARefusedReload(t *testing.T) {
	p := &program{daemon: daemon.New(daemon.Options{Log: slog.New(slog.DiscardHandler)}), log: slog.New(slog.DiscardHandler)}
	if got := p.status(); got != "STATUS=running" {
		t.Errorf("the status is %q", got)
	}
	p.refuse(errors.Join(errors.New("zones/a.xml:1: wrong"), errors.New("zones/b.xml:2: wrong")), time.Date(2026, 1, 31, 12, 0, 5, 0, time.Local))
	if got := p.status(); got != "STATUS=running; the reload at 12:00:05 was refused, nothing has changed: zones/a.xml:1: wrong; zones/b.xml:2: wrong" {
		t.Errorf("after a refused reload the status is %q", got)
	}
	p.follow(daemon.Reloaded{})
	if got := p.status(); got != "STATUS=running" {
		t.Errorf("after a reload the status is %q", got)
	}
}

// The log says that the files were put in force only where all of them were, and nothing of panic mode, of which the daemon itself tells.
func TestLogOfWhatIsInForce(t *testing.T) {
	for want, e := range map[string]daemon.Event{
		"level=INFO msg=\"the files were put in force\"\n": daemon.Reloaded{},
		"level=ERROR msg=\"the files were not put in force, or not all of them: firewall-cmd --state says what is wrong\"\n": daemon.Reloaded{
			Failures: []string{"zones/a.xml:1: wrong"}},
		"": daemon.PanicChanged{On: true},
	} {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		(&program{log: log}).follow(e)
		if out.String() != want {
			t.Errorf("the log says %q, want %q", out.String(), want)
		}
	}
}

func TestOnePIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firewalld.pid")
	if err := os.WriteFile(path, []byte("99999 of a process that died\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := writePID(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("the file has %q", text)
	}
	if _, err := writePID(path); err == nil {
		t.Error("a second daemon gets the file")
	}
	first.remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is still there")
	}
	(*pidFile)(nil).remove()
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	buffer := make([]byte, 200)
	for _, want := range []string{`^READY=1$`, `^RELOADING=1\nMONOTONIC_USEC=\d+$`} {
		state := "READY=1"
		if strings.Contains(want, "RELOADING") {
			state = reloading()
		}
		if err := notify(state); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(buffer)
		if err != nil || !regexp.MustCompile(want).Match(buffer[:n]) {
			t.Errorf("the service manager gets %q, %v, want %s", buffer[:n], err, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
}

// busyKernel takes nothing while it is told to.
type busyKernel struct {
	kernel.Kernel
	busy atomic.Bool
}

func (k *busyKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	if k.busy.Load() {
		return kernel.ErrBusy
	}
	return k.Kernel.Commit(ctx, next)
}

// The service manager shows the state and that panic mode is on, and when either changes: also when the kernel takes the first rules late,
// with a change of the running firewall.
func TestStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	log := slog.New(slog.DiscardHandler)
	k := &busyKernel{Kernel: kernel.NewMemory()}
	k.busy.Store(true)
	p := program{log: log, changed: make(chan struct{}, 1), daemon: daemon.New(daemon.Options{
		Dirs: zones.Dirs{System: t.TempDir()}, Log: log, Kernel: func(ir.Backend) (kernel.Kernel, error) { return k, nil },
	})}
	if err := p.daemon.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.daemon.Subscribe(p.follow)
	go p.tellChanges()
	if got := p.status(); !strings.HasPrefix(got, "STATUS=failed: the rules are not in the kernel yet") {
		t.Errorf("the status is %s", got)
	}
	k.busy.Store(false)
	opened := zones.Add(zones.Runtime, zones.Object{Kind: zones.KindZone, Name: "public"}, zones.Item{Key: zones.KeyPort, Args: []string{"8080", "tcp"}})
	for _, test := range []struct {
		change func() error
		want   string
	}{
		{func() error { return p.daemon.ChangeRuntime(t.Context(), daemon.Change{Edit: opened}) }, "STATUS=running"},
		{func() error { return p.daemon.SetPanic(t.Context(), true) }, "STATUS=panic mode is on, every packet is dropped; running"},
		{func() error { return p.daemon.SetPanic(t.Context(), false) }, "STATUS=running"},
	} {
		if err := test.change(); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 200)
		socket.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := socket.Read(buffer); err != nil || string(buffer[:n]) != test.want {
			t.Errorf("the service manager gets %q, %v, want %q", buffer[:n], err, test.want)
		}
	}
	failed := daemon.Snapshot{State: daemon.Failed, Failures: []string{"a", "b"}, Panic: true}
	if got := statusText(failed); got != "panic mode is on, every packet is dropped; failed: a; b" {
		t.Errorf("the status is %s", got)
	}
}

// A daemon that leaves the machine closed names all tables that an administrator has to delete for packets to pass.
func TestAllThatClosesTheMachineIsNamed(t *testing.T) {
	want := "to be without it, run nft delete table inet firewalld_drop_all; nft delete table inet firewalld_guard; nft delete table bridge firewalld_drop_all"
	if got := byHand([]string{"inet firewalld_drop_all", "inet firewalld_guard", "bridge firewalld_drop_all"}); got != want {
		t.Errorf("got %s", got)
	}
}

// Another firewall that takes the name on the bus at the last moment is left alone, and the guard goes. Without a bus the guard stays, or the rules
// of an earlier process stay, and the error says which of the two.
func TestNotConnected(t *testing.T) {
	for _, c := range []struct {
		reason  error
		earlier ir.Backend
		status  int
		lowered bool
		said    string
	}{
		{fmt.Errorf("cannot have the name: %w", bus.ErrTaken), "", statusLost, true, ""},
		{errors.New("there is no bus"), "", statusFailed, false, "; nothing new is let in until the firewall starts; to be without it, run nft delete table inet firewalld_guard (nft list tables shows the table if its name is longer)"},
		{errors.New("there is no bus"), ir.IPTables, statusFailed, false, "; the rules of an earlier process stay in force until the firewall starts"},
	} {
		lowered := false
		status, err := notConnected(c.reason, c.earlier, func() error { lowered = true; return nil })
		if status != c.status || lowered != c.lowered || !errors.Is(err, c.reason) || !strings.HasSuffix(err.Error(), c.said) {
			t.Errorf("%v: status %d, %v, and the guard is lowered: %v", c.reason, status, err, lowered)
		}
	}
}
