package zones

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What a process that was killed has left half written goes before the files are read again, wherever in the folder it was writing, also
// where links lead. A file that somebody is writing stays, and so does everything that is not such a file: of another name, a folder, a
// link and what it leads to, and what is outside of the folder or in a folder that nothing is written to.
func TestHalfWrittenFilesGo(t *testing.T) {
	const temp = ".new18446744073709551615.tmp"
	top := t.TempDir()
	dir := filepath.Join(top, "etc")
	path := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	var gone, stay []string
	for _, folder := range []string{".", "zones", "zones/home", "policies", "services", "ipsets", "icmptypes", "helpers"} {
		gone = append(gone, path(folder+"/"+temp))
		for _, name := range []string{".new1.tmp.old", "x.new1.tmp", ".new.tmp", ".newx.tmp", ".new-1.tmp", ".new1.tmp ", "new1.tmp", ".new184467440737095516150.tmp"} {
			stay = append(stay, path(folder+"/"+name))
		}
	}
	stay = append(stay, path("others/"+temp), path("zones/..data/"+temp), path("zones/home/deep/"+temp), path("services/lan/"+temp), filepath.Join(top, temp),
		filepath.Join(top, "outside", temp), path("others/linked"))
	for _, file := range append(slices.Clone(gone), stay...) {
		writeFile(t, file, "<zo")
	}
	makeFolder(t, path("zones/.new2.tmp"))
	link(t, "../others/linked", path("zones/.new3.tmp"))
	link(t, "../../outside", path("zones/lan"))
	writeFile(t, path("elsewhere/"+temp), "")
	link(t, "../elsewhere/work.xml", path("zones/work.xml"))
	link(t, "../../outside/home.xml", path("zones/home.xml"))
	gone = append(gone, path("elsewhere/"+temp))
	pipe(t, dir, "zones/.new4.tmp")
	stay = append(stay, path("zones/.new2.tmp"), path("zones/.new3.tmp"), path("zones/.new4.tmp"))
	root, err := os.OpenRoot(path("zones"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	file, name, err := makeTemp(root)
	if err != nil {
		t.Fatal(err)
	}
	stay = append(stay, path("zones/"+name))
	s := Store{Dirs: Dirs{System: dir, Follow: true}}
	recover := func() {
		t.Helper()
		if found, err := s.Recover(); found || err != nil {
			t.Fatalf("a change of several files was cut off: %v, %v", found, err)
		}
	}
	recover()
	for _, file := range gone {
		if _, err := os.Lstat(file); err == nil {
			t.Errorf("%s stays", file)
		}
	}
	for _, file := range stay {
		if _, err := os.Lstat(file); err != nil {
			t.Error(err)
		}
	}
	file.Close()
	recover()
	if _, err := os.Lstat(path("zones/" + name)); err == nil {
		t.Error("the file stays when nobody writes it any more")
	}
}

// A file that is removed as one half written, before who has made it could lock it, is made again: nobody writes what has no name.
func TestHalfWrittenFileTakenEarly(t *testing.T) {
	dir := t.TempDir()
	s := Store{Dirs: Dirs{System: dir}}
	times := 0
	reached = func() {
		if times++; times <= 3 {
			if _, err := s.Recover(); err != nil {
				t.Error(err)
			}
		}
	}
	defer func() { reached = func() {} }()
	if err := writeWhole(filepath.Join(dir, "direct.xml"), []byte("<direct/>"), newAttributes(objectMode)); err != nil || times <= 3 {
		t.Fatalf("after %d times: %v", times, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "direct.xml")); string(data) != "<direct/>" {
		t.Errorf("the file has %q, %v", data, err)
	}
	if left := tempsOf(t, dir); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
}
