package kernel_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// newLab is a lab whose firewall has no rules yet.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	kernel.Needs(t, tableTools...)
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// arrive says which of some TCP ports packets get to, from the client: on the firewall, through it to the server, and from the
// firewall to the server, each with IPv4 and IPv6.
func arrive(t *testing.T, l *lab.Lab, ports ...int) map[string]bool {
	t.Helper()
	var probes []lab.Probe
	var names []string
	for _, port := range ports {
		for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
			for _, way := range []struct {
				name     string
				from, to lab.Host
			}{{"in", lab.Client, lab.FirewallHost}, {"through", lab.Client, lab.Server}} {
				probes = append(probes, lab.Probe{From: way.from, To: way.to, Family: f, Port: port})
				names = append(names, way.name)
			}
		}
	}
	results, err := l.Probe(t.Context(), probes)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for i, r := range results {
		if r.At != "" {
			got[names[i]] = true
		}
	}
	return got
}

// guardStands says whether the guard is there.
func guardStands(t *testing.T, ns *lab.Namespace) bool {
	t.Helper()
	return strings.Contains(run(t, ns, "", "nft", "list", "tables"), "table inet firewalld_guard")
}

// overLoopback opens connections from the machine to itself.
func overLoopback() error {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
		c.Close()
	}
	return nil
}

// letsIn is the ruleset of a zone whose interfaces are all others' and which lets in port 80 alone.
func letsIn(t *testing.T, backend ir.Backend, conf string) *ir.Ruleset {
	t.Helper()
	return madeOf(t, backend, map[string]string{"firewalld.conf": conf, "zones/public.xml": `<zone><port port="80" protocol="tcp"/></zone>`})
}

// Before anything is known, what is new is dropped, and loopback and neighbours are not. The rules take the place of that; a
// commit that fails, and the end of the process, leave it. This is so with both back ends.
func TestBase(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		l := newLab(t)
		ns := l.Firewall()
		options := kernel.Options{Backend: backend, Enter: ns.Do}
		options.Guard = base(t, options, false)
		if got := arrive(t, l, 80, 9); len(got) > 0 {
			t.Errorf("packets come %v", got)
		}
		if err := ns.Do(overLoopback); err != nil {
			t.Error(err)
		}
		k := start(t, options)
		bad := &ir.Ruleset{Backend: backend, Chains: []*ir.Chain{{Table: "filter", Name: "c", Families: ir.Both, Rules: []*ir.Rule{
			{Families: ir.Both, Actions: []ir.Action{ir.Jump{Chain: "nowhere"}}}}}}}
		if err := k.Commit(t.Context(), &kernel.Desired{Rules: bad}); err == nil || !guardStands(t, ns) {
			t.Errorf("behind a commit that fails with %v there is no guard", err)
		}
		commit(t, k, &kernel.Desired{Rules: letsIn(t, backend, "")})
		if guardStands(t, ns) {
			t.Error("the guard stands beside the rules")
		}
		if got := arrive(t, l, 80); !got["in"] || got["through"] {
			t.Errorf("with the rules packets to port 80 come %v", got)
		}
		commit(t, k, &kernel.Desired{})
		if got := arrive(t, l, 9); !got["in"] || !got["through"] {
			t.Errorf("when the firewall is stopped packets come %v", got)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// With the rules of an earlier process in the kernel those stay in force until the first commit: what they let in comes in,
// and what they do not let in does not. Rules that another program has emptied are no such rules.
func TestBaseAfterAnEarlierProcess(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, c := range []struct {
			conf, damage string
			whole        bool
		}{
			{"", "", true}, {"NftablesCounters=yes\nLogDenied=all\n", "", true}, {"NftablesTableOwner=no\n", "nft flush ruleset", false},
			{"NftablesTableOwner=no\n", "nft flush chain inet firewalld filter_FORWARD", backend == ir.IPTables},
			{"NftablesTableOwner=no\n", "iptables -F INPUT", backend == ir.NFTables},
		} {
			t.Run(string(backend)+" "+c.conf+c.damage, func(t *testing.T) {
				l := newLab(t)
				ns := l.Firewall()
				before := open(t, ns, backend)
				commit(t, before, &kernel.Desired{Rules: letsIn(t, backend, c.conf)})
				before.Close()
				if words := strings.Fields(c.damage); len(words) > 0 {
					_, _ = ns.Run(t.Context(), "", words[0], words[1:]...) // fails where there is nothing to damage
				}
				g := base(t, kernel.Options{Enter: ns.Do}, false)
				t.Cleanup(func() { g.Close() })
				if guardStands(t, ns) == c.whole {
					t.Errorf("the guard stands: %v", !c.whole)
				}
				if got := arrive(t, l, 80); got["in"] != c.whole || got["through"] {
					t.Errorf("packets to port 80 come %v", got)
				}
			})
		}
	}
}

// A process that was in panic mode is so again from the first moment.
func TestBaseInPanicMode(t *testing.T) {
	l := newLab(t)
	before := open(t, l.Firewall(), ir.NFTables)
	commit(t, before, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
	before.Close()
	options := kernel.Options{Backend: ir.NFTables, Enter: l.Firewall().Do}
	options.Guard = base(t, options, true)
	k := start(t, options)
	for _, next := range []*kernel.Desired{nil, {Panic: true}, {Rules: letsIn(t, ir.NFTables, ""), Panic: true}} {
		if next != nil {
			commit(t, k, next)
		}
		if got := arrive(t, l, 80); len(got) > 0 {
			t.Errorf("with %v packets come %v", next, got)
		}
	}
	commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
	if got := arrive(t, l, 80); !got["in"] {
		t.Error("after panic mode nothing comes in")
	}
}

// While another program empties the table again and again, packets that no rule lets in do not come in: the guard stands
// until the program has been quiet for a while. Then all is as it was, and the guard gone.
func TestGuardAgainstFlushes(t *testing.T) {
	for _, c := range []struct {
		backend ir.Backend
		command string
	}{{ir.NFTables, "nft flush table inet firewalld"}, {ir.NFTables, "nft flush ruleset"}, {ir.IPTables, "iptables -F"}} {
		t.Run(c.command, func(t *testing.T) {
			defer kernel.SetQuiet(6 * time.Second)()
			l := newLab(t)
			ns := l.Firewall()
			desired := &kernel.Desired{Rules: letsIn(t, c.backend, "NftablesTableOwner=no\n")}
			k := open(t, ns, c.backend).(kernel.Watcher)
			k.Watch(func(kernel.Foreign) {
				if err := k.Commit(t.Context(), desired); err != nil {
					t.Error(err)
				}
			})
			commit(t, k, desired)
			words := strings.Fields(c.command)
			run(t, ns, "", words[0], words[1:]...)
			eventually(t, "the first repair does not come", func() bool { return arrive(t, l, 80)["in"] })
			run(t, ns, "", words[0], words[1:]...)
			eventually(t, "the guard does not stand, or nobody is told so", func() bool { return guardStands(t, ns) && k.(kernel.Sentinel).Guarded() })
			stop, done := make(chan struct{}), make(chan error)
			go func() {
				for {
					select {
					case <-stop:
						close(done)
						return
					default:
						_, _ = ns.Run(t.Context(), "", words[0], words[1:]...)
					}
				}
			}()
			for range 40 {
				if got := arrive(t, l, 9); len(got) > 0 {
					t.Errorf("packets come %v", got)
				}
			}
			close(stop)
			<-done
			eventually(t, "the guard does not go", func() bool { return !guardStands(t, ns) })
			eventually(t, "it is said that the guard stands", func() bool { return !k.(kernel.Sentinel).Guarded() })
			if got := arrive(t, l, 80); !got["in"] || got["through"] {
				t.Errorf("after that packets to port 80 come %v", got)
			}
			if got := arrive(t, l, 9); len(got) > 0 {
				t.Errorf("after that packets to port 9 come %v", got)
			}
		})
	}
}

// When another program takes away rules of the direct interface that drop packets, the guard stands until they are back, with the
// nftables back end too: what they drop is not let in meanwhile. Where those rules drop nothing there is no guard.
func TestGuardForDirectRules(t *testing.T) {
	for _, c := range []struct {
		rule, command string
		stands        bool
	}{
		{"-p tcp --dport 80 -j DROP", "iptables -F", true},
		{"-p tcp --dport 80 -j DROP", "iptables -R INPUT 1 -j ACCEPT", true},
		{"-p tcp --dport 80 --jump REJECT", "iptables -D INPUT 1", true},
		{"-p tcp --dport 80 -j ACCEPT", "iptables -F", false},
		{"-p tcp --dport 80 -j LOG", "iptables -F", false},
	} {
		t.Run(c.rule+", "+c.command, func(t *testing.T) {
			useVariant(t, "nft")
			l := newLab(t)
			ns := l.Firewall()
			w := watch(t, ns, ir.NFTables)
			desired := &kernel.Desired{Rules: letsIn(t, ir.NFTables, ""), Direct: directRules(t, c.rule)}
			commit(t, w, desired)
			before := arrive(t, l, 80)["in"]
			words := strings.Fields(c.command)
			run(t, ns, "", words[0], words[1:]...)
			w.next(t)
			if guardStands(t, ns) != c.stands {
				t.Errorf("the guard stands: %v", !c.stands)
			}
			run(t, ns, "", "nft", "add table inet theirs") // wakes whoever listens
			if got := arrive(t, l, 80)["in"]; got && c.stands {
				t.Error("what is dropped comes in")
			}
			commit(t, w, desired)
			if guardStands(t, ns) {
				t.Error("the guard stands beside the rules")
			}
			if got := arrive(t, l, 80)["in"]; got != before {
				t.Errorf("packets to port 80 come in: %v, and before that %v", got, before)
			}
		})
	}
}

// directRules are rules of the direct interface for INPUT of IPv4 and IPv6.
func directRules(t *testing.T, rule string) *ir.Ruleset {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/direct.xml", fmt.Sprintf(`<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">%s</rule>
		<rule ipv="ipv6" table="filter" chain="INPUT" priority="0">%s</rule></direct>`, rule, rule))
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	rs, err := compile.Direct(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// Where the configuration leaves what other programs change, there is no guard.
func TestUnguarded(t *testing.T) {
	ns := namespace(t)
	w := watch(t, ns, ir.NFTables)
	commit(t, w, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "NftablesTableOwner=no\n"), Unguarded: true})
	run(t, ns, "", "nft", "flush", "table", "inet", "firewalld")
	w.next(t)
	if guardStands(t, ns) {
		t.Error("the guard stands")
	}
}

// A table of our name that another running program owns is told of in one line. Before the first commit it is the caller's to say whether the
// guard is to drop what nobody has let in: rules that are in force elsewhere may be whole.
func TestForeignOwner(t *testing.T) {
	l := newLab(t)
	ns := l.Firewall()
	theirs := rulesetOf("10.9.9.9")
	theirs.Owner = true
	other := open(t, ns, ir.NFTables)
	commit(t, other, &kernel.Desired{Rules: theirs})
	k := open(t, ns, ir.NFTables)
	err := k.Commit(t.Context(), &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
	if !errors.Is(err, kernel.ErrForeignOwner) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if guardStands(t, ns) {
		t.Error("the guard stands, and nobody has asked for it")
	}
	if err := k.(kernel.Guarder).KeepOut(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if got := arrive(t, l, 80, 9); len(got) > 0 {
		t.Errorf("packets come %v", got)
	}
	if err := other.Close(); err != nil { // its table stays, and belongs to nobody
		t.Fatal(err)
	}
	commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
	if got := arrive(t, l, 80); !got["in"] || guardStands(t, ns) {
		t.Errorf("packets come %v", got)
	}
}

// Another program owns the table of panic mode. Where the rules are known to be whole, panic mode is refused and the guard does not stand.
// Where it is not known what the last commit has left, the guard stands, and a commit is asked for until one succeeds.
func TestGuardOfForeignOwner(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	told := make(chan kernel.Foreign, 10)
	k.(kernel.Watcher).Watch(func(f kernel.Foreign) { told <- f })
	rules := letsIn(t, ir.NFTables, "")
	commit(t, k, &kernel.Desired{Rules: rules})
	release, err := kernel.KeepPanic(kernel.Options{Enter: ns.Do}, false)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(next *kernel.Desired) {
		t.Helper()
		if err := k.Commit(t.Context(), next); !errors.Is(err, kernel.ErrForeignOwner) {
			t.Errorf("got %v", err)
		}
	}
	if refused(&kernel.Desired{Rules: rules, Panic: true}); guardStands(t, ns) {
		t.Error("the guard stands although the rules are whole")
	}
	kernel.Forget(k)
	if refused(&kernel.Desired{Rules: rules, Panic: true}); !guardStands(t, ns) {
		t.Error("the guard does not stand, and nobody knows what passes")
	}
	select {
	case f := <-told:
		if !f.Unfinished || len(f.Changes) != 1 {
			t.Errorf("what is told is %v", f)
		}
	case <-time.After(30 * time.Second):
		t.Error("no commit is asked for")
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if commit(t, k, &kernel.Desired{Rules: rules}); guardStands(t, ns) {
		t.Error("the guard stands behind a commit")
	}
}

// A guard that cannot be taken away when it may go is tried again, and so is a look at what other programs have changed: until that succeeds
// nobody knows whether the guard may go.
func TestGuardIsTriedAgain(t *testing.T) {
	defer kernel.SetQuiet(time.Millisecond)()
	o := kernel.Options{Enter: namespace(t).Do, Log: slog.New(slog.DiscardHandler)}
	tried := make(chan struct{}, 1)
	if err := kernel.FailUnguard(o, func() { tried <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	why := errors.New("the kernel does not answer")
	looked, end, err := kernel.FailReview(o, why)
	if !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
	defer end()
	for what, again := range map[string]<-chan struct{}{"taking the guard away": tried, "looking": looked} {
		select {
		case <-again:
		case <-time.After(30 * time.Second):
			t.Errorf("%s is not tried again", what)
		}
	}
}

// What another program has changed is known by a first look. It changes more meanwhile, and a second look fails: what the first one has found is
// told all the same.
func TestFirstLookIsToldOf(t *testing.T) {
	ns, why := namespace(t), errors.New("the kernel does not answer")
	changed, told, err := kernel.ReviewTwice(kernel.Options{Enter: ns.Do, Log: quietLog}, func() { run(t, ns, "", "nft", "add", "table", "inet", "theirs") }, why)
	if !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
	if len(changed) != 1 || len(told) != 1 || !slices.Equal(told[0].Changes, changed) {
		t.Errorf("it is known that %q, and told that %v", changed, told)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
