package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/kernel"
	"richwall/internal/statedir"
	"richwall/zones"
)

// again stops the daemon, if it runs, and starts another one on the same folders.
func (b *bed) again(t *testing.T) {
	t.Helper()
	refuse := b.kernel.refuse
	b.kernel.refuse = nil
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.kernel.refuse = refuse
	b.Daemon = New(b.opt)
	b.log.Reset()
	if err := b.Start(t.Context()); err != nil {
		t.Fatalf("the daemon does not start: %v", err)
	}
}

// startKept is start with a folder for what outlives the process.
func startKept(t *testing.T, files map[string]string) *bed {
	t.Helper()
	b := start(t, files)
	var err error
	if b.opt.State, err = statedir.For(t.TempDir(), b.dir); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	return b
}

const (
	workZone = `<zone><interface name="eth1"/><port port="8080" protocol="tcp"/></zone>`
	homeZone = `<zone><interface name="eth2"/><port port="7777" protocol="tcp"/><rule family="ipv4"><source address="192.0.2.1"/><drop/></rule></zone>`
)

// expect compares the state, what is said to be wrong, and ports that the kernel does and does not have.
func (b *bed) expect(t *testing.T, state State, failure string, open, closed []string) {
	t.Helper()
	now := b.Snapshot()
	if now.State != state {
		t.Errorf("the state is %s, want %s; the log says\n%s", now.State, state, b.log.String())
	}
	if said := strings.Join(now.Failures, "\n"); failure == "" && said != "" || !strings.Contains(said, failure) {
		t.Errorf("what is wrong is %q, want %q", said, failure)
	}
	rules := b.kernel.rules()
	for _, port := range open {
		if !strings.Contains(rules, "low="+port) {
			t.Errorf("port %s is closed, and should not be", port)
		}
	}
	for _, port := range closed {
		if strings.Contains(rules, "low="+port) {
			t.Errorf("port %s is open", port)
		}
	}
}

// An item that cannot be used and lets something in is left out; all else of the configuration is in force, and the state
// names the line. The file cannot be changed until it is mended by hand; others can.
func TestBrokenItem(t *testing.T) {
	b := startKept(t, map[string]string{
		"zones/work.xml": "<zone>\n<interface name=\"eth1\"/>\n<port port=\"8080\" protocol=\"tcp\"/>\n<port port=\"99999\" protocol=\"tcp\"/>\n</zone>",
		"zones/home.xml": homeZone,
	})
	b.expect(t, Failed, "work.xml:4:", []string{"8080", "7777", "22"}, nil)
	if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("1", "tcp"))}); err != nil {
		t.Errorf("a change of another zone gives %v", err)
	}
	err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: "work"}, port("1", "tcp"))})
	if err == nil || !strings.Contains(err.Error(), "zones/work.xml: it holds what could not be read") {
		t.Errorf("a change of the broken zone gives %v", err)
	}
	b.write(t, map[string]string{"zones/work.xml": workZone})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", []string{"8080", "7777", "22"}, nil)
}

// In the state FAILED edits of the files are taken as in any other, and what is wrong in them can be mended so: also while the last good
// configuration is in force. An edit that brings an error is refused, and so is what would make the runtime configuration permanent.
func TestMendedWhileFailed(t *testing.T) {
	policy, home := zones.Object{Kind: zones.KindPolicy, Name: "p"}, zones.Object{Kind: zones.KindZone, Name: "home"}
	service := zones.Item{Key: zones.KeyService, Args: []string{"mine"}}
	for name, c := range map[string]struct {
		files map[string]string
		mend  zones.Edit
	}{
		"a policy with a service that is gone": {map[string]string{
			"policies/p.xml": `<policy target="CONTINUE"><service name="mine"/><ingress-zone name="ANY"/><egress-zone name="HOST"/></policy>`}, zones.Remove(zones.Permanent, policy, service)},
		"a policy that drops, for a zone that is gone": {map[string]string{
			"policies/p.xml": `<policy target="DROP"><ingress-zone name="mine"/><egress-zone name="HOST"/></policy>`}, zones.Delete(policy)},
		"an interface of two zones":   {map[string]string{"zones/home.xml": `<zone><interface name="eth1"/></zone>`}, zones.Remove(zones.Permanent, home, interfaceItem("eth1"))},
		"a zone that cannot be read":  {map[string]string{"zones/mine.xml": `<zone><`}, zones.Delete(zones.Object{Kind: zones.KindZone, Name: "mine"})},
		"a default zone that is none": {map[string]string{"firewalld.conf": "DefaultZone=hmoe\n"}, zones.SetConf("DefaultZone", "home")},
	} {
		t.Run(name, func(t *testing.T) {
			b := startKept(t, map[string]string{"zones/work.xml": workZone, "firewalld.conf": "DefaultZone=home\n"})
			b.write(t, c.files)
			b.again(t)
			b.expect(t, Failed, "INVALID", []string{"8080"}, []string{"1234"})
			if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, service)}); err == nil {
				t.Error("an edit that brings an error is taken")
			}
			if err := b.RuntimeToPermanent(t.Context()); err == nil {
				t.Error("the runtime configuration becomes permanent")
			}
			for _, edit := range []zones.Edit{zones.Add(zones.Permanent, home, port("1234", "tcp")), c.mend} {
				if err := b.ChangePermanent(Change{Edit: edit}); err != nil {
					t.Error(err)
				}
			}
			if err := b.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			b.expect(t, Running, "", []string{"8080", "1234"}, nil)
		})
	}
}

// A change of several files that a crash has cut off is taken back by the start. If it cannot be, the files are a mixture of which nothing is
// used: the last good configuration is in force, and a reload is refused until somebody has seen to it.
func TestChangeCutOff(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	b.write(t, map[string]string{"zones/home.xml": homeZone})
	b.cutOff(t, `{"Path":"zones/home.xml","Exists":false}`+"\n")
	b.again(t)
	b.expect(t, Running, "", []string{"8080"}, []string{"7777"})
	if left, _ := filepath.Glob(filepath.Join(b.dir, "*/home.xml")); len(left) > 0 || !strings.Contains(b.log.String(), "a change of several files was cut off, and is taken back") {
		t.Errorf("there are %q, and the log says\n%s", left, b.log.String())
	}
	b.write(t, map[string]string{"zones/work.xml": homeZone})
	b.cutOff(t, "damaged\n")
	b.again(t)
	b.expect(t, Failed, ".unfinished-change", []string{"8080"}, []string{"7777"})
	if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be taken back") {
		t.Errorf("a reload gives %v", err)
	}
	if err := os.Remove(filepath.Join(b.dir, ".unfinished-change")); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	b.expect(t, Running, "", []string{"7777"}, []string{"8080"})
}

// cutOff leaves what a change of several files leaves that is cut off.
func (b *bed) cutOff(t *testing.T, lines string) {
	t.Helper()
	const journal = ".unfinished-change"
	b.write(t, map[string]string{journal: ""})
	folder, err := os.Stat(b.dir)
	file, err2 := os.Stat(filepath.Join(b.dir, journal))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{journal: fmt.Sprintf(`{"Folder":%d,"Journal":%d}`+"\n%s", folder.Sys().(*syscall.Stat_t).Ino, file.Sys().(*syscall.Stat_t).Ino, lines)})
}

// A file that cannot be read at all leaves it open what is bound to its zone: the last good configuration is used, and not
// the shipped one. Without a last good one, the zone refuses everything, and all else of the files is in force.
func TestBrokenZone(t *testing.T) {
	broken := map[string]string{"zones/work.xml": "<zone><port", "zones/home.xml": homeZone}
	b := startKept(t, broken)
	b.expect(t, Failed, "work.xml:1:", []string{"7777"}, nil)

	b = startKept(t, map[string]string{"zones/work.xml": workZone, "zones/home.xml": homeZone})
	b.expect(t, Running, "", []string{"8080", "7777"}, nil)
	b.write(t, broken)
	b.again(t)
	b.expect(t, Failed, "work.xml:1:", []string{"8080", "7777"}, nil)
	b.write(t, map[string]string{"zones/work.xml": `<zone><interface name="eth1"/></zone>`})
	b.again(t)
	b.expect(t, Running, "", []string{"7777"}, []string{"8080"})
	b.write(t, broken)
	b.again(t)
	b.expect(t, Failed, "work.xml:1:", []string{"7777"}, []string{"8080"})
}

// A rule in a file that does nothing has lost what it did. That may have been a drop: its zone refuses everything.
func TestRuleWithoutItsAction(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": "<zone>\n<interface name=\"eth1\"/>\n<port port=\"8080\" protocol=\"tcp\"/>\n" +
		"<rule family=\"ipv4\"><source address=\"192.0.2.1\"/><port port=\"8080\" protocol=\"tcp\"/></rule>\n</zone>"})
	b.expect(t, Failed, "zone work refuses everything", []string{"22"}, []string{"8080"})
}

// A zone whose own file is whole refuses everything while an ipset that it drops by is broken, and is itself again when only the
// ipset's file was mended.
func TestBrokenReference(t *testing.T) {
	b := startKept(t, map[string]string{
		"ipsets/bad.xml": `<ipset type="hash:nothing"/>`,
		"zones/work.xml": `<zone><interface name="eth1"/><port port="8080" protocol="tcp"/><rule><source ipset="bad"/><drop/></rule></zone>`,
	})
	b.expect(t, Failed, "bad.xml:1:", []string{"22"}, []string{"8080"})
	b.write(t, map[string]string{"ipsets/bad.xml": `<ipset type="hash:ip"/>`})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", []string{"22", "8080"}, nil)
}

// An ipset or ICMP type of which a part cannot be used has a hole. At a first start no last good configuration can stand in, so that the
// zones and policies that refuse by it refuse everything, and those that only let in by it let in less. A reload refuses the files until
// they are mended.
func TestHoleAtTheFirstStart(t *testing.T) {
	const badType = `<icmptype><destination ipv4="yess" ipv6="yes"/></icmptype>`
	const hole = `<ipset type="hash:net"><entry>192.0.2.0/33</entry><entry>198.51.100.0/24</entry></ipset>`
	for name, files := range map[string]map[string]string{
		"a rule drops by it":         {"zones/work.xml": strings.Replace(workZone, "</zone>", `<rule><source ipset="x"/><drop/></rule></zone>`, 1)},
		"it is a source":             {"zones/work.xml": strings.Replace(workZone, "</zone>", `<source ipset="x"/></zone>`, 1)},
		"all but it is let in":       {"zones/work.xml": strings.Replace(workZone, "</zone>", `<rule family="ipv4"><source invert="True" ipset="x"/><accept/></rule></zone>`, 1)},
		"a zone of several files":    {"zones/work/a.xml": workZone, "zones/work/b.xml": `<zone><rule><source ipset="x"/><drop/></rule></zone>`},
		"a policy rejects by it":     {"policies/to-work.xml": `<policy target="CONTINUE"><ingress-zone name="ANY"/><egress-zone name="HOST"/><port port="8080" protocol="tcp"/><rule><source ipset="x"/><reject/></rule></policy>`},
		"an ICMP type is blocked":    {"zones/work.xml": strings.Replace(workZone, "</zone>", `<icmp-block name="echo-request"/></zone>`, 1)},
		"a rule drops an ICMP type":  {"zones/work.xml": strings.Replace(workZone, "</zone>", `<rule><icmp-type name="echo-request"/><drop/></rule></zone>`, 1)},
		"a rule blocks an ICMP type": {"zones/work.xml": strings.Replace(workZone, "</zone>", `<rule><icmp-block name="echo-request"/></rule></zone>`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			files["zones/home.xml"], files["ipsets/x.xml"] = homeZone, hole
			files["icmptypes/echo-request.xml"] = badType
			b := startKept(t, files)
			b.expect(t, Failed, "work refuses everything", []string{"7777", "22"}, []string{"8080"})
			if err := b.Reload(t.Context()); err == nil {
				t.Error("a reload takes the files")
			}
			b.expect(t, Failed, "work refuses everything", []string{"7777", "22"}, []string{"8080"})
			b.write(t, map[string]string{"ipsets/x.xml": strings.Replace(hole, "/33", "/32", 1), "icmptypes/echo-request.xml": strings.Replace(badType, "yess", "yes", 1)})
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.expect(t, Running, "", []string{"7777", "8080"}, nil)
			b.again(t)
			b.expect(t, Running, "", []string{"7777", "8080"}, nil)
		})
	}
	b := startKept(t, map[string]string{"ipsets/x.xml": hole, "zones/work.xml": `<zone target="DROP"><source ipset="x"/></zone>`})
	b.expect(t, Failed, "what should come to it may be let in elsewhere", nil, nil)
	b = startKept(t, map[string]string{"ipsets/x.xml": hole, "zones/work.xml": strings.Replace(workZone, "</zone>", `<rule><source ipset="x"/><accept/></rule></zone>`, 1)})
	b.expect(t, Running, "", []string{"8080"}, nil)
}

// Nothing comes to rely on a set or an ICMP type with a hole, for good or for now: the next reload would refuse the files. What only lets in by
// it may, and so may all else once its file is mended.
func TestNothingComesToRelyOnAHole(t *testing.T) {
	const holed = `<ipset type="hash:ip"><entry>192.0.2.1</entry><entry>192.0.2.2x</entry></ipset>`
	b := startKept(t, map[string]string{"zones/work.xml": workZone, "ipsets/bad.xml": holed, "icmptypes/echo-request.xml": `<icmptype><destination ipv4="yess" ipv6="yes"/></icmptype>`})
	b.expect(t, Running, "", nil, nil)
	rule := func(text string) zones.Item { return zones.Item{Key: zones.KeyRule, Args: []string{text}} }
	direct := zones.Object{Kind: zones.KindDirect}
	try := func(refused string) {
		t.Helper()
		for name, c := range map[string]struct {
			object zones.Object
			item   zones.Item
		}{
			"a drop":         {public, rule(`rule family="ipv4" source ipset="bad" drop`)},
			"all but it":     {public, rule(`rule family="ipv4" source not ipset="bad" accept`)},
			"a source":       {public, zones.Item{Key: zones.KeySource, Args: []string{"ipset:bad"}}},
			"a direct rule":  {direct, zones.Item{Key: zones.KeyDirectRule, Args: []string{"ipv4", "filter", "INPUT", "0", "-m", "set", "--match-set", "bad", "src", "-j", "DROP"}}},
			"a blocked type": {public, zones.Item{Key: zones.KeyICMPBlock, Args: []string{"echo-request"}}},
		} {
			before := b.Snapshot()
			for scope, err := range map[string]error{
				"permanent": b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, c.object, c.item)}),
				"runtime":   b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, c.object, c.item)}),
			} {
				if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
					t.Errorf("%s, %s: the error is %v", name, scope, err)
				}
			}
			if refused != "" && !reflect.DeepEqual(b.Snapshot(), before) {
				t.Errorf("%s: an edit that was refused has changed something", name)
			}
		}
	}
	try("whose file holds what could not be read or used")
	if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, rule(`rule family="ipv4" source ipset="bad" accept`))}); err != nil {
		t.Errorf("a rule that lets in by the set is refused: %v", err)
	}
	if err := b.RuntimeToPermanent(t.Context()); err != nil {
		t.Errorf("the runtime configuration does not become permanent: %v", err)
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Errorf("a reload is refused: %v", err)
	}
	b.write(t, map[string]string{"ipsets/bad.xml": strings.Replace(holed, "2x", "2", 1), "icmptypes/echo-request.xml": `<icmptype><destination ipv4="yes" ipv6="yes"/></icmptype>`})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	try("")
}

// What a reload has put into force is the last good configuration, too; a reload that was refused is not.
func TestReloadIsKept(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	b.write(t, map[string]string{"zones/work.xml": strings.Replace(workZone, "8080", "9090", 1)})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"zones/work.xml": strings.Replace(workZone, "8080", "nothing", 1)})
	if err := b.Reload(t.Context()); err == nil {
		t.Fatal("a broken file was loaded")
	}
	b.write(t, map[string]string{"zones/work.xml": ""})
	b.again(t)
	b.expect(t, Failed, "work.xml", []string{"9090"}, []string{"8080"})
}

// Files on a disk that does not answer do not keep the firewall from starting.
func TestSlowFiles(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	defer unreadable(t)()
	b.again(t)
	b.expect(t, Failed, "could not be read within", []string{"8080"}, nil)
}

// unreadable keeps the files from being read, until the function that it returns is called.
func unreadable(t *testing.T) func() {
	wasTime, wasLoad := readTime, loadRest
	readTime, loadRest = time.Second, func(zones.Dirs, *zones.Config) *zones.Rest { <-t.Context().Done(); return nil }
	return func() { readTime, loadRest = wasTime, wasLoad }
}

// A last good configuration that somebody has changed is not used, and neither is the shipped one: nothing new is let in. The firewall can
// be asked, panic mode goes on and off, and a reload of mended files puts them into force.
func TestDamagedLastGood(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	folder, _, err := b.opt.State.LastGood()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(folder, "zones/work.xml"), filepath.Join(b.dir, "zones/work.xml")} {
		if err := os.WriteFile(path, []byte("<zone><"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.Stop(t.Context())
	readable := unreadable(t)
	b.again(t)
	readable()
	b.closed(t, "could not be read within")
	b.closed(t, "zones/work.xml was changed")
	if err := b.Reload(t.Context()); err == nil {
		t.Error("a reload takes the files")
	}
	if err := errors.Join(b.SetPanic(t.Context(), true), b.SetPanic(t.Context(), false)); err != nil {
		t.Error(err)
	}
	b.closed(t, "was changed")
	for _, zone := range zones.Names(b.Snapshot().Runtime.Zones) { // as NetworkManager may do
		if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Rebind(zones.Runtime, zone, interfaceItem("eth0")), Manager: true}); err != nil {
			t.Errorf("an interface cannot be bound to %s: %v", zone, err)
		}
		b.closed(t, "was changed")
	}
	before := b.kernel.installed
	b.Stop(t.Context())
	if b.kernel.installed != before {
		t.Error("what lets nothing in is gone when the firewall is stopped")
	}
	b.Daemon = New(b.opt)
	b.write(t, map[string]string{"firewalld.conf": "<"})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.closed(t, "zones/work.xml:1:")
	b.write(t, map[string]string{"zones/work.xml": workZone, "firewalld.conf": ""})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", []string{"8080", "22"}, nil)
	if _, _, err := b.opt.State.LastGood(); err != nil {
		t.Error(err)
	}
}

// The log says once that the last good configuration cannot be used, and of one that is used since when it was, in the time of the log.
func TestLogOfTheLastGood(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.FixedZone("", -9*3600)
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	defer b.Stop(t.Context())
	folder, _, err := b.opt.State.LastGood()
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"zones/work.xml": `<zone target="DROP"><`})
	b.again(t)
	if log := b.log.String(); !regexp.MustCompile(`installed=\S+-09:00 `).MatchString(log) {
		t.Errorf("the log says\n%s", log)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(folder, "zones/work.xml"), nil, 0o600), os.RemoveAll(filepath.Join(b.dir, "zones"))); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	if log := b.log.String(); strings.Count(log, "the last good configuration cannot be used") != 1 {
		t.Errorf("the log says\n%s", log)
	}
}

// closed checks that nothing new is let in but what a machine needs to stay on its network, and that the state says why.
func (b *bed) closed(t *testing.T, failure string) {
	t.Helper()
	b.expect(t, Failed, failure, []string{"68", "546"}, []string{"22", "8080", "9090", "7777", "631", "5353"})
	b.expect(t, Failed, "nothing new is let in but loopback, DHCP and neighbour discovery", nil, nil)
}

// Neither is a last good configuration used that the kernel refuses.
func TestRefusedLastGood(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": strings.Replace(workZone, "</zone>", `<rule><port port="5555" protocol="tcp"/><accept/></rule></zone>`, 1)})
	k := &refusingKernel{text: "5555"}
	b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
	b.kernel = &k.fakeKernel
	b.write(t, map[string]string{"zones/work.xml": "<zone><"})
	b.again(t)
	b.closed(t, "not supported")
}

// A packet filter that cannot be used at all is an error, and the program ends. One that has only iptables lets nothing new in by it.
func TestClosedWithoutNFTables(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n", "zones/work.xml": workZone})
	folder, _, err := b.opt.State.LastGood()
	if err == nil {
		err = os.Remove(filepath.Join(folder, "MANIFEST"))
	}
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"zones/work.xml": "<zone><"})
	usable := ir.IPTables
	b.opt.Kernel = func(backend ir.Backend) (kernel.Kernel, error) {
		if backend != usable {
			return nil, errors.New("not supported")
		}
		return b.kernel, nil
	}
	b.again(t)
	b.closed(t, "work.xml:1:")
	b.Stop(t.Context())
	usable = ""
	b.Daemon = New(b.opt)
	if err := b.Start(t.Context()); !errors.Is(err, errNoKernel) {
		t.Errorf("the error is %v", err)
	}
}

// A configuration that could not be kept leaves none behind that a start may use: neither the one before, which may be more open, nor the
// shipped one. The next one that is kept counts again.
func TestLastGoodOutdated(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n", "zones/work.xml": workZone})
	folder, _, err := b.opt.State.LastGood()
	inTheWay := filepath.Join(filepath.Dir(folder), ".last-good")
	if err == nil {
		err = os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"zones/work.xml": strings.Replace(workZone, "8080", "9090", 1)})
	if err := b.Reload(t.Context()); err != nil || !strings.Contains(b.log.String(), "nothing new is let in until they are mended") {
		t.Fatalf("a reload gives %v; the log says\n%s", err, b.log.String())
	}
	for _, spoil := range []func() error{
		func() error { return os.Remove(filepath.Join(b.dir, "firewalld.conf")) },
		func() error { return os.RemoveAll(filepath.Join(b.dir, "zones")) },
		func() error { return os.WriteFile(filepath.Join(b.dir, "zones"), nil, 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		b.again(t)
		b.closed(t, statedir.ErrOutdated.Error())
	}
	for _, path := range []string{inTheWay, filepath.Join(b.dir, "zones")} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	b.write(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n", "zones/work.xml": workZone})
	b.again(t)
	b.expect(t, Running, "", []string{"8080"}, []string{"22"})
	b.write(t, map[string]string{"zones/work.xml": ""})
	b.again(t)
	b.expect(t, Failed, "work.xml", []string{"8080"}, []string{"22"})
}

// Files that leave doubt beside a last good configuration that was damaged are not used either.
func TestDoubtAndDamage(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	folder, _, err := b.opt.State.LastGood()
	if err == nil {
		err = os.Remove(filepath.Join(folder, "MANIFEST"))
	}
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, map[string]string{"zones/work.xml": "<zone><"})
	b.again(t)
	b.closed(t, errDoubt.Error())
}

// An empty firewalld.conf beside a last good configuration of which nothing is known may have held another default zone.
func TestNoConfAndDamage(t *testing.T) {
	for name, lose := range map[string]func(folder string) error{
		"the manifest": func(f string) error { return os.Truncate(filepath.Join(f, "MANIFEST"), 0) },
		"a file":       func(f string) error { return os.Remove(filepath.Join(f, "firewalld.conf")) },
		"the folder":   os.RemoveAll,
		"the link":     func(f string) error { return os.Remove(filepath.Join(filepath.Dir(f), "last-good")) },
	} {
		t.Run(name, func(t *testing.T) {
			b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n"})
			folder, _, err := b.opt.State.LastGood()
			if err == nil {
				err = lose(folder)
			}
			if err != nil {
				t.Fatal(err)
			}
			b.write(t, map[string]string{"firewalld.conf": ""})
			b.again(t)
			b.closed(t, "firewalld.conf in ")
			if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "write the line DefaultZone=public into it") {
				t.Errorf("a reload gives %v", err)
			}
			b.write(t, map[string]string{"firewalld.conf": "DefaultZone=public\n"})
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.expect(t, Running, "", []string{"22"}, nil)
		})
	}
}

// An administrator's folder that is not there, as when its disk is not mounted, is not taken for an empty one.
func TestFolderGone(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	if err := os.Rename(b.dir, b.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err == nil {
		t.Error("a reload without a folder succeeds")
	}
	if err := b.CheckPermanent(t.Context()); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("a check without a folder gives %v", err)
	}
	for range 2 {
		b.again(t)
		b.expect(t, Failed, "is not there", []string{"8080"}, nil)
	}
}

// Neither does a folder without any file mean the shipped configuration, if it held some when it was used last: it may be the place of
// a disk that is not mounted. An empty firewalld.conf says that it is meant so.
func TestFolderEmptied(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	if err := os.RemoveAll(filepath.Join(b.dir, "zones")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(b.dir, "services"), 0o750); err != nil { // as a package may make it
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no file") {
		t.Errorf("a reload without files gives %v", err)
	}
	for range 2 {
		b.again(t)
		b.expect(t, Failed, "firewall-cmd --reset-to-defaults, or make an empty file "+b.dir+"/firewalld.conf", []string{"8080"}, nil)
	}
	b.write(t, map[string]string{"firewalld.conf": ""})
	b.again(t)
	b.expect(t, Running, "", []string{"22"}, []string{"8080"})
}

// The same goes where firewalld.conf was the only file, or direct.xml.
func TestFolderOfOneFileEmptied(t *testing.T) {
	for name, text := range map[string]string{
		"firewalld.conf": "DefaultZone=drop\n",
		"direct.xml":     `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 22 -j DROP</rule></direct>`,
	} {
		b := startKept(t, map[string]string{name: text})
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no file") {
			t.Errorf("%s is gone, and a reload gives %v", name, err)
		}
		b.again(t)
		b.expect(t, Failed, "holds no file", nil, nil)
		b.expect(t, Failed, "in force instead is the last good configuration", nil, nil)
		if err := b.ResetToDefaults(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.expect(t, Running, "", []string{"22"}, nil)
	}
}

// Nor does a folder with what is shipped that is gone or emptied mean what is built in, where the zones in it were used.
func TestShippedFolderGone(t *testing.T) {
	for name, lose := range map[string]func(folder string) error{
		"gone":    os.RemoveAll,
		"emptied": func(f string) error { return os.RemoveAll(filepath.Join(f, "zones")) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, map[string]string{"zones/work.xml": workZone})
			shipped := t.TempDir()
			for _, zone := range zones.Names(b.Snapshot().Permanent.Zones) {
				if err := errors.Join(os.MkdirAll(filepath.Join(shipped, "zones"), 0o750), os.WriteFile(filepath.Join(shipped, "zones", zone+".xml"), []byte(`<zone target="DROP"/>`), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			b.opt.Dirs.Default = shipped
			var err error
			if b.opt.State, err = statedir.For(t.TempDir(), b.dir); err != nil {
				t.Fatal(err)
			}
			b.again(t)
			b.expect(t, Running, "", []string{"8080"}, []string{"22"})
			if err := lose(shipped); err != nil {
				t.Fatal(err)
			}
			if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), shipped+" is not there or holds no file") {
				t.Errorf("a reload gives %v", err)
			}
			for range 2 {
				b.again(t)
				b.expect(t, Failed, shipped+" is not there or holds no file", []string{"8080"}, []string{"22"})
			}
			if err := errors.Join(os.MkdirAll(shipped, 0o750), os.WriteFile(filepath.Join(shipped, "firewalld.conf"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.expect(t, Running, "", []string{"8080", "22"}, nil)
		})
	}
}

// A shipped folder that there never was is not missed, whatever the administrator has.
func TestNoShippedFolder(t *testing.T) {
	b := startKept(t, map[string]string{
		"zones/work/a.xml": workZone, "zones/home.xml": homeZone, "ipsets/x.xml": `<ipset type="hash:ip"/>`, "services/ssh.xml": `<service><port port="23" protocol="tcp"/></service>`,
		"policies/p.xml": `<policy target="CONTINUE"><ingress-zone name="ANY"/><egress-zone name="HOST"/></policy>`, "direct.xml": "<direct/>",
	})
	b.opt.Dirs.Default = filepath.Join(b.dir, "nosuch")
	b.again(t)
	for range 2 {
		b.again(t)
		b.expect(t, Running, "", []string{"8080", "7777", "23"}, nil)
		if err := b.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, public, port("1", "tcp"))}); err != nil && !strings.Contains(err.Error(), "ALREADY_ENABLED") {
			t.Error(err)
		}
	}
}

// A folder that never held a file is what it was, also after an update has changed what is shipped; so is one whose last object has been
// deleted.
func TestFolderEmptyOnPurpose(t *testing.T) {
	b := startKept(t, nil)
	b.again(t)
	b.expect(t, Running, "", []string{"22"}, nil)
	b.opt.Dirs.Default = t.TempDir()
	shipped := filepath.Join(b.opt.Dirs.Default, "ipsets")
	err := os.Mkdir(shipped, 0o750)
	if err == nil {
		err = os.WriteFile(filepath.Join(shipped, "new.xml"), []byte(`<ipset type="hash:ip"/>`), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.again(t)
	b.expect(t, Running, "", []string{"22"}, nil)
	mine := zones.Object{Kind: zones.KindZone, Name: "mine"}
	for _, edit := range []zones.Edit{zones.New(mine, nil), zones.Delete(mine)} {
		if err := b.ChangePermanent(Change{Edit: edit}); err != nil {
			t.Fatal(err)
		}
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.again(t)
		b.expect(t, Running, "", []string{"22"}, nil)
	}
}

// A default zone that does not exist may be a misspelled one, and the zone that firewalld uses in its place may be more open: a start
// uses the last good configuration, and a reload is refused. At the first start nothing else is known: the zone in its place is used, as
// in firewalld, and a reload of the same goes on with it.
func TestDefaultZoneThatIsNotThere(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n", "zones/work.xml": workZone})
	b.write(t, map[string]string{"firewalld.conf": "DefaultZone=nosuch\n"})
	b.again(t)
	b.expect(t, Failed, "/firewalld.conf:1: INVALID_ZONE: the default zone nosuch does not exist\nthe files are not used: ", []string{"8080"}, []string{"22"})
	b.expect(t, Failed, "/last-good\nto end this: mend what is named here, see what firewall-cmd --check-config and richwall check "+b.dir+" say, and run firewall-cmd --reload", []string{"8080"}, []string{"22"})
	if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "firewalld.conf:1: INVALID_ZONE: ") {
		t.Errorf("a reload gives %v", err)
	}
	b.again(t)
	b.expect(t, Failed, "nosuch", []string{"8080"}, []string{"22"})
	b = startKept(t, map[string]string{"firewalld.conf": "DefaultZone=nosuch\n"})
	b.write(t, map[string]string{"zones/work.xml": workZone})
	for range 2 {
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.expect(t, Running, "", []string{"8080", "22"}, nil)
		b.again(t)
	}
	b.write(t, map[string]string{"firewalld.conf": "DefaultZone=dro\n"})
	if err := b.Reload(t.Context()); err == nil {
		t.Error("a reload takes another default zone that does not exist")
	}
}

// A reload never takes files of which a part is passed over, if that may let in more than what is in force: nothing changes, and the last
// good configuration is not replaced. What is passed over and lets in no more, it takes with a warning, as firewalld does.
func TestReloadInDoubt(t *testing.T) {
	const (
		conf   = "DefaultZone=drop\nStrictForwardPorts=yes\nLogDenied=all\n"
		set    = `<ipset type="hash:ip"><entry>192.0.2.1</entry><entry>192.0.2.2</entry></ipset>`
		kind   = `<icmptype><destination ipv4="yes"/></icmptype>`
		direct = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.1 -j DROP</rule><passthrough ipv="ipv4">-I INPUT 1 -s 192.0.2.2 -j DROP</passthrough></direct>`
	)
	whole := map[string]string{
		"firewalld.conf": conf, "ipsets/bad.xml": set, "ipsets/other.xml": set, "icmptypes/echo-request.xml": kind, "icmptypes/echo-reply.xml": kind, "direct.xml": direct,
		"zones/work/a.xml":  workZone,
		"services/near.xml": `<service><port port="1" protocol="tcp"/><destination ipv4="192.0.2.0/24"/></service>`,
		"services/idle.xml": `<service><port port="1" protocol="tcp"/></service>`, "services/outer.xml": `<service><include service="near"/></service>`,
		"zones/dmz.xml":    `<zone><interface name="eth9"/><service name="outer"/></zone>`,
		"services/all.xml": `<service><port port="1" protocol="tcp"/></service>`,
		"zones/home.xml":   strings.Replace(homeZone, "</zone>", `<rule family="ipv4"><source ipset="bad"/><drop/></rule><icmp-block name="echo-request"/></zone>`, 1),
	}
	for name, test := range map[string]struct {
		file, text string
		refused    string // what the error says; "" is that the files are taken
	}{
		"the default zone cut off":                   {"firewalld.conf", "DefaultZone=dro", "firewalld.conf:1: INVALID_ZONE: "},
		"its name lost":                              {"firewalld.conf", "DefaultZone=\nStrictForwardPorts=yes\nLogDenied=all\n", "firewalld.conf:1:1: INVALID_VALUE: "},
		"its key misspelled":                         {"firewalld.conf", strings.Replace(conf, "DefaultZone", "DefaultZon", 1), "firewalld.conf:1:1: INVALID_OPTION: "},
		"another key misspelled":                     {"firewalld.conf", strings.Replace(conf, "Strict", "Stric", 1), "firewalld.conf:2:1: INVALID_OPTION: "},
		"a key too many":                             {"firewalld.conf", conf + "NoSuchKey=yes\n", ""},
		"a key too many, and another value":          {"firewalld.conf", strings.Replace(conf, "all", "off", 1) + "NoSuchKey=yes\n", ""},
		"a key twice":                                {"firewalld.conf", conf + "DefaultZone=public\n", ""},
		"a key less, and a line twice":               {"firewalld.conf", "DefaultZone=drop\nLogDenied=all\nLogDenied=all\n", ""},
		"a key less, and another twice":              {"firewalld.conf", "DefaultZone=drop\nLogDenied=all\nLogDenied=off\n", ""},
		"a key less, and one too many":               {"firewalld.conf", "DefaultZone=drop\nLogDenied=all\nNoSuchKey=yes\n", ""},
		"a key less, and a line that is none":        {"firewalld.conf", "DefaultZone=drop\nLogDenied=all\nStrict\n", "firewalld.conf:3:1: PARSE_ERROR: "},
		"a default zone less, named by another key":  {"firewalld.conf", "Zone=drop\nStrictForwardPorts=yes\n", "firewalld.conf:1:1: INVALID_OPTION: "},
		"a value that is none":                       {"firewalld.conf", conf + "IPv6_rpfilter=perhaps\n", ""},
		"an entry of a set that is dropped by":       {"ipsets/bad.xml", strings.Replace(set, "2.2<", "2.2/<", 1), "ipsets/bad.xml:1:47: INVALID_ENTRY: "},
		"an entry of an unused set":                  {"ipsets/other.xml", strings.Replace(set, "2.2<", "2.2/<", 1), ""},
		"a family of a blocked ICMP type":            {"icmptypes/echo-request.xml", strings.Replace(kind, "yes", "yess", 1), "icmptypes/echo-request.xml:1:24: INVALID_VALUE: "},
		"a family of an unused ICMP type":            {"icmptypes/echo-reply.xml", strings.Replace(kind, "yes", "yess", 1), ""},
		"a direct rule without its arguments":        {"direct.xml", strings.Replace(direct, "-s 192.0.2.1 -j DROP", "", 1), "direct.xml:1:9: PARSE_ERROR: "},
		"the destination of a service":               {"services/near.xml", `<service><port port="1" protocol="tcp"/><destination/></service>`, "services/near.xml:1:41: PARSE_ERROR: "},
		"that of a service without one, unused":      {"services/idle.xml", `<service><port port="1" protocol="tcp"/><destination/></service>`, ""},
		"a service that nothing uses":                {"services/new.xml", `<service><port port="7" protocol="tcp"/><destination/></service>`, ""},
		"that of a service without one":              {"services/all.xml", `<service><port port="1" protocol="tcp"/><destination/></service>`, ""},
		"a place of a passthrough that there is not": {"direct.xml", strings.Replace(direct, "INPUT 1", "INPUT 0", 1), "INVALID_PASSTHROUGH: "},
		"a table of a passthrough that there is not": {"direct.xml", strings.Replace(direct, "-I INPUT 1", "-t FILTER -I INPUT", 1), "INVALID_PASSTHROUGH: "},
		"a passthrough that adds nothing":            {"direct.xml", strings.Replace(direct, "</direct>", `<passthrough ipv="ipv4">-L INPUT</passthrough></direct>`, 1), ""},
		"another one beside it":                      {"direct.xml", strings.Replace(direct, "</direct>", `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0"></rule></direct>`, 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := startKept(t, whole)
			before, commits := b.Snapshot(), b.kernel.commits
			b.write(t, map[string]string{test.file: test.text})
			checked := b.CheckPermanent(t.Context())
			if (checked == nil) != (test.refused == "") || checked != nil && !strings.Contains(checked.Error(), test.refused) {
				t.Errorf("a check of the files says %v", checked)
			}
			err := b.Reload(t.Context())
			var refused *Error
			if errors.As(err, &refused) && refused.Code == zones.AlreadyEnabled {
				t.Error("the refusal has a code that programs take for a success")
			}
			kept, _, _ := b.opt.State.LastGood()
			cfg, _ := zones.Load(zones.Dirs{System: kept})
			switch {
			case test.refused == "" && err != nil:
				t.Errorf("a reload is refused: %v", err)
			case test.refused == "":
			case err == nil || !strings.Contains(err.Error(), test.refused):
				t.Errorf("a reload gives %v, want %s", err, test.refused)
			case !reflect.DeepEqual(b.Snapshot(), before) || b.kernel.commits != commits:
				t.Error("a reload that was refused has changed something")
			}
			if now := b.Snapshot().Permanent; len(zones.Difference(now, cfg)) > 0 {
				t.Errorf("what is kept is not what is in force: %v", zones.Difference(now, cfg))
			}
		})
	}
	b := startKept(t, whole)
	if err := os.Rename(filepath.Join(b.dir, "zones/work/a.xml"), filepath.Join(b.dir, "zones/work/a.xml.away")); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "zones/work: INVALID_ZONE: ") {
		t.Errorf("a zone loses all of its files, and a reload gives %v", err)
	}
}

// A line of firewalld.conf that cannot be used is refused only where its key had a stricter value than the default that it has now. It
// does not count what other lines have wrong, nor, at a start, what could be kept at a reload.
func TestTypoInConf(t *testing.T) {
	for _, c := range []struct {
		before, now   string
		reload, start bool // whether either uses the files
	}{
		{"LogDenied=all", "LogDenied=al", true, true},
		{"LogDenied=unicast", "Foo=1", true, true},
		{"LogDenied=unicast", "CleanupOnExit=maybe", true, true},
		{"ReloadPolicy=ACCEPT", "ReloadPolicy=acept", true, true},
		{"IPv6_rpfilter=loose", "IPv6_rpfilter=on", true, true},
		{"IPv6_rpfilter=no", "IPv6_rpfilter=off", true, true},
		{"CleanupOnExit=no", "CleanupOnExit=maybe", true, true},
		{"RFC3964_IPv4=no", "RFC3964_IPv4=off", true, true},
		{"NftablesFlowtable=eth0", "NftablesFlowtable=a/b", true, true},
		{"FlushAllOnReload=no", "FlushAllOnReload=0", true, true},
		{"StrictForwardPorts=yes", "StrictForwardPort=yes", false, false},
		{"StrictForwardPorts=yes", "ForwardPortsStrict=yes", false, false},
		{"StrictForwardPorts=yes", "forward_port_strict=yes", false, false},
		{"StrictForwardPorts=yes", "StrictPorts=yes", false, false},
		{"StrictForwardPorts=no", "ForwardPortsStrict=yes", true, true},
		{"StrictForwardPorts=yes", "Foo=yes", true, true},
		{"StrictForwardPorts=yes", "LogDenied=al", true, true},
		{"StrictForwardPorts=yes", "StrictForwardPorts=", false, false},
		{"FirewallBackend=iptables", "FirewallBackend=iptable", false, false},
	} {
		t.Run(c.before+", then "+c.now, func(t *testing.T) {
			b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=public\n" + c.before + "\n"})
			b.write(t, map[string]string{"firewalld.conf": "DefaultZone=public\n" + c.now + "\n", "zones/work.xml": workZone})
			if err := b.Reload(t.Context()); (err == nil) != c.reload || err != nil && !strings.Contains(err.Error(), "firewalld.conf:2:1: ") {
				t.Errorf("a reload gives %v", err)
			}
			b.write(t, map[string]string{"firewalld.conf": "DefaultZone=public\n" + c.before + "\n"})
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.write(t, map[string]string{"firewalld.conf": "DefaultZone=public\n" + c.now + "\n"})
			b.again(t)
			if state := b.Snapshot().State; (state == Running) != c.start {
				t.Errorf("the state after a start is %v:\n%s", state, b.log.String())
			}
		})
	}
}

// FlushAllOnReload=no keeps in which zone an interface is, and entries of sets: a typo in it is refused where a reload would forget
// something of that, and taken where there is nothing to forget.
func TestTypoInFlushAllOnReload(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "FlushAllOnReload=no\n", "ipsets/bad.xml": `<ipset type="hash:ip"/>`})
	b.write(t, map[string]string{"firewalld.conf": "FlushAllOnReload=0\n"})
	bad := zones.Object{Kind: zones.KindIPSet, Name: "bad"}
	entry := zones.Item{Key: zones.KeyEntry, Args: []string{"192.0.2.1"}}
	if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, bad, entry)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "firewalld.conf:1:1: INVALID_VALUE: cannot set FlushAllOnReload to 0") {
		t.Errorf("a reload gives %v", err)
	}
	if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Remove(zones.Runtime, bad, entry)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

// A line of firewalld.conf that says what is the default anyway, however it is written, may go beside a line that is passed over: neither
// a reload nor a start takes that for another value.
func TestDefaultGoneFromConf(t *testing.T) {
	for _, line := range []string{"CleanupOnExit=yes", "CleanupOnExit=True", "IPv6_rpfilter=YES", "NftablesTableOwner=on", "ReloadPolicy=drop", "ReloadPolicy=INPUT:DROP; OUTPUT:drop"} {
		b := startKept(t, map[string]string{"firewalld.conf": line + "\nNoSuchKey=1\n"})
		b.write(t, map[string]string{"firewalld.conf": "NoSuchKey=1\n"})
		if err := b.Reload(t.Context()); err != nil {
			t.Errorf("%s is gone, and a reload gives %v", line, err)
		}
		b.write(t, map[string]string{"firewalld.conf": line + "\n"})
		b.again(t)
		b.write(t, map[string]string{"firewalld.conf": "LogDenied=off\n"})
		b.again(t)
		if said := b.log.String(); strings.Contains(said, "is not set any more") {
			t.Errorf("%s is gone, and the log says\n%s", line, said)
		}
	}
}

// At the first start nothing is known to compare with: an unknown key of firewalld.conf is a warning, as in firewalld.
func TestFirstStartWithWarnings(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "NoSuchKey=yes\n", "zones/work.xml": workZone})
	b.expect(t, Running, "", []string{"8080", "22"}, nil)
	b.again(t)
	b.expect(t, Running, "", []string{"8080", "22"}, nil)
}

// A firewalld.conf that is empty, gone or damaged at a start or a reload does not bring back the shipped default zone. One that names it does.
func TestDamagedConf(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n", "zones/work.xml": workZone})
	for _, text := range []string{"", "# nothing\n", "Default", "DefaultZone=", "DefaultZon=drop\n", "\x00\x00\x00\x00"} {
		b.write(t, map[string]string{"firewalld.conf": text})
		for _, err := range []error{b.CheckPermanent(t.Context()), b.Reload(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), "firewalld.conf") {
				t.Errorf("with a firewalld.conf of %q, a check or a reload gives %v", text, err)
			}
		}
		b.again(t)
		b.expect(t, Failed, "firewalld.conf", []string{"8080"}, []string{"22"})
		b.write(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n"})
		b.again(t)
	}
	if err := os.Remove(filepath.Join(b.dir, "firewalld.conf")); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err == nil {
		t.Error("a reload takes files without a firewalld.conf that there was")
	}
	b.expect(t, Running, "", []string{"8080"}, []string{"22"})
	b.again(t)
	b.expect(t, Failed, "firewalld.conf", []string{"8080"}, []string{"22"})
	b.write(t, map[string]string{"firewalld.conf": "DefaultZone=public\n"})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	b.expect(t, Running, "", []string{"8080", "22"}, nil)
}

// What a load passes over from the first start on, and that lets in no more, is no reason for a later start to refuse what else has changed,
// as it is none for a reload.
func TestOldWarningsAreNoDoubt(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"an unknown key":               {"firewalld.conf": "NewKey=yes\nDefaultZone=drop\n"},
		"a value that is none":         {"firewalld.conf": "LogDenied=sometimes\nDefaultZone=drop\n"},
		"a default zone that is none":  {"firewalld.conf": "DefaultZone=nosuch\n"},
		"an entry of an unused set":    {"ipsets/unused.xml": `<ipset type="hash:ip"><entry>192.0.2.x</entry></ipset>`},
		"a direct rule that says none": {"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0"></rule></direct>`},
		"an unknown key once more":     {"firewalld.conf": "NewKey=yes\nNewKey=yes\n", "zones/home.xml": homeZone},
	} {
		t.Run(name, func(t *testing.T) {
			files["zones/work.xml"] = workZone
			b := startKept(t, files)
			was := b.Snapshot().State
			if err := b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, zones.Object{Kind: zones.KindZone, Name: "work"}, port("9090", "tcp"))}); err != nil {
				t.Fatal(err)
			}
			b.again(t)
			b.expect(t, Running, "", []string{"8080", "9090"}, nil)
			if err := b.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			b.again(t)
			b.expect(t, was, "", []string{"8080", "9090"}, nil)
			b.write(t, map[string]string{"firewalld.conf": files["firewalld.conf"] + "StrictForwardPort=yes\n"}) // another one beside it
			b.again(t)
			b.expect(t, Running, "", []string{"9090"}, nil)
		})
	}
}

// A key that firewalld.conf has no longer has its default: somebody may have taken it out. The log of a start and of a reload names each, and
// what it was.
func TestKeyGoneFromConf(t *testing.T) {
	b := startKept(t, map[string]string{"firewalld.conf": "LogDenied=all\nDefaultZone=drop\nStrictForwardPorts=yes\n"})
	for text, gone := range map[string][]string{
		"LogDenied=all\nDefaultZone=drop\n":                          {"StrictForwardPorts=yes"},
		"LogDenied=off\n#DefaultZone=drop\nStrictForwardPorts=yes\n": {"DefaultZone=drop"},
		"LogDenied=unicast\n":                                        {"DefaultZone=drop", "StrictForwardPorts=yes"},
		"LogDenied=all\nDefaultZone=drop\nStrictForwardPorts=no\n":   nil,
	} {
		b.write(t, map[string]string{"firewalld.conf": "LogDenied=all\nDefaultZone=drop\nStrictForwardPorts=yes\n"})
		b.again(t)
		b.write(t, map[string]string{"firewalld.conf": text})
		restart := func() error { b.again(t); return nil }
		reload := func() error {
			b.write(t, map[string]string{"firewalld.conf": "LogDenied=all\nDefaultZone=drop\nStrictForwardPorts=yes\n"})
			b.again(t)
			b.write(t, map[string]string{"firewalld.conf": text})
			b.log.Reset()
			return b.Reload(t.Context())
		}
		for _, read := range []func() error{restart, reload} {
			if err := read(); err != nil {
				t.Fatal(err)
			}
			b.expect(t, Running, "", nil, nil)
			said := b.log.String()
			if strings.Count(said, "is not set any more") != len(gone) {
				t.Errorf("of %q the log says\n%s", text, said)
			}
			for _, was := range gone {
				if !strings.Contains(said, was) {
					t.Errorf("of %q the log does not name %s:\n%s", text, was, said)
				}
			}
		}
	}
}

// A direct.xml that cannot be read costs the direct rules alone; those of the last good configuration stand in for them. The state says
// so: a rule that is lost may have dropped something.
func TestBrokenDirect(t *testing.T) {
	rule := `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 81 -j DROP</rule></direct>`
	direct := func(b *bed) int {
		if b.kernel.installed.Direct == nil {
			return 0
		}
		return len(b.kernel.installed.Direct.Chains)
	}
	b := startKept(t, map[string]string{"zones/work.xml": workZone, "direct.xml": "<direct><rule"})
	b.expect(t, Failed, "direct.xml:1:", []string{"8080"}, nil)
	if direct(b) != 0 {
		t.Error("there are direct rules")
	}
	if _, _, err := b.opt.State.LastGood(); !errors.Is(err, statedir.ErrNone) {
		t.Errorf("a configuration without its direct rules is kept as a good one: %v", err)
	}
	b.write(t, map[string]string{"direct.xml": rule})
	b.again(t)
	b.write(t, map[string]string{"direct.xml": "<direct><rule"})
	b.again(t)
	b.expect(t, Failed, "the direct rules of the last good configuration", []string{"8080"}, nil)
	if direct(b) == 0 {
		t.Error("the direct rules are gone")
	}
}

// A direct rule that the back end refuses is one that cannot be used, too: all direct rules of the last good configuration stand in when
// it may have dropped something. Without one, the rest is in force. The state is Failed, and names the line.
func TestRefusedDirect(t *testing.T) {
	const (
		sound   = "<direct>\n<rule ipv=\"ipv4\" table=\"filter\" chain=\"INPUT\" priority=\"0\">-p tcp --dport 8080 -j DROP</rule>\n</direct>"
		another = "<rule ipv=\"ipv4\" table=\"filter\" chain=\"INPUT\" priority=\"0\">-p tcp --dport 81 -j DROP</rule>\n"
	)
	var k *refusingKernel
	direct := func(text string) bool {
		return strings.Contains(k.direct(), text)
	}
	started := func(t *testing.T, files map[string]string) *bed {
		b := startKept(t, files)
		k = &refusingKernel{text: "nosuch"}
		b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
		b.kernel = &k.fakeKernel
		b.again(t)
		return b
	}
	for name, refused := range map[string]string{
		"a rule that drops":  strings.Replace(sound, "-p tcp", "-m nosuch", 1),
		"one beside another": strings.Replace(sound, "</direct>", another+`<passthrough ipv="ipv4">-I INPUT -m nosuch</passthrough></direct>`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			b := started(t, map[string]string{"zones/work.xml": workZone, "direct.xml": sound})
			b.expect(t, Running, "", []string{"8080"}, nil)
			kept, _, _ := b.opt.State.LastGood()
			b.write(t, map[string]string{"direct.xml": refused})
			b.again(t)
			b.expect(t, Failed, "direct.xml:", []string{"8080"}, nil)
			b.expect(t, Failed, "in force instead of direct.xml are the direct rules of the last good configuration", nil, nil)
			if !direct("8080") || direct("81 ") {
				t.Error("the direct rules are not those of the last good configuration")
			}
			if now, _, _ := b.opt.State.LastGood(); now != kept {
				t.Error("what cannot be used was kept")
			}
			b.write(t, map[string]string{"direct.xml": sound})
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.expect(t, Running, "", []string{"8080"}, nil)
		})
	}
	t.Run("that of the last good configuration, too", func(t *testing.T) {
		b := startKept(t, map[string]string{"direct.xml": strings.Replace(sound, "</direct>", another+"</direct>", 1)})
		k = &refusingKernel{text: "8080"}
		b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
		b.kernel = &k.fakeKernel
		b.again(t)
		b.expect(t, Failed, "packets may be let in that should not", []string{"22"}, nil)
		if !direct("81") || direct("8080") {
			t.Error("more than the rule that is refused is left out")
		}
	})
	t.Run("what is said of direct rules where those of the last good configuration are refused, too", func(t *testing.T) {
		for good, c := range map[string]struct {
			said, not string
			refused   string // what the kernel refuses
		}{
			sound: {"no direct rules are in force: those of direct.xml cannot be used, and neither can those of the last good configuration", "are the direct rules of the last good", "8080"},
			strings.Replace(sound, "</direct>", another+"</direct>", 1): {"but for those of them that cannot be used either", "no direct rules", "8080"},
			"<direct/>": {"no direct rules are in force: those of direct.xml cannot be used, and there are none in the last good configuration", "are the direct rules of the last good", "8080"},
		} {
			b := startKept(t, map[string]string{"direct.xml": good})
			b.write(t, map[string]string{"direct.xml": sound})
			k = &refusingKernel{text: c.refused}
			b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
			b.kernel = &k.fakeKernel
			b.again(t)
			b.expect(t, Failed, c.said, nil, nil)
			said := strings.Join(b.Snapshot().Failures, "\n")
			if strings.Contains(said, c.not) || strings.Contains(said, "configuration are in force") || direct("81") != strings.Contains(good, "81 ") {
				t.Errorf("the state says\n%s", said)
			}
		}
	})
	t.Run("what is said of direct rules where nothing of the last good configuration can be used", func(t *testing.T) {
		b := startKept(t, map[string]string{"direct.xml": sound, "zones/drop.xml": `<zone target="DROP"><source address="192.0.2.0/24"/></zone>`})
		b.write(t, map[string]string{"direct.xml": strings.Replace(sound, "-p tcp", "-m nosuch", 1)})
		k := &refusesInTurn{texts: []string{"nosuch", "zones/drop.xml", "8080"}}
		b.on(k, &k.fakeKernel)
		b.again(t)
		said := strings.Join(b.Snapshot().Failures, "\n")
		if !strings.Contains(said, "nothing new is let in") || strings.Contains(said, "in force") || !strings.Contains(said, "direct.xml:2: ") {
			t.Errorf("the state says\n%s", said)
		}
	})
	t.Run("with FlushAllOnReload=no the rules that stood in go with the reload of mended files", func(t *testing.T) {
		const conf = "FlushAllOnReload=no\n"
		b := started(t, map[string]string{"firewalld.conf": conf, "direct.xml": sound})
		b.write(t, map[string]string{"direct.xml": strings.Replace(sound, "-p tcp", "-m nosuch", 1)})
		b.again(t)
		b.write(t, map[string]string{"direct.xml": "<direct>" + another + "</direct>"})
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !direct("81") || direct("8080") {
			t.Error("rules that stood in are still there")
		}
	})
	t.Run("at the first start", func(t *testing.T) {
		b := started(t, map[string]string{"zones/work.xml": workZone, "direct.xml": strings.Replace(sound, "-p tcp", "-m nosuch", 1)})
		b.expect(t, Failed, "direct.xml:2: ", []string{"8080"}, nil)
	})
	t.Run("a rule that accepts", func(t *testing.T) {
		b := started(t, map[string]string{"zones/work.xml": workZone, "direct.xml": sound})
		b.write(t, map[string]string{"direct.xml": strings.Replace(sound, "</direct>", strings.Replace(another, "-p tcp --dport 81 -j DROP", "-m nosuch -j ACCEPT", 1)+"</direct>", 1)})
		b.again(t)
		b.expect(t, Failed, "it is left out", []string{"8080"}, nil)
		if !direct("8080") || strings.Contains(strings.Join(b.Snapshot().Failures, " "), "in force instead") {
			t.Error("other rules stand in for one that lets something in")
		}
	})
}

// A direct rule in a chain that is not there does nothing. At a start the chain is made only where the last good configuration has rules in
// it: the program whose chain it is comes later. Any other name may be a misspelled one.
func TestDirectInMissingChain(t *testing.T) {
	const in = `<direct><rule ipv="ipv4" table="filter" chain="DOCKER-USER" priority="0">-s 192.0.2.1 -j DROP</rule></direct>`
	b := startKept(t, map[string]string{"direct.xml": in})
	b.again(t)
	if awaits := b.kernel.installed.Awaits; !awaits("filter", "DOCKER-USER", true) || awaits("nat", "DOCKER-USER", true) || awaits("filter", "DOCKER-USR", true) {
		t.Error("the chain of the last good configuration is not the one that is awaited")
	}
	b = start(t, map[string]string{"direct.xml": in})
	if b.kernel.installed.Awaits("filter", "DOCKER-USER", true) {
		t.Error("a chain is awaited at the first start")
	}
}

// The last good configuration has a rule in a chain of its own ruleset for iptables. No other program makes that chain: beside nftables it is not
// awaited, and with iptables it comes with the zone. Where the last good configuration was of nftables, a chain of that name was another program's.
func TestOwnChainIsNotAwaited(t *testing.T) {
	const in = `<direct><rule ipv="ipv4" table="filter" chain="IN_work" priority="0">-s 192.0.2.1 -j DROP</rule></direct>`
	for _, good := range []string{"iptables", "nftables"} {
		b := startKept(t, map[string]string{"direct.xml": in, "firewalld.conf": "FirewallBackend=" + good + "\n"})
		b.write(t, map[string]string{"firewalld.conf": "FirewallBackend=nftables\n"})
		b.again(t)
		awaits := b.kernel.installed.Awaits
		if beside := awaits("filter", "IN_work", true); beside != (good == "nftables") {
			t.Errorf("behind %s the chain is awaited beside nftables: %v", good, beside)
		}
		if !awaits("filter", "IN_work", false) {
			t.Errorf("behind %s the chain is not awaited with iptables", good)
		}
	}
}

// refusingKernel refuses rules of a rich rule, as a kernel does that lacks something.
type refusingKernel struct {
	fakeKernel
	text string
}

func (k *refusingKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	var refused []error
	for _, set := range []*ir.Ruleset{next.Rules, next.Direct} {
		if set == nil {
			continue
		}
		for _, c := range set.Chains {
			for _, r := range c.Rules {
				if r.Origin != nil && strings.Contains(r.Origin.Path+" "+r.Origin.Said(), k.text) {
					refused = append(refused, &kernel.RuleError{Origin: r.Origin, Chain: c.Name, Err: errors.New("not supported")})
				}
			}
		}
	}
	if refused != nil {
		return errors.Join(refused...)
	}
	return k.fakeKernel.Commit(ctx, next)
}

// refusesInTurn is a kernel that refuses rules with one text, and where there are none, those with the next.
type refusesInTurn struct {
	refusingKernel
	texts []string
}

func (k *refusesInTurn) Commit(ctx context.Context, next *kernel.Desired) error {
	for _, k.text = range k.texts {
		if err := k.refusingKernel.Commit(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// A rule that the kernel refuses is left out at a start, and the rest is installed.
func TestRefusedByKernel(t *testing.T) {
	b := start(t, map[string]string{"zones/work.xml": "<zone>\n<interface name=\"eth1\"/>\n<port port=\"8080\" protocol=\"tcp\"/>\n" +
		"<rule><port port=\"5555\" protocol=\"tcp\"/><accept/></rule>\n</zone>"})
	k := &refusingKernel{text: "5555"}
	b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
	b.again(t)
	b.kernel = &k.fakeKernel
	b.expect(t, Failed, "work.xml:4", []string{"8080"}, []string{"5555"})
}

// A kernel that takes no rules at the start, for a reason that does not lie in them, is tried again; the configuration is neither
// thrown away nor replaced.
func TestKernelTakesNothing(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": workZone})
	b.kernel.refuse, b.kernel.installed = kernel.ErrBusy, nil
	b.again(t)
	b.expect(t, Failed, "not in the kernel", nil, []string{"8080"})
	attend := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.attend()
	}
	attend()
	b.expect(t, Failed, "not in the kernel", nil, []string{"8080"})
	b.kernel.refuse = nil
	attend()
	b.expect(t, Running, "", []string{"8080"}, nil)
	for waits := true; waits; time.Sleep(time.Millisecond) { // it is kept as the last good one by somebody else
		b.mu.Lock()
		waits = b.unkept != nil
		b.mu.Unlock()
	}
	if err := b.lockFiles(t.Context()); err != nil { // who keeps it has ended then
		t.Fatal(err)
	}
	b.unlockFiles()
}

// A kernel that is busy at first, and then refuses a rule, gets the rest without it, as if it had refused it at once.
func TestBusyAndThenRefused(t *testing.T) {
	b := startKept(t, map[string]string{"zones/work.xml": "<zone>\n<interface name=\"eth1\"/>\n<port port=\"8080\" protocol=\"tcp\"/>\n" +
		"<rule><port port=\"5555\" protocol=\"tcp\"/><accept/></rule>\n</zone>"})
	k := &refusingKernel{text: "nothing"}
	b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
	k.refuse = kernel.ErrBusy
	b.kernel = &k.fakeKernel
	b.again(t)
	b.expect(t, Failed, notInKernel, nil, []string{"8080"})
	var told []Reloaded
	b.Subscribe(func(e Event) {
		if r, ok := e.(Reloaded); ok {
			told = append(told, r)
		}
	})
	b.mu.Lock()
	k.refuse, k.text = nil, "5555"
	b.attend()
	b.attend() // which comes too late for anything
	b.mu.Unlock()
	for deadline := time.Now().Add(time.Minute); strings.Contains(strings.Join(b.Snapshot().Failures, ""), notInKernel); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the rules do not come; the log says\n%s", b.log.String())
		}
	}
	if err := b.lockFiles(t.Context()); err != nil { // whoever still starts has ended then
		t.Fatal(err)
	}
	b.unlockFiles()
	b.expect(t, Failed, "work.xml:4", []string{"8080"}, []string{"5555"})
	if len(told) != 1 || !slices.Equal(told[0].Failures, b.Snapshot().Failures) {
		t.Errorf("the listeners are told %v", told)
	}
	if folder, _, err := b.opt.State.LastGood(); err != nil || !strings.Contains(string(must(os.ReadFile(filepath.Join(folder, "zones/work.xml")))), "5555") {
		t.Errorf("a configuration without the rule was kept, or none: %v", err)
	}
	k.text = "nothing"
	if err := b.Reload(t.Context()); err != nil || len(told) != 2 || told[1].Failures != nil {
		t.Errorf("a reload gives %v, and the listeners are told %v", err, told)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Panic mode that is switched on and off while the first rules wait for the kernel brings all of them, also those for bridges.
func TestPanicWhileWaiting(t *testing.T) {
	b := start(t, map[string]string{"direct.xml": `<direct><rule ipv="eb" table="filter" chain="FORWARD" priority="0">-p ARP -j DROP</rule></direct>`})
	bridged, busy := 0, error(nil)
	there := &kernel.Bridge{}
	b.opt.Bridge = func(_ context.Context, old, next *kernel.Bridge) (*kernel.Bridge, error) {
		if busy != nil {
			return old, busy
		}
		was := there
		there, bridged = next, len(next.Rules)
		return was, nil
	}
	b.kernel.refuse = kernel.ErrBusy
	b.again(t)
	bridged, b.kernel.refuse, busy = 0, nil, errors.New("somebody has the lock of ebtables")
	if err := b.SetPanic(t.Context(), true); err != nil || !b.kernel.installed.Panic {
		t.Fatalf("panic mode is not on: %v", err)
	}
	if bridged != 0 || b.Snapshot().State != Failed {
		t.Errorf("%d rules are there for bridges, and the state is %s", bridged, b.Snapshot().State)
	}
	busy = nil
	if err := b.SetPanic(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if bridged != 1 || b.Snapshot().State != Running {
		t.Errorf("%d rules are there for bridges, and the state is %s", bridged, b.Snapshot().State)
	}
}

// What was left out at the start is not in the last good configuration either when the kernel takes the rules later: here a direct.xml
// that cannot be read. A configuration that is whole is kept then.
func TestKeptOnceInTheKernel(t *testing.T) {
	const direct = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 192.0.2.1 -j DROP</rule></direct>`
	b := startKept(t, map[string]string{"direct.xml": direct})
	started := func(files map[string]string) (kept *zones.Config) {
		b.write(t, files)
		b.kernel.refuse = kernel.ErrBusy
		b.again(t)
		b.kernel.refuse = nil
		b.mu.Lock()
		b.attend()
		b.mu.Unlock()
		b.keepUnkept() // what the attending has begun, and waits for
		folder, _, err := b.opt.State.LastGood()
		if err != nil {
			t.Fatal(err)
		}
		kept, _ = zones.Load(zones.Dirs{System: folder})
		return kept
	}
	if kept := started(map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table=`}); len(kept.Direct.Rules) != 1 {
		t.Error("the last good configuration has lost its direct rule")
	}
	b.expect(t, Failed, "direct.xml", nil, nil)
	if kept := started(map[string]string{"direct.xml": direct, "zones/work.xml": workZone}); len(kept.Direct.Rules) != 1 || len(kept.Zones["work"].Ports) != 1 {
		t.Error("the configuration is not kept once it is in the kernel")
	}
}

// A start that is made again while the first rules wait for the kernel, and fails, leaves what waits: once the kernel takes that as it is, it
// is kept as the last good configuration.
func TestKeptAfterAStartThatFailed(t *testing.T) {
	b := startKept(t, nil)
	b.write(t, map[string]string{"zones/work.xml": workZone})
	b.kernel.refuse = kernel.ErrBusy
	b.again(t)
	b.write(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n"})
	b.Daemon.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return nil, errors.New("there is no such back end") }
	b.startAgain()
	b.expect(t, Failed, notInKernel, nil, []string{"8080"})
	b.kernel.refuse = nil
	b.mu.Lock()
	b.attend()
	b.mu.Unlock()
	b.keepUnkept()
	b.expect(t, Running, "", []string{"8080"}, nil)
	folder, _, err := b.opt.State.LastGood()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "zones/work.xml")); err != nil {
		t.Errorf("what the kernel has taken is not kept: %v", err)
	}
}

// Panic mode is on after a restart, and before any rule is committed without it; stopping does not open anything.
func TestPanicSurvives(t *testing.T) {
	b := startKept(t, nil)
	if err := b.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if in := b.kernel.installed; !in.Panic || in.Rules != nil {
		t.Errorf("stopped in panic mode, the kernel has %+v", in)
	}
	b.again(t)
	if !b.Snapshot().Panic || !b.kernel.installed.Panic {
		t.Error("panic mode is off after a restart")
	}
	if err := b.SetPanic(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	if b.Snapshot().Panic || b.kernel.installed.Panic {
		t.Error("panic mode is on after a restart")
	}
}

// A process that ended before it had noted panic mode has left the kernel dropping every packet: panic mode is on then, and can be
// switched off.
func TestPanicThatWasNotNoted(t *testing.T) {
	b := startKept(t, nil)
	dropped := true
	b.opt.Dropping = func() (bool, error) { return dropped, nil }
	b.opt.DropAll = func(on bool) error { dropped = on; return nil }
	b.again(t)
	if !b.Snapshot().Panic || !b.kernel.installed.Panic {
		t.Error("every packet is dropped, and panic mode is off")
	}
	if err := b.SetPanic(t.Context(), false); err != nil || dropped || b.kernel.installed.Panic {
		t.Errorf("panic mode does not end: %v", err)
	}
	b.again(t)
	if b.Snapshot().Panic {
		t.Error("panic mode is on after a restart")
	}
}

// Where the disk does not take the note, the kernel drops every packet by a table that outlives the process.
func TestPanicThatCannotBeNoted(t *testing.T) {
	b := startKept(t, nil)
	dropped := false
	b.opt.DropAll = func(on bool) error { dropped = on; return nil }
	folder, _, err := b.opt.State.LastGood()
	if err == nil {
		err = os.MkdirAll(filepath.Join(filepath.Dir(folder), "panic", "x"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetPanic(t.Context(), true); err != nil || !dropped {
		t.Errorf("the table is there: %v, %v", dropped, err)
	}
	if err := b.SetPanic(t.Context(), false); err != nil || dropped {
		t.Errorf("the table is there: %v, %v", dropped, err)
	}
}

// Panic mode comes on while the daemon is still starting, and the rules come with it.
func TestPanicBeforeTheRules(t *testing.T) {
	b := startKept(t, nil)
	b.Stop(t.Context())
	b.Daemon = New(b.opt)
	dropped := false
	b.Daemon.opt.DropAll = func(on bool) error { dropped = on; return nil }
	if err := b.SetPanic(t.Context(), true); err != nil || !dropped || !b.Snapshot().Panic {
		t.Fatalf("panic mode does not come on: %v", err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.Snapshot().Panic || !b.kernel.installed.Panic {
		t.Error("the rules came without panic mode")
	}
	if err := b.SetPanic(t.Context(), false); err != nil || dropped || b.Snapshot().Panic || b.kernel.installed.Panic {
		t.Errorf("panic mode does not end: %v", err)
	}
}

// What has a timeout does not become permanent.
func TestTimedIsNotSaved(t *testing.T) {
	b := start(t, nil)
	imap := zones.Item{Key: zones.KeyService, Args: []string{"imap"}}
	err := b.ChangeRuntime(t.Context(), Change{
		Edit: zones.Add(zones.Runtime, public, imap), Undo: zones.Remove(zones.Runtime, public, imap), Timeout: time.Hour, Key: "imap",
		There: func(c *zones.Config) bool { found, _ := zones.Has(c, zones.Runtime, public, imap); return found },
	})
	if err == nil {
		err = b.RuntimeToPermanent(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if !b.has(imap) {
		t.Error("the service is closed")
	}
	if found, _ := zones.Has(b.Snapshot().Permanent, zones.Permanent, public, imap); found {
		t.Error("the service is open for good")
	}
}

// A permanent or runtime edit that the back end could not install is refused, also in a zone that is not in use.
func TestAcceptedCompiles(t *testing.T) {
	b := start(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n"})
	rule, err := grammar.Parse("rule tcp-mss-clamp value=1400 raise=yes")
	if err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"public", "work"} {
		o := zones.Object{Kind: zones.KindZone, Name: zone}
		item := zones.Item{Key: zones.KeyRule, Args: []string{rule.String()}}
		for scope, err := range map[string]error{
			"permanent": b.ChangePermanent(Change{Edit: zones.Add(zones.Permanent, o, item)}),
			"runtime":   b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, o, item)}),
		} {
			if code, _ := zones.CodeOf(err); err == nil || code != grammar.InvalidRule && !strings.Contains(err.Error(), "INVALID_RULE") {
				t.Errorf("%s, zone %s: the error is %v", scope, zone, err)
			}
		}
	}
}

// A zone that is not in use and that the back end cannot install is refused by a reload, and a start leaves out what is wrong with it in the
// closed way: an interface that comes up is bound to its zone, and not left in the default one.
func TestUnusedZoneThatDoesNotCompile(t *testing.T) {
	const sound = `<zone target="DROP"><port port="8080" protocol="tcp"/></zone>`
	for name, test := range map[string]struct{ rule, closed string }{
		"a rule that lets something in": {`<rule><tcp-mss-clamp value="1400" raise="yes"/></rule>`, "1400"},
		"a rule that refuses something": {`<rule family="ipv4"><protocol value="icmp"/><reject type="tcp-reset"/></rule>`, "8080"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startKept(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\nDefaultZone=trusted\n", "zones/work.xml": sound})
			before := b.Snapshot()
			b.write(t, map[string]string{"zones/work.xml": strings.Replace(sound, "</zone>", "\n"+test.rule+"</zone>", 1)})
			var list zones.Problems
			if err := b.Reload(t.Context()); !errors.As(err, &list) || !strings.Contains(err.Error(), "zones/work.xml:2: ") {
				t.Errorf("a reload gives %v", err)
			}
			if !reflect.DeepEqual(b.Snapshot(), before) {
				t.Error("a reload that was refused has changed something")
			}
			b.again(t)
			b.expect(t, Failed, "zones/work.xml:2: ", nil, nil)
			bind := zones.Rebind(zones.Runtime, "work", interfaceItem("eth0"))
			if err := b.ChangeRuntime(t.Context(), Change{Edit: bind, Manager: true}); err != nil {
				t.Errorf("an interface cannot be bound: %v", err)
			}
			b.expect(t, Failed, "zones/work.xml:2: ", nil, []string{test.closed})
			folder, _, _ := b.opt.State.LastGood()
			if cfg, _ := zones.Load(zones.Dirs{System: folder}); cfg == nil || len(cfg.Zones["work"].Rules) != 0 {
				t.Error("what cannot be used was kept")
			}
		})
	}
}

// heldKernel takes its time for a commit.
type heldKernel struct {
	fakeKernel
	held, free chan struct{}
}

func (k *heldKernel) Commit(ctx context.Context, next *kernel.Desired) error {
	k.held <- struct{}{}
	<-k.free
	return k.fakeKernel.Commit(ctx, next)
}

// While the kernel takes its time for a change, the state can be asked for, panic mode comes on, and a stop ends.
func TestNobodyWaitsForTheKernel(t *testing.T) {
	b := start(t, nil)
	k := &heldKernel{held: make(chan struct{}), free: make(chan struct{})}
	b.mu.Lock()
	b.Daemon.kernel = k
	b.mu.Unlock()
	changed := make(chan error)
	go func() {
		changed <- b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("8080", "tcp"))})
	}()
	<-k.held
	if b.Snapshot().State != Running {
		t.Error("the state is not known")
	}
	var dropped atomic.Bool
	b.Daemon.opt.DropAll = func(on bool) error { dropped.Store(on); return nil }
	if err := b.SetPanic(t.Context(), true); err != nil || !dropped.Load() || !b.Snapshot().Panic {
		t.Errorf("panic mode does not come on: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := b.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stop gives %v", err)
	}
	go func() { // the commit that is under way, and that of panic mode
		k.free <- struct{}{}
		<-k.held
		k.free <- struct{}{}
	}()
	if err := <-changed; err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); !b.current.Load().Panic; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("panic mode is not committed")
		}
	}
	go func() {
		<-k.held
		k.free <- struct{}{}
	}()
	if err := b.SetPanic(t.Context(), false); err != nil || dropped.Load() || b.Snapshot().Panic {
		t.Errorf("panic mode does not end: %v", err)
	}
	b.mu.Lock()
	b.Daemon.kernel = b.kernel
	b.mu.Unlock()
}
