package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// idle puts a program in the place of another one that says that all is done, and has done nothing, while it is asked for a word. It returns
// what makes it so, and what ends that.
func idle(t *testing.T, program, word string) (on func(bool)) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mark := filepath.Join(dir, "idle")
	text := fmt.Sprintf("#!/bin/bash\ncase \"$*\" in *--test*) ;; *%s*) if [ -e %s ]; then cat >/dev/null; exit 0; fi ;; esac\nexec -a %s %s \"$@\"\n", word, mark, program, path)
	if err := os.WriteFile(filepath.Join(dir, program), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func(on bool) {
		if os.Remove(mark); on {
			if err := os.WriteFile(mark, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A restore tool that says that all is done, and has done nothing, does not make a commit a success: neither a start, nor a change, nor the end
// of the firewall. What is right again goes on.
func TestRestoreToolThatDoesNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		lazy := idle(t, "iptables-restore", "")
		k := open(t, ns, backend)
		one, two, three := directly(t, backend, dports(71)), directly(t, backend, dports(71, 72)), directly(t, backend, dports(72))
		refused := func(next *kernel.Desired, what string) {
			t.Helper()
			lazy(true)
			defer lazy(false)
			if err := k.Commit(t.Context(), next); err == nil || !strings.Contains(err.Error(), "nothing of that is in the kernel") {
				t.Errorf("%s: the error is %v", what, err)
			}
		}
		refused(one, "start")
		commit(t, k, one)
		refused(two, "one more rule")
		refused(three, "another rule")
		refused(&kernel.Desired{}, "end")
		commit(t, k, two)
		if text := saved(t, ns); !strings.Contains(text, "--dport 72") {
			t.Errorf("the rule is not there:\n%s", text)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		k = open(t, ns, backend)
		commit(t, k, two) // a start that finds all there
		commit(t, k, &kernel.Desired{})
	})
}

// The same goes for ipset, with a set that comes, and elements that come and go.
func TestIpsetThatDoesNothing(t *testing.T) {
	ns := namespace(t)
	lazy := idle(t, "ipset", "restore")
	k := open(t, ns, ir.IPTables)
	with := func(elements ...string) *kernel.Desired {
		rs := looksUp("hash:ip")
		for _, text := range elements {
			address := netip.MustParseAddr(text)
			rs.Sets[0].Elements = append(rs.Sets[0].Elements, ir.NewElement(text, ir.Part{Kind: ir.AddrPart, Low: address, High: address}))
		}
		return &kernel.Desired{Rules: rs}
	}
	for _, next := range []*kernel.Desired{with("10.0.0.1"), with("10.0.0.1", "10.0.0.2"), with("10.0.0.2", "10.0.0.3"), with("10.0.0.3")} {
		lazy(true)
		if err := k.Commit(t.Context(), next); err == nil || !strings.Contains(err.Error(), "nothing of that is in the kernel") {
			t.Errorf("the error is %v", err)
		}
		lazy(false)
		commit(t, k, next)
	}
}

// And for ebtables: a start, one more rule, and the end.
func TestEbtablesRestoreThatDoesNothing(t *testing.T) {
	ns := kernel.Space(t, "nft", "ebtables")
	lazy := idle(t, "ebtables-restore", "")
	o := kernel.Options{Enter: ns.Do, Log: quietLog}
	var old *kernel.Bridge
	for _, hosts := range [][]string{{"11"}, {"11", "12"}, nil} {
		next := &kernel.Bridge{}
		for _, host := range hosts {
			next.Rules = append(next.Rules, kernel.BridgeRule{Table: "filter", Chain: "INPUT", Args: []string{"-s", "00:f0:00:00:00:" + host, "-j", "DROP"}})
		}
		lazy(true)
		if _, err := kernel.CommitBridge(t.Context(), o, old, next); err == nil || !strings.Contains(err.Error(), "nothing of that is in the kernel") {
			t.Errorf("%v: the error is %v", hosts, err)
		}
		lazy(false)
		if _, err := kernel.CommitBridge(t.Context(), o, old, next); err != nil {
			t.Fatal(err)
		}
		rules, err := kernel.ReadBridges(o, "filter")
		if err != nil || len(rules["INPUT"]) != len(hosts) {
			t.Errorf("%v: there is %q, error %v", hosts, rules, err)
		}
		old = next
	}
}
