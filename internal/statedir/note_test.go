package statedir

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A note is read as it was written last, by this process or a later one; there is none before the first.
func TestNote(t *testing.T) {
	base := t.TempDir()
	d, err := For(base, "/etc/firewalld")
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		again, _ := For(base, "/etc/firewalld")
		if got, err := again.Note("shared").Read(); err != nil || string(got) != want {
			t.Errorf("the note says %q, %v; want %q", got, err, want)
		}
	}
	check("")
	n := d.Note("shared")
	for _, text := range []string{"one", "two\nthree", ""} {
		if err := n.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		check(text)
	}
	entries, err := os.ReadDir(d.path)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	if err := (*Dir)(nil).Note("shared").Write([]byte("lost")); err != nil {
		t.Error(err)
	}
}

// A note says nothing after a boot.
func TestNoteOfAnotherBoot(t *testing.T) {
	d, _ := For(t.TempDir(), "/etc/firewalld")
	if err := d.Note("shared").Write([]byte("rules")); err != nil {
		t.Fatal(err)
	}
	was := bootID
	defer func() { bootID = was }()
	bootID = filepath.Join(t.TempDir(), "other")
	if _, err := d.Note("shared").Read(); err == nil {
		t.Error("a note is read where it is not known whether it counts")
	}
	os.WriteFile(bootID, []byte("another\n"), 0o600)
	if got, err := d.Note("shared").Read(); err != nil || len(got) != 0 {
		t.Errorf("the note says %q, %v", got, err)
	}
}

// A network namespace is told from those that were there before it, as of a container that was started again: the kernel gives the
// inode of one that is gone to the next.
func TestNetworkNamespaces(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test, and the namespace with it
	seen := map[string]bool{}
	for range 20 {
		name, err := networkNamespace()
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := networkNamespace(); again != name {
			t.Fatalf("one namespace is %s and %s", name, again)
		}
		if seen[name] {
			t.Fatalf("two namespaces are %s", name)
		}
		seen[name] = true
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
	}
}

// A note that cannot be written is an error, and what is no file is not read.
func TestNoteOnABrokenDisk(t *testing.T) {
	d, _ := For(t.TempDir(), "/etc/firewalld")
	if err := os.WriteFile(d.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Note("shared").Write([]byte("rules")); err == nil {
		t.Error("a note is written where there is no folder")
	}
	os.Remove(d.path)
	if err := os.MkdirAll(filepath.Join(d.path, "shared"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Note("shared").Read(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder in place of the note gives %v", err)
	}
}

// A disk that does not answer is waited for once. When it answers it has the latest note.
func TestNoteOnASlowDisk(t *testing.T) {
	d, _ := For(t.TempDir(), "/etc/firewalld")
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(d.path, "shared.new") // nobody reads it yet
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	n := d.Note("shared")
	for _, text := range []string{"first", "second", "last"} {
		if err := n.Write([]byte(text)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s is written, or refused for good: %v", text, err)
		}
	}
	if _, err := os.ReadFile(pipe); err != nil {
		t.Fatal(err)
	}
	for { // the test's own time limit ends it
		if got, err := n.Read(); err == nil && string(got) == "last" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// slowDisk has every reading of a note, and of whether panic mode was on, wait until the test answers it, and gives up waiting for it soon.
func slowDisk(t *testing.T) (answer func()) {
	t.Helper()
	boot, err := os.ReadFile(bootID)
	if err != nil {
		t.Fatal(err)
	}
	was, wasNote, wasPanic := bootID, noteTime, panicTime
	t.Cleanup(func() { bootID, noteTime, panicTime = was, wasNote, wasPanic })
	pipe := filepath.Join(t.TempDir(), "boot_id")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	bootID, noteTime, panicTime = pipe, 10*time.Millisecond, 10*time.Millisecond
	return func() { // one reading, which waits for it or begins now
		t.Helper()
		if err := os.WriteFile(pipe, boot, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk is so slow that each reading of a note is given up. It is an error at once then, as long as the first reading goes on. What that one
// finds is what the next who asks gets, without another reading.
func TestANoteThatIsReadSlowly(t *testing.T) {
	d, _ := For(t.TempDir(), "/etc/firewalld")
	n := d.Note("shared")
	if err := n.Write([]byte("rules")); err != nil {
		t.Fatal(err)
	}
	answer := slowDisk(t)
	for range 3 {
		if got, err := n.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the note says %q, %v", got, err)
		}
	}
	find := func() {
		t.Helper()
		answer()
		for { // the test's own time limit ends it
			got, err := n.Read()
			if err == nil && string(got) == "rules" {
				return
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the note says %q, %v", got, err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	find()
	if got, err := n.Read(); !errors.Is(err, os.ErrDeadlineExceeded) { // it is read anew
		t.Errorf("the note says %q, %v", got, err)
	}
	find()
}

// The same of whether panic mode was on, of which it is no less true that it was off.
func TestPanicThatIsReadSlowly(t *testing.T) {
	d, _ := For(t.TempDir(), "/etc/firewalld")
	if err := d.SetPanic(true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.path, panicked), []byte("01234567-89ab-cdef-0123-456789abcdef\n"), 0o600); err != nil { // of another boot
		t.Fatal(err)
	}
	answer := slowDisk(t)
	if on, err := d.Panic(); err == nil || !on {
		t.Fatalf("panic mode was on: %v, %v", on, err)
	}
	answer()
	for { // the test's own time limit ends it
		if on, err := d.Panic(); err == nil && !on {
			return
		}
	}
}

// A fault in reading or writing a note does not end the program: it is the error.
func TestAFaultInANoteIsAnError(t *testing.T) {
	d, err := For(t.TempDir(), "/etc/firewalld")
	if err != nil {
		t.Fatal(err)
	}
	err = d.Note("shared").inTime("read", func() error { panic("a fault of the test") })
	if err == nil || err.Error() != "internal error in shared: a fault of the test" {
		t.Errorf("the error is %v", err)
	}
}
