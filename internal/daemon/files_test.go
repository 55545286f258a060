package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"richwall/zones"
)

// When somebody else changes a file the log says what of the configuration it is about, once, and nothing changes before a
// reload. What the daemon writes itself is no news.
func TestFilesOfOthers(t *testing.T) {
	b := start(t, map[string]string{"zones/mine.xml": `<zone/>`})
	touched := func(names ...string) string {
		t.Helper()
		b.log.Reset()
		var paths []string
		for _, name := range names {
			paths = append(paths, filepath.Join(b.dir, name))
		}
		b.FilesTouched(paths)
		return b.log.String()
	}
	check := func(said string, want ...string) {
		t.Helper()
		for _, part := range want {
			if !strings.Contains(said, part) {
				t.Errorf("the log has no %q:\n%s", part, said)
			}
		}
		if len(want) == 0 && said != "" {
			t.Errorf("the log says\n%s", said)
		}
	}
	before := b.Snapshot()
	check(touched("zones/mine.xml"))
	b.write(t, map[string]string{"zones/mine.xml": `<zone><port port="1" protocol="tcp"/></zone>`, "richwall.conf": "TCPMSSClamp=initiator\n"})
	check(touched("zones/mine.xml", "richwall.conf"), `changed="zone mine, richwall.conf"`, "firewall-cmd --reload")
	check(touched("zones/mine.xml"))
	b.write(t, map[string]string{"zones/mine.xml": `<zone><port port="2" protocol="tcp"/></zone>`}) // the same file, and another edit
	check(touched("zones/mine.xml"), `changed="zone mine, richwall.conf"`)
	check(touched("zones/mine.xml"))
	b.write(t, map[string]string{"zones/mine.xml": "<zone>\n  <service name=\"nosuch\"/>\n</zone>"})
	check(touched("zones/mine.xml"), "a reload would be refused", "zones/mine.xml:2:", "nosuch")
	b.write(t, map[string]string{"zones/mine.xml": "<zone>\n  <port"})
	check(touched("zones/mine.xml"), "zones/mine.xml:2:")
	if after := b.Snapshot(); !reflect.DeepEqual(after, before) {
		t.Error("the state is another one")
	}
	b.write(t, map[string]string{"zones/home.xml": `<zone/>`}) // the first is broken still, and this one was changed, too
	check(touched("zones/home.xml"), "a reload would be refused", "zones/mine.xml:2:")
	check(touched("zones/mine.xml"))
	if err := os.Remove(filepath.Join(b.dir, "zones/home.xml")); err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"zones/mine.xml": `<zone/>`, "richwall.conf": ""})
	check(touched("zones/mine.xml", "richwall.conf"), "the files can be used again")
	b.write(t, map[string]string{"richwall.conf": "# nothing\n"})
	check(touched("richwall.conf"))

	for _, edit := range []zones.Edit{
		zones.Add(zones.Permanent, public, port("8080", "tcp")), zones.SetLogDenied("all", true),
		zones.New(zones.Object{Kind: zones.KindIPSet, Name: "s"}, zones.Settings{zones.KeyType: "hash:ip"}),
		zones.New(zones.Object{Kind: zones.KindService, Name: "app"}, nil), zones.Delete(zones.Object{Kind: zones.KindZone, Name: "mine"}),
	} {
		if err := b.ChangePermanent(Change{Edit: edit}); err != nil {
			t.Fatal(err)
		}
	}
	check(touched("zones/public.xml", "firewalld.conf", "ipsets/s.xml", "services/app.xml", "zones/mine.xml"))
	if err := os.Remove(filepath.Join(b.dir, "ipsets/s.xml")); err != nil {
		t.Fatal(err)
	}
	check(touched("ipsets/s.xml"), `changed="ipset s"`)
	b.write(t, map[string]string{"zones/mine.xml": `<zone target="DROP"/>`})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(touched("zones/mine.xml")) // a reload has followed the edit before the watcher came to tell
}

// What the log says of files that somebody else has changed is what a reload would say of them: that it would be refused, and why; and once
// they are mended, that it would not be any more. A change of the daemon's own, beside files that are wrong, says nothing.
func TestFilesOfOthersThatAReloadRefuses(t *testing.T) {
	files := map[string]string{
		"firewalld.conf": "DefaultZone=mine\nStrictForwardPorts=yes\n", "zones/mine.xml": "<zone/>\n",
		"ipsets/bad.xml": "<ipset type=\"hash:ip\">\n  <entry>192.0.2.1</entry>\n</ipset>\n", "zones/drop.xml": "<zone target=\"DROP\">\n  <source ipset=\"bad\"/>\n</zone>\n",
	}
	gone := ""
	for name, c := range map[string]struct {
		change map[string]string
		says   string
	}{
		"firewalld.conf is gone":                     {map[string]string{"firewalld.conf": gone}, "DefaultZone=public into it"},
		"the default zone is misspelt":               {map[string]string{"firewalld.conf": "DefaultZone=mini\nStrictForwardPorts=yes\n"}, "firewalld.conf:1:"},
		"an entry of a set that packets are cut off": {map[string]string{"ipsets/bad.xml": "<ipset type=\"hash:ip\">\n  <entry>192.0.2.777</entry>\n</ipset>\n"}, "ipsets/bad.xml:2:"},
		"all files are gone": {map[string]string{"firewalld.conf": gone, "zones/mine.xml": gone, "zones/drop.xml": gone, "ipsets/bad.xml": gone},
			"holds no file"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startKept(t, files)
			touched := func() string {
				b.log.Reset()
				var paths []string
				for name := range c.change {
					paths = append(paths, filepath.Join(b.dir, name))
				}
				b.FilesTouched(paths)
				return b.log.String()
			}
			for name, text := range c.change {
				if text == gone {
					if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
						t.Fatal(err)
					}
					continue
				}
				b.write(t, map[string]string{name: text})
			}
			if said := touched(); !strings.Contains(said, "a reload would be refused") || !strings.Contains(said, c.says) || strings.Contains(said, "in force after") {
				t.Errorf("the log says\n%s", said)
			}
			if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("a reload gives %v", err)
			}
			b.write(t, map[string]string{"services/app.xml": `<service/>`})
			b.write(t, files)
			if said := touched(); !strings.Contains(said, "can be used again") || !strings.Contains(said, `changed="service app"`) {
				t.Errorf("of mended files, the log says\n%s", said)
			}
			if said := touched(); said != "" {
				t.Errorf("of files that were not changed, the log says\n%s", said)
			}
			if err := b.Reload(t.Context()); err != nil {
				t.Errorf("a reload of mended files gives %v", err)
			}
		})
	}
}

// A permanent change writes over what somebody else has put into the object's file since it was read, broken or not, as in firewalld: the
// log says where that is kept, and until a reload no other change writes over it there. What was in the file when it was read, in whatever
// form, is no news.
func TestChangeOverAnEditByHand(t *testing.T) {
	for name, c := range map[string]struct{ before, by string }{
		"a broken edit": {`<zone/>`, `<zone><port port="1"`},
		"a whole one":   {`<zone/>`, `<zone><port port="1" protocol="tcp"/></zone>`},
		"a new file":    {"", `<zone><port port="1" protocol="tcp"/></zone>`},
		"no edit":       {`<zone/>`, `<zone/>`},
		"none of a file with a warning": {`<zone><port port="1" protocol="tcp"/><port port="1" protocol="tcp"/></zone>`,
			`<zone><port port="1" protocol="tcp"/><port port="1" protocol="tcp"/></zone>`},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if c.before != "" {
				files["zones/public.xml"] = c.before
			}
			b := start(t, files)
			b.write(t, map[string]string{"zones/public.xml": c.by})
			b.log.Reset()
			for _, p := range []string{"8080", "9090"} {
				if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port(p, "tcp"))}); err != nil {
					t.Fatal(err)
				}
				if p == "8080" {
					if old, err := os.ReadFile(filepath.Join(b.dir, "zones/public.xml.old")); err != nil || string(old) != c.by {
						t.Errorf("kept is %q, %v", old, err)
					}
				}
			}
			want := 0
			if c.by != c.before {
				want = 1
				if old, err := os.ReadFile(filepath.Join(b.dir, "zones/public.xml.old")); err != nil || string(old) != c.by {
					t.Errorf("behind another change, kept is %q, %v", old, err)
				}
				b.write(t, map[string]string{"zones/public.xml": "<zone><!-- again --></zone>"})
				if err := b.ChangePermanent(Change{Edit: zones.Remove(zones.Permanent, public, port("9090", "tcp"))}); err != nil {
					t.Fatal(err)
				}
				if old, err := os.ReadFile(filepath.Join(b.dir, "zones/public.xml.old.2")); err != nil || string(old) != "<zone><!-- again --></zone>" {
					t.Errorf("behind another edit by hand, kept is %q, %v", old, err)
				}
				if said := b.log.String(); !strings.Contains(said, "zones/public.xml.old.2") {
					t.Errorf("behind another edit by hand, the log says\n%s", said)
				}
			}
			if said := b.log.String(); strings.Count(said, "zones/public.xml.old\n")+strings.Count(said, "zones/public.xml.old ") != want {
				t.Errorf("the log says\n%s", said)
			}
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("7070", "tcp"))}); err != nil {
				t.Fatal(err)
			}
			if old, err := os.ReadFile(filepath.Join(b.dir, "zones/public.xml.old")); err != nil || string(old) == c.by {
				t.Errorf("behind a reload and another change, kept is %q, %v", old, err)
			}
		})
	}
}

// What is set permanently is in the file afterwards, and what runs is in all files once it was saved, also where nothing differs from what
// the daemon has read and somebody else has changed, broken or deleted a file since. What he wrote is kept beside it, and a file that the
// order is not about is left alone.
func TestOrderThatChangesNothingOverAnEditByHand(t *testing.T) {
	const read, other = `<zone target="DROP"><port port="1" protocol="tcp"/></zone>`, `<zone><!-- being edited --></zone>`
	for name, by := range map[string]string{"changed": `<zone target="ACCEPT"/>`, "broken": `<zone target="ACCEPT"><rule>`, "deleted": ""} {
		for what, order := range map[string]func(b *bed) error{
			"a setting": func(b *bed) error {
				return b.ChangePermanent(Change{Edit: zones.Update(zones.Permanent, public, zones.Settings{zones.KeyTarget: "DROP"})})
			},
			"what runs": func(b *bed) error { return b.RuntimeToPermanent(t.Context()) },
		} {
			b := start(t, map[string]string{"zones/public.xml": read, "zones/work.xml": `<zone/>`})
			path := filepath.Join(b.dir, "zones/public.xml")
			b.write(t, map[string]string{"zones/public.xml": by, "zones/work.xml": other})
			if by == "" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := order(b); err != nil {
				t.Fatalf("%s, %s: %v", name, what, err)
			}
			if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), `target="DROP"`) || !strings.Contains(string(data), `port="1"`) {
				t.Errorf("%s: behind %s the file holds %q, %v", name, what, data, err)
			}
			if old, err := os.ReadFile(path + ".old"); by != "" && (err != nil || string(old) != by) {
				t.Errorf("%s: behind %s, kept is %q, %v", name, what, old, err)
			}
			if data, _ := os.ReadFile(filepath.Join(b.dir, "zones/work.xml")); (string(data) == other) != (what == "a setting") {
				t.Errorf("%s: behind %s, a file that it is not about holds %q", name, what, data)
			}
		}
	}
}
