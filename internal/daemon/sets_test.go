package daemon

import (
	"context"
	"strings"
	"testing"

	"richwall/zones"
)

// An entry of a set with a timeout is in the kernel, and neither listed nor in the files. A reload forgets it, unless
// FlushAllOnReload is no.
func TestTimedEntriesOverReloads(t *testing.T) {
	for flush, kept := range map[string]bool{"yes": false, "no": true} {
		b := start(t, map[string]string{
			"firewalld.conf":    "FlushAllOnReload=" + flush + "\n",
			"ipsets/guests.xml": `<ipset type="hash:ip"><option name="timeout" value="600"/></ipset>`,
		})
		ctx, guests := context.Background(), zones.Object{Kind: zones.KindIPSet, Name: "guests"}
		edit := zones.Add(zones.Runtime, guests, zones.Item{Key: zones.KeyEntry, Args: []string{"10.0.0.1"}})
		if err := b.ChangeRuntime(ctx, Change{Edit: edit}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.kernel.rules(), "10.0.0.1") || b.Snapshot().Runtime.IPSets["guests"].Entries != nil {
			t.Errorf("the entry is not in the kernel, or is listed:\n%s", b.kernel.rules())
		}
		if err := b.RuntimeToPermanent(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		if there := strings.Contains(b.kernel.rules(), "10.0.0.1"); there != kept {
			t.Errorf("FlushAllOnReload=%s: after a reload the entry is there: %v", flush, there)
		}
	}
}
