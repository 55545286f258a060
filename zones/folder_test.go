package zones

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A folder that a stranger may have written is read without waiting and without a way out; the rest of it is read all the same.
func TestHostileFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.xml")
	writeFile(t, secret, `<zone><service name="secret"/></zone>`)
	for _, c := range []struct {
		why   string
		place func(t *testing.T, dir string)
		want  string // of the only problem; "" if there is none
	}{
		{"a pipe would be waited for", func(t *testing.T, dir string) { pipe(t, dir, "zones/x.xml") }, "zones/x.xml: INVALID_FILENAME: cannot read it: it is a pipe, not a file"},
		{"a pipe in the place of a folder", func(t *testing.T, dir string) { pipe(t, dir, "services") }, "services: INVALID_FILENAME: cannot read it: it is not a folder"},
		{"a socket", func(t *testing.T, dir string) { socket(t, dir, "s") }, ""},
		{"a link out of the folder", func(t *testing.T, dir string) { link(t, secret, dir+"/zones/x.xml") }, "zones/x.xml: INVALID_FILENAME: cannot read it: the link zones/x.xml leads to " + secret + ", and only relative links that stay within DIR are followed: put a copy in its place, or add --trusted"},
		{"a relative one", func(t *testing.T, dir string) { link(t, "../../../../../../../../../etc/passwd", dir+"/richwall.conf") }, "richwall.conf: INVALID_FILENAME: cannot read it: the link richwall.conf leads to ../../../../../../../../../etc/passwd, and only relative links that stay within DIR"},
		{"over a link within the folder", func(t *testing.T, dir string) {
			link(t, "/etc", dir+"/..data")
			link(t, "../..data/x.xml", dir+"/zones/x.xml")
		}, "zones/x.xml: INVALID_FILENAME: cannot read it: the link ..data leads to /etc, and only relative links that stay within DIR"},
		{"the environment, which is full of secrets", func(t *testing.T, dir string) { link(t, "/proc/self/environ", dir+"/richwall.conf") }, "richwall.conf: INVALID_FILENAME: cannot read it: the link richwall.conf leads to /proc/self/environ, and only relative links that stay within DIR"},
		{"a folder out of the folder", func(t *testing.T, dir string) { link(t, filepath.Dir(secret), dir+"/zones") }, "zones: INVALID_FILENAME: cannot read it: the link zones leads to " + filepath.Dir(secret) + ", and only relative links that stay within DIR"},
		{"a device without an end", func(t *testing.T, dir string) { link(t, "/dev/zero", dir+"/direct.xml") }, "direct.xml: INVALID_FILENAME: cannot read it: the link direct.xml leads to /dev/zero, and only relative links that stay within DIR"},
		{"links round in a circle", func(t *testing.T, dir string) { link(t, "x.xml", dir+"/zones/x.xml") }, "zones/x.xml: INVALID_FILENAME: cannot read it: too many levels of symbolic links"},
		{"a link that leads nowhere", func(t *testing.T, dir string) { link(t, "nowhere", dir+"/firewalld.conf") }, "firewalld.conf: INVALID_FILENAME: cannot read it: it is a link that leads nowhere"},
		{"a link within the folder works", func(t *testing.T, dir string) {
			writeFile(t, dir+"/..2026/x.xml", `<zone/>`)
			link(t, "..2026", dir+"/..data")
			link(t, "../..data/x.xml", dir+"/zones/x.xml")
		}, ""},
		{"hidden folders are what others keep there", func(t *testing.T, dir string) { writeFile(t, dir+"/zones/..2026/x.xml", `<zone/>`) }, ""},
		{"a huge file", func(t *testing.T, dir string) { sparse(t, dir+"/ipsets/x.xml", maxFileBytes+1) }, "ipsets/x.xml: INVALID_FILENAME: cannot read it: it has more than 64 MiB"},
		{"a huge firewalld.conf", func(t *testing.T, dir string) { sparse(t, dir+"/firewalld.conf", maxConfBytes+1) }, "firewalld.conf: INVALID_FILENAME: cannot read it: it has more than 1 MiB"},
		{"huge files together", func(t *testing.T, dir string) { sparse(t, dir+"/ipsets/x.xml", maxStrangeBytes+1) }, "ipsets/x.xml: INVALID_FILENAME: cannot read it: there is more in its folder than is read of all files together: 12 MiB"},
		{"very many files", func(t *testing.T, dir string) {
			for i := range maxEntries + 1 {
				writeFile(t, fmt.Sprintf("%s/services/s%d.xml", dir, i), "")
			}
		}, "services: INVALID_FILENAME: cannot read it: there are more than 10000 files in it"},
		{"very many elements", func(t *testing.T, dir string) {
			writeFile(t, dir+"/ipsets/x.xml", `<ipset type="hash:ip">`+strings.Repeat("<entry/>", maxElements)+`</ipset>`)
		}, "INVALID_IPSET: cannot read the file as XML: there are more than 600000 elements"},
		{"very many attributes", func(t *testing.T, dir string) {
			var b strings.Builder
			for i := range 200_000 {
				fmt.Fprintf(&b, " a%d=''", i)
			}
			writeFile(t, dir+"/zones/x.xml", "<zone"+b.String()+"/>")
		}, "INVALID_ZONE: cannot read the file as XML: <zone> has more than 32 attributes"},
	} {
		t.Run(strings.ReplaceAll(c.why, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			c.place(t, dir)
			config, problems := Load(Dirs{System: dir})
			text := strings.ReplaceAll(problems.Error(), dir+"/", "")
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if len(problems) != min(1, len(want)) || !strings.Contains(text, want) {
				t.Errorf("got %s, want %q", text, want)
			}
			if (config == nil) != (want != "") {
				t.Errorf("the configuration is %v", config)
			}
		})
	}
}

// What an editor leaves behind, such as the swap file .public.xml.xml, is no reason to refuse the rest: a hidden file is passed over with a
// warning, as no object can have its name. It is neither an object nor a loss. Ipsets and helpers can have such names, as in firewalld.
func TestHiddenFiles(t *testing.T) {
	const name = ".public.xml.xml"
	for folder, kind := range topFolders {
		for _, below := range []string{folder, folder + "/home"} {
			if below != folder && folder != "zones" {
				continue
			}
			dir := t.TempDir()
			writeFile(t, dir+"/"+below+"/"+name, "b0VIM 9.0")
			if below != folder {
				writeFile(t, dir+"/"+below+"/part.xml", "<zone/>")
			}
			c, problems := Load(Dirs{System: dir})
			r := LoadRest(Dirs{System: dir}, &Config{})
			if folder == "ipsets" || folder == "helpers" {
				if c != nil || len(r.Losses) == 0 {
					t.Errorf("%s: %s is no %s: %v", below, name, kind, problems)
				}
				continue
			}
			if want := fmt.Sprintf("%s/%s/%s: INVALID_NAME: warning: the name of this file begins with a dot, and no %s can have such a name: it is ignored", dir, below, name, kind); c == nil ||
				!strings.Contains(problems.Error(), want) {
				t.Errorf("%s: got %v, want %s", below, problems, want)
			}
			if len(r.Losses) > 0 || InDoubt(r.Losses) || r.Config.ZoneParts["home/.public.xml"] != nil {
				t.Errorf("%s: a start is without %v", below, r.Losses)
			}
		}
	}
}

// In a folder that only root can write, links are followed wherever they lead, as firewalld does; to files alone.
func TestFollowedLinks(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, outside+"/x.xml", `<zone><service name="http"/></zone>`)
	writeFile(t, outside+"/services/app.xml", `<service/>`)
	dir := t.TempDir()
	link(t, outside+"/x.xml", dir+"/zones/x.xml")
	link(t, outside+"/services", dir+"/services")
	link(t, dir, outside+"/etc")
	config, problems := Load(Dirs{System: outside + "/etc", Follow: true})
	if config == nil || config.Zones["x"] == nil || config.Services["app"] == nil {
		t.Fatal(problems)
	}
	link(t, "/dev/zero", dir+"/zones/y.xml")
	if config, problems := Load(Dirs{System: dir, Follow: true}); config != nil || !strings.Contains(problems.Error(), "it is a device, not a file") {
		t.Errorf("got %v", problems)
	}
}

// Links that cannot be followed cost nothing where no name of a configuration is: locks of Emacs beside the file that is edited, which lead to
// user@host.pid, swap files, and copies such as public.xml.old. Any other one may stand for an object, or for a folder of parts.
func TestLinksThatLeadNowhere(t *testing.T) {
	for name, used := range map[string]bool{
		"zones/.#public.xml": true, "services/.#app.xml": true, "zones/lan/.#a.xml": true, "zones/.#README": true, "zones/.foo.xml.swp": true,
		"zones/foo.xml.old": true, "zones/public.xml~": true, "policies/p.xml.old": true,
		"zones/public.xml": false, "zones/public": false, "policies/p.xml": false,
	} {
		for _, target := range []string{"user@host.123", filepath.Base(name)} {
			if target == filepath.Base(name) && strings.HasPrefix(target, ".#") && strings.HasSuffix(target, ".xml") {
				continue // no editor makes a lock that leads to itself
			}
			for _, follow := range []bool{true, false} {
				dirs := Dirs{System: t.TempDir(), Follow: follow}
				writeFile(t, dirs.System+"/zones/lan/a.xml", "<zone/>")
				link(t, target, filepath.Join(dirs.System, name))
				c, problems := Load(dirs)
				if losses := LoadRest(dirs, &Config{}).Losses; (c != nil) != used || (len(losses) == 0) != used {
					t.Errorf("%s leads to %s, followed is %v: %v, %v", name, target, follow, problems, losses)
				}
			}
		}
	}
}

// The files of a folder that may be a stranger's are counted, in all kinds and folders of parts together, and one message for each folder
// says that there are too many; a folder that is followed may have any number.
func TestFilesInAll(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		makeFolder(t, dir+"/zones/"+name)
		for i := range maxStrangeFiles/2 + 1 {
			if err := os.WriteFile(fmt.Sprintf("%s/zones/%s/%d.xml", dir, name, i), []byte("<zone/>"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	config, problems := Load(Dirs{System: dir})
	if config != nil || len(problems) != 1 || !strings.Contains(problems.Error(), "zones/b: INVALID_FILENAME: cannot read it: there are more than 10000 files of objects in all") {
		t.Errorf("got %v", problems)
	}
	if config, problems := Load(Dirs{System: dir, Follow: true}); config == nil {
		t.Errorf("got %v", problems)
	}
}

// pipe makes a pipe.
func pipe(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(dir+"/"+name, syscall.S_IFIFO|0o644, 0); err != nil {
		t.Fatal(err)
	}
}

// socket makes a socket in a folder, under a name that no file is read from: names of sockets are short.
func socket(t *testing.T, dir, name string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// sparse makes a file of a size that holds nothing.
func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	writeFile(t, path, "")
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}
