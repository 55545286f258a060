package zones

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// seeds gives a fuzz target the files of all cases that lie in a folder or have a name.
func seeds(f *testing.F, within string) {
	cases, _ := filepath.Glob(filepath.Join(casesDir, "*.txtar"))
	found := 0
	for _, path := range cases {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasPrefix(file.Name, "etc/"+within) {
				f.Add(file.Data)
				found++
			}
		}
	}
	if found == 0 {
		f.Fatalf("no case has a file in %s", within)
	}
}

// fuzzReader checks that no input panics, and that what reads without an error writes and reads back the same.
func fuzzReader[T any](f *testing.F, folder string, read func(string, []byte, string) (*T, Problems), write func(*T) []byte) {
	seeds(f, folder)
	f.Fuzz(func(t *testing.T, data []byte) {
		object, problems := read("name", data, "fuzz.xml")
		if problems.Err() == nil {
			writeBack(t, object, write, read)
		}
	})
}

func FuzzReadZone(f *testing.F)     { fuzzReader(f, "zones/", ReadZone, WriteZone) }
func FuzzReadPolicy(f *testing.F)   { fuzzReader(f, "policies/", ReadPolicy, WritePolicy) }
func FuzzReadService(f *testing.F)  { fuzzReader(f, "services/", ReadService, WriteService) }
func FuzzReadIPSet(f *testing.F)    { fuzzReader(f, "ipsets/", ReadIPSet, WriteIPSet) }
func FuzzReadICMPType(f *testing.F) { fuzzReader(f, "icmptypes/", ReadICMPType, WriteICMPType) }
func FuzzReadHelper(f *testing.F)   { fuzzReader(f, "helpers/", ReadHelper, WriteHelper) }
func FuzzReadDirect(f *testing.F)   { fuzzReader(f, "direct.xml", readDirect, WriteDirect) }

// What is left of any file can be used: it is read without an error, or it is not there.
func FuzzMended(f *testing.F) {
	seeds(f, "zones/")
	seeds(f, "direct.xml")
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &loader{mends: true}
		if _, problems := ReadZone("name", data, "fuzz.xml"); problems.Err() != nil {
			z := mended(l, Meta{Name: "name", Origin: Origin{Path: "fuzz.xml"}}, data, problems, zoneKind)
			writeBack(t, z, WriteZone, ReadZone)
		}
		if d, problems := ReadDirect(data, "direct.xml"); problems.Err() != nil {
			if d = mendDirect(l, data, d, problems.errors()); d == nil {
				t.Error("there are no direct rules")
			}
		}
	})
}

func FuzzReadConf(f *testing.F) {
	seeds(f, "firewalld.conf")
	f.Fuzz(func(t *testing.T, data []byte) {
		ReadConf(data, "firewalld.conf")
		ReadOwnConf(data, "richwall.conf")
		file := ParseConfFile(data)
		if again := ParseConfFile(file.Bytes()); !bytes.Equal(again.Bytes(), file.Bytes()) {
			t.Errorf("%q is written as %q", data, again.Bytes())
		}
		next, err := file.Set("LogDenied", "all")
		if err != nil {
			t.Fatal(err)
		}
		if conf, problems := ReadConf(next.Bytes(), "firewalld.conf"); conf.LogDenied != "all" {
			t.Errorf("LogDenied is %s in %q: %v", conf.LogDenied, next.Bytes(), problems)
		}
	})
}
