package zones

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each page of section 5 that the texts of richwall refer to is one of its own, and that of firewalld.conf names each key, with its default.
func TestPagesOfFilesAreThere(t *testing.T) {
	const folder = "../packaging/man/"
	pages, err := filepath.Glob(folder + "*.[15]")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	for _, page := range append(pages, "../packaging/firewalld.conf") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`(firewalld\.[a-z]+)\(5\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(folder + name[1] + ".5"); err != nil {
				t.Errorf("%s refers to %s(5): %v", page, name[1], err)
			}
		}
	}
	data, err := os.ReadFile(folder + "firewalld.conf.5")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range confKeys {
		if k.get == nil {
			if !strings.Contains(string(data), k.name) {
				t.Errorf("the page does not name %s", k.name)
			}
			continue
		}
		_, about, found := strings.Cut(string(data), "\n.BR "+k.name+" =")
		about, _, _ = strings.Cut(about, "\n.TP")
		standard := k.get(DefaultConf())
		if !found || !strings.Contains(about, "efault is "+standard) {
			t.Errorf("the page does not say that the default of %s is %s: %s", k.name, standard, about)
		}
	}
}
