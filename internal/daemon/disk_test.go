package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/statedir"
	"richwall/zones"
)

// hangingDisk makes a disk that does not answer a change when all its files are written, until answer is called. written is told of each
// change that gets there.
func hangingDisk(t *testing.T) (written <-chan struct{}, answer func()) {
	there, free := make(chan struct{}, 8), make(chan struct{})
	wasSave, wasWrite, wasFiles := saveFiles, writeTime, filesTime
	saveFiles = func(s zones.Store, old, next *zones.Config, keep func() bool) (*zones.Config, zones.Written, error) {
		return wasSave(s, old, next, func() bool {
			there <- struct{}{}
			<-free
			return keep()
		})
	}
	t.Cleanup(func() { saveFiles, writeTime, filesTime = wasSave, wasWrite, wasFiles })
	return there, func() { close(free) }
}

// refusedFor tells whether an error is COMMAND_FAILED for a reason.
func refusedFor(err error, reason string) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Code == CommandFailed && strings.Contains(refused.Msg, reason)
}

// While the disk does not answer a change of the files, the state can be asked for, the running firewall can be changed, panic mode comes
// on and ends, and a stop ends; other changes of the files end with an error.
func TestNobodyWaitsForTheDisk(t *testing.T) {
	b := start(t, nil)
	written, answer := hangingDisk(t)
	filesTime = time.Millisecond
	permanent := func(p string) error {
		return b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port(p, "tcp"))})
	}
	changed := make(chan error)
	go func() { changed <- permanent("8080") }()
	<-written
	began := time.Now()
	if b.Snapshot().State != Running {
		t.Error("the state is not known")
	}
	if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("9090", "tcp"))}); err != nil {
		t.Errorf("a change of the running firewall gives %v", err)
	}
	for _, on := range []bool{true, false} {
		if err := b.SetPanic(t.Context(), on); err != nil || b.Snapshot().Panic != on {
			t.Errorf("panic mode is to be %v, and gives %v", on, err)
		}
	}
	for name, err := range map[string]error{
		"a change": permanent("1"), "a reload": b.Reload(t.Context()), "a default zone": b.SetDefaultZone(t.Context(), "work"),
		"runtime to permanent": b.RuntimeToPermanent(t.Context()), "a reset": b.ResetToDefaults(t.Context()),
	} {
		if !refusedFor(err, "somebody else has been reading or writing the files in "+b.dir) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	b.FilesTouched([]string{filepath.Join(b.dir, "zones/public.xml")})
	if err := b.Stop(t.Context()); err != nil {
		t.Errorf("a stop gives %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("all that took %v", took)
	}
	answer()
	if err := <-changed; err != nil {
		t.Errorf("the change that waited for the disk gives %v", err)
	}
}

// A change that the disk does not answer for too long is given up. What it has written is taken back when the disk answers again; until
// then other changes of the files are refused, and afterwards they are made.
func TestChangeIsGivenUp(t *testing.T) {
	b := start(t, map[string]string{"zones/public.xml": "<zone/>"})
	written, answer := hangingDisk(t)
	writeTime = time.Millisecond
	edit := Change{Edit: zones.Add(zones.Permanent, public, port("8080", "tcp"))}
	before := b.Snapshot()
	if err := b.ChangePermanent(edit); !refusedFor(err, "does not answer: the change is given up") {
		t.Errorf("the change gives %v", err)
	}
	<-written
	for range 2 {
		if err := b.Reload(t.Context()); !refusedFor(err, "does not answer: an earlier change") {
			t.Errorf("a reload gives %v", err)
		}
	}
	if b.Snapshot().Permanent != before.Permanent {
		t.Error("the change is in memory")
	}
	hung := b.hung
	answer()
	<-hung
	if text, err := os.ReadFile(filepath.Join(b.dir, "zones/public.xml")); err != nil || string(text) != "<zone/>" {
		t.Errorf("the file is %q, %v", text, err)
	}
	writeTime = time.Minute
	if err := b.ChangePermanent(edit); err != nil {
		t.Errorf("the disk answers, and a change gives %v", err)
	}
	if err := b.Reload(t.Context()); err != nil || !b.has(port("8080", "tcp")) {
		t.Errorf("a reload gives %v", err)
	}
}

// A state folder whose disk does not answer holds up neither a start nor a reload, nor what comes after them.
func TestStateOnAHangingDisk(t *testing.T) {
	b := start(t, map[string]string{"zones/work.xml": workZone})
	var err error
	if b.opt.State, err = statedir.For(t.TempDir(), b.dir); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	was := keepTime
	keepTime = time.Millisecond
	defer func() { keepTime = was }()
	b.keeping.Lock() // as one does who writes to it
	b.noting.Lock()
	b.write(t, map[string]string{"zones/work.xml": strings.Replace(workZone, "8080", "9090", 1)})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", []string{"9090"}, []string{"8080"})
	if err := b.SetPanic(context.Background(), true); err != nil {
		t.Error(err)
	}
	b.keeping.Unlock()
	b.noting.Unlock()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		on, err := b.opt.State.Panic()
		folder, _, _ := b.opt.State.LastGood()
		text, _ := os.ReadFile(filepath.Join(folder, "zones/work.xml"))
		if on && err == nil && strings.Contains(string(text), "9090") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the disk answers, and panic mode is noted as %v, %v, and the last good configuration has\n%s", on, err, text)
		}
	}
	b.keeping.Lock() // whoever still writes has ended then
	b.noting.Lock()
}

// Files that are whole are used at a start although the state folder does not answer, or stops answering while it is asked. Those that leave
// doubt are not, and neither is an empty firewalld.conf, which may have had settings.
func TestStateFolderDoesNotAnswer(t *testing.T) {
	wasRead, wasOpen := readTime, openState
	defer func() { readTime, openState = wasRead, wasOpen }()
	for answers := range int32(2) {
		for name, test := range map[string]struct {
			files map[string]string
			wrong string // why the files are not used; "" is that they are
		}{
			"whole":    {map[string]string{}, ""},
			"in doubt": {map[string]string{"zones/work.xml": "<zone><"}, errDoubt.Error()},
			"no conf":  {map[string]string{"firewalld.conf": ""}, "firewalld.conf in "},
		} {
			b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n", "zones/work.xml": workZone})
			b.write(t, test.files)
			var asked atomic.Int32
			readTime, openState = time.Second, func() {
				if asked.Add(1) > answers {
					<-t.Context().Done()
				}
			}
			b.again(t)
			readTime, openState = wasRead, wasOpen
			if test.wrong == "" {
				b.expect(t, Running, "", []string{"8080"}, []string{"22"})
			} else if !strings.Contains(strings.Join(b.Snapshot().Failures, "\n"), test.wrong) {
				t.Errorf("%s, and the state folder answers %d times: the state is %s, because of %v", name, answers, b.Snapshot().State, b.Snapshot().Failures)
			}
		}
	}
}

// Pipes in the place of the files of the state folder, which nobody reads or writes, hold up neither a start nor what comes after it.
func TestPipesInTheStateFolder(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	folder, _, err := b.opt.State.LastGood()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"panic.off", ".last-good", "outdated"} {
		path := filepath.Join(filepath.Dir(folder), name)
		os.Remove(path)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.write(t, map[string]string{"zones/work.xml": strings.Replace(workZone, "8080", "9090", 1)})
	began := time.Now()
	b.again(t)
	b.expect(t, Running, "", []string{"9090"}, nil)
	for _, on := range []bool{true, false} {
		if err := b.SetPanic(t.Context(), on); err != nil {
			t.Error(err)
		}
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("all that took %v", took)
	}
	if log := b.log.String(); strings.Contains(log, "ERROR") {
		t.Errorf("the log says\n%s", log)
	}
}
