package kernel_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// toolsAre puts shell scripts in place of the programs that list the tables of iptables and ip6tables, until the test ends.
func toolsAre(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save", "ip6tables", "ip6tables-save"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// The programs of iptables hang. The machine is closed all the same when a start begins, and the whole rules of an earlier process, of either
// back end, are found beside them.
func TestBaseWhileIPTablesHangs(t *testing.T) {
	for _, earlier := range []ir.Backend{"", ir.NFTables, ir.IPTables} {
		t.Run("rules of "+string(earlier), func(t *testing.T) {
			ns := namespace(t)
			if earlier != "" {
				k := open(t, ns, earlier)
				commit(t, k, &kernel.Desired{Rules: letsIn(t, earlier, "")})
				if err := k.Close(); err != nil {
					t.Fatal(err)
				}
			}
			toolsAre(t, "exec sleep 1000")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			guard, err := kernel.Base(ctx, kernel.Options{Enter: ns.Do, Log: quietLog}, false)
			if err != nil || ctx.Err() != nil {
				t.Fatalf("%v, %v", err, ctx.Err())
			}
			defer guard.Close()
			if guard.Earlier() != earlier || guardStands(t, ns) != (earlier == "") {
				t.Errorf("the rules found are those of %q, and the guard stands: %v", guard.Earlier(), guardStands(t, ns))
			}
		})
	}
}

// Parts of our rules in the tables of iptables are no reason to do without the guard: the jumps to our chains alone, what refuses alone or
// before the jumps, under a condition, or in one of the chains or families alone.
func TestBaseBesideHalfTheRules(t *testing.T) {
	const ours = "-A INPUT -j INPUT_direct\n-A INPUT -j REJECT\n-A FORWARD -j FORWARD_direct\n-A FORWARD -j DROP\n"
	for what, change := range map[string]func(rules string) string{
		"whole":            func(r string) string { return r },
		"none":             func(string) string { return "" },
		"no end":           func(r string) string { return strings.ReplaceAll(r, "-A INPUT -j REJECT\n", "") },
		"end for some":     func(r string) string { return strings.ReplaceAll(r, "-j REJECT", "-p tcp -j REJECT") },
		"another target":   func(r string) string { return strings.ReplaceAll(r, "-j REJECT", "-j LOG") },
		"jump for some":    func(r string) string { return strings.ReplaceAll(r, "-j FORWARD_direct", "-p tcp -j FORWARD_direct") },
		"no jump":          func(r string) string { return strings.ReplaceAll(r, "-A INPUT -j INPUT_direct\n", "") },
		"end before jump":  func(r string) string { return strings.Replace(r, "-A INPUT -j REJECT", "-I INPUT -j REJECT", 1) },
		"of another chain": func(r string) string { return strings.ReplaceAll(r, "FORWARD_direct", "theirs") },
	} {
		for _, second := range []string{"ip6tables-restore", ""} {
			ns := namespace(t)
			for _, program := range []string{"iptables-restore", second} {
				if program != "" {
					run(t, ns, "*filter\n:INPUT_direct -\n:FORWARD_direct -\n:theirs -\n"+change(ours)+"COMMIT\n", program)
				}
			}
			guard := base(t, kernel.Options{Enter: ns.Do, Log: quietLog}, false)
			whole := what == "whole" && second != ""
			if (guard.Earlier() == ir.IPTables) != whole || guardStands(t, ns) == whole {
				t.Errorf("%s, %q: the rules found are those of %q, and the guard stands: %v", what, second, guard.Earlier(), guardStands(t, ns))
			}
			guard.Close()
		}
	}
}

// There is a table of iptables-legacy, in which rules of an earlier process may be, and only its programs can tell. The guard stands before
// they are asked, and stays when they do not answer.
func TestGuardBeforeProgramsAreAsked(t *testing.T) {
	kernel.Needs(t, "iptables-legacy", "nft")
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	ns := namespace(t)
	run(t, ns, "", "iptables-legacy", "-t", "filter", "-S")
	nft, err := exec.LookPath("nft")
	if err != nil {
		nft = "/usr/sbin/nft"
	}
	seen := filepath.Join(t.TempDir(), "seen")
	toolsAre(t, "test -e '"+seen+"' || "+nft+" list tables > '"+seen+"'; exec sleep 1000")
	guard := base(t, kernel.Options{Enter: ns.Do, Log: quietLog}, false)
	defer guard.Close()
	tables, err := os.ReadFile(seen)
	if err != nil || !strings.Contains(string(tables), "table inet firewalld_guard\n") {
		t.Errorf("when a program was asked there were the tables %q, %v", tables, err)
	}
	if guard.Earlier() != "" || !guardStands(t, ns) {
		t.Errorf("the rules found are those of %q, and the guard stands: %v", guard.Earlier(), guardStands(t, ns))
	}
}

// The whole rules of an earlier process are in tables of iptables-legacy. They stay in force, and the guard goes when they are found.
func TestBaseBesideRulesOfLegacy(t *testing.T) {
	kernel.Needs(t, "xtables-legacy-multi")
	kernel.HoldFor(t, time.Minute)
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	ns := namespace(t)
	for _, whole := range []bool{false, true} {
		for program, kind := range map[string]string{"iptables-legacy-restore": "icmp-host-prohibited", "ip6tables-legacy-restore": "icmp6-adm-prohibited"} {
			rules := "-A INPUT -j INPUT_direct\n-A INPUT -j REJECT --reject-with " + kind + "\n-A FORWARD -j FORWARD_direct\n"
			if whole {
				rules += "-A FORWARD -j REJECT --reject-with " + kind + "\n"
			}
			run(t, ns, "*filter\n:INPUT_direct -\n:FORWARD_direct -\n"+rules+"COMMIT\n", program)
		}
		toolsAre(t, `PATH=$PATH:/usr/sbin; exec xtables-legacy-multi "${0##*/}" "$@"`)
		guard := base(t, kernel.Options{Enter: ns.Do, Log: quietLog}, false)
		if (guard.Earlier() == ir.IPTables) != whole || guardStands(t, ns) == whole {
			t.Errorf("whole %v: the rules found are those of %q, and the guard stands: %v", whole, guard.Earlier(), guardStands(t, ns))
		}
		if err := guard.Lower(); err != nil {
			t.Fatal(err)
		}
	}
}
