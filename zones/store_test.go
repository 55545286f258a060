package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"richwall/internal/disk"
)

// newStore is a store in an empty folder, and the configuration in it.
func newStore(t *testing.T) (Store, *Config) {
	t.Helper()
	s := Store{Dirs: Dirs{System: filepath.Join(t.TempDir(), "etc")}}
	c, problems := s.Load()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s, c
}

// tree is the files and folders below a folder, with their modes.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		list = append(list, fmt.Sprintf("%s %o", name, info.Mode().Perm()))
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

// plainConfig is a configuration without where its objects stand.
func plainConfig(c *Config) Config {
	result := *c
	result.Zones = plainObjects(zoneFiles(c), func(z *Zone) *Meta { return &z.Meta })
	result.ZoneParts = nil
	result.Policies = plainObjects(c.Policies, func(p *Policy) *Meta { return &p.Meta })
	result.Services = plainObjects(c.Services, func(s *Service) *Meta { return &s.Meta })
	result.IPSets = plainObjects(c.IPSets, func(s *IPSet) *Meta { return &s.Meta })
	result.ICMPTypes = plainObjects(c.ICMPTypes, func(i *ICMPType) *Meta { return &i.Meta })
	result.Helpers = plainObjects(c.Helpers, func(h *Helper) *Meta { return &h.Meta })
	direct := plain(c.Direct)
	direct.Origin = Origin{}
	result.Direct = &direct
	return result
}

// plainObjects are objects without their places, but with whether they are shipped.
func plainObjects[T any](objects map[string]*T, meta func(*T) *Meta) map[string]*T {
	result := map[string]*T{}
	for name, o := range objects {
		p := plain(o)
		origin := meta(o).Origin
		meta(&p).Origin = Origin{Builtin: origin.Builtin, Shadows: origin.Shadows}
		result[name] = &p
	}
	return result
}

func TestSaveWritesWhatChanged(t *testing.T) {
	s, c := newStore(t)
	save := func(edits ...Edit) {
		t.Helper()
		next, err := Apply(c, edits...)
		if err == nil {
			next, err = s.Save(c, next)
		}
		if err != nil {
			t.Fatal(err)
		}
		c = next
	}
	check := func(want ...string) {
		t.Helper()
		if got := tree(t, s.Dirs.System); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	save()
	check()
	save(Add(Command, publicZone, item("forward"))) // it is on
	check()
	save(Add(Permanent, publicZone, item("port 80:tcp"))) // a shipped zone, of which a copy is made
	check("zones 750", "zones/public.xml 644")
	if origin := c.Zones["public"].Origin; origin != (Origin{Path: filepath.Join(s.Dirs.System, "zones/public.xml"), Shadows: true}) {
		t.Errorf("the zone is from %+v", origin)
	}
	first, _ := os.ReadFile(filepath.Join(s.Dirs.System, "zones/public.xml"))
	save(Add(Permanent, publicZone, item("port 81:tcp")), New(Object{KindZone, "a/b"}, nil), SetLogDenied("all", true))
	check("firewalld.conf 600", "zones 750", "zones/a 750", "zones/a/b.xml 644", "zones/public.xml 644", "zones/public.xml.old 644")
	if old, _ := os.ReadFile(filepath.Join(s.Dirs.System, "zones/public.xml.old")); string(old) != string(first) {
		t.Errorf("the file before is\n%s\nnot\n%s", old, first)
	}
	shipped, _ := s.Shipped()
	save(LoadDefaults(publicZone, shipped), Delete(Object{KindZone, "a/b"}), SetLogDenied("off", true))
	check("firewalld.conf 600", "firewalld.conf.old 600", "zones 750", "zones/a 750", "zones/a/b.xml.old 644", "zones/public.xml.old 644")
	save(Add(Permanent, Object{KindDirect, ""}, item("chain ipv4:filter:mine")))
	if data, err := os.ReadFile(filepath.Join(s.Dirs.System, "direct.xml")); err != nil || !strings.Contains(string(data), `chain="mine"`) {
		t.Errorf("direct.xml is %s, %v", data, err)
	}
}

// What stands in firewalld.conf beside the values that change stays.
func TestSaveKeepsComments(t *testing.T) {
	s, _ := newStore(t)
	path := filepath.Join(s.Dirs.System, "firewalld.conf")
	if err := os.MkdirAll(s.Dirs.System, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# mine\nLogDenied=off\nDefaultZone=work\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := s.Load()
	if _, err := s.Save(c, must(t, c, SetLogDenied("all", true), SetConf("NftablesCounters", "yes"))); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); string(data) != "# mine\nLogDenied=all\nDefaultZone=work\nNftablesCounters=yes\n" {
		t.Errorf("got\n%s", data)
	}
}

// When a file cannot be written, those before it are as they were.
func TestSaveUndoes(t *testing.T) {
	s, c := newStore(t)
	c, err := s.Save(c, must(t, c, New(Object{KindIPSet, "one"}, Settings{KeyType: "hash:ip"}), New(Object{KindIPSet, "gone"}, Settings{KeyType: "hash:ip"})))
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, s.Dirs.System)
	content, _ := os.ReadFile(filepath.Join(s.Dirs.System, "ipsets/one.xml"))
	if err := os.Mkdir(filepath.Join(s.Dirs.System, "zones"), 0o750); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(s.Dirs.System, "zones/public.xml")
	if err := os.Mkdir(blocked, 0o750); err != nil { // a folder where the file is to be
		t.Fatal(err)
	}
	_, err = s.Save(c, must(t, c, Add(Permanent, Object{KindIPSet, "one"}, item("entry 192.0.2.1")), Delete(Object{KindIPSet, "gone"}),
		New(Object{KindService, "app"}, nil), Add(Permanent, publicZone, item("port 80:tcp"))))
	if code, _ := CodeOf(err); code != CommandFailed || !strings.Contains(errorText(err), blocked+": ") {
		t.Errorf("got %v", err)
	}
	if err := os.RemoveAll(filepath.Join(s.Dirs.System, "zones")); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, s.Dirs.System); !slices.Equal(before, after) {
		t.Errorf("before:\n%v\nafter:\n%v", before, after)
	}
	if again, _ := os.ReadFile(filepath.Join(s.Dirs.System, "ipsets/one.xml")); string(again) != string(content) {
		t.Errorf("the file before was\n%s\nand is\n%s", content, again)
	}
}

// An object whose file could not be read again is refused before any file is written.
func TestSaveRefusesWhatCannotBeRead(t *testing.T) {
	s, c := newStore(t)
	broken := &Service{Meta: Meta{Name: "app"}, Ports: []Port{{Protocol: "nosuch"}}}
	next := must(t, c, New(Object{KindIPSet, "one"}, Settings{KeyType: "hash:ip"})).WithService(broken)
	if _, err := s.Save(c, next); err == nil {
		t.Error("a service that cannot be read is written")
	}
	if files := tree(t, s.Dirs.System); len(files) > 0 {
		t.Errorf("there are files: %v", files)
	}
}

// No name makes a file outside of the folder.
func TestFileNames(t *testing.T) {
	for _, o := range []Object{{KindZone, ".."}, {KindZone, "../x"}, {KindZone, "x/.."}, {KindService, "a/b"}, {KindHelper, ".."}, {KindIPSet, "a\\b"},
		{KindService, strings.Repeat("x", 250)}} {
		if err := fileName(o.Kind, o.Name); err == nil {
			t.Errorf("%v can have a file", o)
		}
	}
	if err := fileName(KindZone, "a/b"); err != nil {
		t.Error(err)
	}
}

// someItems are items to add and remove at random: of each kind some that overlap, refer to each other or are not valid.
var someItems = map[Object][]string{
	{KindZone, "public"}: {"port 80:tcp", "port 70-90:tcp", "port 85-99:tcp", "port x:tcp", "service http", "service app", "service none", "protocol gre",
		"source-port 1-9:udp", "icmp-block it", "masquerade", "icmp-block-inversion", "forward", "forward-port 80:tcp:81:", "interface eth0", "interface eth1+",
		"source 192.0.2.0/24", "source 00:11:22:33:44:AA", "source ipset:s", "rule rule service name=app accept", "rule rule priority=-5 service name=app drop",
		"rule rule tcp-mss-clamp", "rule rule family=ipv4 source address=192.0.2.1 log prefix=\"a b\" limit value=3/m reject"},
	{KindZone, "work"}:   {"interface eth0", "source 192.0.2.0/24", "source 00:11:22:33:44:aa", "service app"},
	{KindPolicy, "p"}:    {"ingress-zone public", "ingress-zone ANY", "egress-zone HOST", "egress-zone ANY", "masquerade", "forward-port 80:tcp:81:", "disable", "service app", "rule rule mark set=1 port port=1 protocol=tcp"},
	{KindService, "app"}: {"port 80:tcp", "port 80-90:tcp", "protocol gre", "module nf_conntrack_ftp", "helper tftp", "helper none", "include ssh", "include app"},
	{KindIPSet, "s"}:     {"entry 192.0.2.1/24", "entry 192.0.2.0/25", "entry 198.51.100.1-198.51.100.9", "option family:inet6", "option timeout:5", "option maxelem:9"},
	{KindICMPType, "it"}: {"destination ipv4", "destination ipv6"},
	{KindHelper, "h"}:    {"port 21:tcp", "port 21:udp", "port x:tcp"},
	{KindDirect, ""}:     {"chain ipv4:filter:mine", "chain ipv6:raw:b", "direct-rule ipv4:filter:mine:0:-j:a b'c", "direct-rule ipv4:filter:INPUT:-3:-j:DROP", "passthrough eb:-A:FORWARD"},
}

// anEdit is one of the edits of someItems, or of a whole object.
func anEdit(t *rapid.T) Edit {
	objects := slices.SortedFunc(func(yield func(Object) bool) {
		for o := range someItems {
			if !yield(o) {
				return
			}
		}
	}, func(a, b Object) int { return strings.Compare(string(a.Kind)+a.Name, string(b.Kind)+b.Name) })
	o := rapid.SampledFrom(objects).Draw(t, "object")
	i := item(rapid.SampledFrom(someItems[o]).Draw(t, "item"))
	s := rapid.SampledFrom([]Scope{Permanent, Runtime, Command}).Draw(t, "scope")
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0, 1, 2, 3, 4:
		return Add(s, o, i)
	case 5, 6:
		return Remove(s, o, i)
	case 7:
		return Rebind(s, "work", i)
	case 8:
		return Delete(o)
	}
	return New(o, Settings{})
}

// Whatever is edited, what is saved is what is read.
func TestRandomEdits(t *testing.T) {
	start := prepared(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "zones")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s := Store{Dirs: Dirs{System: dir}}
		empty, _ := s.Load()
		c, err := s.Save(empty, start)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 6).Draw(t, "edits") {
			next, err := Apply(c, anEdit(t))
			if err != nil {
				continue
			}
			if c, err = s.Save(c, next); err != nil {
				t.Fatal(err)
			}
		}
		loaded, problems := s.Read()
		if loaded == nil {
			t.Fatalf("what was saved cannot be read: %v", problems)
		}
		if d := Difference(c, loaded); d != nil {
			t.Fatalf("loaded, there are other items: %+v", d)
		}
		if a, b := plainConfig(c), plainConfig(loaded); !reflect.DeepEqual(a, b) {
			t.Fatalf("loaded, it is another configuration: %s", firstDifference(a, b))
		}
	})
}

// firstDifference is an object that is not the same in two configurations, though it has the same settings.
func firstDifference(a, b Config) string {
	for i := range reflect.TypeFor[Config]().NumField() {
		x, y := reflect.ValueOf(a).Field(i), reflect.ValueOf(b).Field(i)
		if x.Kind() != reflect.Map {
			if !reflect.DeepEqual(x.Interface(), y.Interface()) {
				return fmt.Sprintf("%+v, %+v", x.Elem(), y.Elem())
			}
			continue
		}
		for _, name := range x.MapKeys() {
			if v, w := x.MapIndex(name), y.MapIndex(name); !w.IsValid() || !reflect.DeepEqual(v.Interface(), w.Interface()) {
				return fmt.Sprintf("%s: %+v, %+v", name, v.Elem(), w)
			}
		}
	}
	return "one has more objects"
}

// What is added is removed again without a trace, but for the order of ports.
func TestAddThenRemove(t *testing.T) {
	start := prepared(t)
	rapid.Check(t, func(t *rapid.T) {
		c := start
		for range rapid.IntRange(0, 5).Draw(t, "edits") {
			if next, err := Apply(c, anEdit(t)); err == nil {
				c = next
			}
		}
		objects := Names(map[string]bool{"public": true, "work": true})
		o := Object{KindZone, rapid.SampledFrom(objects).Draw(t, "zone")}
		i := item(rapid.SampledFrom(someItems[o]).Draw(t, "item"))
		if there, err := Has(c, Runtime, o, i); there || err != nil {
			return
		}
		with, err := Apply(c, Add(Runtime, o, i))
		if err != nil || i.Key == KeyPort && len(Difference(c, with)[0].Removed) == 0 && overlaps(c.Zones[o.Name].Ports, i) {
			return
		}
		without, err := Apply(with, Remove(Runtime, o, i))
		if err != nil {
			t.Fatal(err)
		}
		if d := Difference(c, without); d != nil {
			t.Fatalf("there is a trace: %+v", d)
		}
	})
}

// overlaps tells whether a port is already there in part: then its removal takes more than was added.
func overlaps(list []Port, i Item) bool {
	z := &Zone{}
	z.Ports = list
	with := *z
	ports := zoneKind.setting(KeyPort).(ranges[Zone])
	return ports.add(env{}, &with, i.Args) == nil && len(with.Ports) <= len(list)
}

// A value of firewalld.conf is kept as it was written, as long as it is that value: True is on, and stays True in the file.
func TestWrittenValues(t *testing.T) {
	conf, problems := ReadConf([]byte("CleanupOnExit=True\nIPv6_rpfilter=yes\nFlushAllOnReload=maybe\n"), "")
	if len(problems) != 1 || conf == nil {
		t.Fatal(problems)
	}
	c := builtins(t).WithConf(conf)
	for key, want := range map[string]string{"CleanupOnExit": "True", "IPv6_rpfilter": "yes", "FlushAllOnReload": "yes", "LogDenied": "off"} {
		if got := c.Conf.Written(key); got != want {
			t.Errorf("%s is written as %s, want %s", key, got, want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "firewalld.conf"), []byte("CleanupOnExit=True\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := Store{Dirs: Dirs{System: dir}}
	c, problems = store.Load()
	if c == nil {
		t.Fatal(problems)
	}
	next := must(t, c, SetConf("CleanupOnExit", "NO"), SetConf("FlushAllOnReload", "false"))
	if _, err := store.Save(c, next); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "firewalld.conf"))
	if want := "CleanupOnExit=NO\nFlushAllOnReload=false\n"; err != nil || string(data) != want {
		t.Errorf("the file has %q, want %q; %v", data, want, err)
	}
}

// What somebody writes into a file after a change is not lost when the change is taken back, as after a reload that is refused.
func TestUndoOverAnEdit(t *testing.T) {
	s := Store{Dirs: Dirs{System: t.TempDir(), Follow: true}}
	writeFile(t, filepath.Join(s.Dirs.System, "firewalld.conf"), "LogDenied=off\n")
	loaded, _ := s.Load()
	for _, edits := range [][]Edit{{SetLogDenied("all", true)}, {SetLogDenied("all", true), New(Object{KindService, "app"}, nil)}} {
		_, written, err := s.SaveIf(loaded, must(t, loaded, edits...), Always)
		succeed(t, err)
		writeFile(t, filepath.Join(s.Dirs.System, "firewalld.conf"), "LogDenied=unicast\n")
		before := allOf(t, s.Dirs.System)
		if err := written.Undo(); err == nil || !strings.Contains(err.Error(), "somebody has changed") || !slices.Equal(before, allOf(t, s.Dirs.System)) {
			t.Errorf("the error is %v, and there are %q", err, allOf(t, s.Dirs.System))
		}
		writeFile(t, filepath.Join(s.Dirs.System, "firewalld.conf"), "LogDenied=off\n")
	}
}

// While somebody else changes the files, what was saved is not taken back: the files and what tells of the other change stay, and it can be
// tried again.
func TestUndoWhileOthersChange(t *testing.T) {
	for name, change := range map[string]func(*testing.T, Store) (undo func() error){
		"one file": func(t *testing.T, s Store) func() error { return undoOf(t, s, SetLogDenied("all", true)) },
		"two files": func(t *testing.T, s Store) func() error {
			return undoOf(t, s, SetLogDenied("all", true), New(Object{KindService, "app"}, nil))
		},
		"a reset": func(t *testing.T, s Store) func() error {
			_, undo, err := s.Reset(Always)
			succeed(t, err)
			return undo
		},
		"a reset of what cannot be taken back": func(t *testing.T, s Store) func() error {
			writeFile(t, filepath.Join(s.Dirs.System, journalName), "this is no journal\n")
			_, undo, err := s.Reset(Always)
			succeed(t, err)
			return undo
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := Store{Dirs: Dirs{System: t.TempDir(), Follow: true}}
			writeFile(t, filepath.Join(s.Dirs.System, "firewalld.conf"), "LogDenied=off\n")
			undo := change(t, s)
			writeJournal(t, s.Dirs.System, "")
			before := allOf(t, s.Dirs.System)
			if err := undo(); err == nil || !strings.Contains(errorText(err), "somebody else is changing the files") {
				t.Errorf("the error is %v", err)
			}
			if after := allOf(t, s.Dirs.System); !slices.Equal(before, after) {
				t.Fatalf("there are\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
			succeed(t, os.Remove(filepath.Join(s.Dirs.System, journalName)))
			succeed(t, undo())
			if data, err := os.ReadFile(filepath.Join(s.Dirs.System, "firewalld.conf")); string(data) != "LogDenied=off\n" {
				t.Errorf("taken back later, the file is %q, %v", data, err)
			}
		})
	}
}

// undoOf saves a change of what is in the folder, and returns what takes it back.
func undoOf(t *testing.T, s Store, edits ...Edit) (undo func() error) {
	t.Helper()
	loaded, _ := s.Load()
	_, written, err := s.SaveIf(loaded, must(t, loaded, edits...), Always)
	succeed(t, err)
	return written.Undo
}

// An error of the disk, as it goes over D-Bus, names the file and says what has become of the others.
func TestErrorsOfTheDiskNameTheFile(t *testing.T) {
	zone := Add(Permanent, publicZone, item("port 80:tcp"))
	for name, c := range map[string]struct {
		files  map[string]string
		fails  bool // whether the disk takes no names
		change func(s Store) error
		want   string // DIR is the folder
	}{
		"one file":    {map[string]string{"zones/public.xml.old": ""}, true, func(s Store) error { return saving(zone)(s, nil) }, "cannot write DIR/zones: input/output error"},
		"two files":   {map[string]string{"zones": ""}, false, func(s Store) error { return saving(SetLogDenied("all", true), zone)(s, nil) }, "cannot read DIR/zones: it is not a folder"},
		"names":       {nil, true, func(s Store) error { return saving(SetLogDenied("all", true))(s, nil) }, "cannot write DIR: input/output error"},
		"its journal": {nil, true, func(s Store) error { return saving(SetLogDenied("all", true), zone)(s, nil) }, "cannot write DIR: input/output error"},
		"a reset":     {map[string]string{"zones/a.xml": "<zone/>"}, true, func(s Store) error { return resetting(false)(s, nil) }, "cannot write DIR: input/output error"},
		"one not mended": {map[string]string{"direct.xml": "<direct>\n<chain ipv='ipv4' table='filter' chain='c'/><x/></direct>"}, false,
			func(s Store) error {
				c := LoadRest(s.Dirs, &Config{}).Config
				_, err := s.Save(c, must(t, c, Add(Permanent, Object{Kind: KindDirect}, item("chain ipv4:filter:d"))))
				return err
			}, "cannot write DIR/direct.xml: it holds what could not be read or used"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			defer func() { syncNames = disk.SyncFolder }()
			s := Store{Dirs: Dirs{System: t.TempDir(), Follow: true}}
			for path, text := range c.files {
				writeFile(t, filepath.Join(s.Dirs.System, path), text)
			}
			before := allOf(t, s.Dirs.System)
			failed := false
			syncNames = func(path string) error {
				if c.fails && !failed {
					failed = true
					return syscall.EIO
				}
				return disk.SyncFolder(path)
			}
			_, detail := CodeOf(c.change(s))
			want := strings.ReplaceAll(c.want, "DIR", s.Dirs.System)
			if !strings.HasPrefix(detail, want) || c.fails && !strings.HasSuffix(detail, "; the files are as they were") {
				t.Errorf("the error is %q, want %q", detail, want)
			}
			if after := allOf(t, s.Dirs.System); !slices.Equal(before, after) {
				t.Errorf("there are %q of %q", after, before)
			}
		})
	}
}
