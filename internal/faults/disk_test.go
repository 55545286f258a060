package faults

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/internal/statedir"
	"richwall/internal/testlog"
	"richwall/zones"
)

// smallDisk mounts a file system with this many pages, and returns its folder.
func smallDisk(t *testing.T, pages int) string {
	t.Helper()
	if missing := lab.Missing(); missing != nil {
		t.Skip(missing[0])
	}
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("cannot mount anything here: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(pages*os.Getpagesize())); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves so many pages of a disk free, and returns what makes room again.
func fill(t *testing.T, dir string, free int) (release func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, n := make([]byte, os.Getpagesize()), int64(0)
	for ; err == nil; n++ {
		_, err = f.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(max(0, n-1-int64(free)) * int64(len(page))); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(path) }
}

// contents are the files of a folder but the ballast, by path.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "ballast" {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A permanent change that the disk has no room for is refused, and files and memory are as before, however far it came;
// what needs no room still works, and the change does once there is room.
func TestFullDisk(t *testing.T) {
	port := zones.Item{Key: zones.KeyPort, Args: []string{"8080", "tcp"}}
	for free := range 12 {
		t.Run(strconv.Itoa(free)+" pages free", func(t *testing.T) {
			dir := smallDisk(t, 64)
			write(t, dir, sound)
			d := daemon.New(daemon.Options{
				Dirs: zones.Dirs{System: dir}, Log: slog.New(slog.DiscardHandler),
				Kernel: func(ir.Backend) (kernel.Kernel, error) { return kernel.NewMemory(), nil },
			})
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer d.Stop(t.Context())
			change := daemon.Change{Edit: zones.Add(zones.Permanent, public, port)}
			// Many files change at once, so that the room ends in their midst.
			steps := []struct {
				name string
				do   func() error
			}{
				{"a change of one zone", func() error { return d.ChangePermanent(change) }},
				{"runtime to permanent", func() error { return d.RuntimeToPermanent(t.Context()) }},
				{"a reset", func() error { return d.ResetToDefaults(t.Context()) }},
			}
			release := fill(t, dir, free)
			for _, step := range steps {
				files, before := contents(t, dir), d.Snapshot()
				err := step.do()
				if err == nil {
					continue
				}
				if after := contents(t, dir); !maps.Equal(files, after) {
					t.Errorf("%s is refused (%v) and changed files: %s", step.name, err, changedFiles(files, after))
				}
				if after := d.Snapshot(); after.Permanent != before.Permanent || after.Runtime != before.Runtime {
					t.Errorf("%s is refused (%v) and changed something in memory", step.name, err)
				}
			}
			if err := d.Reload(t.Context()); err != nil {
				t.Errorf("no reload on a full disk: %v", err)
			}
			add := daemon.Change{Edit: zones.Add(zones.Runtime, public, zones.Item{Key: zones.KeyPort, Args: []string{"8200", "tcp"}})}
			if err := d.ChangeRuntime(t.Context(), add); err != nil {
				t.Errorf("no change of the runtime configuration on a full disk: %v", err)
			}
			release()
			other := daemon.Change{Edit: zones.Add(zones.Permanent, public, zones.Item{Key: zones.KeyPort, Args: []string{"8300", "tcp"}})}
			if err := d.ChangePermanent(other); err != nil {
				t.Errorf("the change does not work when there is room again: %v", err)
			}
		})
	}
}

func changedFiles(before, after map[string]string) (list []string) {
	for path := range after {
		if text, ok := before[path]; !ok || text != after[path] {
			list = append(list, path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			list = append(list, path+" (gone)")
		}
	}
	return list
}

// The disk of the state folder has become read-only, and all that a start would write there is there already. The log says at the start that
// nothing will be noted, before there is anything to note.
func TestStateFolderThatCannotBeWritten(t *testing.T) {
	disk, dir := smallDisk(t, 100), t.TempDir()
	write(t, dir, map[string]string{"firewalld.conf": "DefaultZone=drop\n"})
	start := func() string {
		state, err := statedir.For(disk, dir)
		if err != nil {
			t.Fatal(err)
		}
		var log testlog.Log
		o := optionsOf(dir, state, nil, slog.New(slog.NewTextHandler(&log, nil)))
		o.Kernel = func(ir.Backend) (kernel.Kernel, error) { return kernel.NewMemory(), nil }
		if err := daemon.New(o).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return log.String()
	}
	const want = "the state folder cannot be written"
	if log := start(); strings.Contains(log, want) {
		t.Errorf("a disk that can be written: the log says\n%s", log)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if log := start(); !strings.Contains(log, want) || !strings.Contains(log, "read-only file system") {
		t.Errorf("a disk that cannot be written: the log says\n%s", log)
	}
}
