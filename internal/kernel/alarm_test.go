package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/lab"
)

// A repair of what another program has changed may fail on the way to the kernel, here because the socket does not take so
// many rules at once. Then nobody knows what the kernel has: the guard stands, what is looked at next is no reason for the
// daemon to end, and the next commit puts all right.
func TestGuardBehindARepairThatIsNotSent(t *testing.T) {
	ns := Space(t, "nft")
	k, err := newNFTables(Options{Enter: ns.Do}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	few, lots := &Desired{Rules: many(0, 10)}, &Desired{Rules: many(0, 6000)}
	if err := k.Commit(t.Context(), few); err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Run(t.Context(), "", "nft", "flush", "ruleset"); err != nil {
		t.Fatal(err)
	}
	if err := k.socket.conn.SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	k.socket.buffer = 1 << 30 // so that no more is asked for
	if err := k.Commit(t.Context(), lots); err == nil {
		t.Fatal("the socket takes all at once")
	}
	k.look()
	if head, err := k.socket.tableHead(guardTable); err != nil || !head.there {
		t.Errorf("no guard stands: %v", err)
	}
	if err := k.Commit(t.Context(), few); err != nil {
		t.Fatal(err)
	}
	k.look()
	head, err := k.socket.tableHead(guardTable)
	if rules, reading := k.socket.tableHead(ir.Table); err != nil || reading != nil || head.there || !rules.there {
		t.Errorf("the guard stands: %v, the rules do: %v, errors %v, %v", head.there, rules.there, err, reading)
	}
}

// withTenRules is a namespace with a Kernel that has committed ten rules.
func withTenRules(t *testing.T) (*lab.Namespace, *nftables) {
	t.Helper()
	ns := Space(t, "nft")
	k, err := newNFTables(Options{Enter: ns.Do}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	if err := k.Commit(t.Context(), &Desired{Rules: many(0, 10)}); err != nil {
		t.Fatal(err)
	}
	return ns, k
}

// The guard does not go while a change of another program was not looked at yet, although its time is over.
func TestGuardStaysBeforeALook(t *testing.T) {
	ns, k := withTenRules(t)
	k.watch.guard.raise(false)
	if _, err := ns.Run(t.Context(), "", "nft", "flush", "table", "inet", "firewalld"); err != nil {
		t.Fatal(err)
	}
	k.unguard()
	if head, err := k.socket.tableHead(guardTable); err != nil || !head.there {
		t.Errorf("the guard is gone while the rules are; error %v", err)
	}
}

// A change is refused while another program has emptied the table. The guard, which the change has raised when it found that, stays: the rules are
// not put back yet.
func TestGuardStaysBehindARefusedChange(t *testing.T) {
	ns, k := withTenRules(t)
	if _, err := ns.Run(t.Context(), "", "nft", "flush", "table", "inet", "firewalld"); err != nil {
		t.Fatal(err)
	}
	refused := many(0, 10)
	refused.Flowtable = []string{"nosuch0"}
	if err := k.Commit(t.Context(), &Desired{Rules: refused}); err == nil {
		t.Fatal("the kernel takes a flow table of an interface that is not there")
	}
	if !k.watch.guard.up {
		t.Error("the guard is gone while the rules are")
	}
	if head, err := k.socket.tableHead(guardTable); err != nil || !head.there {
		t.Errorf("the guard is gone while the rules are; error %v", err)
	}
}

// While the guard stands for a while, because another program has changed the rules twice, a change does not get an answer. A commit is asked for:
// nobody else would take the guard away.
func TestACommitIsAskedForBehindAGuardThatStood(t *testing.T) {
	_, k := withTenRules(t)
	k.watch.guard.raise(false)
	if err := k.socket.conn.SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	k.socket.buffer = 1 << 30 // so that no more is asked for
	if err := k.Commit(t.Context(), &Desired{Rules: many(0, 6000)}); err == nil {
		t.Fatal("the socket takes all at once")
	}
	if asked := k.watch.reports(); len(asked) != 1 || !asked[0].Unfinished {
		t.Errorf("asked for is %v, want a commit, once", asked)
	}
	if err := k.Commit(t.Context(), &Desired{Rules: many(0, 10)}); err != nil || k.watch.guard.up {
		t.Errorf("the next commit gives %v; the guard stands: %v", err, k.watch.guard.up)
	}
}

// A fault in what hears of other programs' changes is logged, and from then on it is known that nothing is heard.
func TestFaultOfTheMonitor(t *testing.T) {
	ns := Space(t, "nft")
	logger, log := Logged()
	m, err := newMonitor(logger, ns.Do, 0, func(part) bool { panic("a fault of the test") })
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if _, err := ns.Run(t.Context(), "", "nft", "add", "table", "inet", "another"); err != nil {
		t.Fatal(err)
	}
	<-m.done
	if !m.ended() || !m.take().lost || !strings.Contains(log.String(), "a fault of the test") {
		t.Errorf("it is not known that nothing is heard; the log says\n%s", log.String())
	}
}

// A fault in what looks at other programs' changes, or in who is told of them, is logged, and the next change is looked at
// all the same.
func TestGuardAgainstFaultsOfFollowing(t *testing.T) {
	logger, log := Logged()
	w := &watch{monitor: &monitor{wake: make(chan struct{}, 1), done: make(chan struct{})}, log: logger}
	looks, reported := 0, 0
	w.told = func(Foreign) {
		if reported++; reported == 1 {
			panic("a fault of who is told")
		}
		close(w.monitor.done)
	}
	w.monitor.wakeUp()
	w.follow(func() []Foreign {
		if looks++; looks < 3 {
			w.monitor.wakeUp()
		}
		if looks == 1 {
			panic("a fault of looking")
		}
		return []Foreign{{}}
	})
	if reported != 2 || !strings.Contains(log.String(), "a fault of looking") || !strings.Contains(log.String(), "a fault of who is told") {
		t.Errorf("%d reports, and the log\n%s", reported, log.String())
	}
}

// While the rules are in place and the guard still stands, the log says until when new connections wait, once, and when they do not
// any more. A guard that waits for nothing is no news.
func TestTheLogSaysThatConnectionsWait(t *testing.T) {
	logger, log := Logged()
	g := &guard{log: logger}
	lines := func(want ...string) {
		t.Helper()
		if n := strings.Count(log.String(), "\n"); n != len(want) {
			t.Errorf("the log has %d lines, not %d:\n%s", n, len(want), log.String())
		}
		for _, text := range want {
			if !strings.Contains(log.String(), text) {
				t.Errorf("the log does not say %q:\n%s", text, log.String())
			}
		}
		log.Reset()
	}
	g.noticed()
	g.note(true, false)
	g.note(false, false)
	lines()
	g.noticed()
	g.note(true, false)
	g.noticed()
	g.note(true, false)
	lines("for 10s, till ")
	g.note(false, false)
	lines("do not wait any more")
}

// A program that changes our rules while they are read is named, too: the reading may have seen its change before it was heard of.
func TestWhoChangesDuringALookIsNamed(t *testing.T) {
	ns, k := withTenRules(t)
	second := filepath.Join(t.TempDir(), "second")
	if path, err := exec.LookPath("nft"); err != nil {
		t.Fatal(err)
	} else if err := os.Symlink(path, second); err != nil {
		t.Fatal(err)
	}
	change := func(program, how string) {
		if _, err := ns.Run(t.Context(), "", program, how, "table", "inet", "firewalld"); err != nil {
			t.Error(err)
		}
	}
	change("nft", "flush")
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.watch.review(&changedWhileRead{k, sync.OnceFunc(func() { change(second, "delete") })})
	reports := k.watch.reports()
	if err != nil || len(reports) != 1 {
		t.Fatalf("the reports are %v, error %v", reports, err)
	}
	for i, name := range []string{"nft", "second"} {
		if by := reports[0].By; len(by) != 2 || by[i].Name != name {
			t.Errorf("it is said to be by %v", by)
		}
	}
}

// changedWhileRead is a subject that another program changes before a reading.
type changedWhileRead struct {
	subject
	change func()
}

func (c *changedWhileRead) differences() ([]string, error) {
	c.change()
	return c.subject.differences()
}
