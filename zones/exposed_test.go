package zones

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What others than root can write of a configuration is named once, with its mode: folders and files, also the one that a link leads to. It is
// used all the same. Nobody is told that of a folder that is a stranger's anyway.
func TestWhatOthersCanWriteIsNamed(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"firewalld.conf": 0o646, "zones/public.xml": 0o644, "zones/lan/a.xml": 0o666, "services/app.xml": 0o664, "ipsets/bad.xml": 0o602,
		"direct.xml": 0o600,
	} {
		text := map[string]string{"zones": "<zone/>", "services": "<service/>", "ipsets": `<ipset type="hash:ip"/>`, "direct.xml": "<direct/>"}[strings.Split(name, "/")[0]]
		writeFile(t, filepath.Join(dir, name), text)
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(elsewhere, "z.xml"), "<zone/>")
	if err := os.Symlink(filepath.Join(elsewhere, "z.xml"), filepath.Join(dir, "zones", "linked.xml")); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{filepath.Join(elsewhere, "z.xml"): 0o622, filepath.Join(dir, "services"): 0o777, dir: 0o757} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"": "0757", "firewalld.conf": "0646", "zones/lan/a.xml": "0666", "ipsets/bad.xml": "0602", "zones/linked.xml": "0622", "services": "0777"}
	for _, follow := range []bool{true, false} {
		c, problems := Load(Dirs{System: dir, Follow: follow})
		if c == nil && follow {
			t.Fatal(problems.Err())
		}
		got := map[string]bool{}
		for _, p := range problems {
			if p.Code != Exposed {
				continue
			}
			name, err := filepath.Rel(dir, p.Path)
			if err != nil {
				t.Fatal(err)
			}
			name = strings.TrimPrefix(name, ".")
			mode := want[name]
			if got[name] || mode == "" || p.Severity != Warning || !strings.Contains(p.Msg, "its mode is "+mode) {
				t.Errorf("told is %v", p)
			}
			got[name] = true
		}
		if follow && len(got) != len(want) || !follow && len(got) > 0 {
			t.Errorf("with a folder of root's %v, %v are told of", follow, got)
		}
	}
}

// ofUser is a file of a user.
type ofUser struct {
	fs.FileInfo
	id uint32
}

func (o ofUser) Sys() any { return &syscall.Stat_t{Uid: o.id} }

// A file of another user is named although nobody else can write it; one of root's or of who runs this is not.
func TestFilesOfAnotherUserAreNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firewalld.conf")
	writeFile(t, path, "")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for owner, named := range map[int]bool{0: false, os.Geteuid(): false, os.Geteuid() + 1: true} {
		if why := exposure(ofUser{info, uint32(owner)}); strings.Contains(why, fmt.Sprintf("the user with the id %d owns it", owner)) != named {
			t.Errorf("of a file of user %d is said %q", owner, why)
		}
	}
}
