package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/testlog"
	"richwall/zones"
)

// fakeKernel keeps what was committed last, and refuses when it is told to.
type fakeKernel struct {
	installed *kernel.Desired
	commits   int
	refuse    error
}

func (k *fakeKernel) Commit(_ context.Context, next *kernel.Desired) error {
	if k.refuse != nil {
		return k.refuse
	}
	k.installed = next
	k.commits++
	return nil
}
func (k *fakeKernel) Check(*kernel.Desired) error { return k.refuse }
func (k *fakeKernel) Close() error                { return nil }

// rules is the installed ruleset as text.
func (k *fakeKernel) rules() string {
	if k.installed == nil || k.installed.Rules == nil {
		return ""
	}
	var b strings.Builder
	k.installed.Rules.Dump(&b)
	return b.String()
}

type bed struct {
	*Daemon
	kernel *fakeKernel
	dir    string
	events []Event
	log    testlog.Log
}

// start makes a daemon on a folder with the files, and starts it.
func start(t *testing.T, files map[string]string) *bed {
	t.Helper()
	b := &bed{kernel: &fakeKernel{}, dir: t.TempDir()}
	b.write(t, files)
	b.Daemon = New(Options{
		Dirs:   zones.Dirs{System: b.dir},
		Kernel: func(ir.Backend) (kernel.Kernel, error) { return b.kernel, nil },
		Log:    slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	b.Subscribe(func(e Event) { b.events = append(b.events, e) })
	if err := b.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(context.Background()) })
	return b
}

func (b *bed) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(b.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var public = zones.Object{Kind: zones.KindZone, Name: "public"}

func port(p, proto string) zones.Item {
	return zones.Item{Key: zones.KeyPort, Args: []string{p, proto}}
}

func (b *bed) has(item zones.Item) bool {
	found, err := zones.Has(b.Snapshot().Runtime, zones.Runtime, public, item)
	return err == nil && found
}

// A runtime change is in the kernel and in memory, and not in the files.
func TestRuntimeChange(t *testing.T) {
	b := start(t, nil)
	item := port("8080", "tcp")
	if err := b.ChangeRuntime(context.Background(), Change{Edit: zones.Add(zones.Runtime, public, item)}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.kernel.rules(), "low=8080") {
		t.Error("the kernel does not have the port")
	}
	if !b.has(item) {
		t.Error("the runtime configuration does not have the port")
	}
	if found, _ := zones.Has(b.Snapshot().Permanent, zones.Permanent, public, item); found {
		t.Error("the permanent configuration has the port")
	}
	if changed, ok := b.events[0].(RuntimeChanged); !ok || len(zones.Difference(changed.Old, changed.New)) != 1 {
		t.Errorf("events are %v, want one change of one object", b.events)
	}
	if err := b.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b.has(item) || strings.Contains(b.kernel.rules(), "low=8080") {
		t.Error("the port is still there after a reload")
	}
}

// What the kernel refuses changes nothing.
func TestRefusedCommitChangesNothing(t *testing.T) {
	b := start(t, nil)
	before, rules, commits := b.Snapshot(), b.kernel.rules(), b.kernel.commits
	b.kernel.refuse = errors.New("no memory")
	item := port("8080", "tcp")
	err := b.ChangeRuntime(context.Background(), Change{Edit: zones.Add(zones.Runtime, public, item)})
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CommandFailed {
		t.Errorf("error is %v, want COMMAND_FAILED", err)
	}
	for name, order := range map[string]func() error{
		"reload": func() error { return b.Reload(context.Background()) },
		"panic":  func() error { return b.SetPanic(context.Background(), true) },
		"zone":   func() error { return b.SetDefaultZone(context.Background(), "work") },
		"log":    func() error { return b.SetLogDenied(context.Background(), "all") },
	} {
		if order() == nil {
			t.Errorf("%s succeeds although the kernel refuses", name)
		}
	}
	after := b.Snapshot()
	if after.Runtime != before.Runtime || after.Panic || b.kernel.rules() != rules || b.kernel.commits != commits {
		t.Error("the state is another one")
	}
	if after.Permanent.Conf.DefaultZone != "public" || after.Permanent.Conf.LogDenied != "off" {
		t.Error("firewalld.conf was not put back in memory")
	}
	cfg, problems := zones.Load(zones.Dirs{System: b.dir})
	if problems.Err() != nil || cfg.Conf.DefaultZone != "public" || cfg.Conf.LogDenied != "off" {
		t.Error("firewalld.conf was not put back")
	}
}

// Files that cannot be used leave everything as it was, at a reload; at a start the shipped configuration is installed.
func TestBrokenFiles(t *testing.T) {
	b := start(t, map[string]string{"zones/public.xml": "<zone><service name=\"http\"/></zone>"})
	before := b.Snapshot()
	b.write(t, map[string]string{"zones/public.xml": "<zone><service"})
	if err := b.Reload(context.Background()); err == nil {
		t.Error("a reload of broken files succeeds")
	}
	if after := b.Snapshot(); after.Runtime != before.Runtime || after.State != Running {
		t.Error("the state is another one")
	}
	if b.CheckPermanent(t.Context()) == nil {
		t.Error("the check finds nothing")
	}

	broken := start(t, map[string]string{"zones/public.xml": "<zone><service"})
	if s := broken.Snapshot(); s.State != Failed || s.Runtime.Zones["public"] == nil {
		t.Errorf("the state is %s, want FAILED with the shipped zones", s.State)
	}
	err := broken.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("1", "tcp"))})
	if err == nil || !strings.Contains(err.Error(), "zones/public.xml: it holds what could not be read") {
		t.Errorf("a change of a file that cannot be read gives %v", err)
	}
	os.Remove(filepath.Join(broken.dir, "zones/public.xml"))
	if err := broken.Reload(context.Background()); err != nil || broken.Snapshot().State != Running {
		t.Errorf("a reload of mended files gives %v and state %s", err, broken.Snapshot().State)
	}
}

// A permanent change is in the files, and in the kernel after a reload.
func TestPermanentChange(t *testing.T) {
	b := start(t, nil)
	if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("8080", "tcp"))}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "zones/public.xml"))
	if err != nil || !strings.Contains(string(text), `<port port="8080" protocol="tcp"/>`) {
		t.Errorf("the file is %q, %v", text, err)
	}
	if b.has(port("8080", "tcp")) {
		t.Error("the runtime configuration has the port already")
	}
	if err := b.Reload(context.Background()); err != nil || !b.has(port("8080", "tcp")) {
		t.Errorf("a reload gives %v, and the port is there: %v", err, b.has(port("8080", "tcp")))
	}
}

// What NetworkManager has bound is not written to the files.
func TestRuntimeToPermanent(t *testing.T) {
	b := start(t, nil)
	ctx := context.Background()
	bind := func(iface string, manager bool) {
		t.Helper()
		item := zones.Item{Key: zones.KeyInterface, Args: []string{iface}}
		if err := b.ChangeRuntime(ctx, Change{Edit: zones.Add(zones.Runtime, public, item), Manager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	bind("eth0", true)
	bind("eth1", false)
	if err := b.ChangeRuntime(ctx, Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp"))}); err != nil {
		t.Fatal(err)
	}
	if err := b.RuntimeToPermanent(ctx); err != nil {
		t.Fatal(err)
	}
	cfg, problems := zones.Load(zones.Dirs{System: b.dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	if got := strings.Join(cfg.Zones["public"].Interfaces, " "); got != "eth1" {
		t.Errorf("the file binds %q, want eth1", got)
	}
	if found, _ := zones.Has(cfg, zones.Permanent, public, port("8080", "tcp")); !found {
		t.Error("the file does not have the port")
	}
}

// Saving what is in effect once more changes no file, whether there was a reload in between or not: the files of all zones and policies stay.
// What was changed at runtime in between is saved.
func TestRuntimeToPermanentAgain(t *testing.T) {
	b := start(t, map[string]string{"zones/work.xml": "<!-- mine -->\n" + workZone})
	ctx := context.Background()
	save := func() []string {
		t.Helper()
		if err := b.RuntimeToPermanent(ctx); err != nil {
			t.Fatal(err)
		}
		return filesIn(b.dir)
	}
	first := save()
	for _, name := range []string{"zones/public.xml", "zones/drop.xml", "policies/allow-host-ipv6.xml", "zones/work.xml"} {
		if _, err := os.Stat(filepath.Join(b.dir, name)); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		if again := save(); !slices.Equal(again, first) {
			t.Errorf("saved once more, the files are\n%s\nand were\n%s", strings.Join(again, "\n"), strings.Join(first, "\n"))
		}
	}
	for _, p := range []string{"1", "2"} {
		if err := b.ChangeRuntime(ctx, Change{Edit: zones.Add(zones.Runtime, public, port(p, "tcp"))}); err != nil {
			t.Fatal(err)
		}
		if saved := strings.Join(save(), "\n"); !strings.Contains(saved, fmt.Sprintf(`port="%s"`, p)) {
			t.Errorf("port %s is not saved:\n%s", p, saved)
		}
	}
	b.again(t)
	if again := save(); len(again) != len(first)+1 { // public.xml.old
		t.Errorf("behind a start, the files are\n%s", strings.Join(again, "\n"))
	}
	b.expect(t, Running, "", []string{"1", "2", "8080"}, nil)
}

// A shipped service that was changed permanently, and not put in effect, is saved as it is in effect, in the file that it has.
func TestRuntimeToPermanentOfAChangedService(t *testing.T) {
	b := start(t, nil)
	service := zones.Object{Kind: zones.KindService, Name: "ssh"}
	if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, service, port("2222", "tcp"))}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.RuntimeToPermanent(context.Background()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(b.dir, "services/ssh.xml"))
		if err != nil || strings.Contains(string(text), "2222") || !strings.Contains(string(text), `port="22"`) {
			t.Errorf("the file has %q, %v", text, err)
		}
	}
}

// What was made permanently since the last reload is not in effect yet, and stays when what is in effect is saved.
func TestRuntimeToPermanentKeepsWhatIsNotInEffect(t *testing.T) {
	b := start(t, nil)
	ctx := context.Background()
	objects := []zones.Object{{Kind: zones.KindZone, Name: "mine"}, {Kind: zones.KindPolicy, Name: "pol"}, {Kind: zones.KindService, Name: "app"},
		{Kind: zones.KindIPSet, Name: "nets"}, {Kind: zones.KindICMPType, Name: "weird"}, {Kind: zones.KindHelper, Name: "h1"}}
	settings := map[zones.Kind]zones.Settings{zones.KindIPSet: {zones.KeyType: "hash:net"}, zones.KindHelper: {zones.KeyModuleOf: "nf_conntrack_irc"}}
	for _, o := range objects {
		if err := b.ChangePermanent(Change{Edit: zones.New(o, settings[o.Kind])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RuntimeToPermanent(ctx); err != nil {
		t.Fatal(err)
	}
	cfg, problems := zones.Load(zones.Dirs{System: b.dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	for _, o := range objects {
		if _, err := zones.Get(cfg, zones.Permanent, o); err != nil {
			t.Errorf("the %s %s is gone: %v", o.Kind, o.Name, err)
		}
	}
}

// Lines of direct.xml that cannot be used are no part of what runs, and stay in the file when that is saved.
func TestRuntimeToPermanentKeepsUnusablePassthroughs(t *testing.T) {
	kept := []string{`<passthrough ipv="ipv4">-P INPUT DROP</passthrough>`, `<passthrough ipv="ipv4">-R INPUT 1 -j DROP</passthrough>`, `<passthrough ipv="eb">-L</passthrough>`}
	b := start(t, map[string]string{"direct.xml": `<direct>` + strings.Join(kept, "") + `<passthrough ipv="ipv4">-A INPUT -p udp -j DROP</passthrough></direct>`})
	direct := zones.Object{Kind: zones.KindDirect}
	for i := range 2 {
		item := zones.Item{Key: zones.KeyPassthrough, Args: []string{"ipv4", "-A", "INPUT", "-s", fmt.Sprintf("10.0.0.%d", i+1), "-j", "DROP"}}
		if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, direct, item)}); err != nil {
			t.Fatal(err)
		}
		if err := b.RuntimeToPermanent(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(b.dir, "direct.xml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range append(kept, fmt.Sprintf("10.0.0.%d", i+1), "udp") {
			if strings.Count(string(text), line) != 1 {
				t.Errorf("%s is not there once:\n%s", line, text)
			}
		}
	}
}

// Panic mode lets nothing pass and refuses changes, also over a reload.
func TestPanic(t *testing.T) {
	b := start(t, nil)
	ctx := context.Background()
	if err := b.SetPanic(ctx, true); err != nil || !b.kernel.installed.Panic {
		t.Fatalf("panic mode is not on: %v", err)
	}
	if b.SetPanic(ctx, true) == nil {
		t.Error("it can be switched on twice")
	}
	if b.ChangeRuntime(ctx, Change{Edit: zones.Add(zones.Runtime, public, port("1", "tcp"))}) == nil {
		t.Error("a change is taken")
	}
	if err := b.Reload(ctx); err != nil || !b.kernel.installed.Panic {
		t.Errorf("a reload ends it: %v", err)
	}
	if err := b.SetPanic(ctx, false); err != nil || b.kernel.installed.Panic {
		t.Errorf("it cannot be switched off: %v", err)
	}
}

// An entry with a timeout goes by itself; one that was removed before its time is not missed.
func TestTimeout(t *testing.T) {
	b := start(t, nil)
	ctx := context.Background()
	timed := func(item zones.Item, after time.Duration) {
		t.Helper()
		err := b.ChangeRuntime(ctx, Change{
			Edit: zones.Add(zones.Runtime, public, item), Timeout: after, Key: "public " + item.String(),
			Undo:  zones.Remove(zones.Runtime, public, item),
			There: func(c *zones.Config) bool { found, _ := zones.Has(c, zones.Runtime, public, item); return found },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	timed(port("1", "tcp"), time.Millisecond)
	timed(port("2", "tcp"), time.Hour)
	if err := b.ChangeRuntime(ctx, Change{Edit: zones.Remove(zones.Runtime, public, port("2", "tcp"))}); err != nil {
		t.Fatal(err)
	}
	for b.has(port("1", "tcp")) {
		time.Sleep(time.Millisecond)
	}
	b.mu.Lock()
	left := len(b.timed.entries)
	b.mu.Unlock()
	if left != 0 {
		t.Errorf("%d entries still wait for their time", left)
	}
}

// The time of an entry is up, and the kernel does not let it be taken out, or a fault does not. The state says that it is still there, for as long
// as it is, and it is tried again. Another entry that can be taken out goes meanwhile.
func TestTimeoutThatCannotEnd(t *testing.T) {
	b := start(t, nil)
	busy, broken := errors.New("the lock is held"), false
	timed := func(item zones.Item) {
		t.Helper()
		remove := zones.Remove(zones.Runtime, public, item)
		err := b.ChangeRuntime(t.Context(), Change{
			Edit: zones.Add(zones.Runtime, public, item), Timeout: time.Hour, Key: item.String(),
			Undo: func(c *zones.Config) (*zones.Config, error) {
				if broken && item.String() == port("1", "tcp").String() {
					return nil, busy
				}
				return remove(c)
			},
			There: func(c *zones.Config) bool { found, _ := zones.Has(c, zones.Runtime, public, item); return found },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	timesUp := func() { // also for what waits for another try
		b.mu.Lock()
		for _, e := range b.timed.entries {
			e.deadline = time.Now()
			if !e.again.IsZero() {
				e.again = e.deadline
			}
		}
		b.mu.Unlock()
		b.expire()
	}
	expect := func(when string, state State, ports ...string) {
		t.Helper()
		now := b.Snapshot()
		if now.State != state || strings.Contains(strings.Join(now.Failures, ""), notTakenOut) != (state == Failed) {
			t.Errorf("%s: the state is %s: %q", when, now.State, now.Failures)
		}
		for _, p := range []string{"1", "2"} {
			if want := slices.Contains(ports, p); strings.Contains(b.kernel.rules(), "low="+p+" ") != want || b.has(port(p, "tcp")) != want {
				t.Errorf("%s: port %s is open: %v, want %v", when, p, !want, want)
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if waits := b.timed.timer != nil; waits != (len(ports) > 0) {
			t.Errorf("%s: it is tried again: %v", when, waits)
		}
	}
	timed(port("1", "tcp"))
	timed(port("2", "tcp"))
	expect("before the time", Running, "1", "2")
	b.kernel.refuse = busy
	timesUp()
	expect("a kernel that is busy", Failed, "1", "2")
	if !slices.ContainsFunc(b.events, func(e Event) bool { return e == StateChanged{} }) {
		t.Error("nobody is told that the state has changed")
	}
	b.kernel.refuse, broken = nil, true
	timesUp()
	expect("one that cannot be taken out", Failed, "1")
	timesUp()
	expect("the same once more", Failed, "1")
	broken = false
	timesUp()
	expect("nothing in the way any more", Running)
	timed(port("1", "tcp"))
	b.kernel.refuse = busy
	timesUp()
	b.kernel.refuse = nil
	if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, public, port("1", "tcp"))}); err != nil {
		t.Fatal(err)
	}
	expect("taken out by hand", Running)
	timed(port("1", "tcp"))
	b.kernel.refuse = busy
	timesUp()
	b.kernel.refuse = nil
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("a reload", Running)
}

// All that the administrator made is gone after a reset, and kept beside it.
func TestResetToDefaults(t *testing.T) {
	b := start(t, map[string]string{"zones/mine.xml": "<zone><interface name=\"eth0\"/></zone>", "firewalld.conf": "DefaultZone=mine\n"})
	if b.Snapshot().Runtime.Conf.DefaultZone != "mine" {
		t.Fatal("the zone is not in use")
	}
	if err := b.ResetToDefaults(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := b.Snapshot(); s.Runtime.Zones["mine"] != nil || s.Runtime.Conf.DefaultZone != "public" {
		t.Error("the zone is still there")
	}
	if _, err := os.Stat(filepath.Join(b.dir, "zones/mine.xml.old")); err != nil {
		t.Error(err)
	}
}

// A change of the files whose reload is refused leaves each file as it was: its bytes, mode and owner, and the one beside it.
func TestRefusedReloadLeavesTheFiles(t *testing.T) {
	b := start(t, map[string]string{"zones/public.xml": "<zone>\n<!-- mine -->\n<port port=\"8080\" protocol=\"tcp\"/>\n</zone>\n", "zones/public.xml.old": "older",
		"firewalld.conf": "# mine\nDefaultZone = public\n", "firewalld.conf.old": "older"})
	for _, name := range []string{"zones/public.xml", "firewalld.conf"} {
		path := filepath.Join(b.dir, name)
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		_ = os.Chown(path, 1, 2) // which not everybody may: the owner is compared in any case
	}
	files := func() (list []string) {
		err := filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, failed := os.ReadFile(path)
			info, err := e.Info()
			stat := info.Sys().(*syscall.Stat_t)
			list = append(list, fmt.Sprintf("%s %v %d:%d %q", path, info.Mode(), stat.Uid, stat.Gid, data))
			return errors.Join(failed, err)
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before, permanent := files(), b.Snapshot().Permanent
	b.kernel.refuse = errors.New("no memory")
	for name, change := range map[string]func() error{
		"a reset": func() error { return b.ResetToDefaults(t.Context()) }, "another default zone": func() error { return b.SetDefaultZone(t.Context(), "work") },
		"another log": func() error { return b.SetLogDenied(t.Context(), "all") },
	} {
		if err := change(); err == nil {
			t.Errorf("%s is no error", name)
		}
		if after := files(); !slices.Equal(after, before) || b.Snapshot().Permanent != permanent {
			t.Errorf("%s leaves\n%s\nof\n%s", name, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	}
}

// A reset is the way out of the state FAILED, whatever is broken in the files: a zone, a service, firewalld.conf, direct.xml, or that the
// folder is gone, beside a last good configuration or without one.
func TestResetWhenFailed(t *testing.T) {
	broken := map[string]string{"zones/work.xml": "<zone><", "services/app.xml": "\x00", "firewalld.conf": "DefaultZone\n", "direct.xml": "<direct><", "richwall.conf": "x\n"}
	reset := func(t *testing.T, b *bed) {
		t.Helper()
		b.expect(t, Failed, b.dir, nil, nil)
		for _, after := range []func(){func() {
			if err := b.ResetToDefaults(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, func() { b.again(t) }} {
			after()
			b.expect(t, Running, "", []string{"22"}, []string{"8080"})
		}
		if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("8080", "tcp"))}); err != nil {
			t.Error(err)
		}
	}
	t.Run("without a last good configuration", func(t *testing.T) { reset(t, startKept(t, broken)) })
	t.Run("beside one", func(t *testing.T) {
		b := startKept(t, map[string]string{"zones/work.xml": workZone})
		b.write(t, broken)
		b.again(t)
		reset(t, b)
		for name, text := range broken {
			if old, err := os.ReadFile(filepath.Join(b.dir, name+".old")); err != nil || string(old) != text {
				t.Errorf("%s.old is %q, %v", name, old, err)
			}
		}
	})
	t.Run("with links that lead nowhere, and a zone of several files", func(t *testing.T) {
		b := startKept(t, map[string]string{"zones/work/a.xml": workZone, "zones/work/b.xml": "<zone/>"})
		for _, name := range []string{"zones/home.xml", "zones/lan", "services"} {
			if err := os.Symlink("/nonexistent", filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		b.again(t)
		reset(t, b)
	})
	t.Run("without the folder", func(t *testing.T) {
		b := startKept(t, map[string]string{"zones/work.xml": workZone})
		if err := os.RemoveAll(b.dir); err != nil {
			t.Fatal(err)
		}
		b.again(t)
		reset(t, b)
	})
	t.Run("with an empty folder", func(t *testing.T) {
		b := startKept(t, map[string]string{"zones/work.xml": workZone})
		if err := os.RemoveAll(filepath.Join(b.dir, "zones")); err != nil {
			t.Fatal(err)
		}
		b.again(t)
		reset(t, b)
	})
}

// A zone that is made up of several files is one zone when it runs. Written back, each file keeps what is in it: what was
// taken out goes, and what was added is in the first.
func TestZoneOfSeveralFiles(t *testing.T) {
	b := start(t, map[string]string{
		"zones/lan/a.xml": `<zone><short>A</short><service name="http"/><port port="1-3" protocol="tcp"/></zone>`,
		"zones/lan/b.xml": `<zone><service name="http"/><source address="10.0.0.0/8"/></zone>`,
	})
	ctx, lan := context.Background(), zones.Object{Kind: zones.KindZone, Name: "lan"}
	for _, edit := range []zones.Edit{
		zones.Add(zones.Runtime, lan, port("8080", "tcp")),
		zones.Remove(zones.Runtime, lan, port("2", "tcp")),
		zones.Remove(zones.Runtime, lan, zones.Item{Key: zones.KeyService, Args: []string{"http"}}),
	} {
		if err := b.ChangeRuntime(ctx, Change{Edit: edit}); err != nil {
			t.Fatal(err)
		}
	}
	rules := b.kernel.rules()
	if err := b.RuntimeToPermanent(ctx); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"zones/lan/a.xml": "<short>A</short>\n  <port port=\"1\" protocol=\"tcp\"/>\n  <port port=\"3\" protocol=\"tcp\"/>\n  <port port=\"8080\" protocol=\"tcp\"/>\n</zone>",
		"zones/lan/b.xml": "<zone>\n  <source address=\"10.0.0.0/8\"/>\n</zone>",
	} {
		text, err := os.ReadFile(filepath.Join(b.dir, file))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s is\n%s\nwithout\n%s", file, text, want)
		}
	}
	if _, err := os.Stat(filepath.Join(b.dir, "zones/lan.xml")); err == nil {
		t.Error("the zone has a file of its own as well, which nobody reads")
	}
	if err := b.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if again := sortedRules(b.kernel.rules()); again != sortedRules(rules) {
		t.Errorf("after a reload the rules are\n%s\nand they were\n%s", again, rules)
	}
}

// sortedRules is rules without the places in files where they come from, and thus without their order.
func sortedRules(rules string) string {
	lines := strings.Split(regexp.MustCompile(`  # .*`).ReplaceAllString(rules, ""), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A check of the files asks the kernel what it refuses of the direct rules, and says where that stands. It changes nothing.
func TestCheckAsksTheKernel(t *testing.T) {
	b := start(t, nil)
	before := b.Snapshot()
	if err := b.CheckPermanent(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"direct.xml": "<direct>\n<rule ipv=\"ipv4\" table=\"filter\" chain=\"INPUT\" priority=\"0\">-j DRIP</rule></direct>"})
	commits := b.kernel.commits
	b.kernel.refuse = &kernel.RuleError{Origin: &ir.Origin{Path: filepath.Join(b.dir, "direct.xml"), Line: 2}, Err: errors.New("there is no target DRIP")}
	err := b.CheckPermanent(t.Context())
	if code, _ := zones.CodeOf(err); err == nil || !strings.Contains(err.Error(), "DRIP") || code == "" {
		t.Errorf("the check gives %v", err)
	}
	if lines := Explain(err); len(lines) != 1 || !strings.Contains(lines[0], "direct.xml:2") {
		t.Errorf("it is explained by %q", lines)
	}
	if !reflect.DeepEqual(before, b.Snapshot()) || b.kernel.commits != commits {
		t.Error("the check has changed something")
	}
}

// runningKernel is a kernel in which another program has made an empty chain, which only a start would take over.
type runningKernel struct{ *fakeKernel }

func (k runningKernel) Check(next *kernel.Desired) error {
	if !next.Running {
		return nil
	}
	return &kernel.RuleError{Chain: "mine", Err: &kernel.TakenError{Tool: "iptables", Table: "filter", Chain: "mine"}}
}

// A check of the files is one for a running firewall: it refuses the direct chain of another program that a reload refuses.
func TestCheckIsNoStart(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		b := start(t, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n"})
		b.Daemon.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return runningKernel{b.kernel}, nil }
		b.write(t, map[string]string{"direct.xml": `<direct><chain ipv="ipv4" table="filter" chain="mine"/></direct>`})
		if err := b.CheckPermanent(t.Context()); err == nil || !strings.Contains(err.Error(), "such a chain already") {
			t.Errorf("%s: the check gives %v", backend, err)
		}
	}
}

// turnsKernel is a kernel whose methods take turns, and which is asked for as long as it likes.
type turnsKernel struct {
	fakeKernel
	turn        sync.Mutex
	asked, free chan struct{}
}

func (k *turnsKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	return k.fakeKernel.Commit(ctx, next)
}

func (k *turnsKernel) Check(*kernel.Desired) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	k.asked <- struct{}{}
	<-k.free
	return nil
}

// While the kernel is asked about the files, for however long, changes are made, panic mode comes on and goes off, and the firewall stops.
// Whoever asks does not wait longer than he wants, either.
func TestNobodyWaitsForACheck(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		b := start(t, map[string]string{"firewalld.conf": "FirewallBackend=" + backend + "\n"})
		asked, free := make(chan struct{}), make(chan struct{})
		b.opt = b.Daemon.opt
		b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return &turnsKernel{asked: asked, free: free}, nil }
		b.again(t)
		b.write(t, map[string]string{
			"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j DROP</rule></direct>`,
		})
		ctx, cancel := context.WithCancel(t.Context())
		checked := make(chan error)
		go func() { checked <- b.CheckPermanent(ctx) }()
		<-asked
		err := errors.Join(
			b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp"))}),
			b.SetPanic(t.Context(), true), b.SetPanic(t.Context(), false),
		)
		if err != nil {
			t.Errorf("%s: while the kernel is asked: %v", backend, err)
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("%s: a stop gives %v", backend, err)
		}
		cancel()
		if err := <-checked; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a check that nobody waits for gives %v", backend, err)
		}
		free <- struct{}{}
	}
}

// A stop waits for what the kernel is carrying out, however long, and takes out the rules after it. It waits for nothing else.
func TestStopBehindATransaction(t *testing.T) {
	for _, busy := range []bool{true, false} {
		b := start(t, nil)
		var working atomic.Bool
		working.Store(busy)
		b.Daemon.opt.Busy = working.Load
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // there is no time for anything else
		b.mu.Lock()
		stopped := make(chan error)
		go func() { stopped <- b.Stop(ctx) }()
		if busy {
			select {
			case err := <-stopped:
				t.Errorf("while the kernel is busy, the stop ends with %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			working.Store(false)
			b.mu.Unlock()
		}
		if err := <-stopped; (err == nil) != busy {
			t.Errorf("the kernel is busy: %v; the stop ends with %v", busy, err)
		}
		if !busy {
			b.mu.Unlock()
		}
		if gone := b.kernel.installed.Rules == nil; gone != busy {
			t.Errorf("the kernel is busy: %v; the rules are gone: %v", busy, gone)
		}
	}
}
