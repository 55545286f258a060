package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// directly is what a configuration with some elements of direct.xml asks of a back end.
func directly(t *testing.T, backend ir.Backend, elements string) *kernel.Desired {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/direct.xml", "<direct>"+elements+"</direct>")
	return desiredOf(t, dir, backend)
}

// desiredOf is the rules of the configuration in a folder.
func desiredOf(t *testing.T, dir string, backend ir.Backend) *kernel.Desired {
	t.Helper()
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	rs, err := compile.Compile(cfg, backend)
	if err != nil {
		t.Fatal(err)
	}
	d := &kernel.Desired{Rules: rs}
	if backend == ir.NFTables {
		if d.Direct, err = compile.Direct(cfg); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// docker makes the chains of a program that publishes ports of containers, with IPv4 and IPv6.
func docker(t *testing.T, ns *lab.Namespace) {
	t.Helper()
	for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
		run(t, ns, `*nat
:DOCKER - [0:0]
-A PREROUTING -j DOCKER
-A DOCKER -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80
COMMIT
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -p udp -j DROP
-A DOCKER-USER -j RETURN
COMMIT
`, program, "--noflush")
	}
}

// chain is the rules of a chain of both families' tables, without the chain's name.
func chain(t *testing.T, ns *lab.Namespace, table, name string) string {
	t.Helper()
	var b strings.Builder
	for _, program := range []string{"iptables", "ip6tables"} {
		for line := range strings.Lines(run(t, ns, "", program, "-t", table, "-S", name)) {
			if rule, ok := strings.CutPrefix(line, "-A "+name+" "); ok {
				b.WriteString(rule)
			}
		}
	}
	return b.String()
}

const (
	intoDocker = `<rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="1">-s 10.0.0.1 -p tcp --dport 22 -j ACCEPT</rule>
		<rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="0">-s 10.0.0.0/8 -j ACCEPT</rule>
		<passthrough ipv="ipv4">-t nat -A DOCKER -p tcp --dport 8081 -j REDIRECT --to-ports 80</passthrough>
		<passthrough ipv="ipv6">-I DOCKER-USER -s fd00::1 -j ACCEPT</passthrough>`
	dockerWithOurs = `-s 10.0.0.0/8 -j ACCEPT
-s 10.0.0.1/32 -p tcp -m tcp --dport 22 -j ACCEPT
-p udp -j DROP
-j RETURN
-s fd00::1/128 -j ACCEPT
-p udp -j DROP
-j RETURN
`
	dockerAlone = "-p udp -j DROP\n-j RETURN\n-p udp -j DROP\n-j RETURN\n"
	published   = "-p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80\n"
)

// Direct rules in another program's chains stand beside the rules that it has there: at the start, after changes here and there,
// after the next start of a process that was killed, and they go by themselves.
func TestDirectRulesInForeignChains(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		docker(t, ns)
		before := saved(t, ns)
		k := open(t, ns, backend)
		commit(t, k, directly(t, backend, intoDocker))
		sameLines(t, dockerWithOurs, chain(t, ns, "filter", "DOCKER-USER"))
		sameLines(t, published+"-p tcp -m tcp --dport 8081 -j REDIRECT --to-ports 80\n"+published, chain(t, ns, "nat", "DOCKER"))

		commit(t, k, directly(t, backend, intoDocker+`<passthrough ipv="ipv4">-A INPUT -s 10.9.9.9 -j DROP</passthrough>`))
		run(t, ns, "", "iptables", "-I", "DOCKER-USER", "-p", "icmp", "-j", "DROP")
		commit(t, k, directly(t, backend, intoDocker+`<rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="2">-s 10.0.0.3 -j DROP</rule>`))
		want := "-p icmp -j DROP\n" + strings.Replace(dockerWithOurs, "-p udp", "-s 10.0.0.3/32 -j DROP\n-p udp", 1)
		sameLines(t, want, chain(t, ns, "filter", "DOCKER-USER"))
		commit(t, k, directly(t, backend, intoDocker))
		run(t, ns, "", "iptables", "-D", "DOCKER-USER", "-p", "icmp", "-j", "DROP")
		sameLines(t, dockerWithOurs, chain(t, ns, "filter", "DOCKER-USER"))

		if err := k.Close(); err != nil { // as if it had been killed
			t.Fatal(err)
		}
		k = open(t, ns, backend)
		commit(t, k, directly(t, backend, intoDocker))
		sameLines(t, dockerWithOurs, chain(t, ns, "filter", "DOCKER-USER"))
		run(t, ns, "", "iptables", "-I", "DOCKER-USER", "2", "-p", "icmp", "-j", "DROP")
		commit(t, k, directly(t, backend, intoDocker+`<passthrough ipv="ipv4">-I DOCKER-USER 9 -s 10.0.0.9 -j DROP</passthrough>`))
		want = strings.Replace(strings.Replace(dockerWithOurs, "ACCEPT\n", "ACCEPT\n-p icmp -j DROP\n", 1), "RETURN\n", "RETURN\n-s 10.0.0.9/32 -j DROP\n", 1)
		sameLines(t, want, chain(t, ns, "filter", "DOCKER-USER"))
		run(t, ns, "", "iptables", "-D", "DOCKER-USER", "-p", "icmp", "-j", "DROP")
		commit(t, k, &kernel.Desired{})
		sameLines(t, before, saved(t, ns))
	})
}

// When another program takes away a direct rule from its own chain, that is put back, and all that it has there stays.
func TestForeignChainsAreRepaired(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		docker(t, ns)
		w := watch(t, ns, backend)
		desired := directly(t, backend, intoDocker)
		commit(t, w, desired)
		run(t, ns, "", "iptables", "-I", "DOCKER-USER", "-p", "icmp", "-j", "DROP")
		run(t, ns, "", "iptables", "-D", "DOCKER-USER", "-s", "10.0.0.0/8", "-j", "ACCEPT")
		if f := w.next(t); !strings.Contains(strings.Join(f.Changes, "; "), "table filter, chain DOCKER-USER: 1 rule removed") {
			t.Errorf("reported is %q", f.Changes)
		}
		commit(t, w, desired)
		got := chain(t, ns, "filter", "DOCKER-USER")
		for _, rule := range []string{"-p icmp -j DROP\n", "-s 10.0.0.0/8 -j ACCEPT\n-s 10.0.0.1/32", "-p udp -j DROP\n-j RETURN\n-s fd00"} {
			if strings.Count(got, rule) != 1 {
				t.Errorf("%q is not there once:\n%s", rule, got)
			}
		}
		w.none(t)
	})
}

// At a start a chain that another program may make later is made, with a warning, and goes again when nobody else uses it. In a
// running firewall a rule for a chain that is not there is refused, as is a chain that another program has.
func TestMissingChains(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		logger, log := kernel.Logged()
		k := start(t, kernel.Options{Backend: backend, Enter: ns.Do, Log: logger})
		first := `<rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="1">-s 10.0.0.1 -j ACCEPT</rule>`
		commit(t, k, directly(t, backend, first))
		if said := log.String(); !strings.Contains(said, "chain=DOCKER-USER") || strings.Count(said, "was made") != 1 || !strings.Contains(said, "direct.xml:1") {
			t.Errorf("the log says\n%s", said)
		}
		run(t, ns, "", "iptables", "-A", "DOCKER-USER", "-j", "RETURN")
		before := saved(t, ns)
		for _, more := range []string{
			`<rule ipv="ipv4" table="filter" chain="NOSUCH" priority="0">-j ACCEPT</rule>`,
			`<passthrough ipv="ipv4">-A NOSUCH -j ACCEPT</passthrough>`,
		} {
			if err := k.Commit(t.Context(), directly(t, backend, first+more)); err == nil || !strings.Contains(err.Error(), "chain NOSUCH") {
				t.Errorf("with %s: %v", more, err)
			}
		}
		run(t, ns, "", "iptables", "-N", "THEIRS")
		if err := k.Commit(t.Context(), directly(t, backend, first+`<chain ipv="ipv4" table="filter" chain="THEIRS"/>`)); err == nil {
			t.Error("another program's chain becomes one of ours")
		}
		run(t, ns, "", "iptables", "-X", "THEIRS")
		sameLines(t, before, saved(t, ns))
		commit(t, k, directly(t, backend, ""))
		sameLines(t, "-j RETURN\n", strings.ReplaceAll(run(t, ns, "", "iptables", "-S", "DOCKER-USER"), "-N DOCKER-USER\n-A DOCKER-USER ", ""))

		fresh := namespace(t)
		k = open(t, fresh, backend)
		unknown := directly(t, backend, first)
		unknown.Awaits = func(table, chain string, _ bool) bool { return table != "filter" || chain != "DOCKER-USER" }
		var refused *kernel.RuleError
		if err := k.Commit(t.Context(), unknown); !errors.As(err, &refused) || refused.Origin == nil || refused.Origin.Line != 1 {
			t.Errorf("a chain that nobody knows is made at the start: %v", err)
		}
		commit(t, k, directly(t, backend, first))
		commit(t, k, directly(t, backend, ""))
		if got := run(t, fresh, "", "iptables", "-S"); strings.Contains(got, "DOCKER-USER") {
			t.Errorf("the chain is still there:\n%s", got)
		}
	})
}

// A check finds what a commit to a running firewall would refuse of the direct rules, and names the line. It changes nothing.
func TestCheckOfDirectRules(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		const good = `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.1 -j DROP</rule>`
		for _, first := range []string{"", good} {
			ns := namespace(t)
			k := open(t, ns, backend)
			commit(t, k, directly(t, backend, first))
			before := saved(t, ns) + run(t, ns, "", "nft", "list", "ruleset")
			for _, bad := range []string{
				`<rule ipv="ipv4" table="filter" chain="INPUT" priority="1">-j DRIP</rule>`,
				`<rule ipv="ipv4" table="filter" chain="NOSUCH" priority="0">-j ACCEPT</rule>`,
				`<passthrough ipv="ipv4">-A NOSUCH -j ACCEPT</passthrough>`,
				`<passthrough ipv="ipv6">-A INPUT -j DRIP</passthrough>`,
				`<rule ipv="ipv4" table="filter" chain="INPUT" priority="1">-p tcp --dport 5 --jump DRIP</rule>`,
				`<rule ipv="ipv4" table="filter" chain="INPUT" priority="1">-p tcp --dport 5 --goto DRIP</rule>`,
			} {
				var refused *kernel.RuleError
				if err := k.Check(directly(t, backend, good+bad)); !errors.As(err, &refused) || refused.Origin == nil || refused.Origin.Line != 1 {
					t.Errorf("a check of %s: %v", bad, err)
				}
			}
			right := good + `<chain ipv="ipv4" table="filter" chain="mine"/><rule ipv="ipv4" table="filter" chain="INPUT" priority="1">-j mine</rule>` +
				`<rule ipv="ipv4" table="filter" chain="INPUT" priority="2">-j NFLOG --nflog-group 1</rule>` +
				`<rule ipv="ipv4" table="filter" chain="INPUT" priority="3">-m comment --comment "see -j DRIP or so" -j ACCEPT</rule>`
			if err := k.Check(directly(t, backend, right)); err != nil {
				t.Errorf("a check of what is right: %v", err)
			}
			sameLines(t, before, saved(t, ns)+run(t, ns, "", "nft", "list", "ruleset"))
			commit(t, k, directly(t, backend, right))
		}
	})
}

// A check of many direct rules that lead nowhere asks about all of them at once, and names them all, and no rule that leads to a chain or a target.
func TestCheckOfManyDirectRules(t *testing.T) {
	useVariant(t, "nft") // the other one names a rule at a time
	ns, dir := namespace(t), t.TempDir()
	const right = "ACCEPT DROP RETURN REJECT LOG NFLOG theirs mine"
	run(t, ns, "", "iptables", "-N", "theirs")
	text := `<chain ipv="ipv4" table="filter" chain="mine"/>`
	for i := range 300 {
		text += fmt.Sprintf(`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j nosuch%d</rule>`, i)
	}
	for _, name := range strings.Fields(right) {
		text += fmt.Sprintf(`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j %s</rule>`, name)
	}
	d := directly(t, ir.NFTables, text)
	k := open(t, ns, ir.NFTables)
	runs := filepath.Join(dir, "runs")
	path, err := exec.LookPath("iptables-restore")
	if err != nil {
		t.Fatal(err)
	}
	inPath(t, "iptables-restore", fmt.Sprintf("echo >>%s\nexec %s \"$@\"\n", runs, path))
	err = k.Check(d)
	if err == nil || strings.Count(err.Error(), "there is no target and no chain nosuch") != 300 || strings.Count(err.Error(), "\n") != 299 {
		t.Errorf("the check says %v", err)
	}
	said, err := os.ReadFile(runs)
	if err != nil || len(said) > 60 { // it halves the list for each of the targets
		t.Errorf("iptables-restore has run %d times, %v", len(said), err)
	}
}

// A check ends when its time is over, though a program of iptables does not, and then knows of nothing wrong.
func TestCheckEnds(t *testing.T) {
	defer kernel.SetCheckTime(time.Second)()
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	inPath(t, "iptables-restore", "exec sleep 1000\n")
	if err := k.Check(directly(t, ir.IPTables, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j ACCEPT</rule>`)); err != nil {
		t.Error(err)
	}
}

// inPath makes a script of sh the program of some name.
func inPath(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// A start refuses a direct chain that another program has made, as a reload does, and leaves it as it is: where it is known what an earlier
// process has made, whatever is in the chain, and else if rules are in it.
func TestDirectChainOfAnotherProgramAtAStart(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		const chain = `<chain ipv="ipv4" table="filter" chain="OTHER"/><rule ipv="ipv4" table="filter" chain="OTHER" priority="0">-s 10.3.3.4 -j DROP</rule>`
		for _, noted := range []bool{false, true} {
			ns, store := namespace(t), &disk{}
			if noted {
				k, _, killed := process(t, ns, backend, store)
				commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.0.0.1 -j DROP</rule>`))
				killed()
			}
			run(t, ns, "*filter\n:OTHER - [0:0]\n-A OTHER -s 10.3.3.3/32 -j DROP\n-A FORWARD -j OTHER\nCOMMIT\n", "iptables-restore", "--noflush")
			before := saved(t, ns)
			k, _, killed := process(t, ns, backend, store)
			var taken *kernel.TakenError
			if err := k.Commit(t.Context(), directly(t, backend, chain)); !errors.As(err, &taken) || *taken != (kernel.TakenError{Tool: "iptables", Table: "filter", Chain: "OTHER"}) {
				t.Errorf("with notes %v it gives %v", noted, err)
			}
			sameLines(t, before, saved(t, ns))
			killed()
		}
	})
}

// A start whose first attempt is refused takes no rule of another program for its own at the next one.
func TestRuleLikeThatOfAnotherProgramBehindARefusal(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		const rule = `<rule ipv="ipv4" table="filter" chain="theirs" priority="0">-s 10.3.3.5/32 -j DROP</rule>`
		ns, store := namespace(t), &disk{}
		k, _, killed := process(t, ns, backend, store)
		commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.0.0.1 -j DROP</rule>`))
		killed()
		run(t, ns, "*filter\n:theirs - [0:0]\n-A theirs -s 10.3.3.5/32 -j DROP\nCOMMIT\n", "iptables-restore", "--noflush")
		k, _, killed = process(t, ns, backend, store)
		if err := k.Commit(t.Context(), directly(t, backend, rule+`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j NOSUCH</rule>`)); err == nil {
			t.Fatal("a rule that leads nowhere is accepted")
		}
		killed()
		k, _, killed = process(t, ns, backend, store)
		defer killed()
		for _, c := range []struct {
			elements string
			want     int
		}{{rule, 2}, {"", 1}} {
			commit(t, k, directly(t, backend, c.elements))
			if got := saved(t, ns); strings.Count(got, "-A theirs -s 10.3.3.5/32 -j DROP") != c.want {
				t.Errorf("with %q there is\n%s", c.elements, got)
			}
		}
	})
}

// Where the note of an earlier process is lost, as behind firewalld itself, a start takes over a direct chain all of whose rules the
// configuration has, and an empty one. With another program's rule in it, it is refused.
func TestDirectChainWithoutANote(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		const elements = `<chain ipv="ipv4" table="filter" chain="mine"/><chain ipv="ipv4" table="filter" chain="empty"/>` +
			`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 203.0.113.9 -j mine</rule>` +
			`<rule ipv="ipv4" table="filter" chain="mine" priority="0">-p tcp --dport 25 -j REJECT</rule>` +
			`<rule ipv="ipv4" table="filter" chain="mine" priority="1">-m comment --comment "two words" -j DROP</rule>`
		ns := namespace(t)
		k, _, killed := process(t, ns, backend, &disk{})
		commit(t, k, directly(t, backend, elements))
		want := saved(t, ns)
		killed()
		k, _, killed = process(t, ns, backend, &disk{})
		commit(t, k, directly(t, backend, elements))
		sameLines(t, want, saved(t, ns))
		killed()
		run(t, ns, "", "iptables", "-A", "mine", "-p", "udp", "--dport", "25", "-j", "REJECT")
		k, _, killed = process(t, ns, backend, &disk{})
		defer killed()
		var taken *kernel.TakenError
		if err := k.Commit(t.Context(), directly(t, backend, elements)); !errors.As(err, &taken) || taken.Chain != "mine" {
			t.Errorf("with a rule of another program it gives %v", err)
		}
	})
}
