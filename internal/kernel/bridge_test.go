package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// Rules for bridges come before those of others in the kernel's chains, in their order, and in chains of their own, which
// return. They change in one transaction, or not at all, and go as they came.
func TestBridgeRules(t *testing.T) {
	ns := namespace(t)
	kernel.Needs(t, bridgeTools...)
	rule := func(table, chain, words string) kernel.BridgeRule {
		return kernel.BridgeRule{Table: table, Chain: chain, Args: strings.Fields(words)}
	}
	var old *kernel.Bridge
	commit := func(next *kernel.Bridge) error {
		_, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do}, old, next)
		if err == nil {
			old = next
		}
		return err
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		for line := range strings.SplitSeq(run(t, ns, "", "ebtables-save"), "\n") {
			if strings.HasPrefix(line, "-A") {
				got = append(got, line)
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("the rules are\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv4", "-j", "ACCEPT") // another program's
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv6", "-j", "DROP")   // left by an earlier process
	first := &kernel.Bridge{
		Chains:   []kernel.BridgeChain{{Table: "filter", Chain: "mine"}},
		Rules:    []kernel.BridgeRule{rule("filter", "FORWARD", "-p IPv6 -j DROP"), rule("filter", "FORWARD", "-p ARP -j mine"), rule("filter", "mine", "-p IPv4 -j ACCEPT")},
		Commands: [][]string{strings.Fields("-t nat -A PREROUTING -p IPv6 -j ACCEPT")},
	}
	if err := commit(first); err != nil {
		t.Fatal(err)
	}
	check("-A FORWARD -p IPv6 -j DROP", "-A FORWARD -p ARP -j mine", "-A FORWARD -p IPv4 -j ACCEPT", "-A mine -p IPv4 -j ACCEPT",
		"-A PREROUTING -p IPv6 -j ACCEPT")
	bad := &kernel.Bridge{Rules: []kernel.BridgeRule{rule("nat", "PREROUTING", "-p ARP -j DROP"), rule("filter", "FORWARD", "-j nosuch")}}
	if err := commit(bad); err == nil || !strings.Contains(err.Error(), "table filter") {
		t.Errorf("a jump to no chain gives %v", err)
	}
	for _, words := range [][]string{{"-j", "nosuch"}, {"-p", "nosuch", "-j", "DROP"}, {"-p", "IPv4", "--log-prefix", `"`, "-j", "DROP"}} { // refused lines are named
		var refused *kernel.BridgeError
		err := commit(&kernel.Bridge{Rules: []kernel.BridgeRule{rule("filter", "FORWARD", "-p ARP -j DROP"), {Table: "filter", Chain: "FORWARD", Args: words}}})
		if !errors.As(err, &refused) || refused.Table != "filter" || refused.AboutRule("FORWARD", words) == nil || len(refused.Lines) != 1 {
			t.Errorf("%q gives %v", words, err)
		}
	}
	check("-A FORWARD -p IPv6 -j DROP", "-A FORWARD -p ARP -j mine", "-A FORWARD -p IPv4 -j ACCEPT", "-A mine -p IPv4 -j ACCEPT",
		"-A PREROUTING -p IPv6 -j ACCEPT")
	if err := commit(&kernel.Bridge{Chains: first.Chains, Rules: first.Rules[1:2]}); err != nil {
		t.Fatal(err)
	}
	check("-A FORWARD -p ARP -j mine", "-A FORWARD -p IPv4 -j ACCEPT")
	if saved := run(t, ns, "", "ebtables-save"); !strings.Contains(saved, ":mine RETURN\n") {
		t.Errorf("the chain does not return:\n%s", saved)
	}
	if err := commit(&kernel.Bridge{}); err != nil {
		t.Fatal(err)
	}
	check("-A FORWARD -p IPv4 -j ACCEPT")
}

// Of rules for bridges that ebtables refuses, all are named and no other, whatever ebtables says: it names one line at most, and none for
// a rule of a chain that does not exist. Where it does not know the table, all of its chains, rules and commands are. Nothing is changed.
func TestRefusedBridgeRules(t *testing.T) {
	ns := namespace(t)
	kernel.Needs(t, bridgeTools...)
	saved := func() string { return saveNoise.ReplaceAllString(run(t, ns, "", "ebtables-save"), "") }
	rule := func(line string) kernel.BridgeRule { // TABLE CHAIN ARGS…
		words := strings.Fields(line)
		return kernel.BridgeRule{Table: words[0], Chain: words[1], Args: words[2:]}
	}
	for _, c := range []struct {
		why                 string
		rules, refused      []string // of one table
		commands, refusedBy []string
	}{
		{"no such chain", []string{"filter INPUT -p ARP -j DROP", "filter nosuch -p ARP -j DROP", "filter OUTPUT -p ARP -j DROP"}, []string{"filter nosuch -p ARP -j DROP"}, nil, nil},
		{"no such chain of table nat", []string{"nat INPUT -j DROP", "nat PREROUTING -j DROP"}, []string{"nat INPUT -j DROP"}, nil, nil},
		{"of each kind", []string{"filter INPUT -j DROP", "filter nosuch -j DROP", "filter INPUT -p ARP -j nosuch", "filter FORWARD --nosuch 1 -j DROP", "filter mine -j ACCEPT",
			"filter FORWARD -j snat --to-source 00:00:00:00:00:02", "filter nosuch -j ACCEPT", "filter other -j DROP", "filter FORWARD -p 70000 -j DROP"},
			[]string{"filter nosuch -j DROP", "filter INPUT -p ARP -j nosuch", "filter FORWARD --nosuch 1 -j DROP", "filter FORWARD -j snat --to-source 00:00:00:00:00:02",
				"filter nosuch -j ACCEPT", "filter other -j DROP", "filter FORWARD -p 70000 -j DROP"},
			[]string{"-D FORWARD -p IPv6 -j DROP", "-A FORWARD -p IPv6 -j DROP", "-t filter -I FORWARD 7000 -j DROP", "-P FORWARD NOSUCH", "-A nosuch -j DROP"},
			[]string{"-D FORWARD -p IPv6 -j DROP", "-t filter -I FORWARD 7000 -j DROP", "-P FORWARD NOSUCH", "-A nosuch -j DROP"}},
		{"a way round in a circle", []string{"filter FORWARD -j mine", "filter mine -j mine", "filter mine -j DROP"}, []string{"filter mine -j mine"}, nil, nil},
	} {
		t.Run(strings.ReplaceAll(c.why, " ", "-"), func(t *testing.T) {
			next := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}}}
			for _, r := range c.rules {
				next.Rules = append(next.Rules, rule(r))
			}
			for _, words := range c.commands {
				next.Commands = append(next.Commands, strings.Fields(words))
			}
			before := saved()
			_, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do}, &kernel.Bridge{}, next)
			var e *kernel.BridgeError
			if !errors.As(err, &e) {
				t.Fatalf("the error is %v", err)
			}
			for _, r := range c.rules {
				if r := rule(r); e.Table != r.Table || (e.AboutRule(r.Chain, r.Args) != nil) != slices.Contains(c.refused, strings.Join(append([]string{r.Table, r.Chain}, r.Args...), " ")) {
					t.Errorf("of table %s are refused %q, about %v", e.Table, e.Lines, r)
				}
			}
			for _, words := range c.commands {
				if (e.AboutCommand(strings.Fields(words)) != nil) != slices.Contains(c.refusedBy, words) {
					t.Errorf("%q are refused, about %q", e.Lines, words)
				}
			}
			if e.AboutChain("mine") != nil {
				t.Errorf("%q are refused", e.Lines)
			}
			if after := saved(); after != before {
				t.Errorf("ebtables has\n%s", after)
			}
		})
	}
}

// A table that ebtables does not know costs its chains, rules and commands, and those of no other table.
func TestRefusedBridgeTable(t *testing.T) {
	ns := namespace(t)
	kernel.Needs(t, bridgeTools...)
	dir := t.TempDir() // ebtables-nft knows the table broute from version 1.8.10 on
	script := "#!/bin/sh\necho 'ebtables-restore: line 1 table name invalid' >&2\nexit 2\n"
	if err := os.WriteFile(dir+"/ebtables-restore", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	drop := kernel.BridgeRule{Table: "broute", Chain: "BROUTING", Args: []string{"-j", "DROP"}}
	next := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "broute", Chain: "mine"}, {Table: "filter", Chain: "other"}}, Rules: []kernel.BridgeRule{drop},
		Commands: [][]string{strings.Fields("-t broute -A mine -j DROP"), strings.Fields("-A mine -j DROP")}}
	var e *kernel.BridgeError
	if _, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do}, &kernel.Bridge{}, next); !errors.As(err, &e) {
		t.Fatalf("the error is %v", err)
	}
	if e.Table != "broute" || e.AboutChain("mine") == nil || e.AboutChain("other") != nil || e.AboutRule(drop.Chain, drop.Args) == nil || e.AboutCommand(next.Commands[0]) == nil || e.AboutCommand(next.Commands[1]) != nil {
		t.Errorf("of table %s are refused %q", e.Table, e.Lines)
	}
}

// Rules, chains and commands for bridges of a process that was killed go at the next start, if they are no longer wanted. Those of
// other programs stay.
func TestBridgeRulesOfAnEarlierProcess(t *testing.T) {
	ns := namespace(t)
	kernel.Needs(t, bridgeTools...)
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv4", "-j", "ACCEPT")
	run(t, ns, "", "ebtables", "-t", "nat", "-N", "theirs")
	for _, table := range []string{"nat", "filter"} {
		run(t, ns, "", "ebtables", "-t", table, "-L")
	}
	saved := func() string { return saveNoise.ReplaceAllString(run(t, ns, "", "ebtables-save"), "") }
	before := saved()
	mine := kernel.BridgeChain{Table: "filter", Chain: "mine"}
	first := &kernel.Bridge{
		Chains: []kernel.BridgeChain{mine, {Table: "nat", Chain: "other"}},
		Rules: []kernel.BridgeRule{
			{Table: "filter", Chain: "FORWARD", Args: strings.Fields("-p ARP -j mine")},
			{Table: "filter", Chain: "mine", Args: strings.Fields("-p IPv4 -j ACCEPT")},
			{Table: "nat", Chain: "other", Args: strings.Fields("-p IPv6 -j DROP")},
		},
		Commands: [][]string{strings.Fields("-t nat -A PREROUTING -p IPv6 -j ACCEPT"), strings.Fields("-N made")},
	}
	store := &disk{}
	start := func(next *kernel.Bridge) string {
		t.Helper()
		o := kernel.Options{Enter: ns.Do, Left: kernel.NewLeft(store, quietLog)}
		if _, err := kernel.CommitBridge(t.Context(), o, nil, next); err != nil {
			t.Fatal(err)
		}
		return saved()
	}
	with := start(first)
	sameLines(t, with, start(first))
	less := start(&kernel.Bridge{Chains: []kernel.BridgeChain{mine}, Rules: first.Rules[1:2]})
	if strings.Contains(less, "ARP") || strings.Contains(less, "other") || strings.Contains(less, "made") || strings.Count(less, "-A mine -p IPv4 -j ACCEPT") != 1 {
		t.Errorf("there is\n%s", less)
	}
	sameLines(t, before, start(&kernel.Bridge{}))
	sameLines(t, before, start(&kernel.Bridge{}))
}

// Where ebtables is missing, a rule for it is refused with that reason.
func TestBridgeRulesWithoutTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	next := &kernel.Bridge{Rules: []kernel.BridgeRule{{Table: "filter", Chain: "FORWARD", Args: []string{"-j", "a\"b"}}}}
	if _, err := kernel.CommitBridge(t.Context(), kernel.Options{}, &kernel.Bridge{}, next); err == nil || !strings.Contains(err.Error(), "quotes") {
		t.Errorf("what cannot be said to ebtables gives %v", err)
	}
	for _, old := range []*kernel.Bridge{nil, {}} {
		if _, err := kernel.CommitBridge(t.Context(), kernel.Options{}, old, &kernel.Bridge{}); err != nil {
			t.Errorf("nothing to do gives %v", err)
		}
	}
}

// bridgeTools are the programs that tests of rules for bridges run.
var bridgeTools = []string{"ebtables", "ebtables-save", "ebtables-restore"}

// bridges is a namespace with ebtables, and what lists the rules that it has, and the chains but for the kernel's.
func bridges(t *testing.T) (ns *lab.Namespace, saved func() string) {
	t.Helper()
	kernel.Needs(t, bridgeTools...)
	ns = namespace(t)
	return ns, func() (text string) {
		for line := range strings.Lines(saveNoise.ReplaceAllString(run(t, ns, "", "ebtables-save"), "")) {
			if name, _, _ := strings.Cut(line, " "); line[0] == '-' || line[0] == ':' && name != strings.ToUpper(name) {
				text += line
			}
		}
		return text
	}
}

// bridgeRule is a rule of table filter.
func bridgeRule(chain, text string) kernel.BridgeRule {
	return kernel.BridgeRule{Table: "filter", Chain: chain, Args: strings.Fields(text)}
}

// earlierBridge is what an earlier process has put there.
var earlierBridge = &kernel.Bridge{
	Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}, {Table: "nat", Chain: "other"}},
	Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p 0x806 -j mine"), bridgeRule("FORWARD", "-p ipv6 -s 00:11:22:33:44:55 -j DROP"), bridgeRule("mine", "-p IPv4 -j ACCEPT"),
		{Table: "nat", Chain: "other", Args: strings.Fields("-p IPv6 -j DROP")}},
	Commands: [][]string{strings.Fields("-t nat -A PREROUTING -p IPv6 -j ACCEPT"), strings.Fields("-N made -P RETURN"), strings.Fields("-A made -p IPv4 -j DROP"),
		strings.Fields("-I INPUT 1 -j made"), strings.Fields("-A mine -p ARP -j DROP")},
}

// A start whose rules for bridges are refused, in whichever table, leaves those of the process before it as they were. So does one that
// is taken back afterwards, because of its other rules. The next start finds them, and takes out what it does not want.
func TestFailedStartLeavesBridgeRules(t *testing.T) {
	ns, saved := bridges(t)
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv4", "-j", "ACCEPT") // another program's
	others := saved()
	store := &disk{}
	start := func(next *kernel.Bridge) (*kernel.Bridge, kernel.Options, error) {
		o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
		was, err := kernel.CommitBridge(t.Context(), o, nil, next)
		return was, o, err
	}
	if _, _, err := start(earlierBridge); err != nil {
		t.Fatal(err)
	}
	before := saved()
	for _, next := range []*kernel.Bridge{
		{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-j nosuch")}},
		{Rules: append([]kernel.BridgeRule{bridgeRule("FORWARD", "-j nosuch")}, earlierBridge.Rules[1])},
		{Commands: append([][]string{strings.Fields("-A FORWARD -j nosuch")}, earlierBridge.Commands...)},
		{Chains: earlierBridge.Chains, Rules: []kernel.BridgeRule{bridgeRule("mine", "-p nosuch -j DROP")}},
	} {
		if was, _, err := start(next); err == nil || was != nil {
			t.Errorf("%v gives %v, %v", next, was, err)
		}
		sameLines(t, before, saved())
	}
	for _, next := range []*kernel.Bridge{{}, earlierBridge, {Chains: earlierBridge.Chains[:1], Rules: []kernel.BridgeRule{bridgeRule("mine", "-p ARP -j DROP")}}} {
		was, o, err := start(next)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kernel.CommitBridge(t.Context(), o, next, was); err != nil {
			t.Fatal(err)
		}
		sameLines(t, before, saved())
	}
	if _, _, err := start(&kernel.Bridge{}); err != nil {
		t.Fatal(err)
	}
	sameLines(t, others, saved())
}

// A change that fails in one table, and cannot be taken back in another one, leaves nobody knows what: the next one asks ebtables. That may be
// the first attempt, whose program has succeeded once, or the second one, behind one that failed at once.
func TestBridgeRulesThatCannotBePutBack(t *testing.T) {
	path, err := exec.LookPath("ebtables-restore")
	if err != nil {
		t.Skip(err)
	}
	for _, succeeds := range []int{1, 3} {
		t.Run(fmt.Sprint("run-", succeeds), func(t *testing.T) {
			ns, saved := bridges(t)
			before := saved()
			usual, dir := os.Getenv("PATH"), t.TempDir()
			count, link := filepath.Join(dir, "count"), filepath.Join(dir, "ebtables-restore")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			inPath(t, "ebtables-restore", fmt.Sprintf("echo >>%s\n[ $(wc -l <%s) = %d ] || { echo no memory >&2; exit 1; }\nexec %s \"$@\"\n", count, count, succeeds, link))
			o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
			was, err := kernel.CommitBridge(t.Context(), o, &kernel.Bridge{}, earlierBridge)
			if err == nil || was != nil || !strings.Contains(err.Error(), "cannot put back the rules of bridges in table nat") {
				t.Errorf("it gives %v, %v", was, err)
			}
			if first := "cannot change the rules of bridges in table nat"; succeeds == 3 && (err == nil || !strings.Contains(err.Error(), first)) {
				t.Errorf("the error does not say what the first attempt met: %v", err)
			}
			if saved() == before {
				t.Error("the change is taken back")
			}
			t.Setenv("PATH", usual)
			if _, err := kernel.CommitBridge(t.Context(), o, was, &kernel.Bridge{}); err != nil {
				t.Fatal(err)
			}
			sameLines(t, before, saved())
		})
	}
}

// A first attempt that cannot be taken back may be followed by a second one that succeeds. What was there before is what was there before both.
func TestBridgeRulesOfASecondAttemptGoBack(t *testing.T) {
	ns, saved := bridges(t)
	before, dir := saved(), t.TempDir()
	path, err := exec.LookPath("ebtables-restore")
	if err != nil {
		t.Fatal(err)
	}
	count, link := filepath.Join(dir, "count"), filepath.Join(dir, "ebtables-restore")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	// The first table is changed; the second one, the search for the reason, and the first one's way back fail.
	inPath(t, "ebtables-restore", fmt.Sprintf("echo >>%s\ncase $(wc -l <%s) in 2|3|4) echo no memory >&2; exit 1;; esac\nexec %s \"$@\"\n", count, count, link))
	o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
	was, err := kernel.CommitBridge(t.Context(), o, &kernel.Bridge{}, earlierBridge)
	if err != nil {
		t.Fatal(err)
	}
	if got := saved(); !strings.Contains(got, "-A mine") || !strings.Contains(got, "-A other") {
		t.Errorf("there is\n%s", got)
	}
	if _, err := kernel.CommitBridge(t.Context(), o, earlierBridge, was); err != nil {
		t.Fatal(err)
	}
	sameLines(t, before, saved())
}

// A chain for bridges of an earlier process to which another program's rule leads stays, without the rules that are ours, and the start
// succeeds. It goes at the first start behind the end of that rule.
func TestBridgeChainThatOthersUse(t *testing.T) {
	ns, saved := bridges(t)
	before, store := saved(), &disk{}
	start := func(next *kernel.Bridge) {
		t.Helper()
		o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
		if _, err := kernel.CommitBridge(t.Context(), o, nil, next); err != nil {
			t.Fatal(err)
		}
	}
	start(earlierBridge)
	run(t, ns, "", "ebtables", "-A", "OUTPUT", "-j", "mine")
	run(t, ns, "", "ebtables", "-A", "OUTPUT", "-j", "made")
	run(t, ns, "", "ebtables", "-t", "nat", "-A", "OUTPUT", "--log-prefix", "see -j other", "-j", "ACCEPT") // which leads nowhere else
	start(&kernel.Bridge{})
	if got := saved(); !strings.Contains(got, ":mine") || !strings.Contains(got, ":made") || strings.Contains(got, ":other") || strings.Count(got, "-A") != 3 {
		t.Errorf("there is\n%s", got)
	}
	run(t, ns, "", "ebtables", "-D", "OUTPUT", "-j", "mine")
	run(t, ns, "", "ebtables", "-D", "OUTPUT", "-j", "made")
	run(t, ns, "", "ebtables", "-t", "nat", "-F", "OUTPUT")
	start(&kernel.Bridge{})
	sameLines(t, before, saved())
}

// A rule that is there once, and noted as a rule and as a command, goes all the same.
func TestBridgeRuleThatIsNotedTwice(t *testing.T) {
	ns, saved := bridges(t)
	before, store := saved(), &disk{}
	twice := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p ARP -j DROP")}, Commands: [][]string{strings.Fields("-A FORWARD -p ARP -j DROP")}}
	for _, taken := range []int{0, 1, 2} {
		for _, next := range []*kernel.Bridge{twice, {}} {
			o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
			if _, err := kernel.CommitBridge(t.Context(), o, nil, next); err != nil {
				t.Fatal(err)
			}
			for range taken * len(next.Rules) {
				run(t, ns, "", "ebtables", "-D", "FORWARD", "-p", "ARP", "-j", "DROP")
			}
		}
		sameLines(t, before, saved())
	}
}

// Another program has taken out all rules of a chain. The next change is made all the same, and brings back what shall be there.
func TestBridgeRulesThatOthersTakeOut(t *testing.T) {
	ns, saved := bridges(t)
	o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
	arp, v4, v6 := bridgeRule("FORWARD", "-p ARP -j DROP"), bridgeRule("FORWARD", "-p IPv4 -j ACCEPT"), bridgeRule("FORWARD", "-p IPv6 -j ACCEPT")
	commit := func(old, next *kernel.Bridge) {
		t.Helper()
		if _, err := kernel.CommitBridge(t.Context(), o, old, next); err != nil {
			t.Fatal(err)
		}
	}
	next := &kernel.Bridge{Rules: []kernel.BridgeRule{v4, v6}}
	commit(&kernel.Bridge{}, next)
	want := saved()
	first := &kernel.Bridge{Rules: []kernel.BridgeRule{arp, v4}}
	commit(next, first)
	run(t, ns, "", "ebtables", "-F", "FORWARD")
	commit(first, next)
	sameLines(t, want, saved())
}

// A command that makes a chain for bridges is refused, as a chain of the direct interface is, where another program has made one of that name
// with rules in it: at a start without a note, with one, at a reload and in a check. The chain stays as it is, and is not taken out with the command.
func TestCommandForABridgeChainOfAnotherProgram(t *testing.T) {
	ns, saved := bridges(t)
	run(t, ns, "", "ebtables", "-N", "foo")
	run(t, ns, "", "ebtables", "-A", "foo", "-p", "ARP", "-j", "DROP")
	before := saved()
	next := &kernel.Bridge{Commands: [][]string{strings.Fields("-t filter -N foo"), strings.Fields("-N bar")}}
	for _, noted := range []bool{false, true} {
		for _, old := range []*kernel.Bridge{nil, {}} {
			o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
			if noted {
				o.Left = kernel.NewLeft(&disk{texts: []string{"{}"}}, quietLog)
			}
			_, err := kernel.CommitBridge(t.Context(), o, old, next)
			for way, err := range map[string]error{"a commit": err, "a check": kernel.CheckBridge(t.Context(), o, next)} {
				var refused *kernel.BridgeError
				if !errors.As(err, &refused) || refused.AboutCommand(next.Commands[0]) == nil || refused.AboutCommand(next.Commands[1]) != nil {
					t.Errorf("%s, noted %v, known before %v, gives %v", way, noted, old != nil, err)
				}
			}
			sameLines(t, before, saved())
			if _, err := kernel.CommitBridge(t.Context(), o, nil, &kernel.Bridge{}); err != nil {
				t.Error(err)
			}
			sameLines(t, before, saved())
		}
	}
}

// A chain for bridges that another program has made stays as it is, and is no chain of ours: a change, a reload and a start that want one of
// its name are refused, and name the chain. That one is refused does not make it ours for the next.
func TestBridgeChainOfAnotherProgram(t *testing.T) {
	ns, saved := bridges(t)
	run(t, ns, "", "ebtables", "-N", "libvirt-I")
	run(t, ns, "", "ebtables", "-A", "libvirt-I", "-p", "ARP", "-j", "DROP")
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-i", "vnet0", "-j", "libvirt-I")
	others, store := saved(), &disk{}
	next := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "libvirt-I"}}, Rules: []kernel.BridgeRule{bridgeRule("libvirt-I", "-p IPv6 -j DROP")}}
	commit := func(left *kernel.Left, old, next *kernel.Bridge) error {
		_, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: left}, old, next)
		return err
	}
	refused := func(how string, left *kernel.Left, old, next *kernel.Bridge) {
		t.Helper()
		var e *kernel.BridgeError
		if err := commit(left, old, next); !errors.As(err, &e) || e.AboutChain(next.Chains[0].Chain) == nil {
			t.Errorf("%s gives %v", how, err)
		}
		sameLines(t, others, saved())
	}
	first := kernel.NewLeft(store, quietLog)
	refused("a start without a note", first, nil, next)
	if err := commit(first, nil, &kernel.Bridge{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		refused("a change", first, &kernel.Bridge{}, next)
		refused("a reload", first, nil, next)
		refused("a start", kernel.NewLeft(store, quietLog), nil, next)
	}
	run(t, ns, "", "ebtables", "-N", "FORWARD_direct")
	others = saved()
	named := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "FORWARD_direct"}}, Rules: []kernel.BridgeRule{bridgeRule("FORWARD_direct", "-p IPv6 -j DROP")}}
	refused("the chain for rules of one of the kernel's", first, &kernel.Bridge{}, named)
	var e *kernel.BridgeError
	if err := commit(first, &kernel.Bridge{}, named); !errors.As(err, &e) || e.AboutRule("FORWARD_direct", named.Rules[0].Args) == nil {
		t.Errorf("of a chain that nobody has asked for, the error is %v", err)
	}
}

// A rule for bridges that another program has, word for word like one of ours, stays when ours goes, whoever was first, over a reload and a
// start.
func TestBridgeRuleLikeThatOfAnotherProgram(t *testing.T) {
	ns, saved := bridges(t)
	store := &disk{}
	var left *kernel.Left
	commit := func(old, next *kernel.Bridge) {
		t.Helper()
		if _, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: left}, old, next); err != nil {
			t.Fatal(err)
		}
	}
	left = kernel.NewLeft(store, quietLog)
	commit(nil, &kernel.Bridge{})
	run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "IPv6", "-j", "DROP")
	run(t, ns, "", "ebtables", "-A", "INPUT", "-p", "ARP", "-j", "DROP")
	others := saved()
	next := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p IPv6 -j DROP")}, Commands: [][]string{strings.Fields("-A INPUT -p ARP -j DROP")}}
	for _, how := range []struct {
		name  string
		again bool
	}{{"a reload", false}, {"a start", true}} {
		for _, wanted := range []*kernel.Bridge{next, next, {}} {
			if how.again {
				left = kernel.NewLeft(store, quietLog)
			}
			commit(nil, wanted)
			if n, want := strings.Count(saved(), "-j DROP"), 2+len(wanted.Rules)+len(wanted.Commands); n != want {
				t.Errorf("behind %s there are %d rules and not %d:\n%s", how.name, n, want, saved())
			}
		}
		sameLines(t, others, saved())
	}
}

// Each line for ebtables that is refused is named with its own reason. Lines that are refused one behind the other take a trial each and
// few more. When the time for trials is over, those that are not known to be good are named, with that reason.
func TestManyRefusedBridgeRules(t *testing.T) {
	ns, saved := bridges(t)
	before := saved()
	path, err := exec.LookPath("ebtables-restore")
	if err != nil {
		t.Fatal(err)
	}
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "ebtables-restore")
	script := fmt.Sprintf("#!/bin/sh\necho >>%s/count\nexec %s \"$@\"\n", dir, link)
	if err := errors.Join(os.Symlink(path, link), os.WriteFile(filepath.Join(dir, "ebtables-restore"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	next := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p IPv4 -j ACCEPT")}}
	defer kernel.SetTrialTime(time.Hour)() // on a busy machine, too, all are tried
	const refused = 100
	for i := range refused {
		next.Rules = append(next.Rules, bridgeRule("FORWARD", fmt.Sprintf("-p nosuch%d -j DROP", i)))
	}
	next.Rules = append(next.Rules, bridgeRule("FORWARD", "-j nochain"), bridgeRule("FORWARD", "-p IPv6 -j ACCEPT"))
	named := func() *kernel.BridgeError {
		t.Helper()
		var e *kernel.BridgeError
		if _, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog}, nil, next); !errors.As(err, &e) {
			t.Fatalf("the error is %v", err)
		}
		sameLines(t, before, saved())
		return e
	}
	e := named()
	if len(e.Lines) != refused+1 {
		t.Errorf("%d lines are named", len(e.Lines))
	}
	for _, r := range next.Rules[1 : refused+1] {
		if line := e.AboutRule(r.Chain, r.Args); line == nil || line.Why == nil || !strings.Contains(line.Why.Error(), "("+r.Args[1]+")") && !strings.Contains(line.Why.Error(), "'"+r.Args[1]+"'") {
			t.Errorf("of %v is said %v", r, line)
		}
	}
	if line := e.AboutRule("FORWARD", []string{"-j", "nochain"}); line == nil || strings.Contains(line.Why.Error(), "nosuch") {
		t.Errorf("of the jump is said %v", line)
	}
	runs, err := os.ReadFile(filepath.Join(dir, "count"))
	if err != nil || len(runs) > 2*refused {
		t.Errorf("ebtables-restore has run %d times, %v", len(runs), err)
	}
	defer kernel.SetTrialTime(0)()
	if e = named(); len(e.Lines) != len(next.Rules) || !strings.Contains(e.Lines[0].Why.Error(), "no time") {
		t.Errorf("behind the time are named %v", e.Lines)
	}
}

// A check of rules for bridges says what a change would be refused for, and changes nothing, in the kernel and in the notes.
func TestCheckOfBridgeRules(t *testing.T) {
	ns, saved := bridges(t)
	store := &disk{}
	o := kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
	if _, err := kernel.CommitBridge(t.Context(), o, nil, earlierBridge); err != nil {
		t.Fatal(err)
	}
	run(t, ns, "", "ebtables", "-N", "theirs")
	before, notes := saved(), len(store.texts)
	for _, next := range []*kernel.Bridge{{}, earlierBridge, {Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p ARP -j DROP")}, Commands: earlierBridge.Commands[1:2]}} {
		if err := kernel.CheckBridge(t.Context(), o, next); err != nil {
			t.Errorf("%v gives %v", next, err)
		}
	}
	for _, next := range []*kernel.Bridge{
		{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p nosuch -j DROP")}},
		{Commands: [][]string{strings.Fields("-t nat -A PREROUTING -j nosuch")}},
		{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "theirs"}}},
	} {
		var e *kernel.BridgeError
		if err := kernel.CheckBridge(t.Context(), o, next); !errors.As(err, &e) || len(e.Lines) != 1 {
			t.Errorf("%v gives %v", next, err)
		}
	}
	sameLines(t, before, saved())
	if len(store.texts) != notes {
		t.Errorf("the notes are now %q", store.texts)
	}
}

// Where the note of an earlier process is lost, a start takes over a chain for bridges all of whose rules the configuration has, and an empty
// one. With another program's rule in it, it is refused.
func TestBridgeChainWithoutANote(t *testing.T) {
	ns, saved := bridges(t)
	next := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}, {Table: "filter", Chain: "empty"}},
		Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-p ARP -j mine"), bridgeRule("mine", "-p ARP -j DROP"), bridgeRule("mine", "-p IPv6 -j ACCEPT")}}
	start := func() error {
		_, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}, nil, next)
		return err
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	want := saved()
	if err := start(); err != nil {
		t.Fatal(err)
	}
	sameLines(t, want, saved())
	run(t, ns, "", "ebtables", "-A", "mine", "-p", "IPv4", "-j", "DROP")
	var e *kernel.BridgeError
	if err := start(); !errors.As(err, &e) || e.AboutChain("mine") == nil {
		t.Errorf("with a rule of another program it gives %v", err)
	}
}
