package richwall

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A folder that may be a stranger's is refused, before its rules are worked out, if what it binds to its zones would make too many.
// Many sources in few zones are usual, and --trusted is for everything else.
func TestBindingsAreBounded(t *testing.T) {
	for _, c := range []struct {
		zones, sources int
		trusted, taken bool
	}{{2, 5000, false, true}, {20, 1000, false, false}, {20, 1000, true, true}} {
		d := directories{config: t.TempDir(), trusted: c.trusted}
		for z := range c.zones {
			var b strings.Builder
			for i := range c.sources {
				fmt.Fprintf(&b, `<source address="10.%d.%d.%d"/>`, z, i/250, i%250)
			}
			write(t, filepath.Join(d.config, fmt.Sprintf("zones/z%d.xml", z)), "<zone>"+b.String()+"</zone>")
		}
		cfg, err := d.load(t.Output())
		if (err == nil && cfg != nil) != c.taken || err != nil && !strings.Contains(err.Error(), "what is bound to zones") {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}
