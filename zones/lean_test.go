package zones

import (
	"path/filepath"
	"strings"
	"testing"
)

// An edit after which a zone would let in a service that has lost a destination, by itself or by another one, is refused: the next reload would
// refuse the files. A zone that does so already is edited as any other.
func TestServiceThatHasLostADestination(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "services/wide.xml"), `<service><port port="7" protocol="tcp"/><destination/></service>`)
	writeFile(t, filepath.Join(dir, "services/outer.xml"), `<service><include service="wide"/></service>`)
	writeFile(t, filepath.Join(dir, "zones/lan.xml"), `<zone><port port="9" protocol="tcp"/></zone>`)
	lan := Object{KindZone, "lan"}
	edits := map[string]bool{"service wide": false, "service outer": false, "rule rule service name=wide accept": false, "service ssh": true}
	for text, taken := range edits {
		c, problems := Load(Dirs{System: dir})
		if problems.Err() != nil {
			t.Fatal(problems)
		}
		next, err := Apply(c, Add(Permanent, lan, item(text)))
		if (err == nil) != taken || err != nil && !strings.Contains(err.Error(), "cannot rely on service wide") {
			t.Errorf("%s: %v, want success: %v", text, err, taken)
		}
		if err != nil {
			next = must(t, c, Add(Runtime, lan, item(text))) // the files may say so already
		}
		must(t, next, Add(Permanent, lan, item("port 10:tcp")))
	}
}
