package kernel_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// nativeBridgeRules are rules of nftables in a table of ebtables that ebtables has no words for, as nativeRules are of iptables.
var nativeBridgeRules = map[string]string{"incompatible": "numgen random mod 5 1 counter", "unreadable": "meta skuid 4711 counter"}

// Rules for bridges go in and out, at a change, a reload and a start, beside a rule of nftables that ebtables cannot list; rules and chains
// of other programs stay, and a chain of another program that has the name of a direct one is refused.
func TestBridgeRulesBesideARuleOfNFTables(t *testing.T) {
	for kind, rule := range nativeBridgeRules {
		t.Run(kind, func(t *testing.T) {
			ns, saved := bridges(t)
			for _, words := range []string{"-N theirs", "-A theirs -p 0x1234 -j DROP", "-A FORWARD -j theirs", "-A INPUT -p IPv4 --ip-source 10.0.0.1 --ip-protocol tcp -j DROP"} {
				run(t, ns, "", "ebtables", strings.Fields(words)...)
			}
			before := saved()
			mine := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "mine"}},
				Rules:    []kernel.BridgeRule{bridgeRule("FORWARD", "-p 0x806 -j mine"), bridgeRule("FORWARD", "-p IPv4 --ip-source 10.0.0.2 -j DROP"), bridgeRule("mine", "-p 0x806 -j ACCEPT")},
				Commands: [][]string{strings.Fields("-A FORWARD -p 0x888e -j DROP"), strings.Fields("-N made"), strings.Fields("-A made -p 0x806 -j DROP")}}
			less := &kernel.Bridge{Chains: mine.Chains, Rules: mine.Rules[1:], Commands: mine.Commands[1:]}
			chains := []string{"bridge filter FORWARD", "bridge filter INPUT", "bridge filter theirs"}
			store := &disk{}
			left := kernel.NewLeft(store, quietLog)
			commit := func(old, next *kernel.Bridge) (string, error) {
				_, err := kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: left}, old, next)
				return saved(), err
			}
			with, err := commit(nil, mine)
			if err != nil {
				t.Fatal(err)
			}
			some, err := commit(mine, less)
			if err != nil {
				t.Fatal(err)
			}
			is := less
			for _, restart := range []bool{false, true} {
				for _, c := range []struct {
					next *kernel.Bridge
					want string
				}{{mine, with}, {less, some}, {&kernel.Bridge{}, before}, {mine, with}, {&kernel.Bridge{}, before}, {less, some}} {
					if restart {
						left, is = kernel.NewLeft(store, quietLog), nil
					}
					remove := native(t, ns, rule, chains...)
					_, err := commitBridges(t, ns, left, is, c.next)
					remove()
					if err != nil {
						t.Fatal(err)
					}
					sameLines(t, sortedLines(c.want), sortedLines(saved()))
					is = c.next
				}
			}
			remove := native(t, ns, rule, chains...)
			theirs := &kernel.Bridge{Chains: []kernel.BridgeChain{{Table: "filter", Chain: "theirs"}}}
			_, err = commitBridges(t, ns, kernel.NewLeft(&disk{}, quietLog), nil, theirs)
			remove()
			if err == nil || !strings.Contains(err.Error(), "theirs already") {
				t.Errorf("the chain of another program gives %v", err)
			}
			sameLines(t, sortedLines(some), sortedLines(saved()))
		})
	}
}

func commitBridges(t *testing.T, ns *lab.Namespace, left *kernel.Left, old, next *kernel.Bridge) (*kernel.Bridge, error) {
	t.Helper()
	return kernel.CommitBridge(t.Context(), kernel.Options{Enter: ns.Do, Log: quietLog, Left: left}, old, next)
}

// Rules for bridges of whatever extension, in chains with and without a policy of their own, go with the configuration beside a rule of
// nftables, and the rules of another program stay.
func TestBridgeRulesOfEveryExtensionGo(t *testing.T) {
	for kind, rule := range nativeBridgeRules {
		t.Run(kind, func(t *testing.T) {
			ns, saved := bridges(t)
			run(t, ns, "", "ebtables", "-N", "some", "-P", "DROP")
			run(t, ns, "", "ebtables", "-N", "other")
			run(t, ns, "", "ebtables", "-A", "some", "-p", "0x4711", "-j", "DROP")
			before := saved()
			var mine []kernel.BridgeRule
			for _, spec := range []string{"-p IPv4 --ip-source 10.0.0.1 --ip-protocol tcp --ip-destination-port 80 -j DROP", "-p ARP --arp-op Request -j ACCEPT", "-p ! ARP -j other",
				"-s 00:11:22:33:44:55 -i eth0 -j ACCEPT", "-p 0x8100 --vlan-id 5 -j DROP", "--mark 1 -j DROP", "--limit 5/sec -j ACCEPT", "-p IPv6 --ip6-source fd00::1 -j DROP", "--log --log-prefix x -j CONTINUE",
				"-p Length -j RETURN", "--pkttype-type broadcast -j DROP", "-j mark --mark-set 5", "-d BGA --stp-type 1 -j DROP"} {
				words := strings.Fields(spec)
				if _, err := ns.Run(t.Context(), "", "ebtables", append([]string{"-A", "some"}, words...)...); err != nil {
					t.Logf("ebtables does not take: %s", spec)
					continue
				}
				run(t, ns, "", "ebtables", append([]string{"-D", "some"}, words...)...)
				mine = append(mine, bridgeRule("some", spec))
			}
			if len(mine) < 5 {
				t.Fatalf("ebtables takes %d rules", len(mine))
			}
			store := &disk{}
			if _, err := commitBridges(t, ns, kernel.NewLeft(store, quietLog), &kernel.Bridge{}, &kernel.Bridge{Rules: mine}); err != nil {
				t.Fatal(err)
			}
			remove := native(t, ns, rule, "bridge filter some")
			if _, err := commitBridges(t, ns, kernel.NewLeft(store, quietLog), nil, &kernel.Bridge{}); err != nil {
				t.Fatal(err)
			}
			remove()
			sameLines(t, sortedLines(before), sortedLines(saved()))
		})
	}
}

// A chain of another program's, made by ebtables, ends in a rule that is its policy. A rule of nftables that is added later stands behind it,
// and ebtables counts the policy as a rule from then on. A rule of ours goes in and out all the same, by a change, by a stop and by the next
// start, and each rule of the other program stays. A map of nftables that leads to such a chain is seen.
func TestBridgeRulesBehindAPolicyInTheMiddle(t *testing.T) {
	accept, drop := strings.Fields("-A shop -s 00:a0:00:00:00:12 -j ACCEPT"), bridgeRule("shop", "-s 00:a0:00:00:00:13 -j DROP")
	for name, mine := range map[string]*kernel.Bridge{
		"appended": {Commands: [][]string{accept}},
		"first":    {Commands: [][]string{strings.Fields("-I shop -s 00:a0:00:00:00:12 -j ACCEPT")}},
		"rule":     {Rules: []kernel.BridgeRule{drop}},
		"both":     {Commands: [][]string{accept}, Rules: []kernel.BridgeRule{drop}},
	} {
		for _, policy := range []string{"ACCEPT", "DROP", "RETURN"} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " ", policy, " restart ", restart), func(t *testing.T) {
					ns, _ := bridges(t)
					run(t, ns, "", "ebtables", "-N", "shop", "-P", policy)
					run(t, ns, "", "ebtables", "-A", "shop", "-s", "00:f0:00:00:00:11", "-j", "DROP")
					for _, address := range []string{"12", "13"} {
						run(t, ns, "", "nft", "add", "rule", "bridge", "filter", "shop", "ether", "saddr", "00:f0:00:00:00:"+address, "numgen", "random", "mod", "5", "1", "counter", "drop")
					}
					store := &disk{}
					left := kernel.NewLeft(store, quietLog)
					if _, err := commitBridges(t, ns, left, &kernel.Bridge{}, mine); err != nil {
						t.Fatal(err)
					}
					is := mine
					if restart {
						left, is = kernel.NewLeft(store, quietLog), nil
					}
					if _, err := commitBridges(t, ns, left, is, &kernel.Bridge{}); err != nil {
						t.Fatal(err)
					}
					text := run(t, ns, "", "nft", "list", "chain", "bridge", "filter", "shop")
					for _, theirs := range []string{"00:f0:00:00:00:11", "00:f0:00:00:00:12", "00:f0:00:00:00:13"} {
						if !strings.Contains(text, theirs) {
							t.Errorf("the rule of another program for %s is gone:\n%s", theirs, text)
						}
					}
					if strings.Contains(text, "00:a0:") {
						t.Errorf("a rule of ours stays:\n%s", text)
					}
				})
			}
		}
	}
}

// In a chain with a policy that a rule of nftables stands behind, each rule is read, and nothing is taken for a map that leads to the chain.
func TestBridgeChainWithAPolicyInTheMiddle(t *testing.T) {
	for kind, rule := range nativeBridgeRules {
		t.Run(kind, func(t *testing.T) {
			ns, _ := bridges(t)
			run(t, ns, "", "ebtables", "-N", "shop")
			run(t, ns, "", "ebtables", "-A", "shop", "-s", "00:f0:00:00:00:11", "-j", "DROP")
			run(t, ns, "", "nft", "add", "rule", "bridge", "filter", "shop", "ether", "saddr", "00:f0:00:00:00:12", "counter", "drop")
			o := kernel.Options{Enter: ns.Do}
			want, err := kernel.ReadBridges(o, "filter")
			if err != nil || len(want["shop"]) != 3 {
				t.Fatalf("ebtables lists %q and %v", want["shop"], err)
			}
			run(t, ns, "", "nft", append([]string{"insert", "rule", "bridge", "filter", "shop"}, strings.Fields(rule)...)...)
			got, err := kernel.ReadBridges(o, "filter")
			if err != nil || len(got["shop"]) != len(want["shop"])+1 {
				t.Fatalf("beside a rule of nftables it reads %q and %v", got["shop"], err)
			}
			delete(got, "shop")
			delete(want, "shop")
			if !reflect.DeepEqual(got, want) {
				t.Errorf("elsewhere it reads %q, and before %q", got, want)
			}
		})
	}
}
