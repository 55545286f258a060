package richwall

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"richwall/zones"
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

// Ranges of ports beside addresses are many prefixes each in the kernel, so that fewer of them are loaded into the lab.
func TestRangesInSetsAreBounded(t *testing.T) {
	for _, c := range []struct {
		kind, entry string
		taken       bool
	}{{"hash:ip,port", "192.0.2.1,tcp:%d", true}, {"hash:ip,port", "192.0.2.1,tcp:1-%d", false}, {"hash:ip", "192.0.2.1-192.0.2.%d", true}} {
		cfg := &zones.Config{Conf: zones.DefaultConf(), IPSets: map[string]*zones.IPSet{"block": {Type: c.kind}}}
		for i := range mostLabRules + 1 {
			cfg.IPSets["block"].Entries = append(cfg.IPSets["block"].Entries, fmt.Sprintf(c.entry, i))
		}
		d := directories{config: t.TempDir()}
		if err := d.bounded(cfg, mostLabRules); (err == nil) != c.taken {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}
