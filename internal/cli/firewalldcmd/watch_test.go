package firewalldcmd

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Files that come, change and go are told, in new folders too; those of editors and copies kept beside are not.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	told := make(chan []string, 100)
	w, err := watch(dir, 50*time.Millisecond, slog.New(slog.DiscardHandler), func(paths []string) { told <- paths })
	if err != nil {
		t.Skip(err)
	}
	defer w.files.Close()
	expect := func(want string) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			select {
			case paths := <-told:
				for _, path := range paths {
					if ext := filepath.Ext(path); ext != ".xml" && ext != ".conf" {
						t.Errorf("%s was told", path)
					}
				}
				if slices.Contains(paths, filepath.Join(dir, want)) {
					return
				}
			case <-deadline:
				t.Fatalf("%s was not told", want)
			}
		}
	}
	write := func(name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("firewalld.conf.old")
	write("firewalld.conf")
	expect("firewalld.conf")
	write("zones/lan/.a.xml.swp")
	write("zones/lan/a.xml")
	expect("zones/lan/a.xml")
	if err := os.Rename(filepath.Join(dir, "zones/lan/a.xml"), filepath.Join(dir, "zones/lan/b.xml")); err != nil {
		t.Fatal(err)
	}
	expect("zones/lan/b.xml")
	if err := os.Remove(filepath.Join(dir, "zones/lan/b.xml")); err != nil {
		t.Fatal(err)
	}
	expect("zones/lan/b.xml")
}

// A folder whose disk does not answer keeps the program from nothing but watching it.
func TestWatchOnAHangingDisk(t *testing.T) {
	p := program{log: slog.New(slog.DiscardHandler)}
	answer, watching := make(chan struct{}), make(chan struct{})
	began := time.Now()
	p.watch(func() error {
		<-answer
		close(watching)
		return nil
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the program waits for %v", took)
	}
	close(answer)
	<-watching
}
