package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/lab"
	"richwall/internal/testlog"
)

// Needs skips a test where a network namespace cannot be made, or a program is not installed.
func Needs(t *testing.T, programs ...string) {
	t.Helper()
	if missing := lab.Missing(programs...); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
}

// Space is a network namespace that has nothing but lo, for a test that needs some programs. It is given up with the test.
func Space(t *testing.T, programs ...string) *lab.Namespace {
	t.Helper()
	Needs(t, programs...)
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	return ns
}

// Logged is a log, and what was said to it.
func Logged() (log *slog.Logger, said *testlog.Log) {
	said = &testlog.Log{}
	return slog.New(slog.NewTextHandler(said, nil)), said
}

// Printed is a ruleset's part for a table as iptables-save prints it, with some lines before and some behind the rules of each of the
// kernel's chains, in which CHAIN stands for its name.
func Printed(rs *ir.Ruleset, family ir.Families, table, before, behind string) string {
	var chains, rules strings.Builder
	for _, c := range rulesOf(rs, family, table).chains {
		policy, first, last := "-", "", ""
		if c.builtin {
			policy, first, last = "ACCEPT", strings.ReplaceAll(before, "CHAIN", c.name), strings.ReplaceAll(behind, "CHAIN", c.name)
		}
		fmt.Fprintf(&chains, ":%s %s [0:0]\n", c.name, policy)
		rules.WriteString(first)
		for _, spec := range c.specs {
			fmt.Fprintf(&rules, "-A %s %s\n", c.name, spec)
		}
		rules.WriteString(last)
	}
	return chains.String() + rules.String()
}

// Remains is what a start takes for the rules of an earlier process in what iptables-save prints of a table: the rules in the kernel's
// chains, and the names of all chains.
func Remains(table, text string) (rules, chains []string) {
	for _, c := range parseSaved(text).remains(table, leftThings{}).chains {
		chains = append(chains, c.name)
		for _, spec := range c.specs {
			rules = append(rules, c.name+" "+spec)
		}
	}
	return rules, chains
}

// TrialChain is where this process tries rules.
var TrialChain = trialChain

// TargetOf is the chain or target that a rule goes to, by its text.
func TargetOf(rule string) string { return targetOf(rule) }

// SetTrialTime changes the longest that rules are tried, and returns what puts it back.
func SetTrialTime(longest time.Duration) (restore func()) {
	was := trialTime
	trialTime = longest
	return func() { trialTime = was }
}

// SetEventBuffer changes the room for events of monitors that are made from now on, and returns what puts it back.
func SetEventBuffer(size int) (restore func()) {
	was := eventBuffer
	eventBuffer = size
	return func() { eventBuffer = was }
}

// SetLockWait changes for how many seconds the tools wait for the lock of iptables-legacy, and returns what puts it back.
func SetLockWait(seconds int) (restore func()) {
	was := lockSeconds
	lockSeconds = seconds
	return func() { lockSeconds = was }
}

// SetCheckTime changes the longest that a check of rules for iptables takes, and returns what puts it back.
func SetCheckTime(d time.Duration) (restore func()) {
	was := checkTime
	checkTime = d
	return func() { checkTime = was }
}

// SetQuiet changes how long a guard stands that was raised twice, and returns what puts it back.
func SetQuiet(d time.Duration) (restore func()) {
	was := quiet
	quiet = d
	return func() { quiet = was }
}

// HasTableOwner says whether the kernel can give a table an owner, and keep it when that ends.
func HasTableOwner(o Options) bool {
	s, err := openSocket(o.withDefaults().Enter)
	if err != nil {
		return false
	}
	defer s.conn.Close()
	owner, err := s.canOwn()
	return owner && err == nil
}

// KeepDropped makes the table by which DropAll drops what bridges forward one that only its owner can take away, until release is called. It
// drops that still.
func KeepDropped(o Options) (release func() error, err error) {
	s, err := openSocket(o.withDefaults().Enter)
	if err != nil {
		return nil, err
	}
	e := &nft.Encoder{Table: dropTable, Bridge: true}
	list := []nft.Message{e.DeleteTable(), e.AddTable(nft.TableOwner)}
	for _, c := range panicChains {
		m, err := e.AddChain(c, true)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	a, err := s.commit(list)
	if err == nil && len(a.refused) > 0 {
		err = a.refused[0].err
	}
	return s.conn.Close, err
}

// ReadTable is the rules of a table, by chain, as a commit reads them.
func ReadTable(o Options, family ir.Families, table string) (map[string][]string, error) {
	s, err := tools{enter: o.withDefaults().Enter}.read(context.Background(), family, table)
	if err != nil {
		return nil, err
	}
	return s.rules, nil
}

// Recognise is how the rules of a chain are listed in a table that iptables cannot list, where some rules may be ours.
func Recognise(o Options, family ir.Families, table, chain string, specs []string) ([]string, error) {
	k, err := newIPTables(o.withDefaults(), true)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	saved, err := k.read(context.Background(), family, table)
	if err != nil {
		return nil, err
	}
	_, err = k.recognise(context.Background(), saved, family, table, map[string][]string{chain: specs})
	return saved.rules[chain], err
}

// DeleteLater reads a chain that is not listed, and returns what deletes its first rule.
func DeleteLater(o Options, family ir.Families, table, chain string) (remove func() error, err error) {
	t := tools{enter: o.withDefaults().Enter}
	saved, err := t.read(context.Background(), family, table)
	if err != nil {
		return nil, err
	}
	gone := []goneRule{saved.gone(chain, 0)}
	return func() error { return t.deleteRules(context.Background(), listerOf(family), table, gone) }, nil
}

// ReadBridges is the rules of a table of ebtables, by chain, as a commit reads them.
func ReadBridges(o Options, table string) (map[string][]string, error) {
	saved, err := tools{enter: o.withDefaults().Enter}.listBridge(context.Background())
	if err != nil || saved[table] == nil {
		return nil, err
	}
	return saved[table].rules, nil
}

// unreadable is what cannot be looked at.
type unreadable struct{ err error }

func (unreadable) concerns(part) bool               { return true }
func (u unreadable) differences() ([]string, error) { return nil, u.err }

// SetHostTime makes the time for which name servers are waited for another one, until restore is called.
func SetHostTime(limit time.Duration) (restore func()) {
	was := hostTime
	hostTime = limit
	return func() { hostTime = was }
}

// FailReview looks at what other programs may have changed, and cannot. It returns the error, and what tells that it is to be looked at again.
func FailReview(o Options, why error) (again <-chan struct{}, end func(), err error) {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return nil, nil, err
	}
	m, err := newMonitor(o.Log, o.Enter, s.conn.PID(), func(part) bool { return false })
	if err != nil {
		return nil, nil, err
	}
	w := &watch{monitor: m, socket: s, suspect: true, log: o.Log}
	return m.wake, func() { m.close(); s.conn.Close() }, w.review(unreadable{why})
}

// vanishing is a subject that is changed once more while it is read for the first time, and cannot be read again.
type vanishing struct {
	change func()
	read   *bool
	why    error
}

func (vanishing) concerns(part) bool { return true }

func (v vanishing) differences() ([]string, error) {
	if *v.read {
		return nil, v.why
	}
	*v.read = true
	v.change()
	return []string{"a rule was removed"}, nil
}

// ReviewTwice looks at what other programs have changed, which is changed again meanwhile, and the second look fails with an error. It returns
// what is known to be changed, what is to be told of that, and the error.
func ReviewTwice(o Options, change func(), why error) (changed []string, told []Foreign, err error) {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return nil, nil, err
	}
	defer s.conn.Close()
	m, err := newMonitor(o.Log, o.Enter, s.conn.PID(), func(part) bool { return true })
	if err != nil {
		return nil, nil, err
	}
	defer m.close()
	w := &watch{monitor: m, socket: s, suspect: true, log: o.Log}
	err = w.review(vanishing{change, new(bool), why})
	return w.changed, w.reports(), err
}

// FailUnguard tries to take a guard away that stands, and cannot. again is called when it is to be tried again.
func FailUnguard(o Options, again func()) error {
	o = o.withDefaults()
	s, err := openSocket(o.Enter)
	if err != nil {
		return err
	}
	w := &watch{guard: &guard{socket: s, log: o.Log}}
	w.guard.raise(false)
	if err := s.conn.Close(); err != nil {
		return err
	}
	w.unguard(again)
	return nil
}

// Forget has a Kernel of nftables not know what its last commit has left, as where the kernel's answer was lost.
func Forget(k Kernel) {
	n := k.(*nftables)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget()
}

// KeepPanic makes the table of panic mode another program's, or the one for bridges, until release is called.
func KeepPanic(o Options, bridge bool) (release func() error, err error) {
	s, err := openSocket(o.withDefaults().Enter)
	if err != nil {
		return nil, err
	}
	e := &nft.Encoder{Table: panicTable, Bridge: bridge}
	a, err := s.commit([]nft.Message{e.AddTable(nft.TableOwner)})
	if err == nil && len(a.refused) > 0 {
		err = a.refused[0].err
	}
	return s.conn.Close, err
}

// HoldFor makes the time for which a start waits for the programs of iptables another one, until the test ends.
func HoldFor(t *testing.T, limit time.Duration) {
	was := holdTime
	t.Cleanup(func() { holdTime = was })
	holdTime = limit
}

// ForgetOwn has a Kernel forget which rules of chains that others may have rules in are its own.
func ForgetOwn(k Kernel) {
	d, ok := k.(*iptablesKernel)
	if n, beside := k.(*nftables); beside {
		d, ok = n.direct, n.direct != nil
	}
	if ok {
		clear(d.own)
	}
}

// SetLongestRun changes how long a program may take, and returns what puts it back.
func SetLongestRun(d time.Duration) (back func()) {
	was := longestRun
	longestRun = d
	return func() { longestRun = was }
}
