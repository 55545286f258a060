package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// someLinks are links that a test tells a daemon of.
type someLinks struct {
	refuse  error
	now     []kernel.Link
	changed func([]kernel.Link)
	stopped bool
}

func (l *someLinks) follow(changed func([]kernel.Link)) (func() error, []kernel.Link, error) {
	if l.refuse != nil {
		return nil, nil, l.refuse
	}
	l.changed = changed
	return func() error { l.stopped = true; return nil }, l.now, nil
}

func startLinked(t *testing.T, l *someLinks, files map[string]string) *bed {
	t.Helper()
	b := &bed{kernel: &fakeKernel{}, dir: t.TempDir()}
	b.write(t, files)
	b.Daemon = New(Options{
		Dirs: zones.Dirs{System: b.dir}, FollowLinks: l.follow,
		Kernel: func(ir.Backend) (kernel.Kernel, error) { return b.kernel, nil },
		Log:    slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	if err := b.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(context.Background()) })
	return b
}

// sizes are the elements of the map of IPv4, as they were committed.
func (b *bed) sizes() (list []string) {
	for _, s := range b.kernel.installed.Rules.Sets {
		for _, e := range s.Elements {
			if s.Name == ir.LinkMaps[ir.V4] {
				list = append(list, ir.NewSize(e.Text, e.Size()).Text)
			}
		}
	}
	return list
}

var linkZone = map[string]string{"zones/public.xml": `<zone><rule><tcp-mss-clamp value="link"/></rule></zone>`}

func addClamp() Change {
	return Change{Edit: zones.Add(zones.Runtime, public, zones.Item{Key: zones.KeyRule, Args: []string{`rule tcp-mss-clamp value="link"`}})}
}

// Links are followed from the first rule that needs them on until the end. A link that changes is committed without anything being compiled: the
// chains are the same ones. Nothing is committed for a link while no rule needs it.
func TestLinksAreFilledIn(t *testing.T) {
	l := &someLinks{now: []kernel.Link{{Name: "lo", Index: 1, MTU: 65536, MTU6: 65536, Loopback: true}, {Name: "eth0", Index: 2, MTU: 1500, MTU6: 1500}}}
	b := startLinked(t, l, nil)
	if l.changed != nil {
		t.Fatal("links are followed that no rule needs")
	}
	if err := b.ChangeRuntime(context.Background(), addClamp()); err != nil {
		t.Fatal(err)
	}
	if got := b.sizes(); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("the map has %v", got)
	}
	before, commits := b.kernel.installed.Rules, b.kernel.commits
	l.changed([]kernel.Link{{Name: "eth0", Index: 2, MTU: 1400, MTU6: 1400}, {Name: "ppp0", Index: 3, MTU: 1480, MTU6: 1480}, {Name: "odd*", Index: 4, MTU: 1480, MTU6: 1480}})
	if got := b.sizes(); !slices.Equal(got, []string{"eth0", "ppp0"}) {
		t.Errorf("the map has %v", got)
	}
	after := b.kernel.installed.Rules
	if !slices.Equal(before.Chains, after.Chains) || b.kernel.commits != commits+1 || b.kernel.installed.Anew {
		t.Errorf("a link that comes is %d commits, with other chains: %v", b.kernel.commits-commits, !slices.Equal(before.Chains, after.Chains))
	}
	if text := b.log.String(); !strings.Contains(text, "odd*") {
		t.Errorf("the log does not name the link that is left out:\n%s", text)
	}
	if err := b.Reload(context.Background()); err != nil { // the rule goes
		t.Fatal(err)
	}
	commits = b.kernel.commits
	l.changed(nil)
	if b.kernel.commits != commits {
		t.Error("something is committed for links that no rule needs")
	}
	if err := b.Stop(context.Background()); err != nil || !l.stopped {
		t.Errorf("links are followed behind the end: %v", err)
	}
}

// Where the links cannot be read, a change that needs them is refused and nothing has changed; a start goes on without them, and says so.
func TestLinksThatCannotBeRead(t *testing.T) {
	l := &someLinks{refuse: errors.New("no netlink here")}
	b := startLinked(t, l, nil)
	before := b.kernel.installed
	err := b.ChangeRuntime(context.Background(), addClamp())
	if err == nil || !strings.Contains(err.Error(), "COMMAND_FAILED") || !strings.Contains(err.Error(), "no netlink here") || b.kernel.installed != before {
		t.Errorf("the error is %v", err)
	}
	b = startLinked(t, l, linkZone)
	if b.Snapshot().State != Running || b.kernel.installed == nil || len(b.sizes()) != 0 {
		t.Errorf("the start is in state %s", b.Snapshot().State)
	}
	if text := b.log.String(); !strings.Contains(text, "nothing is clamped by value=link") {
		t.Errorf("the log says nothing of it:\n%s", text)
	}
	l.refuse, l.now = nil, []kernel.Link{{Name: "eth0", Index: 2, MTU: 1500, MTU6: 1500}}
	b.mu.Lock()
	b.commitLinks() // as in some seconds
	b.mu.Unlock()
	if got := b.sizes(); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("the map has %v", got)
	}
}

// A commit of links that fails is tried again, and the rules in force stay what they are.
func TestLinksThatAreNotTaken(t *testing.T) {
	l := &someLinks{now: []kernel.Link{{Name: "eth0", Index: 2, MTU: 1500, MTU6: 1500}}}
	b := startLinked(t, l, linkZone)
	before := b.kernel.installed
	b.kernel.refuse = kernel.ErrBusy
	l.changed([]kernel.Link{{Name: "eth1", Index: 3, MTU: 1500, MTU6: 1500}})
	if b.kernel.installed != before || b.links.again == nil {
		t.Error("a commit that fails is not tried again")
	}
	b.kernel.refuse = nil
	b.mu.Lock()
	b.commitLinks()
	b.mu.Unlock()
	if got := b.sizes(); !slices.Equal(got, []string{"eth1"}) {
		t.Errorf("the map has %v", got)
	}
}
