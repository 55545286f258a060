package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// isNow is what a file is, but its content: mode, owner, extended attributes, and where it leads if it is a link.
func isNow(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		return "link to " + to
	}
	a, err := attributesOf(path, info)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%o %d:%d %s", a.Mode, a.UID, a.GID, a.Extended["user.note"])
}

// A file that is written keeps its mode, owner, extended attributes and links, and so does one that another edit puts back; the one
// beside it has the mode and the attributes, as with firewalld.
func TestSaveKeepsAttributes(t *testing.T) {
	dir := t.TempDir()
	s := Store{Dirs: Dirs{System: filepath.Join(dir, "etc"), Follow: true}}
	in := func(name string) string { return filepath.Join(s.Dirs.System, name) }
	for _, name := range []string{"zones/public.xml", "zones/home.xml", "elsewhere/work.xml"} {
		writeFile(t, in(name), `<zone><service name="ssh"/></zone>`)
	}
	writeFile(t, filepath.Join(dir, "block.xml"), `<zone target="%%REJECT%%"/>`)
	writeFile(t, in("firewalld.conf"), "LogDenied=off\n")
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	if os.Getuid() == 0 {
		owner = "1:2"
		if err := os.Chown(in("zones/public.xml"), 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	note := "hello"
	if err := syscall.Setxattr(in("zones/public.xml"), "user.note", []byte(note), 0); errors.Is(err, syscall.ENOTSUP) {
		note = "" // not on this file system
	} else if err != nil {
		t.Fatal(err)
	}
	link(t, "../elsewhere/work.xml", in("zones/work.xml"))
	link(t, filepath.Join(dir, "block.xml"), in("between.xml"))
	link(t, "../between.xml", in("zones/block.xml"))
	for path, mode := range map[string]fs.FileMode{"zones/public.xml": 0o600, "elsewhere/work.xml": 0o640, "firewalld.conf": 0o640} {
		if err := os.Chmod(in(path), mode); err != nil {
			t.Fatal(err)
		}
	}
	c, problems := s.Load()
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	port := func(zone string) Edit { return Add(Permanent, Object{KindZone, zone}, item("port 80:tcp")) }
	c, err := s.Save(c, must(t, c, port("public"), port("home"), port("work"), port("block"), SetLogDenied("all", true)))
	if err != nil {
		t.Fatal(err)
	}
	process := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	for path, want := range map[string]string{
		in("zones/public.xml"): "600 " + owner + " " + note, in("zones/public.xml.old"): "600 " + process + " " + note,
		in("zones/home.xml"): "644 " + process + " ", in("zones/work.xml"): "link to ../elsewhere/work.xml",
		in("elsewhere/work.xml"): "640 " + process + " ", in("zones/work.xml.old"): "640 " + process + " ",
		in("zones/block.xml"): "link to ../between.xml", in("between.xml"): "link to " + dir + "/block.xml",
		in("firewalld.conf"): "600 " + process + " ", in("firewalld.conf.old"): "640 " + process + " ",
	} {
		if got := isNow(t, path); got != want {
			t.Errorf("%s is %s, not %s", path, got, want)
		}
	}
	for _, path := range []string{in("elsewhere/work.xml"), filepath.Join(dir, "block.xml")} {
		if data, _ := os.ReadFile(path); !strings.Contains(string(data), `port="80"`) {
			t.Errorf("%s is\n%s", path, data)
		}
	}
	// What goes is there as it was.
	before, block := isNow(t, in("zones/public.xml")), isNow(t, in("zones/block.xml"))
	shipped, _ := s.Shipped()
	defaults := []Edit{LoadDefaults(publicZone, shipped), LoadDefaults(Object{KindZone, "block"}, shipped)}
	if err := os.Remove(in("zones/home.xml")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(in("zones/home.xml/x"), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(c, must(t, c, append(slices.Clip(defaults), Add(Permanent, Object{KindZone, "home"}, item("port 81:tcp")))...)); err == nil {
		t.Error("a file is where a folder is")
	}
	if now := isNow(t, in("zones/public.xml")) + isNow(t, in("zones/block.xml")); now != before+block {
		t.Errorf("put back are %s, not %s", now, before+block)
	}
	if _, err := s.Save(c, must(t, c, defaults...)); err != nil {
		t.Fatal(err)
	}
	if old := isNow(t, in("zones/public.xml.old")) + isNow(t, in("zones/block.xml.old")); old != before+block {
		t.Errorf("what has gone is %s, not %s", old, before+block)
	}
}

// The file of an object that gets another name has the mode, the owner and the extended attributes that the file of the old name had.
func TestRenameKeepsAttributes(t *testing.T) {
	dir := t.TempDir()
	s := Store{Dirs: Dirs{System: dir, Follow: true}}
	for _, o := range []Object{{KindZone, "mine"}, {KindZone, "zulu"}, {KindIPSet, "mine"}} {
		path := filepath.Join(dir, string(o.Kind)+"s", o.Name+".xml")
		root := map[Kind]string{KindZone: "<zone/>", KindIPSet: `<ipset type="hash:ip"/>`}[o.Kind]
		writeFile(t, path, root)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			if err := os.Chown(path, 1, 2); err != nil {
				t.Fatal(err)
			}
		}
		before := isNow(t, path)
		c, problems := s.Load()
		if problems.Err() != nil {
			t.Fatal(problems)
		}
		if _, err := s.Save(c, must(t, c, Rename(o, "other"), Rename(Object{o.Kind, "other"}, "next"))); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(filepath.Dir(path), "next.xml")
		if got := isNow(t, next); got != before {
			t.Errorf("%s is %s, and %s was %s", next, got, path, before)
		}
		if err := os.Remove(next); err != nil {
			t.Fatal(err)
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}
