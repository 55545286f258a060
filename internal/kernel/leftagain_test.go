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

	"golang.org/x/sys/unix"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/internal/statedir"
	"richwall/zones"
)

// A rule that another program has put into a direct chain stays there at a start, whether the process before it was stopped or killed, and
// whether the configuration still has the chain. The rules of the chain stand once, and the log names the chain.
func TestStartKeepsRulesOfOthersInADirectChain(t *testing.T) {
	const elements = `<chain ipv="ipv4" table="filter" chain="own"/>` +
		`<rule ipv="ipv4" table="filter" chain="OUTPUT" priority="0">-d 203.0.113.9 -j own</rule>` +
		`<rule ipv="ipv4" table="filter" chain="own" priority="0">-p tcp --dport 25 -j ACCEPT</rule>` +
		`<rule ipv="ipv4" table="filter" chain="own" priority="1">-p tcp --dport 26 -j ACCEPT</rule>`
	const changed = `<chain ipv="ipv4" table="filter" chain="own"/>` +
		`<rule ipv="ipv4" table="filter" chain="own" priority="0">-p tcp --dport 26 -j ACCEPT</rule>`
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, stopped := range []bool{false, true} {
			for _, next := range []string{elements, changed} {
				ns, store := namespace(t), &disk{}
				k, _, killed := process(t, ns, backend, store)
				commit(t, k, directly(t, backend, elements))
				run(t, ns, "", "iptables", "-A", "own", "-p", "udp", "-j", "DROP")
				if stopped {
					commit(t, k, &kernel.Desired{})
				}
				killed()
				k, _, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, store)
				commit(t, k, directly(t, backend, next))
				want := "-A own -p tcp -m tcp --dport 25 -j ACCEPT\n-A own -p tcp -m tcp --dport 26 -j ACCEPT\n-A own -p udp -j DROP\n"
				if next == changed {
					want = "-A own -p tcp -m tcp --dport 26 -j ACCEPT\n-A own -p udp -j DROP\n"
				}
				sameLines(t, sortedLines(want), sortedLines(strings.ReplaceAll(run(t, ns, "", "iptables", "-S", "own"), "-N own\n", "")))
				if !strings.Contains(log.String(), "chain=own") {
					t.Errorf("the log does not name the chain:\n%s", log)
				}
				commit(t, k, &kernel.Desired{})
				sameLines(t, "-N own\n-A own -p udp -j DROP\n", run(t, ns, "", "iptables", "-S", "own"))
				k.Close()
			}
		}
	})
}

// refusedWith is elements of direct.xml in a configuration that the kernel refuses once the direct rules stand, or that iptables refuses.
func refusedWith(t *testing.T, backend ir.Backend, elements string) *kernel.Desired {
	t.Helper()
	if backend == ir.IPTables {
		return directly(t, backend, elements+`<rule ipv="ipv6" table="filter" chain="INPUT" priority="0">-j NOSUCH</rule>`)
	}
	dir := t.TempDir()
	write(t, dir+"/direct.xml", "<direct>"+elements+"</direct>")
	write(t, dir+"/firewalld.conf", "NftablesFlowtable=gone9\n")
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	d := &kernel.Desired{}
	var err error
	if d.Rules, err = compile.Compile(cfg, backend); err != nil {
		t.Fatal(err)
	}
	if d.Direct, err = compile.Direct(cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

const left25 = `<chain ipv="ipv4" table="filter" chain="mine"/>` +
	`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 203.0.113.9 -j mine</rule>` +
	`<rule ipv="ipv4" table="filter" chain="OUTPUT" priority="0">-d 203.0.113.9 -j ACCEPT</rule>` +
	`<rule ipv="ipv4" table="filter" chain="mine" priority="0">-p tcp --dport 25 -j ACCEPT</rule>`

// Where there is no note, and the first attempt of a start is refused, the next attempt knows the direct rules that were found: they stand
// once if the configuration has them still, and go if it has them no longer, whether the same process or the next one makes that attempt.
func TestWhatWasFoundWithoutANoteOutlivesARefusal(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, next := range []string{left25, "", `<rule ipv="ipv4" table="filter" chain="OUTPUT" priority="0">-d 203.0.113.9 -j ACCEPT</rule>`} {
			for _, killed := range []bool{false, true} {
				fresh := namespace(t)
				k, _, end := process(t, fresh, backend, &disk{})
				commit(t, k, directly(t, backend, left25))
				commit(t, k, directly(t, backend, next))
				want := saved(t, fresh)
				end()

				ns, store := namespace(t), &disk{}
				k, _, end = process(t, ns, backend, &disk{})
				commit(t, k, directly(t, backend, left25))
				end()
				k, o, end := process(t, ns, backend, store)
				if err := k.Commit(t.Context(), refusedWith(t, backend, left25)); err == nil {
					t.Fatal("nothing is refused")
				}
				end()
				if killed {
					o.Left = kernel.NewLeft(store, quietLog)
				}
				k = start(t, o)
				commit(t, k, directly(t, backend, next))
				if got := saved(t, ns); sortedLines(got) != sortedLines(want) {
					t.Errorf("with %q behind the refusal, killed %v, there is\n%s\nwant\n%s", next, killed, got, want)
				}
				k.Close()
			}
		}
	})
}

// Where there is no note, an attempt that is refused before it has looked, and one without direct rules, leave it open what an earlier
// process has put there: the configuration of the next attempt still tells.
func TestNothingIsKnownBehindARefusal(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, killed := range []bool{false, true} {
			ns, store := namespace(t), &disk{}
			k, _, end := process(t, ns, backend, &disk{})
			commit(t, k, directly(t, backend, left25))
			want := saved(t, ns)
			end()
			k, o, end := process(t, ns, backend, store)
			if err := k.Commit(t.Context(), refusedWith(t, backend, "")); err == nil {
				t.Fatal("nothing is refused")
			}
			end()
			if killed {
				o.Left = kernel.NewLeft(store, quietLog)
			}
			k = start(t, o)
			commit(t, k, directly(t, backend, left25))
			sameLines(t, sortedLines(want), sortedLines(saved(t, ns)))
			k.Close()
		}
	})
}

// Where there is no note, a direct chain is another program's if it holds one rule more than the configuration has for it, also where the
// configuration has another one twice, be it written the same way or otherwise.
func TestListedRuleCountsOnce(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, second := range []string{"-p tcp --dport 25 -j REJECT", "--protocol tcp --destination-port 25 -j REJECT"} {
			ns := namespace(t)
			run(t, ns, "*filter\n:mine - [0:0]\n-A mine -p tcp --dport 25 -j REJECT\n-A mine -p udp --dport 25 -j REJECT\nCOMMIT\n", "iptables-restore", "--noflush")
			before := saved(t, ns)
			k, _, end := process(t, ns, backend, &disk{})
			var taken *kernel.TakenError
			err := k.Commit(t.Context(), directly(t, backend, `<chain ipv="ipv4" table="filter" chain="mine"/>`+
				`<rule ipv="ipv4" table="filter" chain="mine" priority="0">-p tcp --dport 25 -j REJECT</rule>`+
				`<rule ipv="ipv4" table="filter" chain="mine" priority="1">`+second+`</rule>`))
			if !errors.As(err, &taken) || taken.Chain != "mine" {
				t.Errorf("with %q twice it gives %v", second, err)
			}
			sameLines(t, before, saved(t, ns))
			end()
		}
	})
}

// With a disk that does not answer while direct rules are committed, the whole note is on it when it answers again: the next start takes
// the rules out.
func TestNoteOfASlowDiskIsWhole(t *testing.T) {
	ns := namespace(t)
	base := t.TempDir()
	d, err := statedir.For(base, "/etc/firewalld")
	if err != nil {
		t.Fatal(err)
	}
	k, _, end := process(t, ns, ir.NFTables, d.Note("shared"))
	commit(t, k, directly(t, ir.NFTables, ""))
	notes, err := filepath.Glob(base + "/*/shared")
	if err != nil || len(notes) != 1 {
		t.Fatal(notes, err)
	}
	pipe := notes[0] + ".new" // nobody reads it yet
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	commit(t, k, directly(t, ir.NFTables, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 203.0.113.9 -j ACCEPT</rule>`))
	if _, err := os.ReadFile(pipe); err != nil {
		t.Fatal(err)
	}
	for { // the disk answers now, and the pipe has become the note: the test's own time limit ends this
		if info, err := os.Lstat(notes[0]); err == nil && info.Mode().IsRegular() {
			if _, err := os.Lstat(pipe); err != nil {
				break
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	end()
	k, _, end = process(t, ns, ir.NFTables, d.Note("shared"))
	defer end()
	commit(t, k, directly(t, ir.NFTables, ""))
	if got := saved(t, ns); strings.Contains(got, "203.0.113") {
		t.Errorf("there is\n%s", got)
	}
}

// unread is a disk that cannot be read the first times.
type unread struct {
	*disk
	times int
}

func (u *unread) Read() ([]byte, error) {
	if u.times--; u.times >= 0 {
		return nil, errors.New("the disk does not answer")
	}
	return u.disk.Read()
}

// A note that cannot be read at first is read again, and not written over before that. So the rules of an earlier process go with the first
// commit, or, where the note can be read only later or never, with the next start. What the process itself has put there goes, too, if the
// note could be read by then.
func TestNoteThatIsReadLate(t *testing.T) {
	const rule, own = `<passthrough ipv="ipv4">-A INPUT -s 203.0.113.9 -j ACCEPT</passthrough>`, `<passthrough ipv="ipv4">-A INPUT -s 203.0.113.10 -j ACCEPT</passthrough>`
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, second := range []string{"", own} {
			for _, times := range []int{1, 4, 1000} {
				t.Run(fmt.Sprintf("%d times, then %q", times, second), func(t *testing.T) {
					ns, store := namespace(t), &disk{}
					k, _, end := process(t, ns, backend, store)
					commit(t, k, directly(t, backend, rule))
					end()
					late := &unread{store, times}
					k, _, end = process(t, ns, backend, late)
					commit(t, k, directly(t, backend, second))
					if got := saved(t, ns); times == 1 && strings.Contains(got, "203.0.113.9/") {
						t.Errorf("behind the first commit there is\n%s", got)
					}
					for range 5 {
						commit(t, k, directly(t, backend, second+`<passthrough ipv="ipv4">-A INPUT -s 203.0.113.11 -j ACCEPT</passthrough>`))
						commit(t, k, directly(t, backend, second))
					}
					if times < 1000 && late.times >= 0 {
						t.Errorf("the note was not read again: %d", late.times)
					}
					if times == 1000 && !strings.Contains(store.texts[len(store.texts)-1], "203.0.113.9") {
						t.Errorf("a note that was not read was written over: %s", store.texts)
					}
					if times == 1000 {
						commit(t, k, directly(t, backend, "")) // what was never noted goes by itself
					}
					end()
					k, _, end = process(t, ns, backend, store)
					defer end()
					commit(t, k, directly(t, backend, ""))
					if got := saved(t, ns); strings.Contains(got, "203.0.113") {
						t.Errorf("there is\n%s", got)
					}
				})
			}
		}
	})
}

// A note that can be read only within a commit is read at the begin of the next one, whichever part of a commit asks what is noted, or a check
// beside it: the rules of an earlier process go with the next start.
func TestNoteThatBecomesReadableWithinACommit(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		withSet := func(elements string) *kernel.Desired {
			dir := t.TempDir()
			write(t, dir+"/ipsets/some.xml", `<ipset type="hash:ip"><entry>198.51.100.20</entry></ipset>`)
			write(t, dir+"/direct.xml", `<direct>`+elements+`<passthrough ipv="ipv4">-A INPUT -m set --match-set some src -j DROP</passthrough></direct>`)
			return desiredOf(t, dir, backend)
		}
		goes := func(name string, times int, open func(ns *lab.Namespace, late *unread) kernel.Kernel) {
			ns, store := namespace(t), &disk{}
			k, _, end := process(t, ns, backend, store)
			commit(t, k, withSet(`<passthrough ipv="ipv4">-A INPUT -s 203.0.113.9 -j ACCEPT</passthrough>`))
			end()
			late := &unread{store, times}
			k = open(ns, late)
			for i := 0; i < 1 || late.times >= 0 && i < 5; i++ {
				commit(t, k, withSet(""))
				commit(t, k, withSet(`<passthrough ipv="ipv4">-A INPUT -s 203.0.113.11 -j ACCEPT</passthrough>`))
			}
			if late.times >= 0 {
				t.Errorf("%s, the note was not read again: %d", name, late.times)
			}
			k.Close()
			k, _, end = process(t, ns, backend, store)
			defer end()
			commit(t, k, withSet(""))
			if got := saved(t, ns); strings.Contains(got, "203.0.113") {
				t.Errorf("%s, there is\n%s", name, got)
			}
		}
		for times := range 6 {
			goes(fmt.Sprintf("readable after %d times", times), times, func(ns *lab.Namespace, late *unread) kernel.Kernel {
				k, _, _ := process(t, ns, backend, late)
				return k
			})
		}
		goes("readable by a check within a commit", 1000, func(ns *lab.Namespace, late *unread) kernel.Kernel {
			left := kernel.NewLeft(late, quietLog)
			begun := false
			k, err := kernel.New(kernel.Options{Backend: backend, Log: quietLog, Left: left, Enter: func(f func() error) error {
				if begun && late.times > 0 {
					late.times = 0
					other, err := kernel.New(kernel.Options{Backend: ir.IPTables, Enter: ns.Do, Log: quietLog, Left: left})
					if err != nil {
						return err
					}
					other.Close()
				}
				return ns.Do(f)
			}})
			if err != nil {
				t.Fatal(err)
			}
			begun = true
			return k
		})
	})
}

// counted makes the programs of iptables such as note each run. runs says how many there were since it was asked last.
func counted(t *testing.T) (runs func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runs")
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		inPath(t, name, fmt.Sprintf("echo >>%s\nexec %s \"$@\"\n", file, path))
	}
	return func() int {
		said, _ := os.ReadFile(file)
		_ = os.Remove(file)
		return len(said)
	}
}

// A start asks iptables as often with many direct rules as with few, whatever it knows of them and whatever another program has there: at
// the first start, without a note, with one, and when another program has taken our rules out.
func TestManyDirectRulesAreLookedUpTogether(t *testing.T) {
	eachWay(t, func(t *testing.T, backend ir.Backend) {
		runs := counted(t)
		asked := func(n int) (list []int) {
			ns, store := namespace(t), &disk{}
			elements := `<chain ipv="ipv4" table="filter" chain="mine"/>`
			for i := range n {
				elements += fmt.Sprintf(`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.0.0.%d -j DROP</rule>`, i)
				elements += fmt.Sprintf(`<rule ipv="ipv4" table="filter" chain="mine" priority="0">-s 10.0.1.%d -j DROP</rule>`, i)
			}
			next := directly(t, backend, elements)
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "DROP")
			once := func(store *disk) {
				k, _, end := process(t, ns, backend, store)
				defer end()
				runs()
				commit(t, k, next)
				list = append(list, runs())
				if got := strings.Count(run(t, ns, "", "iptables", "-S"), "-s 10.0."); got != 2*n {
					t.Errorf("of %d rules there are %d", 2*n, got)
				}
			}
			once(&disk{})
			once(&disk{})
			once(store)
			once(store)
			run(t, ns, "", "iptables", "-F", "mine")
			run(t, ns, "", "iptables", "-A", "mine", "-p", "udp", "-j", "DROP")
			run(t, ns, "", "iptables", "-F", "INPUT")
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "udp", "-j", "DROP")
			once(store)
			return list
		}
		few, many := asked(2), asked(40)
		for i := range few {
			if few[i] != many[i] {
				t.Errorf("the programs run %v times with few rules, %v times with many", few, many)
				break
			}
		}
	})
}

// A rule that iptables does not understand, such as one for a set that is not there, keeps no other rule from being found.
func TestRulesAreFoundBesideOnesThatAreNotUnderstood(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, many := range []int{1, 40} {
			ns := namespace(t)
			run(t, ns, "", "iptables", "-A", "INPUT", "-p", "tcp", "-m", "tcp", "--dport", "25", "-j", "ACCEPT")
			note := `{"Rules":[{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":"-p tcp --dport 25 -j ACCEPT"}`
			for i := range many {
				note += fmt.Sprintf(`,{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":"-m set --match-set gone%d src -j ACCEPT"}`, i)
			}
			k, _, end := process(t, ns, backend, &disk{texts: []string{note + "]}"}})
			commit(t, k, directly(t, backend, ""))
			if got := saved(t, ns); strings.Contains(got, "--dport 25") {
				t.Errorf("beside %d rules that are not understood there is\n%s", many, got)
			}
			end()
		}
	})
}

// A check for a running firewall refuses a direct chain that another program has made, as the commit does, even an empty one; one that was
// made for the direct interface it accepts.
func TestCheckForARunningFirewallIsNoStart(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		const own = `<chain ipv="ipv4" table="filter" chain="own"/><rule ipv="ipv4" table="filter" chain="own" priority="0">-j ACCEPT</rule>`
		for _, first := range []string{"", own} {
			ns := namespace(t)
			k, o, end := process(t, ns, backend, &disk{})
			commit(t, k, directly(t, backend, first))
			run(t, ns, "", "iptables", "-N", "mine")
			other, err := kernel.New(o)
			if err != nil {
				t.Fatal(err)
			}
			next := directly(t, backend, first+`<chain ipv="ipv4" table="filter" chain="mine"/>`)
			next.Running = true
			before := saved(t, ns)
			var taken *kernel.TakenError
			if err := other.Check(next); !errors.As(err, &taken) || taken.Chain != "mine" {
				t.Errorf("the check gives %v", err)
			}
			if err := k.Commit(t.Context(), next); !errors.As(err, &taken) || taken.Chain != "mine" {
				t.Errorf("the commit gives %v", err)
			}
			good := directly(t, backend, own)
			good.Running = true
			if err := other.Check(good); err != nil {
				t.Errorf("the check of our own chain gives %v", err)
			}
			sameLines(t, before, saved(t, ns))
			other.Close()
			end()
		}
	})
}

// The chain in which rules are tried and listed goes at the next start, should a process have been killed meanwhile.
func TestChainOfATrialGoes(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		run(t, ns, "*filter\n:firewalld_guard_trial_0a1b2c - [0:0]\n-A firewalld_guard_trial_0a1b2c -s 10.0.0.1 -j ACCEPT\nCOMMIT\n", "iptables-restore", "--noflush")
		k, o, end := process(t, ns, backend, &disk{})
		defer end()
		commit(t, k, directly(t, backend, ""))
		if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
			t.Fatal(err)
		}
		if got := run(t, ns, "", "iptables", "-S"); strings.Contains(got, "_trial") {
			t.Errorf("there is\n%s", got)
		}
	})
}
