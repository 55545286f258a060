package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"richwall/internal/disk"
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
		"the first files are made": {nil, saving(Add(Permanent, publicZone, item("port 80:tcp")), New(Object{KindService, "app"}, nil), SetLogDenied("all", true))},
		"a link stays one": {map[string]string{"elsewhere/work.xml": "<zone/>", "link zones/work.xml": "../elsewhere/work.xml"},
			saving(Add(Permanent, Object{KindZone, "work"}, item("port 80:tcp")), SetLogDenied("all", true))},
		"a change that is given up": {map[string]string{"zones/block.xml": `<zone><interface name="eth0"/></zone>`},
			givingUp(Rebind(Permanent, "work", item("interface eth0")))},
		"a reset":                    {map[string]string{"firewalld.conf/x": "", "zones/a.xml": "<zone><", "zones/a.xml.old": "older", "ipsets": "no folder", "zones/lan/b.xml": "<zone/>", "zones/c.xml": "<zone/>", "zones/c.xml.old/x": ""}, resetting(false)},
		"a reset that is taken back": {map[string]string{"firewalld.conf": "LogDenied=x\n", "zones/a.xml": "<zone><", "zones/a.xml.old": "older", "direct.xml": "<direct><"}, resetting(true)},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
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
			halfWritten := 0
			for i, m := range moments {
				putInPlace(t, m, s.Dirs.System)
				halfWritten += len(tempsOf(t, s.Dirs.System))
				_, cutOff := os.Lstat(filepath.Join(s.Dirs.System, journalName))
				if found := allOf(t, s.Dirs.System); !isWhole(found) && !InDoubt(LoadRest(s.Dirs, &Config{}).Losses) {
					t.Errorf("moment %d of %d: there is no doubt about\n%s", i, len(moments), strings.Join(found, "\n"))
				}
				loadToUse(s)
				if left := tempsOf(t, s.Dirs.System); len(left) > 0 {
					t.Errorf("moment %d of %d: what was half written stays: %q", i, len(moments), left)
				}
				if got := allOf(t, s.Dirs.System); !isWhole(got) || cutOff == nil && !slices.Equal(got, states[0]) {
					t.Errorf("moment %d of %d: there are\n%s\nand there was\n%s", i, len(moments), strings.Join(got, "\n"), strings.Join(states[0], "\n"))
				}
			}
			if halfWritten == 0 {
				t.Error("no moment has a file that is half written")
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

// givingUp is a change of the files that nobody waits for any more when it is written.
func givingUp(edits ...Edit) func(Store, func()) error {
	return func(s Store, whole func()) error {
		c, problems := s.Load()
		if c == nil {
			return problems.Err()
		}
		next, err := Apply(c, edits...)
		if err != nil {
			return err
		}
		if _, _, err = s.SaveIf(c, next, func() bool { whole(); return false }); !errors.Is(err, ErrGivenUp) {
			return fmt.Errorf("a change that is given up gives %w", err)
		}
		return nil
	}
}

// Whether a change is kept is asked when the disk has taken all of it, with the end of its journal: a disk that does not answer then keeps
// nobody waiting who has said that it is kept, and what is kept is never taken back as one that was cut off.
func TestKeptWhenAllIsOnTheDisk(t *testing.T) {
	s := Store{Dirs: Dirs{System: t.TempDir(), Follow: true}}
	loaded, _ := s.Load()
	next := must(t, must(t, loaded, SetLogDenied("all", true)), New(Object{KindService, "app"}, nil))
	asked, after := false, 0
	reached = func() {
		if asked {
			after++
		}
	}
	defer func() { reached = func() {} }()
	_, _, err := s.SaveIf(loaded, next, func() bool {
		asked = true
		if _, err := os.Lstat(filepath.Join(s.Dirs.System, journalName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the journal is still there: %v", err)
		}
		return true
	})
	if err != nil || !asked || after > 0 {
		t.Errorf("it is asked: %v, and after that the disk is written to %d times: %v", asked, after, err)
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
	adopt(t, dir)
}

// adopt makes the journal in a copied folder its own.
func adopt(t *testing.T, dir string) {
	t.Helper()
	if data, err := os.ReadFile(filepath.Join(dir, journalName)); err == nil {
		_, lines, _ := strings.Cut(string(data), "\n")
		writeJournal(t, dir, lines)
	}
}

// writeJournal makes a journal as if a change of a folder had made it.
func writeJournal(t *testing.T, dir, lines string) {
	t.Helper()
	path := filepath.Join(dir, journalName)
	writeFile(t, path, "")
	folder, err := os.Stat(dir)
	file, err2 := os.Stat(path)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, fmt.Sprintf(`{"Folder":%d,"Journal":%d}`+"\n%s", folder.Sys().(*syscall.Stat_t).Ino, file.Sys().(*syscall.Stat_t).Ino, lines))
}

// tempsOf are the paths of the files in a folder that are being written, or that a crash has left so.
func tempsOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && tempName.MatchString(e.Name()) {
			list = append(list, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

// allOf is all that is in a folder but empty folders and the files of tempsOf: names, modes, content and where links lead.
func allOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || tempName.MatchString(e.Name()) {
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
			s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
			zone := filepath.Join(s.Dirs.System, "zones/block.xml")
			writeFile(t, zone, `<zone><interface name="eth0"/></zone>`)
			loaded, _ := s.Load()
			moments := momentsOf(t, s.Dirs.System, func() error { return saving(Rebind(Permanent, "work", item("interface eth0")))(s, nil) })
			withJournal := slices.DeleteFunc(moments, func(m string) bool { _, err := os.Stat(filepath.Join(m, journalName)); return err != nil })
			putInPlace(t, withJournal[len(withJournal)-1], s.Dirs.System)
			c.prepare(t, filepath.Join(s.Dirs.System, journalName), zone)
			before := allOf(t, s.Dirs.System)
			_, problems := loadToUse(s)
			_, saved := s.Save(loaded, must(t, loaded, SetLogDenied("all", true)))
			for _, err := range []error{problems.Err(), saved} {
				if err == nil || !strings.Contains(errorText(err), c.want) || !strings.Contains(errorText(err), journalName) {
					t.Errorf("the error is %v", err)
				}
			}
			if _, problems := s.Load(); name != "somebody is at it" && !strings.Contains(errorText(problems.Err()), c.want) || strings.Contains(errorText(problems.Err()), "take back") != (name == "somebody is at it") {
				t.Errorf("who only reads is told %v", problems.Err())
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

// What the administrator writes into a file of a change that was cut off, at whatever moment, is never lost: the change is not taken back
// then, unless it is not about that file. Nor is what he has removed there again, or under another name.
func TestNotTakenBackOverAnEdit(t *testing.T) {
	const mine = "<zone><port port='1' protocol='tcp'/></zone>"
	for name, c := range map[string]struct {
		files  map[string]string
		change func(s Store, whole func()) error
	}{
		"a file without a copy is the last": {map[string]string{"zones/block.xml": `<zone><interface name="eth0"/></zone>`}, saving(Rebind(Permanent, "work", item("interface eth0")))},
		"a file with a copy is the last": {map[string]string{"zones/block.xml": `<zone><interface name="eth0"/></zone>`, "zones/work.xml": "<zone/>", "zones/work.xml.old": "older"},
			saving(Rebind(Permanent, "work", item("interface eth0")))},
		"a file goes": {map[string]string{"firewalld.conf": "DefaultZone=mine\n", "zones/mine.xml": `<zone target="DROP"/>`, "zones/mine.xml.old": "older"},
			saving(Rename(Object{KindZone, "mine"}, "yours"))},
		"a reset": {map[string]string{"firewalld.conf": "LogDenied=all\n", "zones/a.xml": "<zone/>", "zones/lan/b.xml": "<zone/>", "direct.xml": "<direct><"}, resetting(false)},
	} {
		for _, how := range []string{"edits", "removes"} {
			t.Run(strings.ReplaceAll(name+" and he "+how+" it", " ", "-"), func(t *testing.T) {
				s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
				for name, text := range c.files {
					writeFile(t, filepath.Join(s.Dirs.System, name), text)
				}
				paths := fileTexts(t, s.Dirs.System)
				moments := momentsOf(t, s.Dirs.System, func() error { return c.change(s, func() {}) })
				for path, text := range fileTexts(t, s.Dirs.System) {
					paths[path] = text
				}
				for _, path := range Names(paths) {
					for i, m := range moments {
						again := filepath.Join(t.TempDir(), "etc")
						copyAll(t, m, again)
						putInPlace(t, again, s.Dirs.System)
						at := filepath.Join(s.Dirs.System, path)
						_, cutOff := os.Lstat(filepath.Join(s.Dirs.System, journalName))
						_, there := os.Lstat(at)
						_, folder := os.Lstat(filepath.Dir(at))
						switch {
						case cutOff != nil || folder != nil, how == "removes" && (there != nil || strings.Contains(path, ".old")):
							continue
						case how == "edits":
							writeFile(t, at, mine)
						default:
							succeed(t, os.Remove(at))
						}
						before := allOf(t, s.Dirs.System)
						_, err := s.Recover()
						got, reading := os.ReadFile(at)
						if how == "edits" && string(got) != mine || how == "removes" && reading == nil {
							t.Errorf("moment %d of %d: after an edit of %s it holds %q, %v", i, len(moments), path, got, reading)
						}
						if after := allOf(t, s.Dirs.System); err != nil && (!slices.Equal(before, after) || !strings.Contains(err.Error(), "somebody has ")) {
							t.Errorf("moment %d of %d: %v, and there are\n%s\nof\n%s", i, len(moments), err, strings.Join(after, "\n"), strings.Join(before, "\n"))
						}
					}
				}
			})
		}
	}
}

// Where there is no folder of the administrator's, the current folder is not taken for it: what is in it is not even opened.
func TestNoFolderNoJournal(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, journalName, "")
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := open()
	for range 10 {
		if found, err := (Store{}).Recover(); found || err != nil {
			t.Errorf("a change was cut off: %v, %v", found, err)
		}
	}
	if after := open(); after > before {
		t.Errorf("%d files are open, and %d were", after, before)
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

// Whoever makes a folder can put into it what looks like the rest of a change that was cut off. Nothing outside of the folder is
// written, made or removed because of it, and nothing inside: the folder cannot be used until somebody has looked at it.
func TestForgedJournal(t *testing.T) {
	const data = `,"Data":"Zm9yZ2VkCg==","Mode":420,"UID":-1,"GID":-1,"Exists":true}` + "\n"
	for name, c := range map[string]struct {
		lines string // OUTSIDE is a folder outside
		want  string
		spoil func(t *testing.T, dir string)
	}{
		"a whole path":                   {`{"Path":"OUTSIDE/victim"` + data, "no file of the folder", nil},
		"a path that leads up":           {`{"Path":"../outside/victim"` + data, "no file of the folder", nil},
		"a file to remove":               {`{"Path":"../outside/victim"}` + "\n", "no file of the folder", nil},
		"a file to put back":             {`{"Path":"../outside/victim","Renamed":true}` + "\n", "no file of the folder", nil},
		"a folder to remove":             {`{"Path":"../outside/empty","Folder":true}` + "\n", "no file of the folder", nil},
		"a link to make":                 {`{"Path":"../outside/new","Link":"victim","Exists":true}` + "\n", "no file of the folder", nil},
		"the folder itself":              {`{"Path":"."}` + "\n", "no file of the folder", nil},
		"a program that anybody can run": {`{"Path":"zones/x.xml","Data":"Zm9yZ2VkCg==","Mode":8389101,"Exists":true}` + "\n", "no file of the folder", nil},
		"a link that is not there":       {`{"Path":"zones/public.xml","Linked":true` + data, "somebody has removed the link", nil},
		"a link that leads out":          {`{"Path":"zones/out.xml","Linked":true` + data, "leads zones/out.xml out of the folder", nil},
		"a folder that leads out":        {`{"Path":"services/victim"` + data, "leads services/victim out of the folder", nil},
		"a copy": {`{"Path":"zones/public.xml"` + data, "is a copy", func(t *testing.T, dir string) {
			copyAll(t, filepath.Join(dir, journalName), filepath.Join(dir, "copy"))
			if err := os.Rename(filepath.Join(dir, "copy"), filepath.Join(dir, journalName)); err != nil {
				t.Fatal(err)
			}
		}},
		"one without an origin": {"", "was made in another folder", func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, journalName), `{"Path":"zones/public.xml"`+data)
		}},
		"one that anybody can write": {`{"Path":"zones/public.xml"` + data, "others than its owner can write it", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, journalName), 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		"one of nothing but a hole": {"", "line 1 of it is damaged", func(t *testing.T, dir string) {
			if err := errors.Join(os.Truncate(filepath.Join(dir, journalName), 0), os.Truncate(filepath.Join(dir, journalName), maxJournalBytes)); err != nil {
				t.Fatal(err)
			}
		}},
		"one of more than is read": {"", "MiB", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, journalName), 6<<30); err != nil {
				t.Fatal(err)
			}
		}},
		"a whole line that is damaged": {`{"Path":"zones/public.xml"}` + "\nx\n", "line 3 of it is damaged", nil},
		"a link": {"", "it is a link", func(t *testing.T, dir string) {
			journal := filepath.Join(dir, journalName)
			if err := os.Rename(journal, filepath.Join(dir, "elsewhere")); err != nil {
				t.Fatal(err)
			}
			link(t, "elsewhere", journal)
		}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			top := t.TempDir()
			dir, outside := filepath.Join(top, "etc"), filepath.Join(top, "outside")
			writeFile(t, filepath.Join(outside, "victim"), "<zone/>")
			makeFolder(t, filepath.Join(outside, "empty"))
			writeFile(t, filepath.Join(dir, "zones/public.xml"), "<zone/>")
			link(t, filepath.Join(outside, "victim"), filepath.Join(dir, "zones/out.xml"))
			link(t, outside, filepath.Join(dir, "services"))
			writeJournal(t, dir, strings.ReplaceAll(c.lines, "OUTSIDE", outside))
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			list := func() []string { return namesOf(t, top) }
			before := list()
			s := Store{Dirs: Dirs{System: dir}}
			_, problems := loadToUse(s)
			_, err := s.Save(&Config{Conf: DefaultConf(), Own: DefaultOwnConf()}, &Config{Conf: DefaultConf(), Own: DefaultOwnConf()})
			for _, err := range []error{problems.Err(), err} {
				if err == nil || !strings.Contains(errorText(err), c.want) || !strings.Contains(errorText(err), journalName) {
					t.Errorf("the error is %v", err)
				}
			}
			if after := list(); !slices.Equal(before, after) {
				t.Errorf("there are\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		})
	}
}

// namesOf is all that is in a folder, folders too, and what is in small files.
func namesOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var data []byte
		if e.Type().IsRegular() && info.Size() < 1<<20 {
			data, err = os.ReadFile(path)
		}
		list = append(list, fmt.Sprintf("%s %v %q", path, info.Mode(), data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Links of a folder that only root can write may lead elsewhere. What was written there before a crash is taken back there, through
// the link; when somebody has removed the link since, nothing is.
func TestCrashBehindLinks(t *testing.T) {
	top := t.TempDir()
	s := Store{Dirs: Dirs{System: filepath.Join(top, "etc"), Follow: true}}
	outside := filepath.Join(top, "outside")
	writeFile(t, filepath.Join(outside, "firewalld.conf"), "LogDenied=off\n")
	writeFile(t, filepath.Join(outside, "zones/work.xml"), "<zone/>")
	link(t, filepath.Join(outside, "firewalld.conf"), filepath.Join(s.Dirs.System, "firewalld.conf"))
	link(t, "../outside/zones", filepath.Join(s.Dirs.System, "zones"))
	before := allOf(t, top)
	moments := momentsOf(t, top, func() error {
		return saving(Add(Permanent, Object{KindZone, "work"}, item("port 80:tcp")), SetLogDenied("all", true))(s, nil)
	})
	after := allOf(t, top)
	for i, m := range moments {
		removed := t.TempDir() + "/etc"
		copyAll(t, m, removed)
		putInPlace(t, m, top)
		adopt(t, s.Dirs.System)
		loadToUse(s)
		if got := allOf(t, top); !slices.Equal(got, before) && (i < len(moments)-1 || !slices.Equal(got, after)) {
			t.Errorf("moment %d of %d: there are\n%s\nand there was\n%s", i, len(moments), strings.Join(got, "\n"), strings.Join(before, "\n"))
		}
		putInPlace(t, removed, top)
		adopt(t, s.Dirs.System)
		data, err := os.ReadFile(filepath.Join(s.Dirs.System, journalName))
		if err != nil || !strings.Contains(string(data), `"Linked":true`) {
			continue
		}
		if err := os.Remove(filepath.Join(s.Dirs.System, "firewalld.conf")); err != nil {
			t.Fatal(err)
		}
		without := allOf(t, top)
		if _, err := s.Recover(); err == nil || !slices.Equal(allOf(t, top), without) {
			t.Errorf("moment %d of %d: the error is %v, and there are\n%s\nof\n%s", i, len(moments), err, strings.Join(allOf(t, top), "\n"), strings.Join(without, "\n"))
		}
	}
}

// A reset makes the folder mean the shipped configuration also where a change was cut off that cannot be taken back: what tells of it is
// kept beside its place, and is there again when the reset is taken back.
func TestResetOfCutOff(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, journal string){
		"damaged":   func(t *testing.T, journal string) { writeFile(t, journal, "x\n") },
		"a link":    func(t *testing.T, journal string) { link(t, "/nonexistent", journal) },
		"a folder":  func(t *testing.T, journal string) { makeFolder(t, journal) },
		"a forgery": func(t *testing.T, journal string) { writeJournal(t, filepath.Dir(journal), `{"Path":"../x"}`+"\n") },
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
			journal := filepath.Join(s.Dirs.System, journalName)
			writeFile(t, filepath.Join(s.Dirs.System, "zones/a.xml"), "<zone><")
			prepare(t, journal)
			before := allOf(t, s.Dirs.System)
			info, err := os.Lstat(journal)
			succeed(t, err)
			if _, _, err := s.Reset(func() bool { return false }); !errors.Is(err, ErrGivenUp) || !slices.Equal(before, allOf(t, s.Dirs.System)) {
				t.Errorf("the error of a reset that is given up is %v, and there are\n%s", err, strings.Join(allOf(t, s.Dirs.System), "\n"))
			}
			_, undo, err := s.Reset(Always)
			succeed(t, err)
			old, err := os.Lstat(journal + ".old")
			if _, problems := s.Load(); err != nil || !os.SameFile(info, old) || problems.Err() != nil {
				t.Errorf("after the reset there are %v, %v and\n%s", err, problems.Err(), strings.Join(allOf(t, s.Dirs.System), "\n"))
			}
			succeed(t, undo())
			if after := allOf(t, s.Dirs.System); !slices.Equal(before, after) {
				t.Errorf("there are\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		})
	}
}

// A reset of files whose journal is damaged may be cut off, or the disk fail, at any moment of it and of its being taken back. Either the
// folder means the shipped configuration then, or the journal is in its place and says that the files are not to be used; another reset does
// the rest. Nothing that was in the files is lost.
func TestResetOfCutOffIsCutOff(t *testing.T) {
	files := map[string]string{"firewalld.conf": "LogDenied=all\n", "zones/a.xml": "<zone><", "zones/b.xml": "<zone/><!-- b -->", "direct.xml": "<direct><",
		"services/c.xml/folder": "in a folder", "services/c.xml.old": "where the folder goes", journalName: "x\n", journalName + ".old": "an earlier one"}
	kept := func(t *testing.T, dir string) {
		t.Helper()
		all := strings.Join(slices.Collect(maps.Values(fileTexts(t, dir))), "\x00")
		for path, text := range files {
			if !strings.Contains(all, text) {
				t.Errorf("what was in %s is lost", path)
			}
		}
	}
	shippedOrSaid := func(t *testing.T, s Store) {
		t.Helper()
		loaded, _ := loadToUse(s)
		shipped, _ := s.Shipped()
		if loaded == nil && InDoubt(LoadRest(s.Dirs, &Config{}).Losses) {
			return
		}
		if loaded == nil || len(Difference(shipped, loaded)) > 0 {
			t.Errorf("the files are used, and there are\n%s", strings.Join(allOf(t, s.Dirs.System), "\n"))
		}
	}
	prepare := func(t *testing.T) Store {
		s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
		for path, text := range files {
			writeFile(t, filepath.Join(s.Dirs.System, path), text)
		}
		return s
	}
	again := func(t *testing.T, s Store) {
		t.Helper()
		if _, _, err := s.Reset(Always); err != nil {
			t.Errorf("another reset: %v", err)
		}
		if loaded, problems := s.Load(); loaded == nil {
			t.Errorf("after another reset: %v", problems)
		}
		kept(t, s.Dirs.System)
	}
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("a crash, taken back %v", back), func(t *testing.T) {
			s := prepare(t)
			before := allOf(t, s.Dirs.System)
			for _, m := range momentsOf(t, s.Dirs.System, func() error { return resetting(back)(s, func() {}) }) {
				copied := Store{Dirs: Dirs{System: m, Follow: true}}
				shippedOrSaid(t, copied)
				again(t, copied)
			}
			if after := allOf(t, s.Dirs.System); back && !slices.Equal(before, after) {
				t.Errorf("there are\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		})
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("the disk fails, taken back %v, once %v", back, once), func(t *testing.T) {
				defer func() { syncNames = disk.SyncFolder }()
				for at, failed := 0, true; failed; at++ {
					s := prepare(t)
					n := 0
					failed = false
					syncNames = func(path string) error {
						if n++; n == at+1 || n > at && !once {
							failed = true
							return syscall.EIO
						}
						return disk.SyncFolder(path)
					}
					err := resetting(back)(s, func() {})
					syncNames = disk.SyncFolder
					if failed != (err != nil) {
						t.Errorf("failure %d: the error is %v", at, err)
					}
					shippedOrSaid(t, s)
					again(t, s)
				}
			})
		}
	}
}

// A reset waits for nobody: while somebody else changes the files it is refused, and what tells of that stays.
func TestResetWhileOthersChange(t *testing.T) {
	s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc"), Follow: true}}
	writeJournal(t, s.Dirs.System, "")
	f, err := os.Open(filepath.Join(s.Dirs.System, journalName))
	succeed(t, err)
	defer f.Close()
	succeed(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	before := allOf(t, s.Dirs.System)
	if _, _, err := s.Reset(Always); err == nil || !strings.Contains(errorText(err), "somebody else is changing the files") || !slices.Equal(before, allOf(t, s.Dirs.System)) {
		t.Errorf("the error is %v, and there are\n%s", err, strings.Join(allOf(t, s.Dirs.System), "\n"))
	}
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What has the name of a journal and is no file is to be removed by hand; that of somebody who began to change the files at the same moment
// says that he is at it. Neither is a change that can be taken back.
func TestStrangeJournal(t *testing.T) {
	dir := t.TempDir()
	makeFolder(t, filepath.Join(dir, journalName))
	if _, problems := Load(Dirs{System: dir}); !strings.Contains(problems.Error(), "but it is a folder, not a file: remove it") {
		t.Errorf("a folder in the place of the journal gives %v", problems)
	}
	s := Store{Dirs: Dirs{System: t.TempDir()}}
	writeJournal(t, s.Dirs.System, "")
	before := allOf(t, s.Dirs.System)
	if err := (&transaction{store: s, several: true}).begin(); err == nil || !strings.Contains(errorText(err), "somebody else is changing the files") {
		t.Errorf("a second journal gives %v", err)
	}
	if after := allOf(t, s.Dirs.System); !slices.Equal(before, after) || len(tempsOf(t, s.Dirs.System)) > 0 {
		t.Errorf("there are %q and %q", after, tempsOf(t, s.Dirs.System))
	}
}

// A journal that cannot be closed is an error, and no more than that: the files are what they were, the journal is gone, and so is the folder
// that was made for it.
func TestJournalThatCannotBeClosed(t *testing.T) {
	s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "firewalld")}}
	change := &transaction{store: s, several: true}
	succeed(t, change.begin())
	succeed(t, change.journal.file.Close())
	if err := change.undo(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Lstat(s.Dirs.System); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", allOf(t, s.Dirs.System))
	}
}

// loadToUse reads a configuration that is to be used, as the daemon does: first a change that was cut off is taken back.
func loadToUse(s Store) (*Config, Problems) {
	found := s.TakeBack()
	if found.Err() != nil {
		return nil, found
	}
	c, problems := s.LoadAgain(&Config{})
	return c, append(found, problems...)
}
