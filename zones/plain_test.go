package zones

import (
	"slices"
	"strings"
	"testing"
)

// However an entry is written, it stands among the others in the order of the file, and is found when it is given twice.
func TestEntriesInEveryForm(t *testing.T) {
	const file = `<ipset type="hash:ip">
<entry>10.0.0.9</entry><entry><![CDATA[10.0.0.8]]></entry>
<entry>10.0.0.7</entry><!-- <entry>10.0.0.6</entry> --><entry >10.0.0.5</entry>
<entry>10.0.0.&#52;</entry><entry>10.0<!-- here -->.0.3</entry>
<entry>10.0.0.8</entry><entry>
10.0.0.2</entry><entry/>
<entry>10.0.0.1</entry>
</ipset>`
	set, problems := ReadIPSet("sample", []byte(file), "sample.xml")
	if set == nil {
		t.Fatal(problems)
	}
	want := []string{"10.0.0.9", "10.0.0.8", "10.0.0.7", "10.0.0.5", "10.0.0.4", "10.0.0.3", "10.0.0.1"}
	if !slices.Equal(set.Entries, want) {
		t.Errorf("got %v, want %v", set.Entries, want)
	}
	var told []string
	for _, p := range problems {
		told = append(told, p.String())
	}
	for _, say := range []string{"sample.xml:5:1: ALREADY_ENABLED", "10.0.0.8 is given twice", "sample.xml:5:24: INVALID_ENTRY", "sample.xml:6:17: INVALID_ENTRY"} {
		if !strings.Contains(strings.Join(told, "\n"), say) {
			t.Errorf("nothing says %q in\n%s", say, strings.Join(told, "\n"))
		}
	}
}

// A file of an object holds what was last written to it until somebody else changes it.
func TestStoreHolds(t *testing.T) {
	dir := t.TempDir()
	store := Store{Dirs: Dirs{System: dir}}
	before, problems := Load(store.Dirs)
	if before == nil {
		t.Fatal(problems)
	}
	next, err := New(Object{KindIPSet, "sample"}, Settings{KeyType: "hash:ip", KeyEntry: []string{"10.0.0.1"}})(before)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := store.Save(before, next)
	if err != nil {
		t.Fatal(err)
	}
	const path = "ipsets/sample.xml"
	if same, known := store.Holds(stored, path); !same || !known {
		t.Errorf("what was just written: %v, %v", same, known)
	}
	if same, known := store.Holds(before, path); same || !known {
		t.Errorf("a file that nobody knows of: %v, %v", same, known)
	}
	if same, known := store.Holds(before, "services/none.xml"); !same || !known {
		t.Errorf("no file, and no object: %v, %v", same, known)
	}
	if _, known := store.Holds(stored, "firewalld.conf"); known {
		t.Error("firewalld.conf is no object's file")
	}
}
