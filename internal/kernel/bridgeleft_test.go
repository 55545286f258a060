package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/internal/kernel"
)

// bridgePrograms puts programs before those of ebtables that note each call and then run them. runs is how often any was called since it
// was asked last.
func bridgePrograms(t *testing.T) (runs func() int) {
	t.Helper()
	links, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	for _, name := range []string{"ebtables", "ebtables-save", "ebtables-restore"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		link := filepath.Join(links, name) // what the program does depends on its name
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		inPath(t, name, fmt.Sprintf("echo >>%s\nexec %s \"$@\"\n", calls, link))
	}
	return func() int {
		t.Helper()
		text, err := os.ReadFile(calls)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		os.Remove(calls)
		return len(text)
	}
}

// How many programs run to find what an earlier process has left for bridges does not depend on how many rules there are, though ebtables
// lists each otherwise than it is written: not at a first start beside rules of others, not at a reload, not at a start with a note or
// without one, not at a check. A reload finds the rules that a reload has found before in one listing, and a start those that a process has brought.
func TestBridgeRulesAreFoundTogether(t *testing.T) {
	ways := []string{"a first start", "a reload", "a second reload", "a start with a note", "a check", "a start without a note", "an end"}
	need := map[int][]int{}
	for _, n := range []int{10, 500} {
		ns, saved := bridges(t)
		run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "ARP", "-j", "ACCEPT") // another program's
		others := saved()
		next := &kernel.Bridge{}
		for i := range n {
			next.Rules = append(next.Rules, bridgeRule("FORWARD", fmt.Sprintf("-p IPv4 --ip-source 10.0.%d.%d -j DROP", i/250, i%250)))
			next.Commands = append(next.Commands, strings.Fields(fmt.Sprintf("-A INPUT -p IPv4 --ip-source 10.1.%d.%d -j DROP", i/250, i%250)))
		}
		store := &disk{}
		left := kernel.NewLeft(store, quietLog)
		runs := bridgePrograms(t)
		var want string
		for _, way := range ways {
			wanted := next
			switch way {
			case "a start with a note":
				left = kernel.NewLeft(store, quietLog)
			case "a start without a note":
				left = kernel.NewLeft(&disk{}, quietLog)
			case "an end":
				wanted = &kernel.Bridge{}
			}
			o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: left}
			var err error
			if way == "a check" {
				err = kernel.CheckBridge(t.Context(), o, wanted)
			} else {
				_, err = kernel.CommitBridge(t.Context(), o, nil, wanted)
			}
			if err != nil {
				t.Fatalf("%s with %d rules: %v", way, n, err)
			}
			need[n] = append(need[n], runs())
			if want == "" {
				want = saved()
			}
			if way == "an end" {
				want = others
			}
			sameLines(t, want, saved())
			runs()
		}
	}
	for i, way := range ways {
		if need[10][i] != need[500][i] || need[10][i] > 8 {
			t.Errorf("%s runs %d programs for 10 rules, and %d for 500", way, need[10][i], need[500][i])
		}
	}
	for i := range ways[2:4] {
		if got := need[10][2+i]; got != 1 {
			t.Errorf("%s, behind one that has found all, runs %d programs", ways[2+i], got)
		}
	}
}

// The search for rules of an earlier process ends when it is given up, and has changed nothing, whichever program does not answer.
func TestSearchForBridgeRulesIsGivenUp(t *testing.T) {
	for _, program := range []string{"ebtables-save", "ebtables-restore"} {
		t.Run(program, func(t *testing.T) {
			ns, saved := bridges(t)
			store := &disk{}
			o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
			first := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p IPv4 --ip-source 10.0.0.1 -j DROP")}}
			if _, err := kernel.CommitBridge(t.Context(), o, nil, first); err != nil {
				t.Fatal(err)
			}
			store = &disk{} // of what is there it is not known how ebtables writes it
			o.Left = kernel.NewLeft(store, quietLog)
			before, usual, begun := saved(), os.Getenv("PATH"), filepath.Join(t.TempDir(), "begun")
			inPath(t, program, "echo >"+begun+"\nexec sleep 60\n")
			ctx, giveUp := context.WithCancel(t.Context())
			go func() {
				for ctx.Err() == nil {
					if _, err := os.Stat(begun); err == nil {
						giveUp()
					}
					time.Sleep(time.Millisecond)
				}
			}()
			asked := time.Now()
			if _, err := kernel.CommitBridge(ctx, o, nil, first); !errors.Is(err, context.Canceled) {
				t.Errorf("it gives %v", err)
			}
			if took := time.Since(asked); took > 20*time.Second { // a sleep is a minute
				t.Errorf("it takes %v", took)
			}
			t.Setenv("PATH", usual)
			sameLines(t, before, saved())
			if _, err := kernel.CommitBridge(t.Context(), o, nil, first); err != nil {
				t.Fatal(err)
			}
			sameLines(t, before, saved())
		})
	}
}

// Another program has put a rule into a chain of ours, before or behind ours. It stays there at a change of other rules, at a change of
// that chain, at a reload and at a start. Where the chain is not wanted any more, ours go and the chain stays for that rule, be it at a
// change, a reload or a start. It goes at the first change or start behind the end of that rule.
func TestRulesOfOthersInABridgeChain(t *testing.T) {
	const start, reload, change = "a start", "a reload", "a change"
	for _, how := range []string{"-I", "-A"} {
		for _, last := range []string{start, reload, change} {
			t.Run(how+" "+last, func(t *testing.T) {
				ns, saved := bridges(t)
				store, before := &disk{}, saved()
				left := kernel.NewLeft(store, quietLog)
				var is *kernel.Bridge
				commit := func(what string, next *kernel.Bridge) string {
					t.Helper()
					old := is
					if what != change {
						old = nil
					}
					if what == start {
						left = kernel.NewLeft(store, quietLog)
					}
					if _, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: left}, old, next); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					is = next
					return saved()
				}
				mine := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}},
					Rules:    []kernel.BridgeRule{bridgeRule("FORWARD", "-p 0x806 -j mine"), bridgeRule("mine", "-p 0x806 -j ACCEPT")},
					Commands: [][]string{strings.Fields("-N made"), strings.Fields("-A made -p 0x806 -j DROP")}}
				with := func(r kernel.BridgeRule) *kernel.Bridge {
					return &kernel.Bridge{Chains: mine.Chains, Commands: mine.Commands, Rules: append([]kernel.BridgeRule{r}, mine.Rules...)}
				}
				commit(start, mine)
				for _, chain := range []string{"mine", "made"} {
					run(t, ns, "", "ebtables", how, chain, "-p", "IPv4", "-j", "DROP")
				}
				for _, what := range []string{change, reload, start} {
					for _, next := range []*kernel.Bridge{with(bridgeRule("FORWARD", "-p IPv6 -j DROP")), with(bridgeRule("mine", "-p IPv6 -j DROP")), mine} {
						got := commit(what, next)
						for _, rule := range []string{"-A mine -p IPv4 -j DROP\n", "-A made -p IPv4 -j DROP\n", "-A mine -p ARP -j ACCEPT\n", "-A made -p ARP -j DROP\n", "-A FORWARD -p ARP -j mine\n"} {
							if strings.Count(got, rule) != 1 {
								t.Errorf("behind %s there is %q not once but in\n%s", what, rule, got)
							}
						}
						if strings.Count(got, "-A") != 5+len(next.Rules)-len(mine.Rules) {
							t.Errorf("behind %s there is\n%s", what, got)
						}
					}
				}
				for range 2 {
					got := commit(last, &kernel.Bridge{})
					if strings.Count(got, "-A") != 2 || !strings.Contains(got, "-A mine -p IPv4 -j DROP") || !strings.Contains(got, "-A made -p IPv4 -j DROP") {
						t.Errorf("the end is %s, and leaves\n%s", last, got)
					}
				}
				sameLines(t, commit(last, mine), commit(last, mine)) // which finds its chains where they are
				commit(last, &kernel.Bridge{})
				for _, chain := range []string{"mine", "made"} {
					run(t, ns, "", "ebtables", "-D", chain, "-p", "IPv4", "-j", "DROP")
				}
				more := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p IPv6 -j DROP")}}
				if got := commit(last, more); got != before+"-A FORWARD -p IPv6 -j DROP\n" {
					t.Errorf("behind their end, %s leaves\n%s", last, got)
				}
			})
		}
	}
}

// A change that brings a chain back to which it had only left another program's rule puts back what was there.
func TestBridgeChainThatStaysIsTakenBack(t *testing.T) {
	ns, saved := bridges(t)
	o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
	mine := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}}, Rules: []kernel.BridgeRule{bridgeRule("mine", "-p ARP -j ACCEPT")}}
	if _, err := kernel.CommitBridge(t.Context(), o, nil, mine); err != nil {
		t.Fatal(err)
	}
	run(t, ns, "", "ebtables", "-A", "mine", "-p", "IPv4", "-j", "DROP")
	before := saved()
	was, err := kernel.CommitBridge(t.Context(), o, mine, &kernel.Bridge{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kernel.CommitBridge(t.Context(), o, &kernel.Bridge{}, was); err != nil {
		t.Fatal(err)
	}
	sameLines(t, before, saved())
}

// Where there is no note, a chain is another program's if it has a rule that the configuration lacks, also when the configuration has one of
// the others twice, word for word or otherwise written. It stays as it is.
func TestBridgeRulesCountOnceEach(t *testing.T) {
	for _, twice := range []string{"-p ARP -j DROP", "-p 0x806 -j DROP"} {
		ns, saved := bridges(t)
		run(t, ns, "", "ebtables", "-N", "mine")
		run(t, ns, "", "ebtables", "-A", "mine", "-p", "ARP", "-j", "DROP")
		run(t, ns, "", "ebtables", "-A", "mine", "-p", "IPv6", "-j", "DROP")
		before := saved()
		next := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}}, Rules: []kernel.BridgeRule{bridgeRule("mine", "-p ARP -j DROP"), bridgeRule("mine", twice)}}
		_, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}, nil, next)
		var e *kernel.BridgeError
		if !errors.As(err, &e) || e.AboutChain("mine") == nil {
			t.Errorf("with %s beside itself it gives %v", twice, err)
		}
		sameLines(t, before, saved())
	}
}

// A process that has brought rules for bridges notes how ebtables lists them. So one that is started behind it finds them in one listing,
// whatever another program has put before or behind them meanwhile.
func TestBridgeRulesAreNotedAsListed(t *testing.T) {
	ns, saved := bridges(t)
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv4", "-j", "ACCEPT") // another program's
	store := &disk{}
	next := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}}, Rules: []kernel.BridgeRule{
		bridgeRule("FORWARD", "-p 0x806 -j mine"), bridgeRule("FORWARD", "-p ipv4 --ip-source 10.0.0.1 -j DROP"), bridgeRule("mine", "-p ipv6 --ip6-source fe80::1 -j DROP")}}
	start := func(next *kernel.Bridge) {
		t.Helper()
		if _, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}, nil, next); err != nil {
			t.Fatal(err)
		}
	}
	start(next)
	run(t, ns, "", "ebtables", "-I", "FORWARD", "-p", "IPv6", "-j", "ACCEPT")
	run(t, ns, "", "ebtables", "-A", "mine", "-p", "IPv4", "-j", "ACCEPT")
	before, runs := saved(), bridgePrograms(t)
	start(next)
	if n := runs(); n != 1 {
		t.Errorf("a start runs %d programs", n)
	}
	sameLines(t, before, saved())
}

// Where there is no note, and another program has a rule that could be one of ours, those that ebtables refuses are named and no other. What
// is there of the others is found.
func TestRefusedBridgeRulesBesideOthers(t *testing.T) {
	ns, saved := bridges(t)
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "ARP", "-j", "DROP")
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv4", "--ip-source", "10.0.0.1", "-j", "DROP")
	before := saved()
	good := bridgeRule("FORWARD", "-p ipv4 --ip-source 10.0.0.1 -j DROP")
	for _, text := range []string{"-p nosuch -j DROP", "-p ARP -j snat --to-source 00:00:00:00:00:01 --snat-target DROP", "-j nosuch"} {
		next := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", text), good}}
		o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
		var e *kernel.BridgeError
		if _, err := kernel.CommitBridge(t.Context(), o, nil, next); !errors.As(err, &e) || len(e.Lines) != 1 || e.AboutRule("FORWARD", next.Rules[0].Args) == nil {
			t.Errorf("%s gives %v", text, err)
		}
		sameLines(t, before, saved())
		if _, err := kernel.CommitBridge(t.Context(), o, nil, &kernel.Bridge{Rules: next.Rules[1:]}); err != nil {
			t.Error(err)
		}
		sameLines(t, before, saved())
	}
}
