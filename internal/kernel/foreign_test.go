package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// watching is a Kernel with the reports of what others change.
type watching struct {
	kernel.Watcher
	reports chan kernel.Foreign
}

func watch(t *testing.T, ns *lab.Namespace, backend ir.Backend) watching {
	t.Helper()
	return watched(open(t, ns, backend))
}

// watched is that with a Kernel that is open.
func watched(k kernel.Kernel) watching {
	w := watching{k.(kernel.Watcher), make(chan kernel.Foreign, 100)}
	w.Watch(func(f kernel.Foreign) { w.reports <- f })
	return w
}

// next is the report that comes next.
func (w watching) next(t *testing.T) kernel.Foreign {
	t.Helper()
	select {
	case f := <-w.reports:
		return f
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is reported")
	}
	panic("unreachable")
}

// none checks that nothing was reported.
func (w watching) none(t *testing.T) {
	t.Helper()
	select {
	case f := <-w.reports:
		t.Errorf("%v is reported", f)
	default:
	}
}

// last checks that nothing is reported but what a program changes now, in a chain of ours: what came before is reported before, or with that.
func (w watching) last(t *testing.T, ns *lab.Namespace) {
	t.Helper()
	run(t, ns, "", "iptables", "-A", "IN_public", "-j", "RETURN")
	if f := w.next(t); !slices.Equal(f.Changes, []string{"iptables, table filter, chain IN_public: 1 rule added"}) {
		t.Errorf("%v is reported", f)
	}
}

var tableHandleLine = regexp.MustCompile(`table inet firewalld .*# handle (\d+)`)

// tableHandle tells the table from one that was made in its place.
func tableHandle(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	m := tableHandleLine.FindStringSubmatch(run(t, ns, "", "nft", "-a", "list", "table", "inet", "firewalld"))
	if m == nil {
		t.Fatal("there is no table")
	}
	return m[1]
}

// What was committed is known well enough to be found unchanged, whatever the configuration: a program that adds a chain
// and takes it out again makes the table be read, and nothing is reported or made anew.
func TestUnchangedTablesAreKnown(t *testing.T) {
	for _, c := range some(configurations(t)) {
		rs := c.compiled(t, ir.NFTables)
		if rs == nil || rs.Flowtable != nil {
			continue
		}
		unowned := *rs
		unowned.Owner = false
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t)
			w := watch(t, ns, ir.NFTables)
			commit(t, w, &kernel.Desired{Rules: &unowned, Panic: true})
			before := tableHandle(t, ns)
			run(t, ns, "", "nft", "add chain inet firewalld theirs; add chain inet firewalld_policy_drop theirs")
			run(t, ns, "", "nft", "delete chain inet firewalld theirs; delete chain inet firewalld_policy_drop theirs")
			commit(t, w, &kernel.Desired{Rules: &unowned, Panic: true})
			if after := tableHandle(t, ns); after != before {
				t.Errorf("the table was made anew; reported was %v", w.next(t))
			}
		})
	}
}

// Programs that change tables of their own, as Docker and libvirt do all the time, leave commits as small as they are.
func TestOthersTablesDoNotMatter(t *testing.T) {
	ns := namespace(t)
	w := watch(t, ns, ir.NFTables)
	commit(t, w, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	before := handles(t, ns)
	for i := range 5 {
		run(t, ns, "", "nft", fmt.Sprintf("add table ip theirs; add chain ip theirs c%d { type filter hook input priority 0; }; add rule ip theirs c%d drop", i, i))
		commit(t, w, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2", fmt.Sprint("10.0.1.", i))})
	}
	after := handles(t, ns)
	if after["10.0.0.1"] != before["10.0.0.1"] || after["10.0.0.2"] != before["10.0.0.2"] {
		t.Errorf("rules that stay were made anew: %v became %v", before, after)
	}
	w.none(t)
}

// Whatever another program changes of ours is reported, with the program and what it was, and the next commit of the same
// rules puts it right. What it does to sets that are made for others is not.
func TestForeignChanges(t *testing.T) {
	rs := scenario(t, "static-ipset-kinds.txt", ir.NFTables)
	rs.Owner = false
	desired := &kernel.Desired{Rules: rs, Panic: true}
	for _, c := range []struct{ script, want string }{
		{"add rule inet firewalld filter_INPUT accept", `^chain filter_INPUT: 1 rule added$`},
		{"insert rule inet firewalld filter_INPUT accept", `^chain filter_INPUT: 1 rule added$`},
		{"flush chain inet firewalld filter_INPUT", `^chain filter_INPUT: \d+ rules removed$`},
		{"flush table inet firewalld", `^chain .*removed$`},
		{"add chain inet firewalld theirs", `^chain theirs was added$`},
		{"chain inet firewalld filter_FORWARD { policy drop; }", `^chain filter_FORWARD: hook, priority, type or policy was changed$`},
		{"add table inet firewalld { flags dormant; }", `^table inet firewalld has other flags$`},
		{"add element inet firewalld addrs { 203.0.113.77 }", `^set addrs: 1 element added$`},
		{"flush set inet firewalld addrs", `^set addrs: \d+ elements? removed$`},
		{"delete table inet firewalld", `^table inet firewalld was removed$`},
		{"add chain inet firewalld_policy_drop raw_output { policy accept; }", `^chain raw_output: hook`},
		{"delete table inet firewalld_policy_drop", `^table inet firewalld_policy_drop was removed$`},
		{"flush ruleset", `^table inet firewalld was removed; table inet firewalld_policy_drop was removed$`},
	} {
		t.Run(c.script, func(t *testing.T) {
			ns := namespace(t)
			w := watch(t, ns, ir.NFTables)
			commit(t, w, desired)
			want := run(t, ns, "", "nft", "list", "ruleset")
			run(t, ns, "", "nft", c.script)
			f := w.next(t)
			if got := strings.Join(f.Changes, "; "); !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("reported is %q, want %s", got, c.want)
			}
			if len(f.By) != 1 || f.By[0].Name != "nft" {
				t.Errorf("it is said to be by %v", f.By)
			}
			commit(t, w, desired)
			sameLines(t, want, run(t, ns, "", "nft", "list", "ruleset"))
			w.none(t)
		})
	}
}

var ruleHandle = regexp.MustCompile(`reject with icmpx.*# handle (\d+)`)

// A rule that another program puts in the place of one of ours has the handle of that one. It is noticed all the same,
// and counters that go up are no change.
func TestReplacedRuleIsAnotherOne(t *testing.T) {
	l := newLab(t)
	ns := l.Firewall()
	w := watch(t, ns, ir.NFTables)
	desired := &kernel.Desired{Rules: letsIn(t, ir.NFTables, "NftablesTableOwner=no\nNftablesCounters=yes\n")}
	commit(t, w, desired)
	arrive(t, l, 9, 80)
	m := ruleHandle.FindStringSubmatch(run(t, ns, "", "nft", "-a", "list", "chain", "inet", "firewalld", "filter_INPUT"))
	if m == nil {
		t.Fatal("nothing is refused")
	}
	run(t, ns, "", "nft", "replace rule inet firewalld filter_INPUT handle "+m[1]+" accept")
	if f := w.next(t); !slices.Equal(f.Changes, []string{"chain filter_INPUT: 1 rule removed, 1 added"}) {
		t.Errorf("reported is %q", f.Changes)
	}
	commit(t, w, desired)
	if got := arrive(t, l, 9); len(got) > 0 {
		t.Errorf("packets to port 9 come %v", got)
	}
	w.none(t)
}

// A program that saves the ruleset, edits it and loads it again is noticed, although every rule has the handle that it had.
func TestReloadedTableIsAnotherOne(t *testing.T) {
	ns := namespace(t)
	w := watch(t, ns, ir.NFTables)
	commit(t, w, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	listing := run(t, ns, "", "nft", "list", "table", "inet", "firewalld")
	edited := "delete table inet firewalld\n" + strings.ReplaceAll(listing, "10.0.0.2", "10.0.0.3")
	run(t, ns, edited, "nft", "-f", "-")
	if f := w.next(t); !slices.Equal(f.Changes, []string{"table inet firewalld was removed and made anew"}) {
		t.Errorf("reported is %q", f.Changes)
	}
	commit(t, w, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	sameLines(t, listing, run(t, ns, "", "nft", "list", "table", "inet", "firewalld"))
}

// Elements of a set with a timeout are other programs' business.
func TestTimedSetsAreForOthers(t *testing.T) {
	ns := namespace(t)
	w := watch(t, ns, ir.NFTables)
	rs := rulesetOf("10.0.0.1")
	rs.Sets = []*ir.Set{{Name: "banned", Type: "hash:ip", Family: ir.V4, Timeout: "3600"}}
	commit(t, w, &kernel.Desired{Rules: rs})
	before := tableHandle(t, ns)
	run(t, ns, "", "nft", "add element inet firewalld banned { 203.0.113.7 }")
	commit(t, w, &kernel.Desired{Rules: rs})
	if tableHandle(t, ns) != before {
		t.Errorf("the table was made anew; reported was %v", w.next(t))
	}
	if got := listTable(t, ns); !strings.Contains(got, "203.0.113.7") {
		t.Errorf("the element is gone:\n%s", got)
	}
}

// When another program says more than can be heard, the tables are read: what is unchanged stays as it is, and what is
// changed is reported, though not by whom.
func TestLostEvents(t *testing.T) {
	defer kernel.SetEventBuffer(4 << 10)()
	many := func(table string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "add table inet %s\nadd chain inet %s theirs\n", table, table)
		for i := range 3000 {
			fmt.Fprintf(&b, "add rule inet %s theirs ip saddr 10.1.%d.%d drop\n", table, i/250, i%250)
		}
		return b.String()
	}
	ns := namespace(t)
	w := watch(t, ns, ir.NFTables)
	commit(t, w, &kernel.Desired{Rules: rulesetOf("10.0.0.1")})
	before := tableHandle(t, ns)
	for range 3 {
		run(t, ns, many("theirs"), "nft", "-f", "-")
		commit(t, w, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	}
	if tableHandle(t, ns) != before {
		t.Errorf("the table was made anew; reported was %v", w.next(t))
	}
	run(t, ns, many("firewalld"), "nft", "-f", "-")
	if f := w.next(t); !slices.Contains(f.Changes, "chain theirs was added") {
		t.Errorf("reported is %v", f)
	}
}

// With iptables, too, changes of our chains are reported and put right; what others have in the kernel's chains is not ours.
func TestForeignChangesOfIPTables(t *testing.T) {
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	for _, c := range []struct{ command, want string }{
		{"iptables -F", `^iptables, table filter, chain .* removed`},
		{"iptables -F IN_public", `^iptables, table filter, chain IN_public: \d+ rules removed$`},
		{"iptables -A IN_public_allow -j ACCEPT", `^iptables, table filter, chain IN_public_allow: 1 rule added$`},
		{"iptables -R IN_public_allow 1 -j ACCEPT", `^iptables, table filter, chain IN_public_allow: 1 rule removed, 1 added$`},
		{"ip6tables -t nat -D PREROUTING 1", `^ip6tables, table nat, chain PREROUTING: 1 rule removed$`},
		{"nft flush ruleset", `chain .* was removed`},
	} {
		t.Run(c.command, func(t *testing.T) {
			ns := namespace(t)
			if !strings.Contains(run(t, ns, "", "iptables", "--version"), "nf_tables") {
				t.Skip("iptables-legacy tells nobody of changes")
			}
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "5", "-j", "DROP")
			w := watch(t, ns, ir.IPTables)
			commit(t, w, &kernel.Desired{Rules: rs})
			want := saved(t, ns)
			run(t, ns, "", "iptables", "-D", "INPUT", "-p", "tcp", "--dport", "5", "-j", "DROP")
			run(t, ns, "", "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "5", "-j", "DROP")
			words := strings.Fields(c.command)
			run(t, ns, "", words[0], words[1:]...)
			f := w.next(t)
			if got := strings.Join(f.Changes, "; "); !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("reported is %q, want %s", got, c.want)
			}
			if len(f.By) == 0 || !slices.ContainsFunc(f.By, func(by kernel.Writer) bool { return by.Name == words[0] }) {
				t.Errorf("it is said to be by %v", f.By)
			}
			commit(t, w, &kernel.Desired{Rules: rs})
			theirs := regexp.MustCompile(`(?m)^-A INPUT -p tcp -m tcp --dport 5 -j DROP\n`)
			sameLines(t, theirs.ReplaceAllString(want, ""), theirs.ReplaceAllString(saved(t, ns), ""))
			w.last(t, ns)
		})
	}
}

// What the user changes by a command line of the direct interface is not another program's change, and stays. What others put
// beside our rules meanwhile changes nothing about that.
func TestAllowedChanges(t *testing.T) {
	ns := namespace(t)
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	w := watch(t, ns, ir.IPTables)
	commit(t, w, &kernel.Desired{Rules: rs})
	docker := func() { run(t, ns, "", "iptables", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP") }
	w.passthrough(t, ns, docker, docker, "-A", "IN_public_allow", "-j", "ACCEPT")
	want := saved(t, ns)
	run(t, ns, "", "iptables", "-N", "theirs")
	commit(t, w, &kernel.Desired{Rules: rs})
	run(t, ns, "", "iptables", "-X", "theirs")
	sameLines(t, want, saved(t, ns))
	w.none(t)
}

// passthrough runs iptables as the user's command line of the direct interface, between what others do meanwhile.
func (w watching) passthrough(t *testing.T, ns *lab.Namespace, ahead, behind func(), args ...string) {
	t.Helper()
	err := w.Allow(func(started func(int)) error {
		ahead()
		defer behind()
		_, err := kernel.Passthrough(t.Context(), kernel.Options{Enter: ns.Do}, "ipv4", args, started)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What another program changes while a command line of the direct interface runs is that program's change: it is reported with
// the program, the guard stands until it is repaired, and the next commit repairs it.
func TestChangesBesideAllowedOnes(t *testing.T) {
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	for _, c := range []struct {
		command, want string
		ahead         bool // the command comes before the user's
	}{
		{command: "iptables -F INPUT", want: `^iptables, table filter, chain INPUT: \d+ rules removed$`},
		{command: "iptables -F INPUT", want: `^iptables, table filter, chain INPUT: \d+ rules removed$`, ahead: true},
		{command: "iptables -A IN_public -j ACCEPT", want: `^iptables, table filter, chain IN_public: 1 rule added$`},
		{command: "iptables -I IN_public_allow -j ACCEPT", want: `^iptables, table filter, chain IN_public_allow: (2 rules|1 rule) added$`}, // with the user's, or behind it
		{command: "ip6tables -F", want: `^ip6tables, table filter, chain .* removed$`},
		{command: "nft delete table ip filter", want: `^iptables, table filter, chain .* was removed`},
	} {
		t.Run(c.command, func(t *testing.T) {
			useVariant(t, "nft")
			ns := namespace(t)
			w := watch(t, ns, ir.IPTables)
			commit(t, w, &kernel.Desired{Rules: rs})
			want := saved(t, ns)
			words := strings.Fields(c.command)
			theirs := func() { run(t, ns, "", words[0], words[1:]...) }
			if c.ahead {
				w.passthrough(t, ns, theirs, func() {}, "-A", "IN_public_allow", "-j", "ACCEPT")
			} else {
				w.passthrough(t, ns, func() {}, theirs, "-A", "IN_public_allow", "-j", "ACCEPT")
			}
			f := w.next(t)
			if got := strings.Join(f.Changes, "; "); !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("reported is %q, want %s", got, c.want)
			}
			if len(f.By) != 1 || f.By[0].Name != words[0] {
				t.Errorf("it is said to be by %v", f.By)
			}
			if !guardStands(t, ns) {
				t.Error("the guard does not stand")
			}
			commit(t, w, &kernel.Desired{Rules: rs})
			sameLines(t, sortedLines(want), sortedLines(saved(t, ns)))
			w.none(t)
		})
	}
}

// A command line of the direct interface may take its time, such as one that looks up names. What another program changes meanwhile is
// noticed at once, and the guard stands: nobody waits for the end of the command.
func TestChangesDuringALongPassthrough(t *testing.T) {
	for _, c := range []struct {
		backend         ir.Backend
		direct, command string
	}{
		{ir.NFTables, "", "nft flush table inet firewalld"},
		{ir.NFTables, "-p tcp --dport 80 -j DROP", "iptables -F INPUT"},
		{ir.NFTables, "-p tcp --dport 80 -j DROP", "nft flush table inet firewalld"},
		{ir.IPTables, "", "iptables -F INPUT"},
	} {
		t.Run(string(c.backend)+", "+c.direct+", "+c.command, func(t *testing.T) {
			useVariant(t, "nft")
			ns := namespace(t)
			w := watch(t, ns, c.backend)
			desired := &kernel.Desired{Rules: letsIn(t, c.backend, "NftablesTableOwner=no\n")}
			if c.direct != "" {
				desired.Direct = directRules(t, c.direct)
			}
			commit(t, w, desired)
			words := strings.Fields(c.command)
			w.passthrough(t, ns, func() {}, func() {
				run(t, ns, "", words[0], words[1:]...)
				if f := w.next(t); len(f.By) != 1 || f.By[0].Name != words[0] {
					t.Errorf("%v is reported", f)
				}
				if !guardStands(t, ns) {
					t.Error("the guard does not stand")
				}
			}, "-N", "theirs")
			commit(t, w, desired)
			if guardStands(t, ns) {
				t.Error("the guard stands beside the rules")
			}
			w.none(t)
		})
	}
}

// Nothing that a program changes before the first commit is ours.
func TestWatchingNothing(t *testing.T) {
	ns := namespace(t)
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		w := watched(start(t, kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog}))
		run(t, ns, "", "nft", "add table inet firewalld; delete table inet firewalld")
		run(t, ns, "", "iptables", "-A", "INPUT", "-j", "ACCEPT")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.none(t)
	}
}

// afterRestore has a command run right after the restore tool has committed a table of IPv4, as often as is said.
func afterRestore(t *testing.T, table string, times int, command string) {
	t.Helper()
	dir := t.TempDir()
	path, err := exec.LookPath("iptables-restore")
	if err != nil {
		t.Skip(err)
	}
	tool := filepath.Join(dir, "tool", "iptables-restore") // nf_tables knows programs by their names
	if err := errors.Join(os.Mkdir(filepath.Dir(tool), 0o755), os.Symlink(path, tool)); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
input=$(cat)
echo "$input" | %s "$@" || exit
case "$* $input" in
*--test*) ;;
*\*%s*) for n in $(seq %d); do mkdir "%s/$n" 2>/dev/null && { %s; exit; }; done ;;
esac
exit 0
`, tool, table, times, dir, command)
	write(t, filepath.Join(dir, "iptables-restore"), script)
	if err := os.Chmod(filepath.Join(dir, "iptables-restore"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// What another program changes between the end of the restore tool and the reading of what it has made is not taken for what
// was committed: it is reported, the guard stands until it is repaired, and the next commit of the same rules repairs it.
func TestChangesRightAfterACommit(t *testing.T) {
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	for _, c := range []struct{ command, want string }{
		{"iptables -F INPUT", `^iptables, table filter, chain INPUT: \d+ rules removed$`},
		{"iptables -F IN_public", `^iptables, table filter, chain IN_public: \d+ rules removed$`},
		{"iptables -R INPUT 1 -j ACCEPT", `^iptables, table filter, chain INPUT: 1 rule removed$`},
		{"iptables -R IN_public_allow 1 -j ACCEPT", `^iptables, table filter, chain IN_public_allow: rules were added$`},
		{"iptables -I IN_public_allow -j ACCEPT", `^iptables, table filter, chain IN_public_allow: rules were added$`},
		{"iptables -I INPUT -s 192.0.2.1 -j ACCEPT; iptables -D INPUT 2", `^iptables, table filter, chain INPUT: 1 rule removed$`},
		{"nft delete table ip mangle", `^iptables, table mangle, chain .* was removed$`},
		{"nft flush ruleset", `chain INPUT was removed`},
	} {
		t.Run(c.command, func(t *testing.T) {
			ns := namespace(t)
			useVariant(t, "nft")
			fresh := namespace(t)
			commit(t, open(t, fresh, ir.IPTables), &kernel.Desired{Rules: rs})
			want := saved(t, fresh)
			table := "filter"
			if strings.Contains(c.command, "mangle") { // it is there once it was committed
				table = "mangle"
			}
			afterRestore(t, table, 1, c.command)
			w := watch(t, ns, ir.IPTables)
			commit(t, w, &kernel.Desired{Rules: rs})
			if f := w.next(t); !regexp.MustCompile(c.want).MatchString(strings.Join(f.Changes, "; ")) {
				t.Errorf("reported is %q, want %s", f.Changes, c.want)
			} else if c.command != "nft flush ruleset" && (len(f.By) == 0 || f.By[0].Name != strings.Fields(c.command)[0]) {
				t.Errorf("it is said to be by %v", f.By)
			}
			if !guardStands(t, ns) {
				t.Error("the guard does not stand")
			}
			commit(t, w, &kernel.Desired{Rules: rs})
			theirs := regexp.MustCompile(`(?m)^-A INPUT -s 192.0.2.1/32 -j ACCEPT\n|^-A INPUT -j ACCEPT\n`)
			sameLines(t, sortedLines(want), sortedLines(theirs.ReplaceAllString(saved(t, ns), "")))
			w.last(t, ns)
		})
	}
}

// A program that puts a rule of its own into one of the kernel's chains right after a commit, or takes it out again, has not
// changed anything of ours.
func TestOthersRulesRightAfterACommit(t *testing.T) {
	for _, command := range []string{"iptables -A INPUT -s 192.0.2.1 -j DROP", "iptables -N THEIRS; iptables -I INPUT -j THEIRS; iptables -D INPUT 1"} {
		t.Run(command, func(t *testing.T) {
			ns := namespace(t)
			useVariant(t, "nft")
			afterRestore(t, "filter", 1, command)
			w := watch(t, ns, ir.IPTables)
			rs := scenario(t, "static-mixed.txt", ir.IPTables)
			commit(t, w, &kernel.Desired{Rules: rs})
			_, _ = ns.Run(t.Context(), "", "iptables", "-D", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
			w.last(t, ns)
		})
	}
}

// A short burst of flushes leaves the rules as they were committed, whenever in it they are repaired.
func TestBurstOfFlushes(t *testing.T) {
	for _, c := range []struct {
		backend ir.Backend
		command string
	}{
		{ir.IPTables, "iptables -F INPUT"}, {ir.IPTables, "iptables -F"},
		{ir.NFTables, "nft flush chain inet firewalld filter_INPUT"}, {ir.NFTables, "nft flush table inet firewalld"},
	} {
		t.Run(c.command, func(t *testing.T) {
			defer kernel.SetQuiet(2 * time.Second)()
			l := newLab(t)
			ns := l.Firewall()
			desired := &kernel.Desired{Rules: letsIn(t, c.backend, "NftablesTableOwner=no\n")}
			k := open(t, ns, c.backend).(kernel.Watcher)
			k.Watch(func(kernel.Foreign) {
				if err := k.Commit(t.Context(), desired); err != nil {
					t.Error(err)
				}
			})
			commit(t, k, desired)
			words := strings.Fields(c.command)
			for range 8 {
				run(t, ns, "", words[0], words[1:]...)
				time.Sleep(50 * time.Millisecond) // a pace, not a measure
			}
			listing := map[ir.Backend][]string{ir.IPTables: {"iptables", "-S", "INPUT"}, ir.NFTables: {"nft", "list", "chain", "inet", "firewalld", "filter_INPUT"}}[c.backend]
			eventually(t, "the rules are not back", func() bool {
				return strings.Contains(strings.ToLower(run(t, ns, "", listing[0], listing[1:]...)), "reject")
			})
			eventually(t, "port 80 stays closed", func() bool { return arrive(t, l, 80)["in"] })
			if got := arrive(t, l, 9); len(got) > 0 {
				t.Errorf("packets to port 9 come %v", got)
			}
		})
	}
}

// Of iptables-legacy nobody tells what others change. Each commit looks at its rules, so that a reload puts them back.
func TestReloadRepairs(t *testing.T) { variants(t, testReloadRepairs) }

func testReloadRepairs(t *testing.T) {
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	for _, command := range []string{"iptables -F INPUT", "iptables -F", "iptables -F IN_public", "ip6tables -t mangle -F"} {
		ns := namespace(t)
		k := open(t, ns, ir.IPTables)
		commit(t, k, &kernel.Desired{Rules: rs})
		want := saved(t, ns)
		words := strings.Fields(command)
		run(t, ns, "", words[0], words[1:]...)
		commit(t, k, &kernel.Desired{Rules: scenario(t, "static-mixed.txt", ir.IPTables)})
		t.Log(command)
		sameLines(t, sortedLines(want), sortedLines(saved(t, ns)))
	}
}

// A program that puts another rule in the place of one of ours, so that there are as many as before, is noticed by the next commit
// with iptables-legacy too: the rule is put back. So is the policy that panic mode needs.
func TestReplacedRulesAreRepaired(t *testing.T) { variants(t, testReplacedRules) }

func testReplacedRules(t *testing.T) {
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	for _, c := range []struct {
		command string
		panic   bool
	}{
		{command: "iptables -R IN_public_allow 1 -j ACCEPT"}, {command: "iptables -R INPUT 3 -j ACCEPT"},
		{command: "ip6tables -t mangle -R PRE_public 1 -j ACCEPT"}, {command: "iptables -t raw -P PREROUTING ACCEPT", panic: true},
	} {
		t.Log(c.command)
		ns := namespace(t)
		run(t, ns, "", "iptables", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
		k := open(t, ns, ir.IPTables)
		commit(t, k, &kernel.Desired{Rules: rs, Panic: c.panic})
		want := saved(t, ns)
		words := strings.Fields(c.command)
		run(t, ns, "", words[0], words[1:]...)
		commit(t, k, &kernel.Desired{Rules: scenario(t, "static-mixed.txt", ir.IPTables), Panic: c.panic})
		replacement := regexp.MustCompile(`(?m)^-A INPUT -j ACCEPT\n`) // it is that program's own rule now
		sameLines(t, sortedLines(want), sortedLines(replacement.ReplaceAllString(saved(t, ns), "")))
	}
}

// What iptables-legacy lists behind a commit is known: another commit finds nothing changed, whatever the configuration, also when
// others have put rules of their own beside ours.
func TestNothingIsReplaced(t *testing.T) {
	useVariant(t, "legacy")
	for _, c := range some(configurations(t)) {
		rs := c.compiled(t, ir.IPTables)
		if rs == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t)
			logger, log := kernel.Logged()
			k := start(t, kernel.Options{Backend: ir.IPTables, Enter: ns.Do, Log: logger})
			if k.Commit(t.Context(), &kernel.Desired{Rules: rs}) != nil {
				return // another test sees to what the tools refuse
			}
			run(t, ns, "", "iptables", "-I", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
			run(t, ns, "", "iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
			commit(t, k, &kernel.Desired{Rules: rs})
			if strings.Contains(log.String(), "another program") {
				t.Error(log.String())
			}
		})
	}
}
