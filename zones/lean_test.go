package zones

import (
	"path/filepath"
	"strings"
	"testing"
)

// An edit after which a zone would let in a service that has lost a destination, by itself or by another one, is refused: the next reload would
// refuse the files. Where one does so already, it is used already, and so it may be.
func TestServiceThatHasLostADestination(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "services/wide.xml"), `<service><port port="7" protocol="tcp"/><destination/></service>`)
	writeFile(t, filepath.Join(dir, "services/outer.xml"), `<service><include service="wide"/></service>`)
	writeFile(t, filepath.Join(dir, "zones/lan.xml"), `<zone><port port="9" protocol="tcp"/></zone>`)
	lan := Object{KindZone, "lan"}
	try := func(text string, taken bool) {
		t.Helper()
		c, problems := Load(Dirs{System: dir})
		if problems.Err() != nil {
			t.Fatal(problems)
		}
		_, err := Apply(c, Add(Permanent, lan, item(text)))
		if (err == nil) != taken || err != nil && !strings.Contains(err.Error(), "cannot rely on service wide") {
			t.Errorf("%s: %v, want success: %v", text, err, taken)
		}
	}
	items := []string{"service wide", "service outer", "rule rule service name=wide accept"}
	for _, text := range items {
		try(text, false)
	}
	try("service ssh", true)
	writeFile(t, filepath.Join(dir, "zones/old.xml"), `<zone><service name="outer"/></zone>`)
	for _, text := range items {
		try(text, true)
	}
}
