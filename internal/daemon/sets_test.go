package daemon

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
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

// With FlushAllOnReload=no a reload adds the entries of the files to those that a set had, and keeps a set whose file is gone;
// one that became a set of something else starts anew.
func TestSetsOverReloadsWithoutFlush(t *testing.T) {
	set := func(kind string, entries ...string) string {
		return `<ipset type="` + kind + `"><entry>` + strings.Join(entries, "</entry><entry>") + `</entry></ipset>`
	}
	b := start(t, map[string]string{
		"firewalld.conf":    "FlushAllOnReload=no\n",
		"ipsets/both.xml":   set("hash:ip", "10.0.0.1"),
		"ipsets/gone.xml":   set("hash:ip", "10.0.0.2"),
		"ipsets/other.xml":  set("hash:ip", "10.0.0.3"),
		"ipsets/family.xml": set("hash:ip", "10.0.0.4"),
	})
	edit := zones.Add(zones.Runtime, zones.Object{Kind: zones.KindIPSet, Name: "both"}, zones.Item{Key: zones.KeyEntry, Args: []string{"10.0.0.9"}})
	if err := b.ChangeRuntime(t.Context(), Change{Edit: edit}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.dir, "ipsets/gone.xml")); err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{
		"ipsets/both.xml":   set("hash:ip", "10.0.0.5", "10.0.0.1"),
		"ipsets/other.xml":  set("hash:net", "10.1.0.0/16"),
		"ipsets/family.xml": `<ipset type="hash:ip"><option name="family" value="inet6"/><entry>fd00::1</entry></ipset>`,
	})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"both": "10.0.0.5 10.0.0.1 10.0.0.9", "gone": "10.0.0.2", "other": "10.1.0.0/16", "family": "fd00::1",
	} {
		got := b.Snapshot().Runtime.IPSets[name]
		if got == nil || strings.Join(got.Entries, " ") != want {
			t.Errorf("ipset %s is %+v, want entries %s", name, got, want)
		}
	}
}

// With FlushAllOnReload=no a reload adds the direct rules of the files to those that were added while the firewall ran. Rules that the
// files no longer have go; passthroughs stay.
func TestDirectRulesOverReloadsWithoutFlush(t *testing.T) {
	direct := func(rules ...string) string {
		return "<direct>" + strings.Join(rules, "") + "</direct>"
	}
	rule := func(chain, port string) string {
		return `<rule ipv="ipv4" table="filter" chain="` + chain + `" priority="0">--dport ` + port + `</rule>`
	}
	b := start(t, map[string]string{
		"firewalld.conf": "FlushAllOnReload=no\n",
		"direct.xml":     direct(rule("INPUT", "1"), rule("OUTPUT", "2"), `<passthrough ipv="ipv4">-A INPUT -j ACCEPT</passthrough>`),
	})
	edit := zones.Add(zones.Runtime, zones.Object{Kind: zones.KindDirect},
		zones.Item{Key: zones.KeyDirectRule, Args: []string{"ipv4", "filter", "INPUT", "0", "--dport", "3"}})
	if err := b.ChangeRuntime(t.Context(), Change{Edit: edit}); err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"direct.xml": direct(rule("OUTPUT", "2"), rule("INPUT", "4"))})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.Snapshot().Runtime.Direct
	var ports []string
	for _, r := range got.Rules {
		ports = append(ports, r.Chain+" "+r.Args[1])
	}
	if want := "OUTPUT 2, INPUT 4, INPUT 3"; strings.Join(ports, ", ") != want || len(got.Passthroughs) != 1 {
		t.Errorf("the rules are %q and there are %d passthroughs, want %q and 1", ports, len(got.Passthroughs), want)
	}
}

// A direct chain that rules are in stays, in the kernel and in what is listed, until the last of them is gone: on a change, and on a reload
// of files that have the rules and no longer the chain.
func TestDirectChainsInUseStay(t *testing.T) {
	chain := `<chain ipv="ipv4" table="filter" chain="mine"/>`
	rule := `<rule ipv="ipv4" table="filter" chain="mine" priority="0">-j DROP</rule>`
	b := start(t, map[string]string{"direct.xml": "<direct>" + chain + rule + "</direct>"})
	direct := zones.Object{Kind: zones.KindDirect}
	mine := zones.Item{Key: zones.KeyChain, Args: []string{"ipv4", "filter", "mine"}}
	drop := zones.Item{Key: zones.KeyDirectRule, Args: []string{"ipv4", "filter", "mine", "0", "-j", "DROP"}}
	before, commits := b.Snapshot(), b.kernel.commits
	refused := func(what string, err error) {
		t.Helper()
		if code, _ := zones.CodeOf(err); code != zones.CommandFailed {
			t.Errorf("%s: got %v, not COMMAND_FAILED", what, err)
		}
		if !reflect.DeepEqual(b.Snapshot().Runtime, before.Runtime) || b.kernel.commits != commits {
			t.Errorf("%s has changed something", what)
		}
	}
	refused("removing the chain", b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, direct, mine)}))
	b.write(t, map[string]string{"direct.xml": "<direct>" + rule + "</direct>"})
	refused("the check", b.CheckPermanent(t.Context()))
	refused("a reload without the chain", b.Reload(t.Context()))
	for _, item := range []zones.Item{drop, mine} {
		if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, direct, item)}); err != nil {
			t.Fatal(err)
		}
	}
	if d := b.Snapshot().Runtime.Direct; len(d.Chains)+len(d.Rules) != 0 {
		t.Errorf("there is left %+v", d)
	}
}
