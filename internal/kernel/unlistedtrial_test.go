package kernel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// dports is direct rules that accept what comes to some ports.
func dports(ports ...int) (elements string) {
	for _, port := range ports {
		elements += fmt.Sprintf(`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport %d -j ACCEPT</rule>`, port)
	}
	return elements
}

// chainOf is what nft lists of a chain, such as "ip filter INPUT".
func chainOf(t *testing.T, ns *lab.Namespace, chain string) string {
	t.Helper()
	return run(t, ns, "", "nft", append([]string{"list", "chain"}, strings.Fields(chain)...)...)
}

// once fails a test if a chain does not have each of some texts once.
func once(t *testing.T, listing string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if n := strings.Count(listing, text); n != 1 {
			t.Errorf("%q is there %d times:\n%s", text, n, listing)
		}
	}
}

// disturbed has another program empty the chain of trials of a family, as long as the test wants that, behind each run of some programs.
func disturbed(t *testing.T, family string, programs ...string) (disturb func(bool)) {
	t.Helper()
	dir, begun := t.TempDir(), filepath.Join(t.TempDir(), "begun")
	for _, program := range programs {
		path, err := findProgram(program)
		if err != nil {
			t.Skip(err)
		}
		script := fmt.Sprintf("#!/bin/sh\n%s \"$@\"\nrc=$?\ntest -e %s && nft flush chain %s filter %s 2>/dev/null\nexit $rc\n", path, begun, family, kernel.TrialChain)
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func(on bool) {
		t.Helper()
		os.Remove(begun)
		if on {
			if err := os.WriteFile(begun, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Another program empties the chain in which rules are tried, again and again, beside a rule of nftables that iptables cannot list. Direct rules
// that this process has put in go all the same, those that stay stand once, and the end takes out all.
func TestOwnRulesNeedNoTrial(t *testing.T) {
	unlisted(t, eitherBackend, func(t *testing.T, backend ir.Backend, rule string) {
		disturb := disturbed(t, "ip", "iptables-restore")
		ns := namespace(t)
		run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
		native(t, ns, rule, "ip filter INPUT")
		k := open(t, ns, backend)
		chain := map[ir.Backend]string{ir.NFTables: "ip filter INPUT", ir.IPTables: "ip filter INPUT_direct"}[backend]
		commit(t, k, directly(t, backend, dports(71, 72, 73)))
		disturb(true)
		commit(t, k, directly(t, backend, dports(71, 73)))
		once(t, chainOf(t, ns, chain), "dport 71", "dport 73")
		commit(t, k, directly(t, backend, dports(71, 73, 74, 75)))
		once(t, chainOf(t, ns, chain), "dport 71", "dport 73", "dport 74", "dport 75")
		commit(t, k, directly(t, backend, dports(75)))
		once(t, chainOf(t, ns, chain), "dport 75")
		commit(t, k, &kernel.Desired{})
		if text := chainOf(t, ns, "ip filter INPUT"); strings.Contains(text, "dport") || strings.Contains(text, "INPUT_direct") {
			t.Errorf("behind the end there is\n%s", text)
		}
	})
}

// A start beside a rule of nftables, that cannot find out whether rules of an earlier process are there, as another program empties the chain in which
// they are tried, is refused, and changes nothing. The rules stay noted; when the other program lets go, they are taken out.
func TestStartIsRefusedWhereTrialsAreDisturbed(t *testing.T) {
	unlisted(t, []ir.Backend{ir.NFTables}, func(t *testing.T, backend ir.Backend, rule string) {
		disturb := disturbed(t, "ip", "iptables-restore")
		ns, store := namespace(t), &disk{}
		run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
		native(t, ns, rule, "ip filter INPUT")
		k, _, killed := process(t, ns, backend, store)
		commit(t, k, directly(t, backend, dports(71, 72)))
		killed()
		before := chainOf(t, ns, "ip filter INPUT")
		k, _, killed = process(t, ns, backend, store)
		defer func() { killed() }()
		disturb(true)
		for _, next := range []*kernel.Desired{directly(t, backend, dports(72, 73)), directly(t, backend, "")} {
			if err := k.Commit(t.Context(), next); err == nil || !strings.Contains(err.Error(), "firewalld_guard_trial") {
				t.Fatalf("the commit gives %v", err)
			}
			sameLines(t, before, chainOf(t, ns, "ip filter INPUT"))
		}
		killed()
		k, _, killed = process(t, ns, backend, store)
		disturb(false)
		commit(t, k, directly(t, backend, dports(72, 73)))
		text := chainOf(t, ns, "ip filter INPUT")
		once(t, text, "dport 72", "dport 73")
		if strings.Contains(text, "dport 71") {
			t.Errorf("there is\n%s", text)
		}
	})
}

// A rule of another program that is made of the same as a direct rule, and stands before it, stays when the direct rule goes, and when that has
// gone already.
func TestRuleOfAnotherProgramMadeOfTheSame(t *testing.T) {
	unlisted(t, []ir.Backend{ir.NFTables}, func(t *testing.T, backend ir.Backend, rule string) {
		for _, theirs := range []string{"tcp dport 71 drop", "tcp dport 71 counter drop"} {
			for _, gone := range []bool{false, true} {
				ns := namespace(t)
				k := open(t, ns, backend)
				commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 71 -j DROP</rule>`))
				if gone {
					run(t, ns, "", "iptables", "-D", "INPUT", "-p", "tcp", "--dport", "71", "-j", "DROP")
				}
				native(t, ns, rule, "ip filter INPUT")
				made := ruleMade.FindStringSubmatch(run(t, ns, "insert rule ip filter INPUT "+theirs+"\n", "nft", "--echo", "--handle", "-f", "-"))
				commit(t, k, directly(t, backend, ""))
				text := run(t, ns, "", "nft", "-a", "list", "chain", "ip", "filter", "INPUT")
				once(t, text, "dport 71", "handle "+made[2]+"\n")
			}
		}
	})
}

// A start takes no rule for one of an earlier process that another program has made of the same, but without a counter: iptables makes none
// such.
func TestRuleWithoutCounterIsAnotherPrograms(t *testing.T) {
	unlisted(t, []ir.Backend{ir.NFTables}, func(t *testing.T, backend ir.Backend, rule string) {
		for _, spec := range []string{"-p tcp --dport 71 -j DROP", "-j DROP"} {
			ns, store := namespace(t), &disk{}
			k, _, killed := process(t, ns, backend, store)
			commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">`+spec+`</rule>`))
			killed()
			native(t, ns, rule, "ip filter INPUT")
			theirs := map[bool]string{true: "tcp dport 71 drop", false: "drop"}[strings.Contains(spec, "71")]
			made := ruleMade.FindStringSubmatch(run(t, ns, "insert rule ip filter INPUT "+theirs+"\n", "nft", "--echo", "--handle", "-f", "-"))
			k, _, killed = process(t, ns, backend, store)
			commit(t, k, directly(t, backend, ""))
			killed()
			once(t, run(t, ns, "", "nft", "-a", "list", "chain", "ip", "filter", "INPUT"), "drop # handle", "handle "+made[2]+"\n")
		}
	})
}

// noHost has the tools refuse rules with a host after some seconds, as where no name server answers, once it is called.
func noHost(t *testing.T) (silence func()) {
	t.Helper()
	dir, silent := t.TempDir(), filepath.Join(t.TempDir(), "silent")
	for _, program := range toolsOfIPTables {
		path, err := findProgram(program)
		if err != nil {
			t.Skip(err)
		}
		script := fmt.Sprintf(`#!/bin/sh
case $(basename $0) in *-restore) ;; *)
	case $* in *"-C firewalld_guard_trial"*slow.example*)
		test -e %[2]s || exit 1
		sleep 6; echo "host/network slow.example not found" >&2; exit 2;;
	esac
	exec %[1]s "$@";;
esac
in=$(cat; echo .); in=${in%%.}
case $in in *slow.example*)
	if test -e %[2]s; then sleep 6; echo "host/network slow.example not found" >&2; exit 2; fi;;
esac
printf %%s "$in" | sed 's/slow\.example/%[3]s/g' | %[1]s "$@"
`, path, silent, "10.9.9.9")
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() {
		if err := os.WriteFile(silent, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A direct rule has a host whose name can no longer be looked up. Other direct rules change, it goes, and the end comes, and nobody asks for the
// host again, with a rule of nftables beside it and without.
func TestHostThatIsNotFoundAnyMore(t *testing.T) {
	const host = `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s slow.example -j ACCEPT</rule>`
	for _, rule := range []string{"", nativeRules["incompatible"], nativeRules["unreadable"]} {
		for _, restart := range []bool{false, true} {
			for _, end := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s restart %v end %v", rule, restart, end), func(t *testing.T) {
					useVariant(t, "nft")
					silence := noHost(t)
					ns, store := namespace(t), &disk{}
					run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
					if rule != "" {
						native(t, ns, rule, "ip filter INPUT")
					}
					k, _, killed := process(t, ns, ir.NFTables, store)
					defer func() { killed() }()
					commit(t, k, directly(t, ir.NFTables, host+dports(77, 78)))
					if restart {
						killed()
						k, _, killed = process(t, ns, ir.NFTables, store)
						commit(t, k, directly(t, ir.NFTables, host+dports(77, 78)))
					}
					silence()
					begun := time.Now()
					if !end {
						commit(t, k, directly(t, ir.NFTables, host+dports(78)))
						text := chainOf(t, ns, "ip filter INPUT")
						once(t, text, "10.9.9.9", "dport 78")
						commit(t, k, directly(t, ir.NFTables, dports(78)))
						once(t, chainOf(t, ns, "ip filter INPUT"), "dport 78")
					}
					commit(t, k, &kernel.Desired{})
					if took := time.Since(begun); took > 5*time.Second {
						t.Errorf("it took %v", took)
					}
					if text := chainOf(t, ns, "ip filter INPUT"); strings.Contains(text, "10.9.9.9") || strings.Contains(text, "dport") {
						t.Errorf("there is\n%s", text)
					}
				})
			}
		}
	}
}

// A process was killed while it tried rules, beside a rule of nftables or not. The next start takes out the chain of the trial, and all rules of
// the process, with either back end.
func TestStartBesideATrialThatWasKilled(t *testing.T) {
	for _, rule := range []string{"", nativeRules["incompatible"], nativeRules["unreadable"]} {
		for _, backend := range eitherBackend {
			t.Run(rule+" "+string(backend), func(t *testing.T) {
				useVariant(t, "nft")
				ns, store := namespace(t), &disk{}
				run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
				k, _, killed := process(t, ns, ir.IPTables, store)
				commit(t, k, directly(t, ir.IPTables, shopless))
				killed()
				run(t, ns, "*filter\n:firewalld_guard_trial_0a1b2c - [0:0]\n-A firewalld_guard_trial_0a1b2c -j ACCEPT\nCOMMIT\n", "iptables-restore", "--noflush")
				remove := func() {}
				if rule != "" {
					remove = native(t, ns, rule, "ip filter INPUT")
				}
				k, o, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, store)
				commit(t, k, directly(t, backend, dports(71)+shopless))
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(log.String(), "level=ERROR") {
					t.Errorf("the log says\n%s", log)
				}
				commit(t, k, &kernel.Desired{})
				remove()
				if text := saved(t, ns); strings.Count(text, "-A ") != 1 || strings.Contains(text, "trial") {
					t.Errorf("there is\n%s", text)
				}
			})
		}
	}
}

const shopless = `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.9.0.3 -j ACCEPT</rule>
	<passthrough ipv="ipv4">-A FORWARD -s 10.9.0.2 -j ACCEPT</passthrough>`

// Another program empties the chain in which rules for bridges are tried, again and again, beside a rule that ebtables cannot list. Rules that this
// process has put in go all the same, and none is put in twice. A start cannot find out which rules an earlier process has left: it is refused,
// changes nothing, and they stay noted; when the other program lets go, they are taken out. The log names the table once.
func TestBridgeRulesWhereTrialsAreDisturbed(t *testing.T) {
	for kind, rule := range nativeBridgeRules {
		t.Run(kind, func(t *testing.T) {
			disturb := disturbed(t, "bridge", "ebtables-restore")
			ns, _ := bridges(t)
			run(t, ns, "", "ebtables", "-A", "FORWARD", "-p", "ARP", "-j", "ACCEPT")
			native(t, ns, rule, "bridge filter FORWARD")
			store := &disk{}
			logger, log := kernel.Logged()
			of := func(hosts ...string) *kernel.Bridge {
				b := &kernel.Bridge{Commands: [][]string{strings.Fields("-A FORWARD -s 02:00:00:00:00:21 -j DROP")}}
				for _, h := range hosts {
					b.Rules = append(b.Rules, bridgeRule("FORWARD", "-s 02:00:00:00:00:"+h+" -j DROP"))
				}
				return b
			}
			var is *kernel.Bridge
			o := kernel.Options{Enter: ns.Do, Log: logger, Left: kernel.NewLeft(store, logger)}
			commit := func(next *kernel.Bridge) {
				t.Helper()
				if _, err := kernel.CommitBridge(t.Context(), o, is, next); err != nil {
					t.Fatal(err)
				}
				is = next
			}
			commit(of("11", "12", "13"))
			disturb(true)
			commit(of("11", "13"))
			commit(of("11", "13", "14"))
			once(t, chainOf(t, ns, "bridge filter FORWARD"), ":11", ":13", ":14", ":21")
			commit(&kernel.Bridge{})
			if text := chainOf(t, ns, "bridge filter FORWARD"); strings.Contains(text, "02:00") {
				t.Errorf("there is\n%s", text)
			}
			commit(of("11", "12"))
			before := chainOf(t, ns, "bridge filter FORWARD")
			for range 2 {
				if _, err := commitBridges(t, ns, kernel.NewLeft(store, quietLog), nil, of("11")); err == nil || !strings.Contains(err.Error(), "firewalld_guard_trial") {
					t.Fatalf("the start gives %v", err)
				}
				sameLines(t, before, chainOf(t, ns, "bridge filter FORWARD"))
			}
			disturb(false)
			if n := strings.Count(log.String(), "nft list table bridge filter"); n != 1 {
				t.Errorf("the log names the table %d times:\n%s", n, log.String())
			}
			if _, err := commitBridges(t, ns, kernel.NewLeft(store, quietLog), nil, of("11")); err != nil {
				t.Fatal(err)
			}
			text := chainOf(t, ns, "bridge filter FORWARD")
			once(t, text, ":11", ":21")
			if strings.Contains(text, ":12") {
				t.Errorf("there is\n%s", text)
			}
		})
	}
}

// A rule of another program that is made of the same as a rule of ours for bridges, and stands before it, stays when ours goes.
func TestBridgeRuleOfAnotherProgramMadeOfTheSame(t *testing.T) {
	ns, _ := bridges(t)
	mine := &kernel.Bridge{Rules: []kernel.BridgeRule{bridgeRule("FORWARD", "-s 02:00:00:00:00:11 -j DROP")}}
	left := kernel.NewLeft(&disk{}, quietLog)
	if _, err := commitBridges(t, ns, left, nil, mine); err != nil {
		t.Fatal(err)
	}
	native(t, ns, nativeBridgeRules["incompatible"], "bridge filter FORWARD")
	made := ruleMade.FindStringSubmatch(run(t, ns, "insert rule bridge filter FORWARD ether saddr 02:00:00:00:00:11 counter drop\n", "nft", "--echo", "--handle", "-f", "-"))
	if _, err := commitBridges(t, ns, left, mine, &kernel.Bridge{}); err != nil {
		t.Fatal(err)
	}
	once(t, run(t, ns, "", "nft", "-a", "list", "chain", "bridge", "filter", "FORWARD"), ":11", "handle "+made[2]+"\n")
}

// A rule of an earlier process has a host of two addresses, which is not found any more, so that it cannot be told which rules those are. A start
// without it leaves them, as they are, says so, and keeps them noted: the first start that finds the host takes them out.
func TestRuleOfAHostThatIsNotFoundStaysNoted(t *testing.T) {
	const spec = "-s two.example -p tcp -j ACCEPT"
	for _, rule := range []string{"", nativeRules["incompatible"], nativeRules["unreadable"]} {
		t.Run(rule, func(t *testing.T) {
			useVariant(t, "nft")
			dir, known := t.TempDir(), filepath.Join(t.TempDir(), "known")
			path, err := findProgram("iptables-restore")
			if err != nil {
				t.Skip(err)
			}
			write(t, filepath.Join(dir, "iptables-restore"), fmt.Sprintf("#!/bin/sh\ntest -e %s || exec %s \"$@\"\nsed s/two.example/10.9.9.1,10.9.9.2/g | %[2]s \"$@\"\n", known, path))
			if err := os.Chmod(filepath.Join(dir, "iptables-restore"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			ns, store := namespace(t), noteOf(spec)
			for _, address := range []string{"10.9.9.1", "10.9.9.2"} {
				run(t, ns, "", "iptables", "-A", "INPUT", "-s", address, "-p", "tcp", "-j", "ACCEPT")
			}
			if rule != "" {
				native(t, ns, rule, "ip filter INPUT")
			}
			k, _, log := hearing(t, kernel.Options{Backend: ir.NFTables, Enter: ns.Do}, store)
			commit(t, k, directly(t, ir.NFTables, dports(77)))
			k.Close()
			once(t, chainOf(t, ns, "ip filter INPUT"), "10.9.9.1", "10.9.9.2", "dport 77")
			if noted := store.texts[len(store.texts)-1]; !strings.Contains(noted, "two.example") || !strings.Contains(log.String(), "stay") && !strings.Contains(log.String(), "count as another program's") {
				t.Errorf("noted is %s, and the log says\n%s", noted, log)
			}
			write(t, known, "")
			k, _, killed := process(t, ns, ir.NFTables, store)
			defer killed()
			commit(t, k, directly(t, ir.NFTables, dports(77)))
			text := chainOf(t, ns, "ip filter INPUT")
			once(t, text, "dport 77")
			if strings.Contains(text, "10.9.9") {
				t.Errorf("there is\n%s", text)
			}
		})
	}
}
