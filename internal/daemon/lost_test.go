package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/zones"
)

// orders are the orders that write files, each about something else than what is lost.
var orders = map[string]func(b *bed) error{
	"--set-default-zone": func(b *bed) error { return b.SetDefaultZone(context.Background(), "block") },
	"--set-log-denied":   func(b *bed) error { return b.SetLogDenied(context.Background(), "all") },
	"--permanent --add-port": func(b *bed) error {
		return b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("1", "tcp"))})
	},
	"a property over D-Bus": func(b *bed) error {
		return b.ChangePermanent(Change{Edit: zones.SetConf("CleanupOnExit", "no")})
	},
	"--permanent --delete-zone of the default zone": func(b *bed) error {
		return b.ChangePermanent(Change{Edit: zones.Delete(zones.Object{Kind: zones.KindZone, Name: "mine"})})
	},
	"--permanent --new-service": func(b *bed) error {
		return b.ChangePermanent(Change{Edit: zones.New(zones.Object{Kind: zones.KindService, Name: "app"}, nil)})
	},
	"--runtime-to-permanent": func(b *bed) error { return b.RuntimeToPermanent(context.Background()) },
}

// losses are ways to lose files, and what a reload says then.
var losses = []struct {
	name, says string
	lose       func(dir string) error
}{
	{"the folder is gone", "is not there", os.RemoveAll},
	{"the folder is emptied", "holds no file", func(dir string) error {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return os.MkdirAll(filepath.Join(dir, "zones"), 0o750)
	}},
	{"firewalld.conf is gone", "DefaultZone=", func(dir string) error { return os.Remove(filepath.Join(dir, "firewalld.conf")) }},
	{"firewalld.conf is emptied", "DefaultZone=", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "firewalld.conf"), []byte("# nothing\n"), 0o600)
	}},
}

// No change is written into a folder whose files a reload takes for lost: it would make the folder look as if it was meant so, and the next
// reload or start would put what is shipped in force. That goes for a daemon that runs, and for one that has found the files lost at its
// start. Once the files are there again, changes are written.
func TestNoChangeOfLostFiles(t *testing.T) {
	files := map[string]string{"firewalld.conf": "DefaultZone=mine\nStrictForwardPorts=yes\n", "zones/mine.xml": `<zone/>`, "zones/work.xml": workZone}
	for _, loss := range losses {
		for _, order := range zones.Names(orders) {
			for _, restarted := range []bool{false, true} {
				if restarted && order == "--runtime-to-permanent" { // is for a whole configuration alone
					continue
				}
				name := strings.Join([]string{loss.name, order, map[bool]string{true: "after a start"}[restarted]}, ", ")
				t.Run(name, func(t *testing.T) {
					b := startKept(t, files)
					if err := loss.lose(b.dir); err != nil {
						t.Fatal(err)
					}
					if restarted {
						b.again(t)
					}
					reload := b.Reload(t.Context())
					if reload == nil || !strings.Contains(reload.Error(), loss.says) {
						t.Fatalf("a reload gives %v, want %q", reload, loss.says)
					}
					before := filesIn(b.dir)
					failure, says := "", loss.says
					if restarted {
						failure, says = "in force instead is the last good configuration", ""
					}
					if err := orders[order](b); err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("the order gives %v, want what the reload says", err)
					}
					if after := filesIn(b.dir); !slices.Equal(after, before) {
						t.Errorf("the folder has %q, and had %q", after, before)
					}
					b.Reload(t.Context())
					if conf := b.Snapshot().Runtime.Conf; conf.DefaultZone != "mine" || !conf.StrictForwardPorts {
						t.Errorf("in force is the default zone %s, and StrictForwardPorts=%v", conf.DefaultZone, conf.StrictForwardPorts)
					}
					b.expect(t, b.Snapshot().State, failure, []string{"8080"}, []string{"22"})
					b.write(t, files)
					if err := b.Reload(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := orders[order](b); err != nil {
						t.Errorf("with the files there again, the order gives %v", err)
					}
				})
			}
		}
	}
}

// A folder that is empty on purpose, and a firewalld.conf that never was there, are no loss.
func TestChangeOfFilesThatNeverWere(t *testing.T) {
	for _, order := range zones.Names(orders) {
		if strings.Contains(order, "of the default zone") {
			continue
		}
		b := startKept(t, nil)
		if err := orders[order](b); err != nil {
			t.Errorf("%s gives %v", order, err)
		}
	}
}

// A reset says that what is shipped is meant, whatever was lost.
func TestResetOfLostFiles(t *testing.T) {
	for _, loss := range losses {
		b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=mine\n", "zones/mine.xml": `<zone/>`})
		if err := loss.lose(b.dir); err != nil {
			t.Fatal(err)
		}
		if err := b.ResetToDefaults(t.Context()); err != nil {
			t.Errorf("%s, and a reset gives %v", loss.name, err)
		}
		if zone := b.Snapshot().Runtime.Conf.DefaultZone; zone != "public" {
			t.Errorf("%s, and behind a reset the default zone is %s", loss.name, zone)
		}
		b.again(t)
		b.expect(t, Running, "", []string{"22"}, nil)
	}
}

// filesIn are the files in a folder and what they hold.
func filesIn(dir string) (list []string) {
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			data, _ := os.ReadFile(path)
			list = append(list, path+": "+string(data))
		}
		return nil
	})
	return list
}
