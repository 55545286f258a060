package kernel

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
)

// Where the kernel has no nf_tables the base is chains of iptables and ip6tables, before all else; the first commit takes them
// away in the transaction that brings the rules of that table. Those of an earlier process stay in force instead.
func TestBaseOfChains(t *testing.T) {
	Needs(t, "iptables-legacy", "ip6tables-legacy", "ipset")
	dir := t.TempDir()
	for _, program := range []string{"iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"} {
		family, rest, _ := strings.Cut(program, "-")
		name := family + "-legacy"
		if rest != "" {
			name += "-" + rest
		}
		path, err := exec.LookPath(name)
		if err != nil {
			path = "/usr/sbin/" + name
		}
		if err := os.Symlink(path, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(dir, "lock"))
	HoldFor(t, time.Minute)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ns := Space(t)
	tools := tools{enter: ns.Do}
	show := func() string {
		t.Helper()
		var text string
		for _, program := range []string{"iptables-save", "ip6tables-save"} {
			out, err := tools.run(t.Context(), "", program, "-t", "filter")
			if err != nil {
				t.Fatal(err)
			}
			text += out
		}
		return text
	}
	for _, panicked := range []bool{false, true, false} {
		if _, err := tools.baseChains(t.Context(), panicked, errors.New("no nf_tables")); err != nil {
			t.Fatal(err)
		}
		for _, rule := range []string{"-A INPUT -j firewalld_guard_input\n", "-A FORWARD -j firewalld_guard_forward\n", "-A OUTPUT -j firewalld_guard_output\n",
			"-A firewalld_guard_input -j DROP\n", "-A firewalld_guard_forward -j DROP\n"} {
			if strings.Count(show(), rule) != 2 {
				t.Errorf("%q is not there for both families:\n%s", rule, show())
			}
		}
		if got := strings.Contains(show(), "-A firewalld_guard_input -i lo -j ACCEPT"); got == panicked {
			t.Errorf("with panic mode %v loopback passes: %v", panicked, got)
		}
	}
	for range 2 { // a start that is broken off takes them away, if they are there
		if err := (&Guard{chains: &tools}).Lower(); err != nil || strings.Contains(show(), "guard") {
			t.Errorf("with %v there is\n%s", err, show())
		}
	}
	if _, err := tools.baseChains(t.Context(), false, errors.New("no nf_tables")); err != nil {
		t.Fatal(err)
	}
	k, err := newIPTables(Options{Enter: ns.Do}.withDefaults(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	direct := chainOf("INPUT_direct", nil, ir.Accept)
	direct.Table = "filter"
	rs := &ir.Ruleset{Backend: ir.IPTables, Chains: []*ir.Chain{direct}}
	for _, name := range []string{"INPUT", "FORWARD"} {
		c := chainOf(name, nil, ir.Jump{Chain: "INPUT_direct"}, ir.Reject{With: ir.RejectProhibited})
		c.Table, c.Builtin = "filter", true
		rs.Chains = append(rs.Chains, c)
	}
	if err := k.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
		t.Fatal(err)
	}
	if got := show(); strings.Contains(got, "guard") || strings.Count(got, "-A INPUT -j INPUT_direct\n") != 2 {
		t.Errorf("the commit leaves\n%s", got)
	}
	if _, err := tools.baseChains(t.Context(), false, errors.New("no nf_tables")); err != nil || strings.Contains(show(), "guard") {
		t.Errorf("the base stands beside the rules of an earlier process: %v\n%s", err, show())
	}

	// Nothing of the next start can be committed: the base stands before those rules, until a commit succeeds.
	guard, err := tools.baseChains(t.Context(), false, errors.New("no nf_tables"))
	if err != nil || guard.Earlier() != ir.IPTables {
		t.Fatalf("the rules of %q are found: %v", guard.Earlier(), err)
	}
	next, err := newIPTables(Options{Enter: ns.Do, Guard: guard}.withDefaults(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	for range 2 {
		if err := next.KeepOut(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if got := show(); strings.Count(got, "-A INPUT -j firewalld_guard_input\n-A INPUT -j INPUT_direct\n") != 2 {
			t.Errorf("what is new is not kept out:\n%s", got)
		}
	}
	if err := next.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
		t.Fatal(err)
	}
	if got := show(); strings.Contains(got, "guard") || strings.Count(got, "-A INPUT -j INPUT_direct\n") != 2 {
		t.Errorf("the commit leaves\n%s", got)
	}
}
