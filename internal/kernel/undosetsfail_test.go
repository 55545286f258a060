package kernel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// A change of an ipset and of rules is refused at the rules, and ipset fails when the set is to be put back. The Kernel says that something is not
// taken back. When ipset works again, the next commit takes it back first: the set holds what it held, and the one that came with the change is gone.
func TestSetsThatCannotBePutBack(t *testing.T) {
	armed, failing := filepath.Join(t.TempDir(), "armed"), filepath.Join(t.TempDir(), "failing")
	before(t, fmt.Sprintf("test -e %s && touch %s", armed, failing), "iptables-restore")
	before(t, fmt.Sprintf(`test -e %s && test "$1" = restore && { echo "Cannot allocate memory" >&2; exit 1; }`, failing), "ipset")
	set := func(entries ...string) string {
		return `<ipset type="hash:ip"><entry>` + strings.Join(entries, "</entry><entry>") + `</entry></ipset>`
	}
	direct := func(spec string) string {
		return `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">` + spec + `</rule></direct>`
	}
	files := map[string]string{"zones/public.xml": `<zone><rule><source ipset="blocked"/><drop/></rule></zone>`, "ipsets/blocked.xml": set("192.0.2.1", "192.0.2.2")}
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	first := desired(t, files, ir.IPTables, false)
	commit(t, k, first)
	sets := run(t, ns, "", "ipset", "save")
	files["ipsets/blocked.xml"], files["ipsets/fresh.xml"] = set("192.0.2.2", "192.0.2.3"), set("192.0.2.9")
	files["zones/public.xml"] = `<zone><rule><source ipset="blocked"/><drop/></rule><rule><source ipset="fresh"/><drop/></rule></zone>`
	files["direct.xml"] = direct("-m cgroup --path gone -j ACCEPT")
	write(t, armed, "")
	if err := k.Commit(t.Context(), desired(t, files, ir.IPTables, false)); err == nil {
		t.Fatal("the change is made")
	}
	if !k.(kernel.Remnant).Unfinished() {
		t.Error("it is not said that something is not taken back")
	}
	for _, path := range []string{armed, failing} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, k, first)
	if k.(kernel.Remnant).Unfinished() {
		t.Error("it is still said that something is not taken back")
	}
	sameLines(t, sortedLines(sets), sortedLines(run(t, ns, "", "ipset", "save")))
}
