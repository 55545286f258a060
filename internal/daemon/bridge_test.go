package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/statedir"
	"richwall/zones"
)

// Direct rules for ebtables change together with the rest: when either is refused, both stay as they were.
func TestDirectRulesForBridges(t *testing.T) {
	var installed *kernel.Bridge
	var refuseBridge error
	k := &fakeKernel{}
	d := New(Options{
		Dirs:   zones.Dirs{System: t.TempDir()},
		Kernel: func(ir.Backend) (kernel.Kernel, error) { return k, nil },
		Bridge: func(_ context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
			was := installed
			if installed != nil && !reflect.DeepEqual(old, installed) {
				t.Errorf("the change is from %v, and there is %v", old, installed)
			}
			if refuseBridge == nil {
				installed = next
			}
			return was, refuseBridge
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ctx := context.Background()
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(installed, &kernel.Bridge{}) {
		t.Errorf("what an earlier process has left stays: ebtables has %v", installed)
	}
	add := func(args ...string) error {
		item := zones.Item{Key: zones.KeyDirectRule, Args: args}
		return d.ChangeRuntime(ctx, Change{Edit: zones.Add(zones.Runtime, zones.Object{Kind: zones.KindDirect}, item)})
	}
	rule := func(word string) kernel.BridgeRule {
		return kernel.BridgeRule{Table: "filter", Chain: "FORWARD", Args: []string{"-j", word}}
	}
	for _, args := range [][]string{{"eb", "filter", "FORWARD", "5", "-j", "last"}, {"eb", "filter", "FORWARD", "-5", "-j", "first"}, {"ipv4", "filter", "INPUT", "0", "-j", "DROP"}} {
		if err := add(args...); err != nil {
			t.Fatal(err)
		}
	}
	want := &kernel.Bridge{Rules: []kernel.BridgeRule{rule("first"), rule("last")}}
	if !reflect.DeepEqual(installed, want) {
		t.Errorf("ebtables has %v and not %v", installed, want)
	}
	before := d.Snapshot().Runtime
	k.refuse = errors.New("no memory")
	if add("eb", "filter", "FORWARD", "9", "-j", "more") == nil {
		t.Error("what the kernel refuses succeeds")
	}
	k.refuse, refuseBridge = nil, errors.New("ebtables is not installed")
	var refused *Error
	if err := add("eb", "filter", "FORWARD", "9", "-j", "more"); !errors.As(err, &refused) || refused.Code != CommandFailed {
		t.Errorf("what ebtables refuses gives %v", err)
	}
	if !reflect.DeepEqual(installed, want) || d.Snapshot().Runtime != before {
		t.Errorf("ebtables has %v and not %v", installed, want)
	}
	refuseBridge = nil
	if err := d.Stop(ctx); err != nil || !reflect.DeepEqual(installed, &kernel.Bridge{}) {
		t.Errorf("after the end ebtables has %v, %v", installed, err)
	}
}

// A rule of one of ebtables' chains may name it as the chain of the direct interface: with nftables it stands in the chain itself,
// with iptables in a chain of that name.
func TestDirectChainsOfBridges(t *testing.T) {
	rule := func(chain, word string) kernel.BridgeRule {
		return kernel.BridgeRule{Table: "filter", Chain: chain, Args: []string{"-j", word}}
	}
	cfg := &zones.Config{Conf: &zones.Conf{FirewallBackend: "nftables"}, Direct: &zones.Direct{
		Chains: []zones.DirectChain{{IPV: "eb", Table: "filter", Chain: "mine"}},
		Rules: []zones.DirectRule{
			{IPV: "eb", Table: "filter", Chain: "INPUT_direct", Priority: 1, Args: []string{"-j", "mine"}},
			{IPV: "eb", Table: "filter", Chain: "INPUT", Args: []string{"-j", "DROP"}},
			{IPV: "eb", Table: "filter", Chain: "mine", Priority: 2, Args: []string{"-j", "ACCEPT"}},
		},
	}}
	mine := kernel.BridgeChain{Table: "filter", Chain: "mine"}
	want := &kernel.Bridge{Chains: []kernel.BridgeChain{mine}, Rules: []kernel.BridgeRule{rule("INPUT", "DROP"), rule("INPUT", "mine"), rule("mine", "ACCEPT")}}
	if got := bridgeRules(cfg); !reflect.DeepEqual(got, want) {
		t.Errorf("with nftables ebtables has %v and not %v", got, want)
	}
	cfg.Conf.FirewallBackend = "iptables"
	want = &kernel.Bridge{Chains: []kernel.BridgeChain{mine, {Table: "filter", Chain: "INPUT_direct"}}, Rules: []kernel.BridgeRule{
		rule("INPUT", "INPUT_direct"), rule("INPUT_direct", "DROP"), rule("INPUT_direct", "mine"), rule("mine", "ACCEPT")}}
	if got := bridgeRules(cfg); !reflect.DeepEqual(got, want) {
		t.Errorf("with iptables ebtables has %v and not %v", got, want)
	}
}

var errNoProtocol = errors.New("no such protocol")

// A chain, rule or command for ebtables that it refuses is left out at a start, as those for iptables are, and nothing else is.
func TestRefusedRuleForBridges(t *testing.T) {
	const refused = "<direct>\n<rule ipv=\"eb\" table=\"filter\" chain=\"FORWARD\" priority=\"1\">-j last</rule>\n" +
		"<rule ipv=\"eb\" table=\"filter\" chain=\"FORWARD\" priority=\"0\">-p nosuch -j DROP</rule>\n" +
		"<passthrough ipv=\"eb\">-t filter -A FORWARD -p nosuch -j CONTINUE</passthrough>\n" +
		"<chain ipv=\"eb\" table=\"broute\" chain=\"mine\"/>\n<chain ipv=\"eb\" table=\"nat\" chain=\"mine\"/>\n</direct>"
	b := startKept(t, map[string]string{"zones/work.xml": workZone, "direct.xml": refused})
	var installed *kernel.Bridge
	b.opt.Bridge = func(_ context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
		for _, r := range next.Rules {
			if slices.Contains(r.Args, "nosuch") {
				return old, &kernel.BridgeError{Table: r.Table, Lines: []kernel.BridgeLine{{Words: append([]string{"-I", r.Chain, "1"}, r.Args...), Why: errNoProtocol}}, Err: errors.New("no such protocol")}
			}
		}
		for _, c := range next.Commands {
			return old, &kernel.BridgeError{Table: "filter", Lines: []kernel.BridgeLine{{Words: c[2:], Why: errNoProtocol}}, Err: errors.New("no such protocol")}
		}
		if c := (kernel.BridgeChain{Table: "broute", Chain: "mine"}); slices.Contains(next.Chains, c) {
			return old, &kernel.BridgeError{Table: "broute", Lines: []kernel.BridgeLine{{Words: []string{"*broute"}}, {Words: []string{":mine", "ACCEPT"}, Why: errNoProtocol}}, Err: errors.New("no such table")}
		}
		installed = next
		return old, nil
	}
	var err error
	if b.opt.State, err = statedir.For(t.TempDir(), b.dir); err != nil { // nothing was kept
		t.Fatal(err)
	}
	b.again(t)
	b.expect(t, Failed, "direct.xml:3: ", []string{"8080"}, nil)
	b.expect(t, Failed, "direct.xml:4: ", nil, nil)
	b.expect(t, Failed, "direct.xml:5: ", nil, nil)
	if want := []kernel.BridgeChain{{Table: "nat", Chain: "mine"}}; !reflect.DeepEqual(installed.Chains, want) {
		t.Errorf("ebtables has the chains %v", installed.Chains)
	}
	if want := []kernel.BridgeRule{{Table: "filter", Chain: "FORWARD", Args: []string{"-j", "last"}}}; !reflect.DeepEqual(installed.Rules, want) {
		t.Errorf("ebtables has %v", installed)
	}
}

// fakeBridge is the ebtables of a kernel, which may be busy.
type fakeBridge struct {
	installed *kernel.Bridge
	busy      error
	then      func() // is called behind each change
}

func (f *fakeBridge) commit(ctx context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
	if err := errors.Join(f.busy, ctx.Err()); err != nil {
		return nil, err
	}
	was := f.installed
	f.installed = next
	if f.then != nil {
		f.then()
	}
	return was, nil
}

var arpDropped = &kernel.Bridge{Rules: []kernel.BridgeRule{{Table: "filter", Chain: "FORWARD", Args: []string{"-p", "ARP", "-j", "DROP"}}}}

// While the first rules of a start have to wait for the kernel, the rules for bridges of the process before it stay in force. They are
// replaced when the first rules come.
func TestBridgeRulesWhileWaiting(t *testing.T) {
	ebtables := &fakeBridge{}
	b := startKept(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-j ACCEPT</rule></direct>`})
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.opt.Bridge, ebtables.installed, b.kernel.refuse = ebtables.commit, arpDropped, kernel.ErrBusy
	b.Daemon = New(b.opt)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(ebtables.installed, arpDropped) {
		t.Errorf("while the rules wait ebtables has %v", ebtables.installed)
	}
	b.mu.Lock()
	b.kernel.refuse = nil
	b.mu.Unlock()
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := bridgeRules(b.Snapshot().Runtime); len(want.Rules) != 1 || !reflect.DeepEqual(ebtables.installed, want) {
		t.Errorf("ebtables has %v and not %v", ebtables.installed, want)
	}
}

// Rules for bridges that could not be put back are put back soon, or by the next change, whatever kept them from it: ebtables, or a fault of
// the program. Until then the state says so.
func TestBridgeRulesThatAreNotPutBack(t *testing.T) {
	for i := range 4 {
		fault, change := i&1 > 0, i&2 > 0
		ebtables, k := &fakeBridge{}, &fakeKernel{}
		d := New(Options{Dirs: zones.Dirs{System: t.TempDir()}, Kernel: func(ir.Backend) (kernel.Kernel, error) { return k, nil }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Bridge: ebtables.commit})
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ebtables.then = func() {
			ebtables.busy = errors.New("busy")
			if fault {
				d.kernel = &faulty{}
			}
		}
		k.refuse = errors.New("no memory")
		item := zones.Item{Key: zones.KeyDirectRule, Args: []string{"eb", "filter", "FORWARD", "0", "-j", "ACCEPT"}}
		edit := Change{Edit: zones.Add(zones.Runtime, zones.Object{Kind: zones.KindDirect}, item)}
		func() {
			defer func() { recover() }()
			if err := d.ChangeRuntime(t.Context(), edit); err == nil {
				t.Error("what the kernel refuses succeeds")
			}
		}()
		d.kernel, k.refuse, ebtables.then = k, nil, nil
		d.attendPending()
		if s := d.Snapshot(); s.State != Failed || !strings.Contains(strings.Join(s.Failures, ""), notPutBack) || d.repairs.timer == nil {
			t.Errorf("with a fault %v, the state is %s: %v", fault, s.State, s.Failures)
		}
		ebtables.busy = nil
		if change {
			if err := d.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			d.attendPending()
		}
		if s := d.Snapshot(); s.State != Running {
			t.Errorf("with a fault %v, at the end the state is %s: %v", fault, s.State, s.Failures)
		}
		if !reflect.DeepEqual(ebtables.installed, &kernel.Bridge{}) {
			t.Errorf("with a fault %v, a reload %v, ebtables has %v at the end", fault, change, ebtables.installed)
		}
	}
}

// A change of rules for bridges is refused by ebtables itself, which does not put back either what it has done: that is as above. Where
// nothing was changed the state stays what it is.
func TestRefusedBridgeRulesThatAreNotPutBack(t *testing.T) {
	for _, c := range []struct {
		why   error
		state State
	}{{errors.New("no such target"), Running}, {fmt.Errorf("no such target; %w", kernel.ErrNotPutBack), Failed}} {
		b := start(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-j DROP</rule></direct>`})
		b.opt.Bridge = (&fakeBridge{}).commit
		b.again(t)
		for name, change := range map[string]func() error{
			"change": func() error {
				item := zones.Item{Key: zones.KeyDirectRule, Args: []string{"eb", "filter", "FORWARD", "0", "-j", "ACCEPT"}}
				return b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, zones.Object{Kind: zones.KindDirect}, item)})
			},
			"reload": func() error { return b.Reload(t.Context()) },
		} {
			b.Daemon.opt.Bridge = func(_ context.Context, old, _ *kernel.Bridge) (*kernel.Bridge, error) {
				if errors.Is(c.why, kernel.ErrNotPutBack) {
					old = nil
				}
				return old, c.why
			}
			if err := change(); err == nil {
				t.Errorf("%v: the %s succeeds", c.why, name)
			}
			if s := b.Snapshot(); s.State != c.state {
				t.Errorf("%v: after a %s the state is %s: %v", c.why, name, s.State, s.Failures)
			}
			b.Daemon.opt.Bridge = (&fakeBridge{}).commit
			b.attendPending()
			if s := b.Snapshot(); s.State != Running {
				t.Errorf("%v: after a %s and a while the state is %s: %v", c.why, name, s.State, s.Failures)
			}
		}
	}
}

// A change that its caller has given up is taken back, also in ebtables.
func TestBridgeRulesOfAChangeThatIsGivenUp(t *testing.T) {
	ebtables, k := &fakeBridge{}, &fakeKernel{}
	d := New(Options{Dirs: zones.Dirs{System: t.TempDir()}, Kernel: func(ir.Backend) (kernel.Kernel, error) { return k, nil }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Bridge: ebtables.commit})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ebtables.then, k.refuse = cancel, context.Canceled
	item := zones.Item{Key: zones.KeyDirectRule, Args: []string{"eb", "filter", "FORWARD", "0", "-j", "ACCEPT"}}
	if err := d.ChangeRuntime(ctx, Change{Edit: zones.Add(zones.Runtime, zones.Object{Kind: zones.KindDirect}, item)}); err == nil {
		t.Error("a change that was given up succeeds")
	}
	if !reflect.DeepEqual(ebtables.installed, &kernel.Bridge{}) {
		t.Errorf("ebtables has %v", ebtables.installed)
	}
}

// A reload asks ebtables which rules are there, where it has put any: another program may have taken them out. It does not where there are
// none, nor does another change.
func TestReloadAsksForBridgeRules(t *testing.T) {
	b := startKept(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
	var asked, calls int
	b.opt.Bridge = func(_ context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
		if calls++; old == nil {
			asked++
			old = &kernel.Bridge{} // another program has taken out all
		}
		return old, nil
	}
	b.again(t)
	asked, calls = 0, 0
	reload := func(want int) {
		t.Helper()
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if asked != want {
			t.Errorf("ebtables is asked %d times and not %d, of %d changes", asked, want, calls)
		}
	}
	reload(1)
	reload(2)
	b.write(t, map[string]string{"direct.xml": "<direct/>"})
	reload(3)
	if reload(3); calls != 3 {
		t.Errorf("without rules for bridges ebtables is changed %d times", calls)
	}
}

// takenKernel is one in which another program has made a chain OTHER.
type takenKernel struct{ *fakeKernel }

func (k takenKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	if next.Direct != nil && slices.ContainsFunc(next.Direct.Chains, func(c *ir.Chain) bool { return c.Name == "OTHER" && c.Declared && c.Families&ir.V4 != 0 }) {
		return &kernel.RuleError{Chain: "OTHER", Err: &kernel.TakenError{Tool: "iptables", Table: "filter", Chain: "OTHER"}}
	}
	return k.fakeKernel.Commit(ctx, next)
}

// A direct chain that another program has made is left out at a start, and named with its line; nothing else is.
func TestChainOfAnotherProgramIsLeftOut(t *testing.T) {
	const text = "<direct>\n<chain ipv=\"ipv6\" table=\"filter\" chain=\"OTHER\"/>\n<chain ipv=\"ipv4\" table=\"filter\" chain=\"OTHER\"/>\n<chain ipv=\"ipv4\" table=\"filter\" chain=\"mine\"/>\n</direct>"
	b := startKept(t, map[string]string{"zones/work.xml": workZone, "direct.xml": text})
	b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return takenKernel{b.kernel}, nil }
	var err error
	if b.opt.State, err = statedir.For(t.TempDir(), b.dir); err != nil { // nothing was kept
		t.Fatal(err)
	}
	b.again(t)
	b.expect(t, Failed, "direct.xml:3: ", []string{"8080"}, nil)
	if got := b.Snapshot().Runtime.Direct.Chains; len(got) != 2 || got[0].IPV != "ipv6" || got[1].Chain != "mine" {
		t.Errorf("in force are the chains %v", got)
	}
}

// firewall-cmd --check-config says what ebtables would refuse, with the line.
func TestCheckConfigAsksEbtables(t *testing.T) {
	b := startKept(t, nil)
	b.opt.CheckBridge = func(_ context.Context, next *kernel.Bridge) error {
		r := next.Rules[0]
		return &kernel.BridgeError{Table: r.Table, Lines: []kernel.BridgeLine{{Words: append([]string{"-I", r.Chain, "1"}, r.Args...), Why: errNoProtocol}}, Err: errNoProtocol}
	}
	b.again(t)
	if err := b.CheckPermanent(t.Context()); err != nil {
		t.Errorf("without rules for bridges the check says %v", err)
	}
	b.write(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p nosuch -j DROP</rule></direct>`})
	err := b.CheckPermanent(t.Context())
	if err == nil || !strings.Contains(err.Error(), "direct.xml:1: ") || !strings.Contains(err.Error(), errNoProtocol.Error()) {
		t.Errorf("the check says %v", err)
	}
}
