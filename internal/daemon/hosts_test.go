package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// nameless is a kernel that knows no address of hosts below example while silent says so.
type nameless struct {
	fakeKernel
	silent *bool
}

func (k *nameless) Commit(ctx context.Context, next *kernel.Desired) error {
	if err := k.Check(next); err != nil {
		return err
	}
	return k.fakeKernel.Commit(ctx, next)
}

func (k *nameless) Check(next *kernel.Desired) error {
	var list []error
	for _, set := range []*ir.Ruleset{next.Rules, next.Direct} {
		if set == nil || !*k.silent {
			continue
		}
		for _, c := range set.Chains {
			for _, r := range c.Rules {
				if r.Origin != nil && strings.Contains(r.Origin.Said(), ".example") {
					list = append(list, &kernel.RuleError{Origin: r.Origin, Chain: c.Name, Err: fmt.Errorf("it cannot be put in: %w", kernel.ErrNoAddress)})
				}
			}
		}
	}
	return errors.Join(list...)
}

// No name server answers when the firewall starts, as before the network is up. It starts without the direct rules that name hosts, and says so.
// They are tried again by the timer of repairs: the rules come once the hosts are known, where direct.xml has them, beside what was changed
// since, and the state is then that of a start that had them. It is so whether other direct rules stand in for them or not.
func TestRulesOfHostsComeLater(t *testing.T) {
	const rules = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s one.example -j %s</rule>
<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.1 -j DROP</rule>
<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.2 -j DROP</rule></direct>`
	for _, target := range []string{"ACCEPT", "DROP"} {
		b, silent := startKept(t, nil), false
		k := &nameless{silent: &silent}
		b.on(k, &k.fakeKernel)
		b.write(t, map[string]string{"direct.xml": fmt.Sprintf(rules, target)})
		b.again(t)
		b.expect(t, Running, "", nil, nil)
		want := k.direct()
		silent = true
		b.again(t)
		b.expect(t, Failed, "direct.xml:1: ", nil, nil)
		if b.repairs.timer == nil || strings.Contains(k.direct(), "one.example") {
			t.Fatalf("%s: nothing is tried again, or the kernel has\n%s", target, k.direct())
		}
		try := func(done func() bool) {
			b.attendPending()
			until(t, "the hosts are not asked for", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return done()
			})
		}
		try(func() bool { return b.repairs.timer != nil && !b.repairs.unheard.asking })
		b.expect(t, Failed, "direct.xml:1: ", nil, nil)
		drop := zones.Item{Key: zones.KeyPort, Args: []string{"8080", "tcp"}}
		if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, drop)}); err != nil {
			t.Fatal(err)
		}
		want = withoutLine(want, "192.0.2.2")
		if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, zones.Object{Kind: zones.KindDirect}, inputRule("-s 192.0.2.2 -j DROP"))}); err != nil {
			t.Fatal(err)
		}
		silent = false
		try(func() bool { return b.repairs.unheard == nil })
		b.expect(t, Running, "", []string{"8080"}, nil)
		if got := k.direct(); got != want {
			t.Errorf("%s: the kernel has\n%s\nwant\n%s", target, got, want)
		}
	}
}

// inputRule is a rule of the direct interface in the chain INPUT of IPv4, with the priority 0.
func inputRule(rule string) zones.Item {
	return zones.Item{Key: zones.KeyDirectRule, Args: append([]string{"ipv4", "filter", "INPUT", "0"}, strings.Fields(rule)...)}
}

// withoutLine is a text without the lines that have some words in them.
func withoutLine(text, words string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, words) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A direct rule that a start has left out, because no address of its host is known, is taken out, of what runs or of the files. It does not come
// when the host is known: the last order counts until a reload.
func TestRuleOfAHostThatIsTakenOutDoesNotCome(t *testing.T) {
	const rule = "-s one.example -j ACCEPT"
	direct := zones.Object{Kind: zones.KindDirect}
	for how, order := range map[string]func(b *bed, silent *bool) error{
		"runtime": func(b *bed, _ *bool) error {
			return b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, direct, inputRule(rule))})
		},
		"permanent": func(b *bed, _ *bool) error {
			return b.ChangePermanent(Change{Edit: zones.Remove(zones.Permanent, direct, inputRule(rule))})
		},
		"added by hand before": func(b *bed, silent *bool) error {
			*silent = false
			return errors.Join(b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, direct, inputRule(rule))}),
				b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, direct, inputRule(rule))}))
		},
	} {
		b, silent := startKept(t, nil), true
		k := &nameless{silent: &silent}
		b.on(k, &k.fakeKernel)
		b.write(t, map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">` + rule + `</rule></direct>`})
		b.again(t)
		b.expect(t, Failed, "direct.xml:1: ", nil, nil)
		err := order(b, &silent)
		silent = false
		b.attendPending()
		b.mu.Lock()
		asked := b.repairs.unheard
		b.mu.Unlock()
		if asked != nil || strings.Contains(k.direct(), "one.example") {
			t.Errorf("%s: the removal gives %v; what is still asked for is %v, and the kernel has\n%s", how, err, asked, k.direct())
		}
	}
}

// While somebody asks the kernel about a configuration and has no answer, others who ask wait no longer than they want to.
func TestAskingWaitsNoLongerThanTheContext(t *testing.T) {
	b := start(t, nil)
	b.asking <- struct{}{}
	defer func() { <-b.asking }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.ask(ctx, ir.NFTables, &kernel.Desired{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the answer is %v", err)
	}
}

// Hosts that a look-up has found are asked for once more by the commit that brings their rules. That ends before a name server that is silent
// again keeps changes waiting.
func TestBringingHostsIsBounded(t *testing.T) {
	b, silent := startKept(t, nil), true
	k := &bounded{nameless: nameless{silent: &silent}}
	b.on(k, &k.fakeKernel)
	b.write(t, map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s one.example -j DROP</rule></direct>`})
	b.again(t)
	silent, k.last = false, nil
	b.attendPending()
	until(t, "the rules do not come", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.repairs.unheard == nil
	})
	b.keepUnkept() // what that has begun
	if _, limited := k.last.Deadline(); !limited {
		t.Error("the commit may take any time")
	}
}

// bounded is a kernel that keeps the context of the last commit.
type bounded struct {
	nameless
	last context.Context
}

func (k *bounded) Commit(ctx context.Context, next *kernel.Desired) error {
	k.last = ctx
	return k.nameless.Commit(ctx, next)
}
