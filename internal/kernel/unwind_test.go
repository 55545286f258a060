package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// faulty puts a program in the place of a restore tool, which says that the tables are locked while a file is there, and else is the
// tool. It returns what makes the file and removes it. What only tests input always works.
func faulty(t *testing.T, tool string) (fail func(bool)) {
	t.Helper()
	path := filepath.Join(filepath.Dir(os.Getenv("XTABLES_LOCKFILE")), tool)
	real, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	mark, link := filepath.Join(t.TempDir(), "fails"), filepath.Join(t.TempDir(), tool) // nf_tables knows programs by their names
	if err := errors.Join(os.Remove(path), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *--test*) ;; *) if [ -e %s ]; then echo 'Another app is currently holding the xtables lock' >&2; exit 4; fi ;; esac\nexec %s \"$@\"\n", mark, link)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return func(fails bool) {
		if !fails {
			os.Remove(mark)
		} else if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// refusedByIPv6 is a direct rule that ip6tables reads, and that the kernel refuses.
const refusedByIPv6 = "-p tcp --dport 80 -j MASQUERADE"

// withRefused is a ruleset with a direct rule that the kernel refuses, in IPv6 alone.
func withRefused(rs *ir.Ruleset) *ir.Ruleset {
	bad := *rs
	bad.Chains = slices.Clone(rs.Chains)
	for i, c := range bad.Chains {
		if c.Table == "filter" && c.Name == "INPUT_direct" {
			more := *c
			more.Rules = append(slices.Clone(c.Rules), &ir.Rule{Families: ir.V6, Origin: refusedOrigin,
				Actions: []ir.Action{ir.Raw{Args: strings.Fields(refusedByIPv6)}}})
			bad.Chains[i] = &more
		}
	}
	return &bad
}

var refusedOrigin = &ir.Origin{Object: "direct", Text: refusedByIPv6}

// A start whose rules the kernel takes for IPv4 and refuses for IPv6 leaves the rules of the process before it as they were, and
// so does one during which another program locks the tables.
func TestFailedStartLeavesEarlierRules(t *testing.T) { variants(t, testFailedStart) }

func testFailedStart(t *testing.T) {
	fail := faulty(t, "ip6tables-restore")
	ns := namespace(t)
	run(t, ns, foreign, "iptables-restore")
	rs := scenario(t, "static-services.txt", ir.IPTables)
	other := scenario(t, "static-log-denied.txt", ir.IPTables)
	commit(t, open(t, ns, ir.IPTables), &kernel.Desired{Rules: rs})
	before := saved(t, ns)
	err := open(t, ns, ir.IPTables).Commit(t.Context(), &kernel.Desired{Rules: withRefused(other)})
	var rule *kernel.RuleError
	if !errors.As(err, &rule) || rule.Origin != refusedOrigin {
		t.Errorf("the error does not name the rule: %v", err)
	} else if strings.HasSuffix(rule.Error(), ":") {
		t.Errorf("the error gives no reason: %v", rule)
	}
	sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	k := open(t, ns, ir.IPTables)
	fail(true)
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: other}); err == nil {
		t.Fatal("locked tables were changed")
	}
	sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	fail(false)
	commit(t, k, &kernel.Desired{Rules: other})
	fresh := namespace(t)
	run(t, fresh, foreign, "iptables-restore")
	commit(t, open(t, fresh, ir.IPTables), &kernel.Desired{Rules: other})
	sameLines(t, sortedLines(saved(t, fresh)), sortedLines(saved(t, ns)))
}

// What other programs change between a commit and its end is no part of it: their rules stay where they are when the commit is
// taken back.
func TestOthersChangesSurviveAFailedCommit(t *testing.T) { variants(t, testOthersSurvive) }

func testOthersSurvive(t *testing.T) {
	ns := namespace(t)
	run(t, ns, foreign, "iptables-restore")
	rs := scenario(t, "static-log-denied.txt", ir.IPTables)
	k := open(t, ns, ir.IPTables)
	commit(t, k, &kernel.Desired{Rules: rs})
	before := saved(t, ns)
	afterRestore(t, "filter", 1, "iptables -I INPUT 1 -s 192.0.2.10 -j DROP; iptables -A INPUT -s 192.0.2.11 -j DROP; iptables -N LATER")
	fail := faulty6(t)
	fail(true)
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: scenario(t, "static-direct-iptables.txt", ir.IPTables)}); err == nil {
		t.Fatal("locked tables were changed")
	}
	input := run(t, ns, "", "iptables", "-S", "INPUT")
	if !strings.Contains(input, "-P INPUT ACCEPT\n-A INPUT -s 192.0.2.10/32 -j DROP\n") || !strings.HasSuffix(input, "-A INPUT -s 192.0.2.11/32 -j DROP\n") {
		t.Errorf("their rules are not where they were:\n%s", input)
	}
	run(t, ns, "", "iptables", "-D", "INPUT", "-s", "192.0.2.10", "-j", "DROP")
	run(t, ns, "", "iptables", "-D", "INPUT", "-s", "192.0.2.11", "-j", "DROP")
	run(t, ns, "", "iptables", "-X", "LATER")
	sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
}

func faulty6(t *testing.T) func(bool) { return faulty(t, "ip6tables-restore") }

// When a change that fails cannot be taken back either, the guard stands, somebody is asked to commit again, and no change is made
// before the rules are what they were. Nothing of other programs is lost by that.
func TestUnfinishedChange(t *testing.T) { variants(t, testUnfinished) }

func testUnfinished(t *testing.T) {
	fail4, fail6 := faultyBehind(t), faulty6(t)
	ns := namespace(t)
	run(t, ns, "", "iptables", "-N", "DOCKER")
	run(t, ns, "", "iptables", "-A", "DOCKER", "-s", "192.0.2.1", "-j", "DROP")
	w := watch(t, ns, ir.IPTables)
	desired := &kernel.Desired{Rules: scenario(t, "static-services.txt", ir.IPTables)}
	commit(t, w, desired)
	before := saved(t, ns)
	fail4(true)
	fail6(true)
	for range 2 {
		if err := w.Commit(t.Context(), &kernel.Desired{Rules: scenario(t, "static-mixed.txt", ir.IPTables)}); err == nil {
			t.Fatal("locked tables were changed")
		}
		if !guardStands(t, ns) {
			t.Fatal("there is no guard while some tables are new and some old")
		}
	}
	if f := w.next(t); !f.Unfinished || !slices.ContainsFunc(f.Changes, func(s string) bool { return strings.Contains(s, "of iptables") }) {
		t.Errorf("told of is %v", f)
	}
	fail4(false)
	if err := w.Commit(t.Context(), &kernel.Desired{Rules: scenario(t, "static-mixed.txt", ir.IPTables)}); err == nil {
		t.Fatal("locked tables were changed")
	}
	sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	fail6(false)
	with := *desired.Rules
	with.Chains = append(slices.Clone(with.Chains), &ir.Chain{Table: "filter", Name: "DOCKER", Families: ir.V4, Shared: true, Declared: true})
	if err := w.Commit(t.Context(), &kernel.Desired{Rules: &with}); err == nil {
		t.Error("a chain of another program's is taken for ours")
	}
	commit(t, w, desired)
	sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	eventually(t, "the guard does not go", func() bool { return !guardStands(t, ns) })
}

// faultyBehind makes iptables-restore fail, while the tests wants that, for each call behind the first that changes something.
func faultyBehind(t *testing.T) (fail func(bool)) {
	t.Helper()
	mark := faulty(t, "iptables-restore")
	path := filepath.Join(filepath.Dir(os.Getenv("XTABLES_LOCKFILE")), "iptables-restore")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(t.TempDir(), "begun")
	counted := strings.Replace(string(text), "]; then", fmt.Sprintf("] && [ -e %s ]; then", begun), 1)
	counted = strings.Replace(counted, "fi ;;", fmt.Sprintf("fi; touch %s ;;", begun), 1)
	if err := os.WriteFile(path, []byte(counted), 0o755); err != nil {
		t.Fatal(err)
	}
	return func(fails bool) {
		os.Remove(begun)
		mark(fails)
	}
}

// A start with a set of another type than the one that is there takes rules out of the way, behind the guard. When the kernel then
// refuses a rule, rules and sets are what they were, and the guard goes.
func TestFailedStartWithASetOfAnotherType(t *testing.T) {
	ns := namespace(t)
	first := open(t, ns, ir.IPTables)
	rs := looksUp("hash:ip")
	rs.Sets[0].Elements = []ir.Element{ir.NewElement("192.0.2.1")}
	commit(t, first, &kernel.Desired{Rules: rs})
	before := saved(t, ns)
	k := open(t, ns, ir.IPTables)
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: withRefused(both(looksUp("hash:net")))}); err == nil {
		t.Fatal("the kernel took a rule that it must refuse")
	}
	sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
	if guardStands(t, ns) {
		t.Error("the guard stands beside the rules")
	}
}

// both is a ruleset whose chains are for IPv6 too.
func both(rs *ir.Ruleset) *ir.Ruleset {
	for _, c := range rs.Chains {
		c.Families = ir.Both
	}
	return rs
}

// Rules of the direct interface beside nftables that an earlier process has left stay when the kernel refuses the new ones, and when
// it takes those and refuses something of our table.
func TestFailedStartLeavesDirectRules(t *testing.T) { variants(t, testFailedDirect) }

func testFailedDirect(t *testing.T) {
	ns := namespace(t)
	rules := letsIn(t, ir.NFTables, "")
	commit(t, open(t, ns, ir.NFTables), &kernel.Desired{Rules: rules, Direct: directRules(t, "-p tcp --dport 80 -j DROP")})
	before := saved(t, ns)
	refused := func(rule string) *ir.Ruleset {
		rs := directRules(t, rule)
		for i, c := range rs.Chains {
			bad := *c
			bad.Rules = append(slices.Clone(c.Rules), &ir.Rule{Families: ir.V6, Actions: []ir.Action{ir.Raw{Args: strings.Fields(refusedByIPv6)}}})
			rs.Chains[i] = &bad
		}
		return rs
	}
	missing := *rules
	missing.Helpers = append(slices.Clone(rules.Helpers), ir.Helper{Name: "helper-none-tcp", Type: "none", Protocol: "tcp"})
	for _, next := range []*kernel.Desired{
		{Rules: rules, Direct: refused("-p tcp --dport 80 -j DROP")},
		{Rules: rules, Direct: refused("-p tcp --dport 81 -j DROP")},
		{Rules: &missing, Direct: directRules(t, "-p tcp --dport 80 -j DROP")},
		{Rules: &missing, Direct: directRules(t, "-p tcp --dport 82 -j DROP")},
	} {
		k := open(t, ns, ir.NFTables)
		if err := k.Commit(t.Context(), next); err == nil {
			t.Error("the kernel took what it must refuse")
		}
		sameLines(t, sortedLines(before), sortedLines(saved(t, ns)))
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A program of iptables that fails once at a start, or whose tables are locked then, is not taken for one that cannot be used: the
// first commit asks it again, and without it nothing is committed. Panic mode then covers its packets too.
func TestProgramThatFailsOnce(t *testing.T) {
	for _, c := range []struct{ tool, said, status string }{
		{"ip6tables", "fork: Resource temporarily unavailable", "1"},
		{"ip6tables", "Another app is currently holding the xtables lock", "4"},
		{"iptables", "Another app is currently holding the xtables lock", "4"},
	} {
		t.Run(c.tool+" "+c.status, func(t *testing.T) {
			useVariant(t, "legacy")
			ns := namespace(t)
			path, mark := filepath.Join(filepath.Dir(os.Getenv("XTABLES_LOCKFILE")), c.tool), filepath.Join(t.TempDir(), "fails")
			real, err := os.Readlink(path)
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("#!/bin/sh\nif [ -e %s ]; then echo '%s' >&2; exit %s; fi\nexec %s \"$@\"\n", mark, c.said, c.status, real)
			if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o755), os.WriteFile(mark, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			k := open(t, ns, ir.IPTables)
			desired := &kernel.Desired{Rules: scenario(t, "static-services.txt", ir.IPTables), Panic: true}
			if err := k.Commit(t.Context(), desired); err == nil {
				t.Fatal("the rules of one family are committed alone")
			}
			if got := saved(t, ns); got != "" && c.tool == "ip6tables" {
				t.Errorf("a commit that failed left\n%s", got)
			}
			if err := os.Remove(mark); err != nil {
				t.Fatal(err)
			}
			commit(t, k, desired)
			for _, tool := range []string{"iptables", "ip6tables"} {
				if got := run(t, ns, "", tool, "-t", "raw", "-S", "PREROUTING"); !strings.HasPrefix(got, "-P PREROUTING DROP\n") {
					t.Errorf("in panic mode %s has\n%s", tool, got)
				}
			}
		})
	}
}

// Direct rules of IPv4 beside nftables need no program of IPv6.
func TestDirectRulesOfOneFamily(t *testing.T) {
	useVariant(t, "legacy")
	ns := namespace(t)
	path := filepath.Join(filepath.Dir(os.Getenv("XTABLES_LOCKFILE")), "ip6tables")
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	k := open(t, ns, ir.NFTables)
	rules := letsIn(t, ir.NFTables, "")
	direct := directRules(t, "-p tcp --dport 80 -j DROP")
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: rules, Direct: direct}); err == nil {
		t.Error("rules of IPv6 are committed without its program")
	}
	only := *direct
	only.Chains = nil
	for _, c := range direct.Chains {
		some := *c
		some.Families = ir.V4
		only.Chains = append(only.Chains, &some)
	}
	commit(t, k, &kernel.Desired{Rules: rules, Direct: &only})
}
