package kernel_test

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// disk is a Store. It keeps everything that was ever written, the last at the end.
type disk struct {
	texts  []string
	fails  error
	writes func(text string) // is called before something is written
}

func (d *disk) Read() ([]byte, error) {
	if len(d.texts) == 0 {
		return nil, d.fails
	}
	return []byte(d.texts[len(d.texts)-1]), d.fails
}

func (d *disk) Write(text []byte) error {
	if d.writes != nil {
		d.writes(string(text))
	}
	if d.fails == nil {
		d.texts = append(d.texts, string(text))
	}
	return d.fails
}

var quietLog = slog.New(slog.NewTextHandler(io.Discard, nil))

// process opens a Kernel as a new process does that finds what is on the disk. killed ends it as if it had been killed.
func process(t *testing.T, ns *lab.Namespace, backend ir.Backend, store kernel.Store) (k kernel.Kernel, o kernel.Options, killed func()) {
	t.Helper()
	o = kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(store, quietLog)}
	k = start(t, o)
	return k, o, func() {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	directEverywhere = `<chain ipv="ipv4" table="nat" chain="mine"/>
	<rule ipv="ipv4" table="nat" chain="PREROUTING" priority="0">-p tcp --dport 81 -j REDIRECT --to-ports 22</rule>
	<rule ipv="ipv4" table="nat" chain="PREROUTING" priority="1">-p udp -j mine</rule>
	<rule ipv="ipv4" table="nat" chain="mine" priority="0">-p udp --dport 53 -j RETURN</rule>
	<rule ipv="ipv6" table="filter" chain="FORWARD" priority="0">-s fd00::2 -j ACCEPT</rule>
	<passthrough ipv="ipv4">-t nat -A PREROUTING -p tcp --dport 82 -j REDIRECT --to-ports 22</passthrough>
	<passthrough ipv="ipv4">-I INPUT -p tcp --dport 83 -j ACCEPT</passthrough>
	<passthrough ipv="ipv4">-t security -A INPUT -p tcp --dport 84 -j ACCEPT</passthrough>
	<passthrough ipv="ipv4">-N theirs</passthrough>`
	// A start makes the chain, which is another program's.
	directForLater = `<rule ipv="ipv4" table="filter" chain="LATER" priority="0">-s 10.0.0.2 -j ACCEPT</rule>`
)

// Direct rules, direct chains and passthroughs of a process that was killed go at the next start if the configuration has them no
// longer, and stand once if it has them still. Rules of other programs stay, also those that say the same.
func TestDirectRulesOfAnEarlierProcess(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		docker(t, ns)
		for _, rule := range []string{"-t nat -A PREROUTING -p tcp --dport 82 -j REDIRECT --to-ports 22", "-A INPUT -p tcp --dport 83 -j ACCEPT"} {
			run(t, ns, "", "iptables", strings.Fields(rule)...)
		}
		store := &disk{}
		k, _, killed := process(t, ns, backend, store)
		commit(t, k, directly(t, backend, ""))
		without := saved(t, ns)
		killed()

		const everything = directEverywhere + directForLater + intoDocker
		k, _, killed = process(t, ns, backend, store)
		commit(t, k, directly(t, backend, everything))
		with := saved(t, ns)
		killed()

		k, _, killed = process(t, ns, backend, store)
		commit(t, k, directly(t, backend, everything))
		sameLines(t, sortedLines(with), sortedLines(saved(t, ns)))
		killed()

		k, _, killed = process(t, ns, backend, store)
		commit(t, k, directly(t, backend, ""))
		sameLines(t, without, saved(t, ns))
		killed()

		k, _, killed = process(t, ns, backend, store)
		defer killed()
		commit(t, k, directly(t, backend, ""))
		sameLines(t, without, saved(t, ns))
	})
}

// Whenever a process is killed, the disk names all direct rules that are in the kernel: at each writing, the note before and the
// note behind it have the next start leave none there.
func TestEveryNoteNamesWhatIsThere(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		type moment struct{ note, v4, v6 string }
		var moments []moment
		ns, store := namespace(t), &disk{}
		store.writes = func(text string) {
			v4, v6 := run(t, ns, "", "iptables-save"), run(t, ns, "", "ip6tables-save")
			if n := len(store.texts); n > 0 {
				moments = append(moments, moment{store.texts[n-1], v4, v6})
				moments = append(moments, moment{text, v4, v6})
			}
		}
		k, _, killed := process(t, ns, backend, store)
		for _, elements := range []string{"", directEverywhere, strings.Replace(directEverywhere, "--dport 81", "--dport 91", 1), ""} {
			commit(t, k, directly(t, backend, elements))
		}
		clean := saved(t, ns)
		killed()
		if len(moments) < 8 {
			t.Errorf("notes were written at %d moments", len(moments)/2)
		}
		for _, m := range moments {
			ns := namespace(t)
			run(t, ns, m.v4, "iptables-restore")
			run(t, ns, m.v6, "ip6tables-restore")
			k, _, end := process(t, ns, backend, &disk{texts: []string{m.note}})
			commit(t, k, directly(t, backend, ""))
			sameLines(t, clean, saved(t, ns))
			end()
		}
	})
}

// A note that is wrong, cannot be read or cannot be written keeps no firewall from starting.
func TestStartWithABadNote(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for name, store := range map[string]*disk{
			"unreadable": {fails: errors.New("the disk is gone")},
			"no JSON":    {texts: []string{"{"}},
			"untrue": {texts: []string{`{"Rules":[{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":"-j NOSUCH"},` +
				`{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":"-s 10.0.0.1 -j DROP"},{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":"-s 10.0.0.1 -j DROP"},` +
				`{"Tool":"iptables","Table":"nosuch","Chain":"INPUT","Spec":"-j DROP"},{"Tool":"iptables","Table":"filter","Chain":"INPUT","Spec":"-j DROP\n-F"}],` +
				`"Chains":[{"Tool":"iptables","Table":"filter","Chain":"absent"},{"Tool":"iptables","Table":"filter","Chain":"used"}],"Sets":["absent"]}`}},
		} {
			t.Run(name, func(t *testing.T) {
				ns := namespace(t)
				run(t, ns, "*filter\n:used - [0:0]\n-A FORWARD -j used\n-A INPUT -s 10.0.0.1 -j DROP\nCOMMIT\n", "iptables-restore", "--noflush")
				k, o, log := hearing(t, kernel.Options{Backend: backend, Enter: ns.Do}, store)
				commit(t, k, directly(t, backend, directEverywhere))
				commit(t, k, directly(t, backend, ""))
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Error(err)
				}
				if got := run(t, ns, "", "iptables-save"); !strings.Contains(got, "-A FORWARD -j used") || strings.Contains(got, "--dport 81") {
					t.Errorf("there is\n%s", got)
				}
				if name == "unreadable" && strings.Count(log.String(), "the disk is gone") != 2 {
					t.Errorf("the log says\n%s", log)
				}
			})
		}
	})
}

// all is everything that the tools list, of nftables and of iptables.
func all(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	return run(t, ns, "", "nft", "list", "tables", "inet") + saved(t, ns)
}

// When a process was killed and the next one has another back end, nothing is left in force of the first one, be it rules, direct
// rules, sets or panic mode. Rules of other programs stay, and so do the direct rules of the second one.
func TestStartWithTheOtherBackEnd(t *testing.T) {
	variants(t, func(t *testing.T) {
		bothBackends(t, func(t *testing.T, backend ir.Backend) {
			former := otherThan(backend)
			const last = `<passthrough ipv="ipv4">-A INPUT -i lo -j ACCEPT</passthrough>`
			prepare := func() *lab.Namespace {
				ns := namespace(t)
				docker(t, ns)
				run(t, ns, "", "ipset", "create", "foreign", "hash:ip")
				return ns
			}
			fresh := prepare()
			k, _, end := process(t, fresh, backend, &disk{})
			commit(t, k, directly(t, backend, last))
			want := all(t, fresh)
			end()
			for _, panicked := range []bool{false, true} {
				ns, store := prepare(), &disk{}
				k, _, killed := process(t, ns, former, store)
				first := directly(t, former, directEverywhere+last)
				first.Panic = panicked
				withSet := first.Rules
				if former == ir.NFTables {
					withSet = first.Direct
				}
				withSet.Sets = append(withSet.Sets, &ir.Set{Name: "ours", Type: "hash:ip", Family: ir.V4, Exact: true})
				commit(t, k, first)
				killed()
				if got := all(t, ns); !strings.Contains(got, "create ours") {
					t.Fatalf("there is\n%s", got)
				}

				k, o, end := process(t, ns, backend, store)
				second := directly(t, backend, last)
				second.Panic = panicked
				commit(t, k, second)
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Fatal(err)
				}
				commit(t, k, directly(t, backend, last))
				got := all(t, ns)
				sameLines(t, sortedLines(want), sortedLines(got))
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Error(err)
				}
				sameLines(t, got, all(t, ns))
				end()
			}
		})
	})
}

// The policies that an administrator has set stay when the rules of iptables go. Those of panic mode, which drop in tables where
// nobody else has all do that, do not.
func TestPoliciesBesideTheOtherBackEnd(t *testing.T) {
	variants(t, func(t *testing.T) {
		for _, panicked := range []bool{false, true} {
			ns := namespace(t)
			k, _, killed := process(t, ns, ir.IPTables, &disk{})
			commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.IPTables, ""), Panic: panicked})
			killed()
			if !panicked {
				for _, policy := range []string{"filter INPUT", "filter FORWARD", "filter OUTPUT", "mangle FORWARD"} {
					run(t, ns, "", "iptables", append([]string{"-t"}, strings.Fields(strings.Replace(policy, " ", " -P ", 1)+" DROP")...)...)
				}
			}
			k, o, end := process(t, ns, ir.NFTables, &disk{})
			commit(t, k, &kernel.Desired{Rules: letsIn(t, ir.NFTables, "")})
			if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
				t.Fatal(err)
			}
			end()
			got := run(t, ns, "", "iptables-save") + run(t, ns, "", "ip6tables-save")
			want := 4
			if panicked {
				want = 0
			}
			if n := strings.Count(got, " DROP ["); n != want || strings.Contains(got, "IN_public") {
				t.Errorf("with panic mode %v there are %d policies that drop, want %d:\n%s", panicked, n, want, got)
			}
		}
	})
}

// When a running process changes its back end, the direct rules that both have stand once, and those of the former one go, as do its
// sets: also where neither has direct rules.
func TestSuccession(t *testing.T) {
	const last = `<passthrough ipv="ipv4">-A INPUT -p tcp --dport 82 -j ACCEPT</passthrough>`
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for first, second := range map[string]string{directEverywhere + last: last, directEverywhere: "", "": ""} {
			succeeds(t, backend, first, second)
		}
	})
}

// succeeds has a Kernel of a back end take over from one of the other, each with its elements of direct.xml, and with iptables
// a set that no rule looks up.
func succeeds(t *testing.T, backend ir.Backend, first, second string) {
	t.Helper()
	former := otherThan(backend)
	fresh := namespace(t)
	k, _, end := process(t, fresh, backend, &disk{})
	commit(t, k, withSet(directly(t, backend, second), backend, "new"))
	want := all(t, fresh)
	end()
	ns := namespace(t)
	k, o, end := process(t, ns, former, &disk{})
	commit(t, k, withSet(directly(t, former, first), former, "ours"))
	o.Backend = backend
	next, err := kernel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	commit(t, next, withSet(directly(t, backend, second), backend, "new"))
	commit(t, k, &kernel.Desired{Succeeded: true})
	if kernel.RemoveOther(t.Context(), o, k) == nil {
		t.Error("what is elsewhere than the rules of the former back end may go")
	}
	end()
	if err := kernel.RemoveOther(t.Context(), o, next); err != nil {
		t.Fatal(err)
	}
	sameLines(t, sortedLines(want), sortedLines(all(t, ns)))
}

// withSet is what is desired, for iptables with one more set, which no rule looks up.
func withSet(d *kernel.Desired, backend ir.Backend, name string) *kernel.Desired {
	if backend == ir.IPTables {
		d.Rules.Sets = append(d.Rules.Sets, &ir.Set{Name: name, Type: "hash:ip", Family: ir.V4, Exact: true})
	}
	return d
}

// A chain or a set that another program uses cannot be taken out. It stays noted, whatever is committed meanwhile, and goes with the first
// commit after that, be it of the same process or of a later one.
func TestWhatOthersUseGoesLater(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, later := range []bool{false, true} {
			ns, store := namespace(t), &disk{}
			k, _, killed := process(t, ns, ir.NFTables, store)
			first := directly(t, ir.NFTables, `<passthrough ipv="ipv4">-N theirs</passthrough><passthrough ipv="ipv4">-I INPUT -p tcp --dport 83 -j ACCEPT</passthrough>`)
			first.Direct.Sets = append(first.Direct.Sets, &ir.Set{Name: "ours", Type: "hash:ip", Family: ir.V4, Exact: true})
			commit(t, k, first)
			killed()
			run(t, ns, "", "iptables", "-A", "OUTPUT", "-j", "theirs")
			run(t, ns, "", "iptables", "-A", "OUTPUT", "-m", "set", "--match-set", "ours", "dst", "-j", "DROP")
			start := func() (kernel.Kernel, func()) {
				k, o, killed := process(t, ns, backend, store)
				commit(t, k, directly(t, backend, ""))
				if err := kernel.RemoveOther(t.Context(), o, k); err != nil {
					t.Fatal(err)
				}
				return k, killed
			}
			noted := func(want bool) {
				t.Helper()
				note, text := store.texts[len(store.texts)-1], all(t, ns)
				for _, name := range []string{"theirs", "ours"} {
					if strings.Contains(note, `"`+name+`"`) != want || strings.Contains(text, name) != want {
						t.Errorf("with %s, later %v, the note and the tables should have %s: %v\n%s\n%s", backend, later, name, want, note, text)
					}
				}
			}
			k, killed = start()
			noted(true)
			commit(t, k, directly(t, backend, `<passthrough ipv="ipv4">-A INPUT -p tcp --dport 84 -j ACCEPT</passthrough>`))
			commit(t, k, directly(t, backend, ""))
			noted(true)
			run(t, ns, "", "iptables", "-F", "OUTPUT")
			if later {
				killed()
				_, killed = start()
			} else {
				commit(t, k, directly(t, backend, ""))
			}
			noted(false)
			killed()
		}
	})
}
