package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/grammar"
	"richwall/zones"
)

// A setting that is in force already is written all the same where firewalld.conf does not say so: the line is misspelled, gone, or says
// something else. Nothing is reloaded for that, and runtime changes stay.
func TestSettingInForceThatTheFileDoesNotSay(t *testing.T) {
	zone := func(b *bed, name string) error { return b.SetDefaultZone(t.Context(), name) }
	log := func(b *bed, value string) error { return b.SetLogDenied(t.Context(), value) }
	for name, c := range map[string]struct {
		before, text string // firewalld.conf when it was used last, and now
		set          func(*bed, string) error
		value, want  string       // firewalld.conf afterwards
		code         grammar.Code // of the error; "" is success
	}{
		"a default zone that is not there": {"", "DefaultZone=publik\n", zone, "public", "DefaultZone=public\n", ""},
		"a default zone misspelled since":  {"DefaultZone=work\n", "DefaultZone=wrok\nLogDenied=off\n", zone, "work", "DefaultZone=work\nLogDenied=off\n", ""},
		"its key misspelled":               {"DefaultZone=work\n", "DefaultZon=work\n", zone, "work", "DefaultZon=work\nDefaultZone=work\n", ""},
		"another zone in the file":         {"DefaultZone=work\n", "DefaultZone=home\n", zone, "work", "DefaultZone=work\n", ""},
		"a default that no line sets":      {"LogDenied=off\n", "LogDenied=off\n", zone, "public", "LogDenied=off\n", ZoneAlreadySet},
		"a zone that the file has":         {"DefaultZone=work\n", "DefaultZone=work\n", zone, "work", "DefaultZone=work\n", ZoneAlreadySet},
		"a value that is none":             {"", "LogDenied=maybe\n", log, "off", "LogDenied=off\n", ""},
		"a line that is gone":              {"LogDenied=all\n", "DefaultZone=public\n", log, "all", "DefaultZone=public\nLogDenied=all\n", ""},
		"a value that the file has":        {"LogDenied=all\n", "LogDenied=all\n", log, "all", "LogDenied=all\n", AlreadySet},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"firewalld.conf": c.before}
			if c.before == "" {
				files["firewalld.conf"] = c.text
			}
			b := startKept(t, files)
			b.write(t, map[string]string{"firewalld.conf": c.text})
			commits := b.kernel.commits
			err := c.set(b, c.value)
			var refused *Error
			if code := grammar.Code(""); errors.As(err, &refused) {
				code = refused.Code
				if code != c.code {
					t.Errorf("it is refused: %v, want %q", err, c.code)
				}
			} else if err != nil || c.code != "" {
				t.Errorf("it gives %v, want %q", err, c.code)
			}
			if text := string(must(os.ReadFile(filepath.Join(b.dir, "firewalld.conf")))); text != c.want {
				t.Errorf("firewalld.conf is %q, want %q", text, c.want)
			}
			if b.kernel.commits != commits {
				t.Error("a reload was made for a value that is in force")
			}
		})
	}
}

// A default zone that is misspelled, and because of which the last good configuration is in force, is mended by the command that sets it:
// what the files say is in force then.
func TestMisspelledDefaultZoneIsMendedByCommand(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=work\n", "zones/work.xml": workZone})
	b.write(t, map[string]string{"firewalld.conf": "DefaultZone=wrok\n"})
	b.again(t)
	b.expect(t, Failed, "wrok", nil, nil)
	if err := b.SetDefaultZone(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", nil, nil)
	b.again(t)
	b.expect(t, Running, "", nil, nil)
}

// The default zone that was changed in the files alone, as over D-Bus, is put in force by the command that sets it.
func TestSettingInTheFilesAlone(t *testing.T) {
	b := start(t, map[string]string{"firewalld.conf": "DefaultZone=public\n"})
	if err := b.ChangePermanent(Change{Edit: zones.SetConf("DefaultZone", "work")}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetDefaultZone(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	if zone := b.Snapshot().Runtime.Conf.DefaultZone; zone != "work" {
		t.Errorf("the default zone is %s", zone)
	}
}

// What is set over D-Bus to the value that it has is written where the line of the file cannot be used.
func TestSameValueOverALineThatIsWrong(t *testing.T) {
	for text, edit := range map[string]zones.Edit{
		"DefaultZone=publik\n":   zones.SetConf("DefaultZone", "public"),
		"IPv6_rpfilter=strikt\n": zones.SetConf("IPv6_rpfilter", "strict"),
		"CleanupOnExit=maybe\n":  zones.SetConf("CleanupOnExit", "yes"),
	} {
		b := start(t, map[string]string{"firewalld.conf": text})
		if err := b.ChangePermanent(Change{Edit: edit}); err != nil {
			t.Fatal(err)
		}
		if _, problems := zones.Load(zones.Dirs{System: b.dir}); len(problems) > 0 {
			t.Errorf("%q: %v", text, problems)
		}
	}
}

// A check of the files names an interface of NftablesFlowtable that is not there, for which a reload would be refused; and it says what is
// passed over of files that can be used.
func TestCheckOfConf(t *testing.T) {
	b := start(t, nil)
	b.opt.HasInterface = func(name string) bool { return name == "eth0" }
	for text, want := range map[string]string{
		"NftablesFlowtable=eth0\n":                            "",
		"NftablesFlowtable=off\n":                             "",
		"NftablesFlowtable=eth0 eth99\n":                      "firewalld.conf: COMMAND_FAILED: cannot use NftablesFlowtable=eth0 eth99: there is no interface eth99",
		"FirewallBackend=iptables\nNftablesFlowtable=eth99\n": "",
	} {
		b.write(t, map[string]string{"firewalld.conf": text})
		if err := b.CheckPermanent(t.Context()); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	b.write(t, map[string]string{"firewalld.conf": "Foo=1\n"})
	var told []string
	if err := b.CheckTelling(t.Context(), func(line string) { told = append(told, line) }); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "firewalld.conf:1:1: INVALID_OPTION: warning: unknown key Foo") {
		t.Errorf("it says %q", told)
	}
}
