package zones

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// A reset takes away all that the administrator has made, also what cannot be read, and keeps it as NAME.old. What it has done can be put
// back, and it puts it back itself when nobody waits for it.
func TestReset(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // the files after it
		conf  string
	}{
		"a whole configuration": {
			map[string]string{"firewalld.conf": "# mine\nLogDenied=all\n", "zones/a.xml": "<zone/>", "zones/lan/b.xml": "<zone/>", "services/app.xml": "<service/>",
				"direct.xml": "<direct/>", "richwall.conf": "RuleFolding=no\n"},
			[]string{"direct.xml", "firewalld.conf", "firewalld.conf.old", "richwall.conf", "services/app.xml.old", "zones/a.xml.old", "zones/lan.old/b.xml.old"},
			"# mine\nLogDenied=off\n",
		},
		"nothing": {nil, []string{"firewalld.conf"}, string(DefaultConf().Text())},
		"files that cannot be read": {
			map[string]string{"firewalld.conf": "Default\n", "zones/a.xml": "<zone><", "services/app.xml": "\x00", "policies/bad name.xml": "", "direct.xml": "<direct><", "richwall.conf": "x\n",
				"ipsets": "not a folder", "helpers/folder.xml/x": "", "zones/a.xml.old": "before"},
			[]string{"direct.xml.old", "firewalld.conf", "firewalld.conf.old", "helpers/folder.xml.old/x", "ipsets.old", "policies/bad name.xml.old", "richwall.conf.old",
				"services/app.xml.old", "zones/a.xml.old"},
			string(DefaultConf().Text()),
		},
		"folders where the copies go": {
			map[string]string{"firewalld.conf": "LogDenied=all\n", "firewalld.conf.old/x": "", "zones/a.xml": "<zone/>", "zones/a.xml.old/x": "", "zones/a.xml.old.2/y": "", "ipsets": "not a folder", "ipsets.old/x": ""},
			[]string{"firewalld.conf", "firewalld.conf.old.2", "firewalld.conf.old/x", "ipsets.old.2", "ipsets.old/x", "zones/a.xml.old.2/y", "zones/a.xml.old.3", "zones/a.xml.old/x"},
			"LogDenied=off\n",
		},
		"a firewalld.conf that is a folder": {map[string]string{"firewalld.conf/x": ""}, []string{"firewalld.conf", "firewalld.conf.old/x"}, string(DefaultConf().Text())},
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Dirs: Dirs{System: t.TempDir()}}
			for path, text := range c.files {
				writeFile(t, filepath.Join(s.Dirs.System, path), text)
			}
			before := fileTexts(t, s.Dirs.System)
			if _, _, err := s.Reset(func() bool { return false }); err == nil || !reflect.DeepEqual(fileTexts(t, s.Dirs.System), before) {
				t.Errorf("nobody waits for the reset: the error is %v, and there are %q", err, fileTexts(t, s.Dirs.System))
			}
			next, undo, err := s.Reset(Always)
			if err != nil {
				t.Fatal(err)
			}
			files := fileTexts(t, s.Dirs.System)
			if got := Names(files); !slices.Equal(got, c.want) || files["firewalld.conf"] != c.conf {
				t.Errorf("there are %q, and firewalld.conf is %q", got, files["firewalld.conf"])
			}
			loaded, problems := s.Load()
			if loaded == nil || !reflect.DeepEqual(plainConfig(loaded), plainConfig(next)) {
				t.Errorf("the files are another configuration than the result: %v", problems)
			}
			if err := undo(); err != nil || !reflect.DeepEqual(fileTexts(t, s.Dirs.System), before) {
				t.Errorf("put back, the error is %v, and there are %q", err, fileTexts(t, s.Dirs.System))
			}
		})
	}
}

// A reset takes away links that lead nowhere, or to themselves, wherever they keep something from being read. They can be put back.
func TestResetOfLinks(t *testing.T) {
	for _, name := range []string{"zones/d.xml", "zones/lan", "zones/lan/a.xml", "zones", "services/.x.xml", "policies", "firewalld.conf", "direct.xml", "richwall.conf"} {
		for _, target := range []string{"/nonexistent/file", filepath.Base(name)} {
			s := Store{Dirs: Dirs{System: t.TempDir(), Follow: true}}
			link(t, target, filepath.Join(s.Dirs.System, name))
			_, undo, err := s.Reset(Always)
			if err != nil {
				t.Errorf("%s leads to %s: %v", name, target, err)
				continue
			}
			if c, problems := s.Load(); c == nil {
				t.Errorf("%s leads to %s: after the reset, the files are refused: %v", name, target, problems)
			}
			if err := undo(); err != nil {
				t.Error(err)
			}
			if back, _ := os.Readlink(filepath.Join(s.Dirs.System, name)); back != target {
				t.Errorf("%s leads to %s, and to %q when it is put back", name, target, back)
			}
		}
	}
}

// fileTexts are the files in a folder, by their paths below it.
func fileTexts(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
