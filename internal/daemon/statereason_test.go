package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// directOfAll is a direct.xml with a rule for ebtables in line 2, one for iptables in line 3 and one for ip6tables in line 4.
const directOfAll = `<direct>
<rule ipv="eb" table="filter" chain="INPUT" priority="0">-j DROP</rule>
<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 25 -j DROP</rule>
<rule ipv="ipv6" table="filter" chain="INPUT" priority="0">-p tcp --dport 25 -j DROP</rule>
</direct>`

// While the first rules cannot be put into the kernel, the state says why, as the log does, and says another reason once there is one. Where
// a program is not installed, it names the line of direct.xml that needs it.
func TestStateSaysWhyNothingIsInTheKernel(t *testing.T) {
	b := start(t, map[string]string{"direct.xml": directOfAll})
	var bridge error
	b.opt.Bridge = func(_ context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) { return old, bridge }
	missing := func(program string) error {
		return fmt.Errorf("cannot use it: %w", &kernel.NotInstalledError{Program: program})
	}
	b.kernel.refuse = missing("iptables")
	b.again(t)
	try := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.attend()
	}
	expect := func(err error, line string) {
		t.Helper()
		b.expect(t, Failed, err.Error()+"; it is needed for "+filepath.Join(b.dir, "direct.xml:"+line), nil, nil)
		if said := b.Snapshot().Failures; len(said) != 1 {
			t.Errorf("the state says %q", said)
		}
	}
	expect(b.kernel.refuse, "3")
	b.kernel.refuse = missing("ip6tables")
	try()
	expect(b.kernel.refuse, "4")
	bridge, b.kernel.refuse = missing("ebtables-restore"), nil
	try()
	expect(bridge, "2")
	bridge, b.kernel.refuse = nil, errors.Join(kernel.ErrBusy, errors.New("it is nft"))
	try()
	b.expect(t, Failed, kernel.ErrBusy.Error()+"; it is nft", nil, nil)
	b.kernel.refuse = nil
	try()
	b.expect(t, Running, "", []string{"22"}, nil)
}

// A direct rule that is refused at a start is named with its chain, which may be what is wrong.
func TestRefusedDirectRuleIsNamedWithItsChain(t *testing.T) {
	b := start(t, nil)
	k := &refusingKernel{text: "192.0.2.1"}
	b.on(k, &k.fakeKernel)
	b.write(t, map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="0">-s 192.0.2.1 -j DROP</rule></direct>`})
	b.again(t)
	b.expect(t, Failed, "direct.xml:1: COMMAND_FAILED: chain DOCKER-USER: not supported", nil, nil)
}

// What is wrong with the direct rules of the last good configuration is said of the link to it, by the state and the log: the name of its
// folder changes.
func TestLastGoodIsNamedByItsLink(t *testing.T) {
	b := startKept(t, map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.1 -j DROP</rule></direct>`})
	k := &refusingKernel{text: "192.0.2"}
	b.on(k, &k.fakeKernel)
	b.write(t, map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.2 -j DROP</rule></direct>`})
	b.again(t)
	b.expect(t, Failed, filepath.Join(b.opt.State.Link(), "direct.xml:"), nil, nil)
	if said := strings.Join(b.Snapshot().Failures, "\n"); strings.Contains(said, "/good-") {
		t.Errorf("the state says\n%s", said)
	}
	if said := b.log.String(); !strings.Contains(said, filepath.Join(b.opt.State.Link(), "direct.xml:")) || strings.Contains(said, "/good-") {
		t.Errorf("the log says\n%s", said)
	}
}

// A check of files that ask for another back end than the one in use asks that one, as a reload does.
func TestCheckAsksTheBackEndOfTheFiles(t *testing.T) {
	b := start(t, nil)
	b.Daemon.opt.Kernel = func(backend ir.Backend) (kernel.Kernel, error) {
		if backend == ir.IPTables {
			return &fakeKernel{refuse: &kernel.NotInstalledError{Program: "iptables"}}, nil
		}
		return b.kernel, nil
	}
	b.write(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n"})
	for name, err := range map[string]error{"check": b.CheckPermanent(t.Context()), "reload": b.Reload(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "cannot run iptables: it is not installed; it is needed for FirewallBackend=iptables") {
			t.Errorf("the %s says %v", name, err)
		}
	}
}

// Where the state folder cannot be read, and there is no firewalld.conf, the state names that folder first. It does not say that a
// firewalld.conf has gone: that is not known.
func TestStateFolderIsNamedFirst(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	folder := filepath.Dir(b.opt.State.Link())
	if err := errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.dir, "firewalld.conf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	b.keepStateIn(filepath.Dir(folder)) // what the daemon before has read is not known to the next
	b.again(t)
	said := b.Snapshot().Failures
	if b.Snapshot().State != Failed || !strings.Contains(said[0], folder) || strings.Contains(strings.Join(said, ""), "is gone") {
		t.Errorf("the state is %s: %q", b.Snapshot().State, said)
	}
}
