package kernel_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// ways are how a program ends that has done some of its work, or all of it, and does not say so.
var ways = map[string]string{"killed": "kill -9 $$", "ended by the limit": "sleep 600"}

// eachWayOfAnEnd runs a test for each of ways, with a limit of some seconds.
func eachWayOfAnEnd(t *testing.T, test func(t *testing.T, how string)) {
	t.Cleanup(kernel.SetLongestRun(3 * time.Second))
	for name, how := range ways {
		t.Run(name, func(t *testing.T) { test(t, how) })
	}
}

// armed is a line of a shell that does something if a file is there, and removes it first.
func armed(t *testing.T, line string) (script string, arm func()) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "armed")
	return fmt.Sprintf("if [ -e %s ]; then rm %[1]s; %s; fi", mark, line), func() { write(t, mark, "") }
}

// toolPath is the path of a program for a script in its place.
func toolPath(t *testing.T, name string) string {
	t.Helper()
	path, err := findProgram(name)
	if err != nil {
		t.Skip(err)
	}
	return path
}

// ofSet is the configuration of a firewall that drops what is in a set.
func ofSet(options string, entries ...string) map[string]string {
	return map[string]string{"zones/public.xml": `<zone><rule><source ipset="blocked"/><drop/></rule></zone>`,
		"ipsets/blocked.xml": `<ipset type="hash:ip">` + options + `<entry>` + strings.Join(entries, "</entry><entry>") + `</entry></ipset>`}
}

// A change makes a set anew, or with another type, or changes its elements, and ipset is killed in the middle of that, or behind it, or takes too
// long and is ended. The change fails, and the set has what it had; but where a set was to go and has gone, the change goes on.
func TestSetsBehindAnIpsetThatWasEnded(t *testing.T) {
	ipset := toolPath(t, "ipset")
	size := func(n string) string { return `<option name="hashsize" value="` + n + `"/>` }
	typed := ofSet("", "192.0.2.4")
	typed["ipsets/blocked.xml"] = strings.Replace(typed["ipsets/blocked.xml"], "hash:ip", "hash:net", 1)
	for name, c := range map[string]struct {
		next       map[string]string
		when, part string // the run of ipset that is ended, by its input, and what reads the part of the input that is done
		made       bool
	}{
		"filled in part": {ofSet(size("2048"), "192.0.2.4", "192.0.2.5", "192.0.2.6"), "create _richwall_0", "head -3", false},
		"made":           {ofSet(size("2048"), "192.0.2.4", "192.0.2.5"), "create _richwall_0", "cat", false},
		"changed":        {ofSet(size("1024"), "192.0.2.1", "192.0.2.5"), "add blocked 192.0.2.5", "cat", false},
		"taken out":      {typed, "destroy blocked", "cat", true},
	} {
		t.Run(name, func(t *testing.T) {
			eachWayOfAnEnd(t, func(t *testing.T, how string) {
				end, arm := armed(t, fmt.Sprintf(`echo "$input" | %s | %s restore; %s`, c.part, ipset, how))
				script := fmt.Sprintf(`if [ "$1" = restore ]; then input=$(cat); case "$input" in *"%s"*) %s;; esac; echo "$input" | %s "$@"; exit; fi`, c.when, end, ipset)
				before(t, script, "ipset")
				ns := namespace(t)
				k := open(t, ns, ir.IPTables)
				commit(t, k, desired(t, ofSet(size("1024"), "192.0.2.1", "192.0.2.2", "192.0.2.3"), ir.IPTables, false))
				held := heldBySets(t, ns)
				arm()
				if err := k.Commit(t.Context(), desired(t, c.next, ir.IPTables, false)); (err == nil) != c.made {
					t.Errorf("the error is %v", err)
				}
				if c.made {
					held = "add blocked 192.0.2.4"
				}
				if k.(kernel.Remnant).Unfinished() {
					t.Error("something is not taken back")
				}
				if got := heldBySets(t, ns); got != held {
					t.Errorf("the sets hold\n%s\nand not\n%s", got, held)
				}
				commit(t, k, desired(t, c.next, ir.IPTables, false))
			})
		})
	}
}

// A direct rule is added. The restore tool puts it into the kernel, and is killed then, or does not end. The change fails, and the rule is not in
// the kernel, nor in the note of what is; on both back ends.
func TestRuleOfARestoreToolThatWasEnded(t *testing.T) {
	restore := toolPath(t, "iptables-restore")
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		eachWayOfAnEnd(t, func(t *testing.T, how string) {
			end, arm := armed(t, `echo "$input" | `+restore+` "$@"; `+how)
			script := `case "$*" in *--test*) ;; *) input=$(cat); case "$input" in *192.0.2.2*) %s;; esac; echo "$input" | %s "$@"; exit;; esac`
			before(t, fmt.Sprintf(script, end, restore), "iptables-restore")
			ns, store := namespace(t), &disk{}
			k, _, killed := process(t, ns, backend, store)
			defer killed()
			direct := func(rules ...string) map[string]string {
				text := "<direct>"
				for _, rule := range rules {
					text += `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">` + rule + `</rule>`
				}
				return map[string]string{"zones/public.xml": "<zone/>", "direct.xml": text + "</direct>"}
			}
			first := desired(t, direct("-s 192.0.2.1 -j DROP"), backend, false)
			commit(t, k, first)
			rules, note := rulesIn(run(t, ns, "", "iptables-save")), strings.Join(store.texts[max(0, len(store.texts)-1):], "")
			arm()
			if err := k.Commit(t.Context(), desired(t, direct("-s 192.0.2.1 -j DROP", "-s 192.0.2.2 -j ACCEPT"), backend, false)); err == nil {
				t.Error("the change is made")
			}
			if got := rulesIn(run(t, ns, "", "iptables-save")); got != rules {
				t.Errorf("behind a change that was not made the rules are\n%s\nand before it\n%s", got, rules)
			}
			if got := strings.Join(store.texts[max(0, len(store.texts)-1):], ""); got != note {
				t.Errorf("behind a change that was not made the note is\n%s\nand before it\n%s", got, note)
			}
		})
	})
}

// An ebtables-restore that is killed behind its work is asked again what is there: the change is made, and the rule goes with the next one.
func TestRuleOfAnEbtablesThatWasEnded(t *testing.T) {
	restore := toolPath(t, "ebtables-restore")
	script, arm := armed(t, restore+` "$@" && kill -9 $$; exit 1`)
	before(t, script, "ebtables-restore")
	ns := namespace(t)
	o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
	change := func(old, next *kernel.Bridge) {
		t.Helper()
		if _, err := kernel.CommitBridge(t.Context(), o, old, next); err != nil {
			t.Fatal(err)
		}
	}
	none, next := &kernel.Bridge{}, &kernel.Bridge{Rules: []kernel.BridgeRule{{Table: "filter", Chain: "INPUT", Args: strings.Fields("-s 02:00:00:00:00:01 -j ACCEPT")}}}
	change(nil, none)
	arm()
	change(none, next)
	if rules := run(t, ns, "", "ebtables", "-L", "INPUT"); strings.Count(rules, "-s ") != 1 {
		t.Errorf("the rule is not there once:\n%s", rules)
	}
	change(next, none)
	if rules := run(t, ns, "", "ebtables", "-L", "INPUT"); strings.Contains(rules, "-s ") {
		t.Errorf("the rule is still there:\n%s", rules)
	}
}
