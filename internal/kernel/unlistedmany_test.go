package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// before has some programs run a line of shell each time before they do what they are asked for.
func before(t *testing.T, line string, programs ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, program := range programs {
		path, err := findProgram(program)
		if err != nil {
			t.Skip(err)
		}
		script := fmt.Sprintf("#!/bin/sh\n%s\nexec %s \"$@\"\n", line, path)
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func findProgram(name string) (string, error) {
	if strings.HasPrefix(name, "ip") {
		name = strings.Replace(name, "tables", "tables-nft", 1)
	}
	return findVariant(name)
}

var toolsOfIPTables = []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"}

// foreignRules puts so many rules into a chain of another program's that iptables and ebtables have no words for.
func foreignRules(t *testing.T, ns *lab.Namespace, family, chain string, n int) {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "add rule %s filter %s meta length %d counter meta mark set %d\n", family, chain, i+1, i+1)
	}
	run(t, ns, b.String(), "nft", "-f", "-")
}

// Another program puts a rule before ours at each moment at which a tool runs, in a chain that iptables cannot list. Ours goes, and none of
// the other program's does.
func TestNoRuleOfAnotherProgramGoesInPlaceOfOurs(t *testing.T) {
	for _, backend := range eitherBackend {
		t.Run(string(backend), func(t *testing.T) {
			count := filepath.Join(t.TempDir(), "count")
			before(t, fmt.Sprintf("test -e %[1]s && echo >> %[1]s && nft insert rule ip filter INPUT ip saddr 9.9.9.$(wc -l < %[1]s) counter drop", count), toolsOfIPTables...)
			ns := namespace(t)
			k := open(t, ns, backend)
			commit(t, k, directly(t, backend, ""))
			commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 77 -j ACCEPT</rule>`))
			foreignRules(t, ns, "ip", "INPUT", 5)
			if err := os.WriteFile(count, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			commit(t, k, directly(t, backend, ""))
			theirsStay(t, ns, count, "ip", "dport 77", "ip saddr 9.9.9.%d ")
		})
	}
	t.Run("ebtables", func(t *testing.T) {
		ns, _ := bridges(t)
		left := kernel.NewLeft(&disk{}, quietLog)
		mine := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("INPUT", "-s 02:00:00:00:00:77 -j ACCEPT")}}
		if _, err := commitBridges(t, ns, left, &kernel.Bridge{}, mine); err != nil {
			t.Fatal(err)
		}
		foreignRules(t, ns, "bridge", "INPUT", 5)
		count := filepath.Join(t.TempDir(), "count")
		before(t, fmt.Sprintf("echo >> %[1]s; nft insert rule bridge filter INPUT ether saddr 02:00:00:00:01:$(printf %%02x $(wc -l < %[1]s)) counter drop", count),
			"ebtables", "ebtables-save", "ebtables-restore")
		if _, err := commitBridges(t, ns, left, mine, &kernel.Bridge{}); err != nil {
			t.Fatal(err)
		}
		theirsStay(t, ns, count, "bridge", "00:77", "02:00:00:00:01:%02x ")
	})
}

// theirsStay checks that a chain has a rule of another program for each line of a file, and none of ours.
func theirsStay(t *testing.T, ns *lab.Namespace, count, family, ours, theirs string) {
	t.Helper()
	text := run(t, ns, "", "nft", "list", "chain", family, "filter", "INPUT")
	runs := linesOf(t, count)
	if strings.Contains(text, ours) || runs == 0 {
		t.Errorf("behind %d runs of tools a rule of ours stays:\n%s", runs, text)
	}
	for i := range runs {
		if rule := fmt.Sprintf(theirs, i+1); !strings.Contains(text, rule) {
			t.Errorf("the rule %q of another program is gone:\n%s", rule, text)
		}
	}
}

func linesOf(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}

// However many rules another program has that iptables and ebtables cannot list, a start, a change and an end take the same few processes.
func TestProcessesDoNotCountRulesOfOthers(t *testing.T) {
	const most = 60 // for two families with all their tables
	for _, backend := range eitherBackend {
		t.Run(string(backend), func(t *testing.T) {
			runs := map[int]int{}
			for _, n := range []int{3, 1000} {
				count := filepath.Join(t.TempDir(), "count")
				before(t, "echo >> "+count, toolsOfIPTables...)
				ns := namespace(t)
				run(t, ns, "*filter\n:OTHER - [0:0]\n-A INPUT -j OTHER\nCOMMIT\n", "iptables-restore", "--noflush")
				foreignRules(t, ns, "ip", "OTHER", n)
				foreignRules(t, ns, "ip", "INPUT", n)
				elements := `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 77 -j ACCEPT</rule>`
				k, _, end := process(t, ns, backend, &disk{})
				commit(t, k, directly(t, backend, elements))
				at := linesOf(t, count)
				commit(t, k, directly(t, backend, ""))
				if did := linesOf(t, count) - at; did > most {
					t.Errorf("a change beside %d rules took %d processes", n, did)
				}
				commit(t, k, directly(t, backend, elements))
				commit(t, k, &kernel.Desired{})
				end()
				runs[n] = linesOf(t, count)
			}
			if runs[3] != runs[1000] {
				t.Errorf("processes by number of rules: %v", runs)
			}
		})
	}
	t.Run("ebtables", func(t *testing.T) {
		runs := map[int]int{}
		for _, n := range []int{3, 1000} {
			ns, _ := bridges(t)
			run(t, ns, "", "ebtables", "-N", "OTHER")
			run(t, ns, "", "ebtables", "-A", "FORWARD", "-j", "OTHER")
			foreignRules(t, ns, "bridge", "OTHER", n)
			count := filepath.Join(t.TempDir(), "count")
			before(t, "echo >> "+count, "ebtables", "ebtables-save", "ebtables-restore")
			mine := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-s 02:00:00:00:00:77 -j DROP")}}
			store := &disk{}
			for _, next := range []*kernel.Bridge{mine, {}, mine, mine} {
				if _, err := commitBridges(t, ns, kernel.NewLeft(store, quietLog), nil, next); err != nil {
					t.Fatal(err)
				}
			}
			runs[n] = linesOf(t, count)
		}
		if runs[3] != runs[1000] || runs[1000] > 4*10 {
			t.Errorf("processes by number of rules: %v", runs)
		}
	})
}

// A line of direct.xml for ebtables with a place that there is not is refused by its name, also beside a rule that ebtables cannot list; what
// is there stays.
func TestPlaceThatThereIsNot(t *testing.T) {
	for _, place := range []string{"0", "-1", "-9223372036854775808", "9223372036854775807"} {
		ns, _ := bridges(t)
		run(t, ns, "", "ebtables", "-A", "INPUT", "-s", "02:00:00:00:00:99", "-j", "ACCEPT")
		foreignRules(t, ns, "bridge", "INPUT", 1)
		was := run(t, ns, "", "nft", "list", "table", "bridge", "filter")
		line := strings.Fields("-t filter -I INPUT " + place + " -s 02:00:00:00:00:07 -j DROP")
		_, err := commitBridges(t, ns, kernel.NewLeft(&disk{}, quietLog), nil, &kernel.Bridge{Commands: [][]string{line}})
		var refused *kernel.BridgeError
		if !errors.As(err, &refused) || refused.AboutCommand(line) == nil {
			t.Errorf("place %s gives %v", place, err)
		}
		sameLines(t, was, run(t, ns, "", "nft", "list", "table", "bridge", "filter"))
	}
}

// A rule that has come into a table made anew, and has the number that ours had, stays.
func TestHandleOfATableMadeAnew(t *testing.T) {
	ns := namespace(t)
	useVariant(t, "nft")
	make := func(port string) {
		run(t, ns, "*filter\n-A INPUT -p tcp -m tcp --dport "+port+" -j ACCEPT\nCOMMIT\n", "iptables-restore", "--noflush")
		foreignRules(t, ns, "ip", "INPUT", 1)
	}
	make("77")
	remove, err := kernel.DeleteLater(kernel.Options{Backend: ir.IPTables, Enter: ns.Do}, ir.V4, "filter", "INPUT")
	if err != nil {
		t.Fatal(err)
	}
	run(t, ns, "", "nft", "delete", "table", "ip", "filter")
	make("78")
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if text := run(t, ns, "", "nft", "list", "chain", "ip", "filter", "INPUT"); !strings.Contains(text, "dport 78") {
		t.Errorf("the rule is gone:\n%s", text)
	}
}
