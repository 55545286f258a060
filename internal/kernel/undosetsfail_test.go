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

// A change of elements is refused at the rules, and cannot be taken back one by one: another program has filled the set meanwhile. The set is
// made anew with what it held.
func TestSetThatAnotherProgramHasFilled(t *testing.T) {
	ipset := toolPath(t, "ipset")
	fill, arm := armed(t, fmt.Sprintf("%[1]s del blocked 192.0.2.4; %[1]s add blocked 198.51.100.1; %[1]s add blocked 198.51.100.2; exit 3", ipset))
	before(t, fill, "iptables-restore")
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	four := `<option name="maxelem" value="4"/>`
	commit(t, k, desired(t, ofSet(four, "192.0.2.1", "192.0.2.2", "192.0.2.3"), ir.IPTables, false))
	next := ofSet(four, "192.0.2.1", "192.0.2.2", "192.0.2.4")
	next["direct.xml"] = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.9 -j DROP</rule></direct>`
	arm()
	if err := k.Commit(t.Context(), desired(t, next, ir.IPTables, false)); err == nil {
		t.Fatal("the change is made")
	}
	if k.(kernel.Remnant).Unfinished() {
		t.Error("something is not taken back")
	}
	if got := heldBySets(t, ns); got != "add blocked 192.0.2.1\nadd blocked 192.0.2.2\nadd blocked 192.0.2.3" {
		t.Errorf("the sets hold\n%s", got)
	}
	commit(t, k, desired(t, next, ir.IPTables, false))
}

// A change is refused, and ipset does not work any more, so that a set cannot be put back. Panic mode can be ended nevertheless, and so can the
// firewall. When ipset works again, the next change makes the set what it shall be.
func TestSetsThatCannotBePutBackKeepNobody(t *testing.T) {
	failing := filepath.Join(t.TempDir(), "failing")
	refuse, arm := armed(t, "touch "+failing+"; exit 3")
	before(t, refuse, "iptables-restore")
	before(t, fmt.Sprintf(`test -e %s && test "$1" = restore && { echo "Cannot allocate memory" >&2; exit 1; }`, failing), "ipset")
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	first, next := ofSet("", "192.0.2.1", "192.0.2.2"), ofSet("", "192.0.2.2", "192.0.2.3")
	next["direct.xml"] = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.9 -j DROP</rule></direct>`
	stuck := func() {
		t.Helper()
		commit(t, k, desired(t, first, ir.IPTables, true))
		arm()
		if err := k.Commit(t.Context(), desired(t, next, ir.IPTables, true)); err == nil || !k.(kernel.Remnant).Unfinished() {
			t.Fatalf("the change is made, or taken back: %v", err)
		}
	}
	stuck()
	commit(t, k, desired(t, first, ir.IPTables, false))
	if err := os.Remove(failing); err != nil {
		t.Fatal(err)
	}
	commit(t, k, desired(t, first, ir.IPTables, false))
	if got := heldBySets(t, ns); got != "add blocked 192.0.2.1\nadd blocked 192.0.2.2" {
		t.Errorf("the sets hold\n%s", got)
	}
	stuck()
	commit(t, k, &kernel.Desired{})
	if got := rulesIn(run(t, ns, "", "iptables-save")); got != "" {
		t.Errorf("these rules are left:\n%s", got)
	}
}
