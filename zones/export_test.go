package zones

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// Every configuration of the compiler's cases that can be loaded, written by Export into an empty folder, loads as the same
// configuration.
func TestExport(t *testing.T) {
	cases, err := filepath.Glob("../testdata/compile/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("there are no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{}
			for _, f := range archive.Files {
				files[f.Name] = f.Data
			}
			first, _ := loaded(t, files)
			if first == nil {
				if !strings.Contains(path, "refused") {
					t.Errorf("the configuration cannot be loaded")
				}
				return
			}
			again, problems := loaded(t, Export(first))
			if again == nil {
				t.Fatal(problems)
			}
			if a, b := plainConfig(first), plainConfig(again); !reflect.DeepEqual(a, b) {
				t.Errorf("exported, it is another configuration: %s", firstDifference(a, b))
			}
		})
	}
}

// loaded is what files in a folder of their own mean.
func loaded(t *testing.T, files map[string][]byte) (*Config, Problems) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Load(Dirs{System: dir})
}

// The list of the administrator's files has each of his, be it of an object, of direct rules or of settings, and no other.
func TestOwnFiles(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"":                             {"zones/x.txt": ""},
		"firewalld.conf\n":             {"firewalld.conf": "LogDenied=all\n"},
		"richwall.conf\n":              {"richwall.conf": "RuleFolding=no\n"},
		"zones/mine.xml\n":             {"zones/mine.xml": "<zone/>", "firewalld.conf": "LogDenied=off\n"},
		"direct.xml\nfirewalld.conf\n": {"direct.xml": "<direct/>", "firewalld.conf": "DefaultZone=home\n"},
	} {
		dir := t.TempDir()
		for name, text := range files {
			writeFile(t, filepath.Join(dir, name), text)
		}
		c, problems := Load(Dirs{System: dir})
		if c == nil {
			t.Fatal(problems)
		}
		if got := string(Export(c)[OwnFiles]); got != want {
			t.Errorf("of %q the list is %q, want %q", Names(files), got, want)
		}
	}
}
