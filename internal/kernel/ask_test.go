package kernel_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// noteOf is the note of an earlier process that has put rules into INPUT.
func noteOf(specs ...string) *disk {
	var list []string
	for _, spec := range specs {
		list = append(list, fmt.Sprintf(`{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":%q}`, spec))
	}
	return &disk{texts: []string{`{"Rules":[` + strings.Join(list, ",") + "]}"}}
}

// eachTimes is a text with each number below n in its place.
func eachTimes(n int, format string) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(format, i))
	}
	return list
}

// How often a start asks iptables does not depend on how many direct rules there are: not where a rule leads to a direct chain that is not
// there yet, however that is written, not where rules have lists of addresses, and not where few rules of a chain are left.
func TestEveryKindOfDirectRuleIsLookedUpTogether(t *testing.T) {
	rule := func(spec string) string {
		return fmt.Sprintf(`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">%s</rule>`, spec)
	}
	for name, more := range map[string]string{
		"a jump": `<chain ipv="ipv4" table="filter" chain="mine"/>` + rule("-p udp -j mine"),
		"a goto": `<chain ipv="ipv4" table="filter" chain="mine"/>` + rule("-p udp --goto mine"),
		"a list": rule("-s 10.9.0.1,10.9.0.2 -j DROP"),
	} {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, backend ir.Backend) {
				runs := counted(t)
				asked := func(n int) (list []int) {
					elements := more
					for i := range n {
						spec := fmt.Sprintf("-s 10.0.0.%d -j DROP", i)
						if name == "a list" {
							spec = fmt.Sprintf("-s 10.0.0.%d,10.0.1.%d -j DROP", i, i)
						}
						elements += rule(spec)
					}
					next := directly(t, backend, elements)
					ns := namespace(t)
					run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "DROP")
					once := func() {
						k, _, end := process(t, ns, backend, &disk{})
						defer end()
						runs()
						commit(t, k, next)
						list = append(list, runs())
					}
					once()
					once()
					chain := "INPUT"
					if backend == ir.IPTables {
						chain = "INPUT_direct"
					}
					run(t, ns, "", "iptables", "-F", chain)
					run(t, ns, "", "iptables", "-A", chain, "-s", "10.0.0.0", "-j", "DROP")
					once()
					return list
				}
				if few, many := asked(2), asked(40); fmt.Sprint(few) != fmt.Sprint(many) {
					t.Errorf("the programs run %v times with few rules, %v times with many", few, many)
				}
			})
		})
	}
}

// A start that takes out rules of an earlier process asks as often for many as for few, also where the configuration has none for their chain.
func TestManyNotedRulesGoTogether(t *testing.T) {
	eachWay(t, func(t *testing.T, backend ir.Backend) {
		runs := counted(t)
		asked := func(n int, format string) int {
			ns, specs := namespace(t), eachTimes(n, format)
			for _, spec := range specs {
				run(t, ns, "", "iptables", append([]string{"-A", "INPUT"}, strings.Fields(spec)...)...)
			}
			k, _, end := process(t, ns, backend, noteOf(specs...))
			defer end()
			runs()
			commit(t, k, directly(t, backend, ""))
			if got := saved(t, ns); strings.Contains(got, "10.7.") {
				t.Errorf("with %q there is\n%s", format, got)
			}
			return runs()
		}
		for _, format := range []string{"-p tcp --dport 25 -s 10.7.0.%d -j DROP", "-s 10.7.0.%d,10.7.1.1 -p tcp -j DROP"} {
			if few, many := asked(2, format), asked(20, format); few != many {
				t.Errorf("with %q the programs run %d times for few rules, %d times for many", format, few, many)
			}
		}
	})
}

// A rule that the kernel alone refuses, such as one for a control group that is gone, keeps no other rule from being found.
func TestRulesAreFoundBesideOnesThatTheKernelRefuses(t *testing.T) {
	eachWay(t, func(t *testing.T, backend ir.Backend) {
		for _, bad := range []string{"-m cgroup --path gone%d -j ACCEPT", "-p udp --jump=gone%d"} {
			ns := namespace(t)
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "tcp", "-m", "tcp", "--dport", "25", "-j", "ACCEPT")
			specs := append(eachTimes(5, bad), "-p tcp --dport 25 -j ACCEPT")
			k, _, end := process(t, ns, backend, noteOf(append(specs, eachTimes(3, bad+" -s 10.0.0.1")...)...))
			commit(t, k, directly(t, backend, ""))
			if got := saved(t, ns); strings.Contains(got, "--dport 25") {
				t.Errorf("beside %q there is\n%s", bad, got)
			}
			end()
		}
	})
}

// Where a tool refuses very many rules, looking for them ends: those that are not tried by then count as another program's. The log says so,
// and they stay noted, so that the next start tries again.
func TestLookingForRefusedRulesEnds(t *testing.T) {
	eachWay(t, func(t *testing.T, backend ir.Backend) {
		runs := counted(t)
		for _, bad := range []string{"-m nosuch --number %d -j ACCEPT", "-m cgroup --path gone%d -j ACCEPT"} {
			ns := namespace(t)
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "tcp", "-m", "tcp", "--dport", "25", "-j", "ACCEPT")
			store := noteOf(append(eachTimes(400, bad), "-p tcp --dport 25 -j ACCEPT")...)
			k, _, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, store)
			runs()
			commit(t, k, directly(t, backend, ""))
			if n := runs(); n > 200 {
				t.Errorf("with %q the programs run %d times", bad, n)
			}
			k.Close()
			goes := !strings.Contains(saved(t, ns), "--dport 25")
			noted := strings.Contains(store.texts[len(store.texts)-1], "--dport 25")
			said := strings.Contains(log.String(), "count as another program's")
			if !goes && (!noted || !said) {
				t.Errorf("with %q the rule stays; it is noted: %v; the log says\n%s", bad, noted, log)
			}
			if strings.Contains(bad, "nosuch") && goes {
				t.Errorf("with %q every rule was tried", bad)
			}
		}
	})
}

// A daemon that is told to stop looks no further for refused rules: those that are not tried stay noted.
func TestLookingForRefusedRulesEndsWithTheDaemon(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		run(t, ns, "", "iptables", "-A", "INPUT", "-p", "tcp", "-m", "tcp", "--dport", "25", "-j", "ACCEPT")
		store := noteOf(append(eachTimes(60, "-m nosuch --number %d -j ACCEPT"), "-p tcp --dport 25 -j ACCEPT")...)
		trials := filepath.Join(t.TempDir(), "trials")
		path, err := exec.LookPath("iptables-restore")
		if err != nil {
			t.Fatal(err)
		}
		inPath(t, "iptables-restore", fmt.Sprintf("input=$(cat)\ncase $input in *_trial*) echo >>%s;; esac\nprintf '%%s\\n' \"$input\" | %s \"$@\"\n", trials, path))
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		enter := func(f func() error) error {
			if _, err := os.Stat(trials); err == nil { // one trial has begun
				stop()
			}
			return ns.Do(f)
		}
		k := start(t, kernel.Options{Backend: backend, Enter: enter, Log: quietLog, Left: kernel.NewLeft(store, quietLog)})
		err = k.Commit(ctx, directly(t, backend, ""))
		if said, _ := os.ReadFile(trials); len(said) == 0 || len(said) > 4 {
			t.Errorf("the commit gives %v behind %d trials", err, len(said))
		}
		if note := store.texts[len(store.texts)-1]; !strings.Contains(note, "--dport 25") {
			t.Errorf("the note is %s", note)
		}
	})
}

// A direct rule that iptables lists as nothing, as it matches everything and only counts, is found as any other: it stands once after each
// start, and goes with the configuration, in the same process or at the next start. A like rule of another program stays.
func TestRuleThatIsListedAsNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, backend ir.Backend) {
		for _, spec := range []string{"-s 0.0.0.0/0", "-p all", ""} {
			for _, others := range []int{0, 1} {
				ns, store := namespace(t), &disk{}
				for range others {
					run(t, ns, "", "iptables", "-A", "INPUT")
				}
				run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp")
				elements := fmt.Sprintf(`<passthrough ipv="ipv4">-A INPUT %s</passthrough>`, spec)
				counters := func(when string, want int) {
					t.Helper()
					if got := run(t, ns, "", "iptables", "-S", "INPUT"); strings.Count(got, "-A INPUT\n") != want {
						t.Errorf("%s, with %q beside %d like it, there is\n%s", when, spec, others, got)
					}
				}
				k, _, end := process(t, ns, backend, store)
				commit(t, k, directly(t, backend, "")) // what is there is another program's
				commit(t, k, directly(t, backend, elements))
				counters("behind a commit", 1+others)
				commit(t, k, directly(t, backend, ""))
				counters("behind a commit without it", others)
				commit(t, k, directly(t, backend, elements))
				end()
				k, _, end = process(t, ns, backend, store)
				commit(t, k, directly(t, backend, elements))
				counters("behind a start with a note", 1+others)
				end()
				k, _, end = process(t, ns, backend, store)
				commit(t, k, directly(t, backend, ""))
				counters("behind a start that takes it out", others)
				commit(t, k, directly(t, backend, elements))
				end()
				k, _, end = process(t, ns, backend, &disk{})
				commit(t, k, directly(t, backend, elements))
				counters("behind a start without a note", 1+others)
				end()
			}
		}
	})
}

// A direct rule that is listed as nothing is found, too, in a chain that iptables cannot list: it goes with the configuration, and stands once
// after a start.
func TestRuleThatIsListedAsNothingAmongUnlisted(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		ns, store := namespace(t), &disk{}
		run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp")
		remove := native(t, ns, rule, "ip filter INPUT")
		elements := `<passthrough ipv="ipv4">-A INPUT -s 0.0.0.0/0</passthrough>`
		there := func(when string, want int) {
			t.Helper()
			got := 0
			for line := range strings.Lines(run(t, ns, "", "nft", "list", "chain", "ip", "filter", "INPUT")) {
				if words := strings.Fields(line); len(words) == 5 && words[0] == "counter" { // packets N bytes N
					got++
				}
			}
			if got != want {
				t.Errorf("%s it stands %d times", when, got)
			}
		}
		k, _, end := process(t, ns, backend, store)
		commit(t, k, directly(t, backend, elements))
		there("behind a commit", 1)
		commit(t, k, directly(t, backend, ""))
		there("behind a commit without it", 0)
		commit(t, k, directly(t, backend, elements))
		end()
		k, _, end = process(t, ns, backend, store)
		defer end()
		commit(t, k, directly(t, backend, elements))
		there("behind a start", 1)
		commit(t, k, directly(t, backend, ""))
		there("behind its end", 0)
		remove()
	})
}
