package zones

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

const (
	casesDir   = "../testdata/zones"
	goldensDir = "../golden/zones"
)

// TestCases loads each configuration of testdata/zones. A case is an archive that starts with a sentence about it; files
// below etc/ are the administrator's, those below lib/ the shipped ones. What the load must report stands in the files:
//
//	<port port="99999" protocol="tcp"/> <!-- INVALID_PORT: highest port -->    at the line of the problem
//	# INVALID_VALUE: must be yes or no                                         in the line before it, in a .conf
//	want etc/zones/a.b.xml: INVALID_NAME: text                                 in the head, for a whole file
//
// The text is a part of the message, with "warning: " before it for a warning. A problem without such a mark fails, and
// so does a mark without its problem. The golden file has all the administrator's objects as they are written back.
func TestCases(t *testing.T) {
	cases, err := filepath.Glob(filepath.Join(casesDir, "*.txtar"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases in %s: %v", casesDir, err)
	}
	known := map[string]bool{}
	for _, path := range cases {
		known[filepath.Base(path)] = true
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { runCase(t, path) })
	}
	goldens, _ := filepath.Glob(filepath.Join(goldensDir, "*"))
	for _, golden := range goldens {
		if !known[filepath.Base(golden)] {
			t.Errorf("%s has no case in %s", golden, casesDir)
		}
	}
}

func runCase(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if first := strings.SplitN(string(archive.Comment), "\n", 2)[0]; !strings.HasSuffix(strings.TrimSpace(first), ".") {
		t.Errorf("the case does not start with a sentence: %q", first)
	}
	dir := t.TempDir()
	dirs := Dirs{System: filepath.Join(dir, "etc")}
	for _, f := range archive.Files {
		file := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(f.Name, "lib/") {
			dirs.Default = filepath.Join(dir, "lib")
		}
	}
	config, problems := Load(dirs)
	compareProblems(t, archive, dir, problems)
	if (config == nil) != (problems.Err() != nil) {
		t.Errorf("the configuration is %v, with these problems:\n%v", config, problems)
	}
	golden := filepath.Join(goldensDir, filepath.Base(path))
	if config == nil {
		if _, err := os.Stat(golden); err == nil {
			t.Errorf("%s is there, but the configuration is refused", golden)
		}
		return
	}
	compareGolden(t, golden, written(t, config))
}

// mark is a problem that a case expects.
type mark struct {
	path     string
	line     int // 0 for a whole file
	code     string
	text     string
	severity Severity
}

var (
	markText  = regexp.MustCompile(`([A-Z0-9]+_[A-Z0-9_]+): (.*)$`)
	xmlMark   = regexp.MustCompile(`<!-- (.*?) -->`)
	wholeMark = regexp.MustCompile(`(?m)^want (\S*): (.*)$`)
)

func newMark(path string, line int, text string) (mark, bool) {
	m := markText.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return mark{}, false
	}
	text, warning := strings.CutPrefix(m[2], "warning: ")
	severity := Error
	if warning {
		severity = Warning
	}
	return mark{path, line, m[1], text, severity}, true
}

// marks collects the expected problems of a case.
func marks(archive *txtar.Archive) []mark {
	var list []mark
	add := func(path string, line int, text string) {
		if m, ok := newMark(path, line, text); ok {
			list = append(list, m)
		}
	}
	for _, m := range wholeMark.FindAllStringSubmatch(string(archive.Comment), -1) {
		add(m[1], 0, m[2])
	}
	for _, f := range archive.Files {
		for i, line := range strings.Split(string(f.Data), "\n") {
			if comment, ok := strings.CutPrefix(line, "# "); ok && strings.HasSuffix(f.Name, ".conf") {
				add(f.Name, i+2, comment)
			}
			if strings.HasSuffix(f.Name, ".xml") {
				for _, m := range xmlMark.FindAllStringSubmatch(line, -1) {
					add(f.Name, i+1, m[1])
				}
			}
		}
	}
	return list
}

func compareProblems(t *testing.T, archive *txtar.Archive, dir string, problems Problems) {
	t.Helper()
	expected := marks(archive)
	for _, p := range problems {
		path := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(p.Path, dir), string(filepath.Separator)))
		found := false
		for i, m := range expected {
			if m.path == path && m.line == p.Line && m.code == string(p.Code) && m.severity == p.Severity && strings.Contains(p.Whole(), m.text) {
				expected = append(expected[:i:i], expected[i+1:]...)
				found = true
				break
			}
		}
		if !found {
			t.Errorf("unexpected: %s", strings.ReplaceAll(p.String(), dir+string(filepath.Separator), ""))
		}
	}
	for _, m := range expected {
		t.Errorf("missing: %+v", m)
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; to accept the output: go test ./zones -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; to accept the output: go test ./zones -update\ngot:\n%s", path, got)
	}
}

// written is all objects of the administrator as files, each of which must read back as the same object.
func written(t *testing.T, c *Config) []byte {
	t.Helper()
	archive := &txtar.Archive{}
	add := func(kind, name string, data []byte) {
		archive.Files = append(archive.Files, txtar.File{Name: kind + "/" + name + ".xml", Data: data})
	}
	zones := map[string]*Zone{}
	for name, z := range c.Zones {
		if z.Origin.Path != "" && !z.Origin.Builtin {
			zones[name] = z
		}
	}
	for name, z := range c.ZoneParts {
		zones[name] = z
	}
	for _, name := range Names(zones) {
		add("zones", name, writeBack(t, zones[name], WriteZone, ReadZone))
	}
	each(c.Policies, func(o *Policy) *Meta { return &o.Meta }, func(o *Policy) { add("policies", o.Name, writeBack(t, o, WritePolicy, ReadPolicy)) })
	each(c.Services, func(o *Service) *Meta { return &o.Meta }, func(o *Service) { add("services", o.Name, writeBack(t, o, WriteService, ReadService)) })
	each(c.IPSets, func(o *IPSet) *Meta { return &o.Meta }, func(o *IPSet) { add("ipsets", o.Name, writeBack(t, o, WriteIPSet, ReadIPSet)) })
	each(c.ICMPTypes, func(o *ICMPType) *Meta { return &o.Meta }, func(o *ICMPType) { add("icmptypes", o.Name, writeBack(t, o, WriteICMPType, ReadICMPType)) })
	each(c.Helpers, func(o *Helper) *Meta { return &o.Meta }, func(o *Helper) { add("helpers", o.Name, writeBack(t, o, WriteHelper, ReadHelper)) })
	if c.Direct.Origin.Path != "" {
		archive.Files = append(archive.Files, txtar.File{Name: "direct.xml", Data: writeBack(t, c.Direct, WriteDirect, readDirect)})
	}
	return txtar.Format(archive)
}

// readDirect is ReadDirect in the form of the other readers.
func readDirect(_ string, data []byte, path string) (*Direct, Problems) {
	return ReadDirect(data, path)
}

// each calls f for the administrator's objects, by name.
func each[T any](objects map[string]*T, meta func(*T) *Meta, f func(*T)) {
	for _, name := range Names(objects) {
		if origin := meta(objects[name]).Origin; origin.Path != "" && !origin.Builtin {
			f(objects[name])
		}
	}
}

// writeBack writes an object, and checks that what is read from it is equal and writes the same.
func writeBack[T any](t *testing.T, object *T, write func(*T) []byte, read func(string, []byte, string) (*T, Problems)) []byte {
	t.Helper()
	data := write(object)
	again, problems := read("name", data, "written.xml")
	if problems.Err() != nil {
		t.Fatalf("cannot read what was written: %v\n%s", problems, data)
	}
	if a, b := plain(object), plain(again); !reflect.DeepEqual(a, b) {
		t.Errorf("read back, this is another object:\n%+v\n%+v\n%s", a, b, data)
	}
	if second := write(again); !bytes.Equal(data, second) {
		t.Errorf("written again, it differs:\n%s\n%s", data, second)
	}
	return data
}

// plain is a copy of an object without its name and where it comes from.
func plain[T any](object *T) T {
	result := *object
	v := reflect.ValueOf(&result).Elem()
	if meta := v.FieldByName("Meta"); meta.IsValid() {
		m := meta.Addr().Interface().(*Meta)
		*m = Meta{Version: m.Version, Short: m.Short, Description: m.Description}
	}
	switch o := any(&result).(type) {
	case *Zone:
		o.Rules = plainRules(o.Rules)
	case *Policy:
		o.Rules = plainRules(o.Rules)
	case *Direct:
		*o = plainDirect(*o)
	}
	return result
}

func plainRules(rules []RichRule) []RichRule {
	var list []RichRule
	for _, rule := range rules {
		list = append(list, RichRule{Rule: rule.Rule})
	}
	return list
}

// plainDirect has everything in the order in which it is written.
func plainDirect(d Direct) Direct {
	var result Direct
	for _, c := range together(d.Chains, func(c DirectChain) [3]string { return [3]string{c.IPV, c.Table} }) {
		c.Line = 0
		result.Chains = append(result.Chains, c)
	}
	for _, r := range together(d.Rules, func(r DirectRule) [3]string { return [3]string{r.IPV, r.Table, r.Chain} }) {
		r.Line = 0
		result.Rules = append(result.Rules, r)
	}
	for _, p := range together(d.Passthroughs, func(p DirectPassthrough) [3]string { return [3]string{p.IPV} }) {
		p.Line = 0
		result.Passthroughs = append(result.Passthroughs, p)
	}
	return result
}

// Reading again gives the objects of before, but for those whose files are others now; a file that there was something to
// say about is read each time, so that it is said each time.
func TestLoadAgain(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("zones/a.xml", `<zone><service name="ssh"/></zone>`)
	write("zones/b.xml", `<zone><service name="http"/></zone>`)
	write("zones/public.xml", `<zone><masquerade enabled="no"/></zone>`)
	first, problems := Load(Dirs{System: dir})
	if first == nil || len(problems) == 0 {
		t.Fatal("the configuration should be read, with a warning", problems)
	}
	write("zones/b.xml", `<zone><service name="dns"/></zone>`)
	second, again := LoadAgain(Dirs{System: dir}, first)
	if second == nil {
		t.Fatal(again)
	}
	if len(again) != len(problems) {
		t.Errorf("the warnings were %v, and then %v", problems, again)
	}
	if second.Zones["a"] != first.Zones["a"] || second.Services["ssh"] != first.Services["ssh"] {
		t.Error("objects whose files did not change were read again")
	}
	if got := second.Zones["b"].Services; len(got) != 1 || got[0] != "dns" {
		t.Errorf("the changed zone has services %v", got)
	}
	edited, err := Add(Permanent, Object{KindZone, "a"}, Item{KeyService, []string{"dns"}})(second)
	if err != nil {
		t.Fatal(err)
	}
	if third, _ := LoadAgain(Dirs{System: dir}, edited); len(third.Zones["a"].Services) != 1 {
		t.Error("what was edited, but is not in the file, was taken for what the file says")
	}
}

// The definitions that are shipped are the same in whichever folder the program runs: also in the administrator's, where
// "zones" is a folder that overrides them, and in one that is gone.
func TestShippedInAnyFolder(t *testing.T) {
	own := t.TempDir()
	for name, text := range map[string]string{
		"zones/public.xml": `<zone target="ACCEPT"/>`, "zones/own/a.xml": `<zone/>`, "services/ssh.xml": `<service/>`,
		"ipsets/own.xml": `<ipset type="hash:ip"/>`, "firewalld.conf": "DefaultZone=own\n", "richwall.conf": "RuleFolding=no\n",
		"direct.xml": `<direct><passthrough ipv="ipv4">-A INPUT -j ACCEPT</passthrough></direct>`,
	} {
		path := filepath.Join(own, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store := Store{Dirs: Dirs{System: own}}
	t.Chdir("/")
	want, problems := store.Shipped()
	if want == nil {
		t.Fatal(problems)
	}
	gone := t.TempDir()
	t.Chdir(gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	inNone, _ := store.Shipped()
	t.Chdir(own)
	inOwn, _ := store.Shipped()
	for where, got := range map[string]*Config{"a folder that is gone": inNone, "the administrator's folder": inOwn} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("in %s other definitions are shipped", where)
		}
	}
}

// The zones block, drop and trusted are built in, so that only a program that makes configurations by itself can do without them: the check
// says so.
func TestNeededZones(t *testing.T) {
	c, problems := Load(Dirs{})
	if c == nil {
		t.Fatal(problems)
	}
	for _, name := range neededZones {
		if said := fmt.Sprint(Check(c.WithoutZone(name))); !strings.Contains(said, "the zone "+name+" is missing") {
			t.Errorf("without %s the check says %q", name, said)
		}
	}
}
