package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A crash at any moment of a change of several files leaves what was there before it or what is there after it, once the files are read
// again: their bytes, modes and links. Who cannot take back what was cut off is in doubt about the files.
func TestCrashWhileFilesChange(t *testing.T) {
	for name, c := range map[string]struct {
		files  map[string]string
		change func(s Store, whole func()) error // whole is called when what is there is to stay
	}{
		"an interface goes to another zone": {map[string]string{"firewalld.conf": "DefaultZone=trusted\n", "zones/work.xml": `<zone target="DROP"/>`,
			"zones/block.xml": `<zone target="%%REJECT%%"><interface name="eth0"/></zone>`, "zones/work.xml.old": "older"},
			saving(Rebind(Permanent, "work", item("interface eth0")))},
		"the default zone gets another name": {map[string]string{"firewalld.conf": "# mine\nDefaultZone=mine\n", "zones/mine.xml": `<zone target="DROP"/>`},
			saving(Rename(Object{KindZone, "mine"}, "yours"))},
		"a policy goes with its zone": {map[string]string{"zones/mine.xml": "<zone/>",
			"policies/p.xml": `<policy target="DROP"><ingress-zone name="mine"/><egress-zone name="HOST"/></policy>`},
			saving(Delete(Object{KindPolicy, "p"}), Delete(Object{KindZone, "mine"}))},
		"a service goes from its zones": {map[string]string{"services/mine.xml": "<service/>", "zones/work.xml": `<zone><service name="mine"/></zone>`,
			"zones/home.xml": `<zone><service name="mine"/></zone>`}, saving(Delete(Object{KindService, "mine"}))},
		"the first files are made": {nil, saving(Add(Permanent, publicZone, item("port 80:tcp")), New(Object{KindService, "app"}, nil), SetLogDenied("all"))},
		"a link stays one": {map[string]string{"elsewhere/work.xml": "<zone/>", "link zones/work.xml": "../elsewhere/work.xml"},
			saving(Add(Permanent, Object{KindZone, "work"}, item("port 80:tcp")), SetLogDenied("all"))},
		"a reset":                    {map[string]string{"firewalld.conf/x": "", "zones/a.xml": "<zone><", "zones/a.xml.old": "older", "ipsets": "no folder", "zones/lan/b.xml": "<zone/>", "zones/c.xml": "<zone/>", "zones/c.xml.old/x": ""}, resetting(false)},
		"a reset that is taken back": {map[string]string{"firewalld.conf": "LogDenied=x\n", "zones/a.xml": "<zone><", "zones/a.xml.old": "older", "direct.xml": "<direct><"}, resetting(true)},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := Store{Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
			for name, text := range c.files {
				if at, ok := strings.CutPrefix(name, "link "); ok {
					link(t, text, filepath.Join(s.Dirs.System, at))
				} else {
					writeFile(t, filepath.Join(s.Dirs.System, name), text)
				}
			}
			var states [][]string
			whole := func() { states = append(states, allOf(t, s.Dirs.System)) }
			isWhole := func(list []string) bool {
				return slices.ContainsFunc(states, func(s []string) bool { return slices.Equal(s, list) })
			}
			whole()
			moments := momentsOf(t, s.Dirs.System, func() error { return c.change(s, whole) })
			whole()
			for i, m := range moments {
				putInPlace(t, m, s.Dirs.System)
				_, cutOff := os.Lstat(filepath.Join(s.Dirs.System, journalName))
				if found := allOf(t, s.Dirs.System); !isWhole(found) && !InDoubt(LoadRest(s.Dirs, &Config{}).Losses) {
					t.Errorf("moment %d of %d: there is no doubt about\n%s", i, len(moments), strings.Join(found, "\n"))
				}
				s.Load()
				if got := allOf(t, s.Dirs.System); !isWhole(got) || cutOff == nil && !slices.Equal(got, states[0]) {
					t.Errorf("moment %d of %d: there are\n%s\nand there was\n%s", i, len(moments), strings.Join(got, "\n"), strings.Join(states[0], "\n"))
				}
			}
		})
	}
}

// saving is a change of the files by edits.
func saving(edits ...Edit) func(Store, func()) error {
	return func(s Store, _ func()) error {
		c, problems := s.Load()
		if c == nil {
			return problems.Err()
		}
		next, err := Apply(c, edits...)
		if err == nil {
			_, err = s.Save(c, next)
		}
		return err
	}
}

func resetting(back bool) func(Store, func()) error {
	return func(s Store, whole func()) error {
		_, undo, err := s.Reset(Always)
		if err == nil && back {
			whole()
			err = undo()
		}
		return err
	}
}

// momentsOf are copies of a folder as it is whenever a change has changed something in it; and, where a line of the journal is what has
// changed, as it is with half of that line.
func momentsOf(t *testing.T, dir string, change func() error) (moments []string) {
	t.Helper()
	var size int64
	reached = func() {
		copied := filepath.Join(t.TempDir(), "etc")
		copyAll(t, dir, copied)
		moments = append(moments, copied)
		path := filepath.Join(copied, journalName)
		info, err := os.Stat(path)
		if err != nil {
			return
		}
		if info.Size() > size && size > 0 {
			torn := filepath.Join(t.TempDir(), "etc")
			copyAll(t, copied, torn)
			if err := os.Truncate(filepath.Join(torn, journalName), (size+info.Size())/2); err != nil {
				t.Fatal(err)
			}
			moments = append(moments, torn)
		}
		size = info.Size()
	}
	defer func() { reached = func() {} }()
	if err := change(); err != nil {
		t.Fatal(err)
	}
	return moments
}

// copyAll copies a folder, if it is there.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if _, err := os.Stat(from); err != nil {
		return
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func putInPlace(t *testing.T, copied, dir string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(dir), 0o755), os.Rename(copied, dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// allOf is all that is in a folder but empty folders and what a crash leaves of a file that was being written: names, modes, content and
// where links lead.
func allOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := e.Info()
		if err != nil {
			return err
		}
		var data []byte
		to, err := os.Readlink(path)
		if err != nil {
			data, err = os.ReadFile(path)
		}
		list = append(list, fmt.Sprintf("%s %v %q %q", name, info.Mode(), to, data))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

// What was cut off is not taken back where that would undo what somebody has written since, where the journal is damaged, and while who
// changes the files is still at it. Until somebody has seen to that the files cannot be used or changed, and the error names the journal.
func TestNotTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, journal, zone string)
		want    string
	}{
		"somebody has edited a file": {func(t *testing.T, _, zone string) { writeFile(t, zone, "<zone><port port='1' protocol='tcp'/></zone>") }, "somebody has changed"},
		"the journal is damaged":     {func(t *testing.T, journal, _ string) { spoil(t, journal) }, "line 1 of it is damaged"},
		"it is a folder":             {func(t *testing.T, journal, _ string) { os.Remove(journal); makeFolder(t, journal) }, journalName},
		"somebody is at it": {func(t *testing.T, journal, _ string) {
			f, err := os.Open(journal)
			if err == nil {
				err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
		}, "somebody else is changing the files"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := Store{Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
			zone := filepath.Join(s.Dirs.System, "zones/block.xml")
			writeFile(t, zone, `<zone><interface name="eth0"/></zone>`)
			loaded, _ := s.Load()
			moments := momentsOf(t, s.Dirs.System, func() error { return saving(Rebind(Permanent, "work", item("interface eth0")))(s, nil) })
			last := slices.IndexFunc(moments[1:], func(m string) bool { _, err := os.Stat(filepath.Join(m, journalName)); return err != nil })
			putInPlace(t, moments[last], s.Dirs.System)
			c.prepare(t, filepath.Join(s.Dirs.System, journalName), zone)
			before := allOf(t, s.Dirs.System)
			_, problems := s.Load()
			_, saved := s.Save(loaded, must(t, loaded, SetLogDenied("all")))
			for _, err := range []error{problems.Err(), saved} {
				if err == nil || !strings.Contains(errorText(err), c.want) || !strings.Contains(errorText(err), journalName) {
					t.Errorf("the error is %v", err)
				}
			}
			if after := allOf(t, s.Dirs.System); !slices.Equal(before, after) {
				t.Errorf("there are\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
			if !InDoubt(LoadRest(s.Dirs, &Config{}).Losses) {
				t.Error("there is no doubt")
			}
		})
	}
}

// spoil overwrites the beginning of a file.
func spoil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("xx"), 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
