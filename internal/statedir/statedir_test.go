package statedir

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var at = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := For(t.TempDir(), "/etc/firewalld")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func files(port string) map[string][]byte {
	return map[string][]byte{"firewalld.conf": []byte("DefaultZone=work\n"), "zones/work.xml": []byte("<port port=\"" + port + "\"/>")}
}

// content is what a folder has, without the manifest.
func content(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for _, path := range []string{"firewalld.conf", "zones/work.xml"} {
		data, err := os.ReadFile(filepath.Join(folder, path))
		if err != nil {
			t.Fatal(err)
		}
		found[path] = data
	}
	return found
}

func same(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

// What was kept last is the last good configuration, for another process too; those before it are gone.
func TestKeep(t *testing.T) {
	d := open(t)
	if _, _, err := d.LastGood(); !errors.Is(err, ErrNone) {
		t.Errorf("nothing was kept, and the error is %v", err)
	}
	for _, port := range []string{"1", "2", "2", "3"} {
		if err := d.Keep(files(port), at); err != nil {
			t.Fatal(err)
		}
	}
	folder, installed, err := (&Dir{path: d.path}).LastGood()
	if err != nil || !installed.Equal(at) || !same(content(t, folder), files("3")) {
		t.Errorf("the last good configuration is %v of %v, %v", folder, installed, err)
	}
	if d := (&Dir{path: d.path}); !d.Has(files("3")) || d.Has(files("2")) || !d.Differs("zones/work.xml", nil) || d.Differs("zones/home.xml", nil) ||
		d.Differs("firewalld.conf", files("3")["firewalld.conf"]) {
		t.Error("another configuration counts as the last good one")
	}
	if left, _ := filepath.Glob(filepath.Join(d.path, prefix+"*")); len(left) != 1 {
		t.Errorf("folders %v are there, want one", left)
	}
}

// A configuration whose files were changed, removed or added to since is not used. A broken disk may give a file any size: what was not written is
// not read into memory.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(folder string) error{
		"a file is another": func(f string) error { return os.WriteFile(filepath.Join(f, "zones/work.xml"), []byte("x"), 0o600) },
		"a file is empty":   func(f string) error { return os.Truncate(filepath.Join(f, "firewalld.conf"), 0) },
		"a file is gone":    func(f string) error { return os.Remove(filepath.Join(f, "zones/work.xml")) },
		"a file was added":  func(f string) error { return os.WriteFile(filepath.Join(f, "direct.xml"), nil, 0o600) },
		"no manifest":       func(f string) error { return os.Remove(filepath.Join(f, manifest)) },
		"an empty manifest": func(f string) error { return os.Truncate(filepath.Join(f, manifest), 0) },
		"a huge manifest":   func(f string) error { return os.Truncate(filepath.Join(f, manifest), 20<<30) },
		"a huge file":       func(f string) error { return os.Truncate(filepath.Join(f, "zones/work.xml"), 20<<30) },
		"no folder":         os.RemoveAll,
		"half a manifest": func(f string) error {
			return errors.Join(os.Truncate(filepath.Join(f, manifest), 30), os.RemoveAll(filepath.Join(f, "zones")), os.Remove(filepath.Join(f, "firewalld.conf")))
		},
		"a pipe": func(f string) error {
			return errors.Join(os.Remove(filepath.Join(f, manifest)), unix.Mkfifo(filepath.Join(f, manifest), 0o600))
		},
		"a manifest without files": func(f string) error {
			list := "installed 2026-11-30T06:38:33Z\n"
			return os.WriteFile(filepath.Join(f, manifest), []byte(list+sum([]byte(list))+"  "+manifest+"\n"), 0o600)
		},
		"no link":               func(f string) error { return os.Remove(filepath.Join(filepath.Dir(f), link)) },
		"a link to nothing":     func(f string) error { return relink(f, func(l string) error { return os.Symlink("/nowhere", l) }) },
		"a pipe for the link":   func(f string) error { return relink(f, func(l string) error { return unix.Mkfifo(l, 0o600) }) },
		"a folder for the link": func(f string) error { return relink(f, func(l string) error { return os.Mkdir(l, 0o700) }) },
		"the state folder a file": func(f string) error {
			return errors.Join(os.Rename(filepath.Dir(f), filepath.Dir(f)+".away"), os.WriteFile(filepath.Dir(f), nil, 0o600))
		},
		"the state folder a link": func(f string) error {
			return errors.Join(os.Rename(filepath.Dir(f), filepath.Dir(f)+".away"), os.Symlink("/nowhere", filepath.Dir(f)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			if err := d.Keep(files("1"), at); err != nil {
				t.Fatal(err)
			}
			folder, _, err := d.LastGood()
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(folder); err != nil {
				t.Fatal(err)
			}
			next := &Dir{path: d.path}
			before := allocated()
			if _, _, err := next.LastGood(); err == nil || errors.Is(err, ErrNone) {
				t.Errorf("the error is %v", err)
			}
			if n := allocated() - before; n > 16<<20 {
				t.Errorf("it has taken %d bytes of memory", n)
			}
			if !next.Differs("firewalld.conf", []byte("other")) || next.Has(files("1")) {
				t.Error("it is forgotten that there was one")
			}
		})
	}
}

// allocated is how many bytes of memory this process has taken so far, all in all.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// relink puts something in the place of the link to a folder.
func relink(folder string, put func(path string) error) error {
	path := filepath.Join(filepath.Dir(folder), link)
	return errors.Join(os.Remove(path), put(path))
}

// As long as the manifest is whole, it is known what was in files that were damaged.
func TestManifestOutlivesFiles(t *testing.T) {
	d := open(t)
	if err := d.Keep(files("1"), at); err != nil {
		t.Fatal(err)
	}
	folder, _, err := d.LastGood()
	if err == nil {
		err = os.Truncate(filepath.Join(folder, "firewalld.conf"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if next := (&Dir{path: d.path}); next.Differs("firewalld.conf", files("1")["firewalld.conf"]) || !next.Differs("firewalld.conf", nil) {
		t.Error("the manifest does not count")
	}
}

// A file that was damaged while the process ran does not get into the next configuration that is kept, nor stay in the same one.
func TestDamagedFileIsWrittenAgain(t *testing.T) {
	for name, next := range map[string]map[string][]byte{"the same": files("1"), "another": files("2")} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			if err := d.Keep(files("1"), at); err != nil {
				t.Fatal(err)
			}
			folder, _, err := d.LastGood()
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, "firewalld.conf"), []byte("garbage"), 0o600)
			}
			if err == nil {
				err = d.Keep(next, at)
			}
			if err != nil {
				t.Fatal(err)
			}
			if folder, _, err := (&Dir{path: d.path}).LastGood(); err != nil || !same(content(t, folder), next) {
				t.Errorf("the last good configuration is %v, %v", folder, err)
			}
		})
	}
}

// A link that is none, or leads to what is no folder, is an error that names it.
func TestBrokenLinkIsNamed(t *testing.T) {
	for what, make := range map[string]func(path string) error{
		"a file":              func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a link to a file":    func(path string) error { return os.Symlink("MANIFEST", path) },
		"a link to no place":  func(path string) error { return os.Symlink("good-1", path) },
		"a link below a file": func(path string) error { return os.Symlink("MANIFEST/good-1", path) },
	} {
		d := &Dir{path: t.TempDir()}
		if err := os.WriteFile(filepath.Join(d.path, "MANIFEST"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := make(d.Link()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.LastGood(); err == nil || !strings.Contains(err.Error(), d.Link()) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// When a configuration cannot be kept, as on a full disk, the one before does not count any more, for later processes too: it may be
// more open. That is not as if none had ever been kept.
func TestKeepFails(t *testing.T) {
	d := open(t)
	if err := d.Keep(files("1"), at); err != nil {
		t.Fatal(err)
	}
	bad := files("2")
	bad["zones/work.xml/x"] = nil // there is a file of that name where a folder would have to be
	if err := d.Keep(bad, at); err == nil {
		t.Fatal("what cannot be written was kept")
	}
	for _, d := range []*Dir{d, {path: d.path}} {
		for range 2 { // once with the one before, and once without
			if folder, _, err := d.LastGood(); !errors.Is(err, ErrOutdated) {
				t.Errorf("the last good configuration is in %s, %v", folder, err)
			}
			if err := d.Keep(bad, at); err == nil {
				t.Fatal("what cannot be written was kept")
			}
		}
		if d.Has(files("1")) || !d.Differs("firewalld.conf", []byte("other")) || d.Differs("firewalld.conf", files("1")["firewalld.conf"]) {
			t.Error("the one before counts, or is forgotten")
		}
	}
	if err := d.Keep(files("3"), at); err != nil {
		t.Fatal(err)
	}
	if folder, _, err := d.LastGood(); err != nil || !same(content(t, folder), files("3")) {
		t.Errorf("the last good configuration is in %s, %v", folder, err)
	}
}

// When the first configuration of all cannot be kept, none is not what was installed.
func TestFirstKeepFails(t *testing.T) {
	d := open(t)
	bad := files("2")
	bad["zones/work.xml/x"] = nil
	if err := d.Keep(bad, at); err == nil {
		t.Fatal("what cannot be written was kept")
	}
	if folder, _, err := d.LastGood(); !errors.Is(err, ErrOutdated) {
		t.Errorf("the last good configuration is in %s, %v", folder, err)
	}
}

// A mark that a process could not remove, because it was killed after it had kept a configuration, does not count, and goes with the next.
func TestMarkOutlivesAKeep(t *testing.T) {
	d := open(t)
	if err := d.outdate(); err != nil { // the first Keep fails
		t.Fatal(err)
	}
	if err := d.Keep(files("1"), at); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(d.path, outdated)
	if err := os.Symlink(nothing, mark); err != nil {
		t.Fatal(err)
	}
	next := &Dir{path: d.path}
	if !next.Differs("firewalld.conf", []byte("DefaultZone=public\n")) || next.Differs("firewalld.conf", files("1")["firewalld.conf"]) {
		t.Error("it is not known what is in the last good configuration")
	}
	if err := next.Keep(files("1"), at); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("the mark is still there")
	}
}

// A folder that is a link to what is not there, as when its disk is not mounted, is not one in which nothing was ever kept.
func TestStateFolderGone(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if err := os.Symlink("/nonexistent/folder", base); err != nil {
		t.Fatal(err)
	}
	d, err := For(base, "/etc/firewalld")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.LastGood(); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("the error is %v", err)
	}
}

// A folder that was written half, because the machine went down, is not the last good one, and goes.
func TestHalfWritten(t *testing.T) {
	d := open(t)
	if err := d.Keep(files("1"), at); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(d.path, prefix+"half")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if folder, _, err := d.LastGood(); err != nil || !same(content(t, folder), files("1")) {
		t.Errorf("the last good configuration is in %s, %v", folder, err)
	}
	if err := d.Keep(files("2"), at); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was half written is still there: %v", err)
	}
}

// Panic mode is known to the next process, and not after the next boot.
func TestPanic(t *testing.T) {
	d := open(t)
	is := func(want bool) {
		t.Helper()
		if on, err := (&Dir{path: d.path}).Panic(); on != want || err != nil {
			t.Errorf("panic mode is %v, %v; want %v", on, err, want)
		}
	}
	is(false)
	for _, on := range []bool{true, true, false, false, true} {
		if err := d.SetPanic(on); err != nil {
			t.Fatal(err)
		}
		is(on)
	}
	note := filepath.Join(d.path, panicked)
	whole, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", string(whole[:10]), string(whole[:len(whole)-1]), "\x00" + string(whole[1:]), string(whole) + "x"} {
		if err := os.WriteFile(note, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if on, err := (&Dir{path: d.path}).Panic(); !on || err == nil {
			t.Errorf("with the note %q panic mode is %v, %v", damaged, on, err)
		}
	}
	for _, on := range []bool{false, true} {
		if err := d.SetPanic(on); err != nil {
			t.Fatal(err)
		}
		is(on)
	}
	boot := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(boot, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func(was string) { bootID = was }(bootID)
	bootID = boot
	is(false)
}

// Each configuration has a folder of its own, whatever its path.
func TestFolderName(t *testing.T) {
	long := "/" + strings.Repeat("x", 300)
	names := map[string]string{}
	for _, path := range []string{"/etc/firewalld", "/etc-firewalld", "/etc/firewalld/x", "/ä", "/..", "/.hidden", long, long + "y"} {
		name := folderName(path)
		if strings.ContainsAny(name, "/\x00") || name[0] == '.' || len(name) > 255 {
			t.Errorf("%s has the folder %q", path, name)
		}
		if other, taken := names[name]; taken {
			t.Errorf("%s and %s have the same folder", path, other)
		}
		names[name] = path
	}
	if name := folderName("/etc/firewalld"); name != "etc-firewalld" {
		t.Errorf("/etc/firewalld has the folder %q", name)
	}
}
