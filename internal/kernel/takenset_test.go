package kernel_test

import (
	"errors"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/testlog"
)

// bans is a configuration with a set and, so that nftables has it beside its table too, a direct rule that looks it up.
var bans = map[string]string{
	"ipsets/bans.xml":  `<ipset type="hash:ip"><entry>10.9.0.77</entry></ipset>`,
	"zones/public.xml": `<zone><interface name="eth0"/><rule><source ipset="bans"/><drop/></rule></zone>`,
	"direct.xml":       `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-m set --match-set bans src -j DROP</rule></direct>`,
}

// hearing is process, with a log.
func hearing(t *testing.T, o kernel.Options, store kernel.Store) (k kernel.Kernel, options kernel.Options, log *testlog.Log) {
	t.Helper()
	o.Log, log = kernel.Logged()
	o.Left = kernel.NewLeft(store, o.Log)
	k = start(t, o)
	return k, o, log
}

// A set of ipset that another program has made has the name of one of the configuration, whatever its type. The configuration's takes its
// place, as with firewalld, and the log says so: once, when it is in the kernel. A set of an earlier process is no other program's.
func TestSetOfAnotherProgramIsReplaced(t *testing.T) {
	for _, theirs := range []string{"hash:ip", "hash:ip timeout 100", "hash:ip family inet6", "hash:net"} {
		t.Run(theirs, func(t *testing.T) {
			bothBackends(t, func(t *testing.T, backend ir.Backend) {
				ns, store := namespace(t), &disk{}
				run(t, ns, "create bans "+theirs+"\n", "ipset", "restore")
				o := kernel.Options{Backend: backend, Enter: ns.Do}
				for _, said := range []int{1, 0} {
					k, _, log := hearing(t, o, store)
					for range 2 {
						commit(t, k, desired(t, bans, backend, false))
					}
					if got := strings.Count(log.String(), "level=WARN"); got != said || strings.Count(log.String(), "set=bans") != said {
						t.Errorf("the log has %d warnings, want %d:\n%s", got, said, log)
					}
					if got := run(t, ns, "", "ipset", "save", "bans"); !strings.HasSuffix(got, "\nadd bans 10.9.0.77\n") || !strings.HasPrefix(got, "create bans hash:ip family inet hash") {
						t.Errorf("the set is\n%s", got)
					}
					if err := k.Close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// A commit that is refused leaves the set of another program as it was, also where it would have replaced it; and what the next process
// takes out does not include that set.
func TestSetOfAnotherProgramBehindARefusal(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns, store := namespace(t), &disk{}
		run(t, ns, "create bans hash:ip\nadd bans 10.9.0.2\n", "ipset", "restore")
		before := run(t, ns, "", "ipset", "save")
		o := kernel.Options{Backend: backend, Enter: ns.Do}
		k, _, log := hearing(t, o, store)
		refused := map[string]string{"direct.xml": strings.Replace(bans["direct.xml"], "-j DROP", "-j NOWHERE", 1)}
		for name, text := range bans {
			if refused[name] == "" {
				refused[name] = text
			}
		}
		if err := k.Commit(t.Context(), desired(t, refused, backend, false)); err == nil || strings.Contains(log.String(), "level=WARN") {
			t.Errorf("the commit gives %v; the log says\n%s", err, log)
		}
		if got := run(t, ns, "", "ipset", "save"); got != before {
			t.Errorf("there were\n%s\nand there are\n%s", before, got)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		k, options, _ := hearing(t, o, store)
		commit(t, k, desired(t, map[string]string{"zones/public.xml": "<zone/>"}, backend, false))
		if err := errors.Join(kernel.RemoveOther(t.Context(), options, k), k.Close()); err != nil {
			t.Fatal(err)
		}
		if got := run(t, ns, "", "ipset", "save"); got != before {
			t.Errorf("there were\n%s\nand the next process leaves\n%s", before, got)
		}
	})
}

// A set of another program that its rules look up cannot be made with another type: the error names the set of the configuration, so that a
// start can do without it.
func TestSetOfAnotherTypeInUse(t *testing.T) {
	for _, theirs := range []string{"hash:net", "hash:ip family inet6"} {
		t.Run(theirs, func(t *testing.T) {
			bothBackends(t, func(t *testing.T, backend ir.Backend) {
				ns := namespace(t)
				run(t, ns, "create bans "+theirs+"\n", "ipset", "restore")
				tool := "iptables"
				if strings.Contains(theirs, "inet6") {
					tool = "ip6tables"
				}
				run(t, ns, "", tool, "-A", "FORWARD", "-m", "set", "--match-set", "bans", "src", "-j", "DROP")
				before := run(t, ns, "", "ipset", "save")
				k, _, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, &disk{})
				defer k.Close()
				err := k.Commit(t.Context(), desired(t, bans, backend, false))
				var refused *kernel.RuleError
				if !errors.As(err, &refused) || refused.Origin == nil || !strings.HasSuffix(refused.Origin.Path, "ipsets/bans.xml") {
					t.Errorf("the commit gives %v", err)
				}
				if got := run(t, ns, "", "ipset", "save"); got != before || strings.Contains(log.String(), "level=WARN") {
					t.Errorf("there were\n%s\nand there are\n%s\nThe log says\n%s", before, got, log)
				}
			})
		})
	}
}

// ipset tells nobody of changes. A reload puts back what another program has taken out of a set, and takes out what it has put in; any other
// change leaves that.
func TestReloadFillsSetsAnew(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		k, _, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, &disk{})
		next := func(anew bool) *kernel.Desired {
			d := desired(t, bans, backend, false)
			d.Anew = anew
			return d
		}
		commit(t, k, next(false))
		for i, change := range []string{"flush bans", "add bans 10.9.0.78", "del bans 10.9.0.77"} {
			run(t, ns, change+"\n", "ipset", "restore")
			changed := run(t, ns, "", "ipset", "save", "bans")
			other := next(false)
			other.Rules.Sets = append(other.Rules.Sets, &ir.Set{Name: "another", Type: "hash:ip", Family: ir.V4})
			if other.Direct != nil {
				other.Direct.Sets = append(other.Direct.Sets, &ir.Set{Name: "another", Type: "hash:ip", Family: ir.V4})
			}
			if i == 0 {
				other = next(false)
			}
			commit(t, k, other)
			sameLines(t, changed, run(t, ns, "", "ipset", "save", "bans"))
			commit(t, k, next(true))
			if got := run(t, ns, "", "ipset", "save", "bans"); !strings.HasSuffix(got, "\nadd bans 10.9.0.77\n") || strings.Count(got, "add ") != 1 {
				t.Errorf("behind %q and a reload the set is\n%s", change, got)
			}
		}
		before := run(t, ns, "", "ipset", "list", "bans")
		commit(t, k, next(true))
		sameLines(t, before, run(t, ns, "", "ipset", "list", "bans"))
		if got := strings.Count(log.String(), "level=WARN"); got != 3 || strings.Count(log.String(), "set=bans") != 3 {
			t.Errorf("the log has %d warnings, want 3:\n%s", got, log)
		}
	})
}
