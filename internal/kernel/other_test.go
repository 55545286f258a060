package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// directLikeOurs are direct chains and rules that look like what rulesets with iptables are made of.
const directLikeOurs = `<chain ipv="ipv4" table="filter" chain="INPUT_dnat"/>
	<chain ipv="ipv4" table="filter" chain="IN_mine"/>
	<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j INPUT_dnat</rule>
	<rule ipv="ipv4" table="filter" chain="INPUT" priority="1">-j IN_mine</rule>
	<rule ipv="ipv4" table="filter" chain="INPUT" priority="2">-i lo -j ACCEPT</rule>
	<rule ipv="ipv4" table="filter" chain="INPUT_dnat" priority="0">-s 192.0.2.3 -j IN_mine</rule>
	<rule ipv="ipv4" table="filter" chain="IN_mine" priority="0">-s 192.0.2.2 -j DROP</rule>
	<rule ipv="ipv4" table="filter" chain="OUTPUT_direct" priority="0">-d 192.0.2.9 -j DROP</rule>`

// mix is the back end of a process, and the variants of the programs for IPv4 and IPv6.
type mix struct {
	backend ir.Backend
	v4, v6  string
}

func anyMix(r *rand.Rand) mix {
	pick := func() string { return []string{"nft", "legacy"}[r.IntN(2)] }
	return mix{[]ir.Backend{ir.NFTables, ir.IPTables}[r.IntN(2)], pick(), pick()}
}

// committed starts a process of a mix that commits some rules.
func (m mix) committed(t *testing.T, ns *lab.Namespace, store kernel.Store) (k kernel.Kernel, o kernel.Options, killed func()) {
	t.Helper()
	useVariants(t, m.v4, m.v6)
	k, o, killed = process(t, ns, m.backend, store)
	elements := ""
	if m.backend == ir.NFTables { // with iptables such names are those of the ruleset itself
		elements = directLikeOurs
	}
	commit(t, k, directly(t, m.backend, elements))
	return k, o, killed
}

// inForce is what of ours is in the kernel, where a mix has it.
func (m mix) inForce(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	text := sortedLines(saved(t, ns))
	if m.backend == ir.NFTables {
		text += run(t, ns, "", "nft", "list", "table", "inet", "firewalld")
	}
	return text
}

// Whatever the back end and the variants of iptables of a process that was killed, and whatever those of the next one, which need not be
// the same for IPv4 and IPv6: the rules of the next one stay all, and elsewhere nothing is left.
func TestRulesInForceStayWhereverTheyAre(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	mixes := [][2]mix{{{ir.IPTables, "legacy", "nft"}, {ir.IPTables, "nft", "legacy"}}, {{ir.IPTables, "nft", "legacy"}, {ir.NFTables, "nft", "legacy"}}}
	for range 4 {
		mixes = append(mixes, [2]mix{anyMix(random), anyMix(random)})
	}
	for _, m := range mixes {
		former, next := m[0], m[1]
		t.Run(fmt.Sprint(former, " then ", next), func(t *testing.T) {
			ns, fresh, store := namespace(t), namespace(t), &disk{}
			_, _, end := next.committed(t, fresh, &disk{})
			want := next.inForce(t, fresh)
			end()
			_, _, killed := former.committed(t, ns, store)
			killed()
			k, o, end := next.committed(t, ns, store)
			defer end()
			for range 2 {
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Fatal(err)
				}
				sameLines(t, want, next.inForce(t, ns))
			}
			useVariants(t, opposite[next.v4], opposite[next.v6])
			if former.backend == ir.IPTables || next.backend == ir.IPTables {
				if got := saved(t, ns); strings.Contains(got, "IN_public") {
					t.Errorf("there is left\n%s", got)
				}
			}
			if got := run(t, ns, "", "nft", "list", "tables", "inet"); strings.Contains(got, "inet firewalld") != (next.backend == ir.NFTables) {
				t.Errorf("the tables are\n%s", got)
			}
		})
	}
}

var opposite = map[string]string{"nft": "legacy", "legacy": "nft"}

// A program that does not say which variant it is has nothing taken out, be it one that fails once at any moment, or one that says
// something else. What an earlier process has left goes when it is asked again.
func TestVariantThatIsNotKnown(t *testing.T) {
	for _, answer := range []string{"exit 4", "echo busybox; exit 0"} {
		for i, program := range []string{"iptables", "ip6tables", "ip6tables-restore"} {
			t.Run(program+" "+answer, func(t *testing.T) {
				ns, store := namespace(t), &disk{}
				_, _, killed := mix{ir.NFTables, "nft", "nft"}.committed(t, ns, store)
				killed()
				variant := []string{"nft", "legacy"}[i%2]
				dir := useVariants(t, variant, variant)
				k, o, end := process(t, ns, ir.IPTables, store)
				defer end()
				commit(t, k, directly(t, ir.IPTables, ""))
				want := all(t, ns)
				path := filepath.Join(dir, program)
				real, err := os.Readlink(path)
				if err != nil {
					t.Fatal(err)
				}
				replace := func(script string) {
					t.Helper()
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				replace("#!/bin/sh\n[ \"$1\" = --version ] && { " + answer + "; }\nexec " + real + " \"$@\"\n")
				if err := kernel.RemoveOther(t.Context(), o, k); err == nil || !strings.Contains(err.Error(), "not known which variant "+program+" is") {
					t.Errorf("it gives %v", err)
				}
				sameLines(t, want, all(t, ns))
				replace("#!/bin/sh\nexec " + real + " \"$@\"\n")
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Error(err)
				}
				sameLines(t, strings.Replace(want, "table inet firewalld\n", "", 1), all(t, ns))
			})
		}
	}
}

// Rules that are not in the kernel yet have nothing taken out: what an earlier process has left is all there is.
func TestNothingGoesBeforeTheRulesAreThere(t *testing.T) {
	for _, former := range []ir.Backend{ir.NFTables, ir.IPTables} {
		ns, store := namespace(t), &disk{}
		_, _, killed := mix{former, "nft", "nft"}.committed(t, ns, store)
		killed()
		want := all(t, ns)
		for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
			k, o, end := process(t, ns, backend, store)
			if err := kernel.RemoveOther(t.Context(), o, k); err == nil {
				t.Errorf("with %s it is no error", backend)
			}
			sameLines(t, want, all(t, ns))
			end()
		}
	}
}

// A Kernel that has committed nothing when another one takes over leaves that one's direct rules alone, whatever their names.
func TestSuccessionOfOneThatHasCommittedNothing(t *testing.T) {
	variants(t, func(t *testing.T) {
		ns := namespace(t)
		former, o, end := process(t, ns, ir.IPTables, &disk{})
		defer end()
		o.Backend = ir.NFTables
		k := start(t, o)
		commit(t, k, directly(t, ir.NFTables, strings.ReplaceAll(directLikeOurs, "INPUT_dnat", "INPUT_dispatch")))
		want := all(t, ns)
		commit(t, former, &kernel.Desired{Succeeded: true})
		sameLines(t, want, all(t, ns))
		if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
			t.Error(err)
		}
		sameLines(t, want, all(t, ns))
	})
}

// Direct rules stay that lead to direct chains with the names of ours, and with them another program's rule beside them that looks like one
// of ours. So do those chains, also where an earlier process has left rules of its own that lead to chains of the same names.
func TestDirectChainsNamedLikeOurs(t *testing.T) {
	const theirs = "-m conntrack --ctstate INVALID -j DROP"
	for _, former := range []bool{false, true} {
		for _, name := range []string{"INPUT_dnat", "INPUT_dispatch"} {
			ns, store := namespace(t), &disk{}
			if former {
				_, _, killed := mix{ir.IPTables, "legacy", "legacy"}.committed(t, ns, store)
				killed()
			}
			useVariant(t, "legacy")
			k, o, end := process(t, ns, ir.NFTables, store)
			defer end()
			commit(t, k, directly(t, ir.NFTables, strings.ReplaceAll(directLikeOurs, "INPUT_dnat", name)))
			run(t, ns, "", "iptables", append([]string{"-I", "INPUT", "1"}, strings.Fields(theirs)...)...)
			before := saved(t, ns)
			if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
				t.Fatal(err)
			}
			after := saved(t, ns)
			if !former {
				sameLines(t, before, after)
			}
			for _, rule := range []string{"-A INPUT -j " + name, "-A INPUT -j IN_mine", "-A INPUT -i lo -j ACCEPT", "-A INPUT " + theirs,
				"-A " + name + " -s 192.0.2.3/32 -j IN_mine", "-A IN_mine -s 192.0.2.2/32 -j DROP", "-A OUTPUT -d 192.0.2.9/32 -j DROP"} {
				// Nothing tells another program's rule from one of the earlier process.
				if !strings.Contains(after, rule+"\n") && !(former && strings.HasSuffix(rule, theirs)) {
					t.Errorf("with an earlier process %v, and a chain %s, the rule %q has gone:\n%s", former, name, rule, after)
				}
			}
			if strings.Contains(after, "-j INPUT_direct\n") {
				t.Errorf("the rules of the earlier process are there:\n%s", after)
			}
		}
	}
}

// A process may be killed at any moment at which it switches panic mode on or off with iptables. What it has dropped by then is taken out by
// the next one, with another back end, too.
func TestPanicSwitchCutOff(t *testing.T) {
	real, err := exec.LookPath("iptables-restore")
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(t.TempDir(), "left") // how often iptables-restore works
	inPath(t, "iptables-restore", fmt.Sprintf(`case "$*" in *--test*) exec %[1]s "$@";; esac
n=$(cat %[2]s); [ "$n" -gt 0 ] || exit 1; echo $((n-1)) >%[2]s; exec %[1]s "$@"
`, real, left))
	const always = 1000
	allow := func(n int) { write(t, left, fmt.Sprint(n)) }
	for _, on := range []bool{true, false} {
		for n := range 4 { // tables of IPv4 that drop
			ns, store := namespace(t), &disk{}
			allow(always)
			k, _, killed := process(t, ns, ir.IPTables, store)
			rules := letsIn(t, ir.IPTables, "FirewallBackend=iptables\n")
			commit(t, k, &kernel.Desired{Rules: rules, Panic: !on})
			allow(n)
			if err := k.Commit(t.Context(), &kernel.Desired{Rules: rules, Panic: on}); err == nil {
				t.Fatalf("panic mode %v: behind %d tables the commit was not cut off", on, n)
			}
			dropping := func() bool { return strings.Contains(run(t, ns, "", "iptables-save"), " DROP [") }
			if n > 0 && !dropping() {
				t.Fatalf("panic mode %v: behind %d tables nothing drops", on, n)
			}
			killed()
			allow(always)
			next, o, end := process(t, ns, ir.NFTables, store)
			commit(t, next, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
			if err := kernel.RemoveOther(t.Context(), o, next); err != nil {
				t.Fatal(err)
			}
			if dropping() {
				t.Errorf("panic mode %v, cut off behind %d tables: there is left\n%s", on, n, run(t, ns, "", "iptables-save"))
			}
			end()
		}
	}
}
