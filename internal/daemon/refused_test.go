package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/statedir"
	"richwall/zones"
)

// namesOne is a kernel that refuses the rules with a text, and names only the first of them, as iptables-restore does.
type namesOne struct {
	fakeKernel
	text string // "" refuses nothing
}

func (k *namesOne) Commit(ctx context.Context, next *kernel.Desired) error {
	for _, set := range []*ir.Ruleset{next.Rules, next.Direct} {
		if set == nil || k.text == "" {
			continue
		}
		for _, c := range set.Chains {
			for _, r := range c.Rules {
				if r.Origin != nil && strings.Contains(r.Origin.Said(), k.text) {
					return &kernel.RuleError{Origin: r.Origin, Chain: c.Name, Err: fmt.Errorf("cannot load match %s", k.text)}
				}
			}
		}
	}
	return k.fakeKernel.Commit(ctx, next)
}

// on has the daemons of a bed work with a kernel from the next start on.
func (b *bed) on(k kernel.Kernel, fake *fakeKernel) {
	b.opt.Kernel = func(ir.Backend) (kernel.Kernel, error) { return k, nil }
	b.kernel = fake
}

// direct is the installed ruleset of the direct interface as text.
func (k *fakeKernel) direct() string {
	if k.installed == nil || k.installed.Direct == nil {
		return ""
	}
	var b strings.Builder
	k.installed.Direct.Dump(&b)
	return b.String()
}

// However many rules a kernel refuses, one at a time, a start names each of them and leaves it out, and all else is in force. What is in force
// is never the shipped configuration, which lets more in.
func TestManyRefusedRules(t *testing.T) {
	const refused = 300
	for name, c := range map[string]struct{ rule, more string }{
		"direct rules, a line each": {"<rule ipv=\"ipv4\" table=\"filter\" chain=\"INPUT\" priority=\"0\">-m geoip --src-cc %d -j DROP</rule>\n", "\n"},
		"direct rules of one line":  {`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-m geoip --src-cc %d -j DROP</rule>`, ""},
		"commands of one line":      {`<passthrough ipv="ipv4">-A INPUT -m geoip --src-cc %d -j DROP</passthrough>`, ""},
	} {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, with a last good configuration: %v", name, kept), func(t *testing.T) {
				var direct strings.Builder
				for i := range refused {
					fmt.Fprintf(&direct, c.rule, i)
				}
				direct.WriteString(`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 25 -j DROP</rule>`)
				k := &namesOne{text: "geoip"}
				if kept {
					k.text = ""
				}
				b := start(t, map[string]string{"firewalld.conf": "DefaultZone=drop\n", "zones/work.xml": workZone})
				b.keepStateIn(t.TempDir())
				b.on(k, &k.fakeKernel)
				b.write(t, map[string]string{"direct.xml": "<direct>" + c.more + direct.String() + "</direct>"})
				b.again(t)
				if kept {
					b.expect(t, Running, "", []string{"8080"}, []string{"22"})
					k.text = "geoip"
					b.again(t)
				}
				b.expect(t, Failed, "geoip", []string{"8080"}, []string{"22"})
				said := strings.Join(b.Snapshot().Failures, "\n")
				if named := strings.Count(said, "cannot load match geoip"); named < refused {
					t.Errorf("%d of %d rules are named", named, refused)
				}
				if rules := k.direct(); !strings.Contains(rules, "--dport 25 ") || strings.Contains(rules, "geoip") {
					t.Errorf("the direct rules are\n%s", rules)
				}
			})
		}
	}
}

// keepStateIn gives the next daemon a folder for what outlives the process.
func (b *bed) keepStateIn(dir string) { b.opt.State = must(statedir.For(dir, b.dir)) }

// A zone of which the back end refuses one rule keeps all others, also where all of its file stands in one line and nothing is bound to it.
func TestOneRefusedRuleOfALine(t *testing.T) {
	for _, bound := range []string{"", `<interface name="eth1"/>`} {
		for _, last := range []string{`<rule><tcp-mss-clamp value="1400" raise="yes"/></rule>`, `<rule><port port="9999" protocol="tcp"/><accept/></rule>`} {
			zone := "<zone>" + bound
			for i := range 30 {
				zone += fmt.Sprintf(`<rule><port port="%d" protocol="tcp"/><accept/></rule>`, 8000+i)
			}
			k := &namesOne{text: "9999"}
			b := start(t, map[string]string{"firewalld.conf": "FirewallBackend=iptables\n", "zones/work.xml": "<zone/>"})
			b.on(k, &k.fakeKernel)
			b.write(t, map[string]string{"zones/work.xml": zone + last + "</zone>"})
			b.again(t)
			if bound == "" && strings.Contains(last, "9999") {
				b.expect(t, Running, "", nil, nil)
				continue
			}
			b.expect(t, Failed, "zones/work.xml:1: ", nil, []string{"9999"})
			if rules := b.Snapshot().Runtime.Zones["work"].Rules; len(rules) != 30 || len(b.Snapshot().Failures) != 2 {
				t.Errorf("of 31 rules, %d are in force; the state says %q", len(rules), b.Snapshot().Failures)
			}
		}
	}
}

// refusesAll is a kernel that refuses the rules of every object but the shipped ones, and then those too.
type refusesAll struct {
	fakeKernel
	path    string // rules of objects with it in their path
	shipped bool
	until   int // so many commits
}

func (k *refusesAll) Commit(ctx context.Context, next *kernel.Desired) error {
	if k.until--; k.until < 0 || next.Rules == nil {
		return k.fakeKernel.Commit(ctx, next)
	}
	var refused []error
	for _, c := range next.Rules.Chains {
		for _, r := range c.Rules {
			if r.Origin != nil && (k.shipped || strings.Contains(r.Origin.Path, k.path)) {
				refused = append(refused, &kernel.RuleError{Origin: r.Origin, Chain: c.Name, Err: errors.New("not supported")})
			}
		}
	}
	if refused != nil {
		return errors.Join(refused...)
	}
	return k.fakeKernel.Commit(ctx, next)
}

// Whatever a kernel refuses, a start ends with rules in the kernel or with an error, and neither with nothing nor with a default zone that lets
// more in than the one of the files.
func TestStartNeverEndsWithNothing(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, kept := range []bool{false, true} {
			for name, k := range map[string]*refusesAll{
				"the default zone":            {path: "work.xml", until: 1 << 30},
				"everything, for some time":   {shipped: true, until: 30},
				"everything":                  {shipped: true, until: 1 << 30},
				"everything of the old start": {shipped: true, until: 1},
			} {
				t.Run(fmt.Sprintf("%s, %s, with a last good configuration: %v", name, backend, kept), func(t *testing.T) {
					conf := map[string]string{"firewalld.conf": fmt.Sprintf("DefaultZone=work\nFirewallBackend=%s\n", backend),
						"zones/work.xml": "<zone target=\"DROP\">\n<port port=\"8080\" protocol=\"tcp\"/>\n</zone>"}
					b := start(t, conf)
					if kept {
						b.keepStateIn(t.TempDir())
						b.again(t)
					}
					if err := b.Stop(t.Context()); err != nil {
						t.Fatal(err)
					}
					b.on(k, &k.fakeKernel)
					b.write(t, map[string]string{"zones/work.xml": strings.Replace(conf["zones/work.xml"], "<port", "<protocol value=\"esp\"/>\n<port", 1)})
					b.Daemon = New(b.opt)
					err := b.Start(t.Context())
					switch now := b.Snapshot(); {
					case err != nil:
						if now.Runtime != nil {
							t.Errorf("there is a runtime configuration after %v", err)
						}
					case now.Runtime == nil || k.commits == 0:
						t.Error("the start succeeds with nothing in the kernel")
					default:
						b.expect(t, Failed, "to end this: ", nil, []string{"22"})
						if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("1", "tcp"))}); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
	}
}

// The default zone of the files that is deleted is not the default any more, neither at once nor after a reload or a restart.
func TestDefaultZoneDeleted(t *testing.T) {
	b := startKept(t, map[string]string{"zones/mine.xml": `<zone><port port="8080" protocol="tcp"/></zone>`, "firewalld.conf": "DefaultZone=mine\n"})
	b.expect(t, Running, "", []string{"8080"}, []string{"22"})
	if err := b.ChangePermanent(Change{Edit: zones.Delete(zones.Object{Kind: zones.KindZone, Name: "mine"})}); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", []string{"8080"}, []string{"22"})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, Running, "", []string{"22"}, []string{"8080"})
	b.again(t)
	b.expect(t, Running, "", []string{"22"}, []string{"8080"})
	if text := string(must(os.ReadFile(filepath.Join(b.dir, "firewalld.conf")))); text != "DefaultZone=public\n" {
		t.Errorf("firewalld.conf is %q", text)
	}
}

// Whatever brings the first rules into the kernel after it was busy, a direct rule in a chain that is not there is not taken for one of a
// program that comes later, unless the last good configuration has rules in it.
func TestChainsAreAwaitedOnEveryWay(t *testing.T) {
	for name, first := range map[string]func(b *bed) error{
		"a change": func(b *bed) error {
			return b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("99", "tcp"))})
		},
		"panic mode": func(b *bed) error { return b.SetPanic(t.Context(), true) },
		"the end of panic mode": func(b *bed) error {
			return errors.Join(b.SetPanic(t.Context(), true), b.SetPanic(t.Context(), false))
		},
		"a reload": func(b *bed) error { return b.Reload(t.Context()) },
		"a retry": func(b *bed) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.attend()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="NOSUCH" priority="0">-j DROP</rule></direct>`})
			b.kernel.refuse, b.kernel.installed = kernel.ErrBusy, nil
			b.again(t)
			b.expect(t, Failed, notInKernel, nil, nil)
			b.kernel.refuse = nil
			if err := first(b); err != nil {
				t.Fatal(err)
			}
			if awaits := b.kernel.installed.Awaits; awaits == nil || awaits("filter", "NOSUCH", true) {
				t.Error("any chain is awaited")
			}
		})
	}
}

// A reset is the way out whatever the kernel refuses: where that is in direct.xml, which stays otherwise, it is kept as direct.xml.old. Where
// it is something else, all files are put back, and direct.xml is where it was.
func TestResetOfWhatIsRefused(t *testing.T) {
	rule := `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">%s</rule>`
	taken, refused, empty := fmt.Sprintf(rule, "-p tcp --dport 25 -j DROP"), fmt.Sprintf(rule, "-m geoip --src-cc 1 -j DROP"), fmt.Sprintf(rule, "")
	for name, c := range map[string]struct {
		first, then string // in direct.xml
		stays       bool
	}{
		"nothing refused":                           {taken, taken, true},
		"a rule refused":                            {taken, taken + refused, false},
		"a rule refused by the start":               {taken + refused, taken + refused, false},
		"a part passed over, and a rule gone":       {taken, empty, false},
		"a part passed over that was passed over":   {taken + empty, taken + empty, true},
		"a part passed over, as well as by a start": {refused + empty, refused + empty, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := &namesOne{text: "geoip"}
			b := start(t, map[string]string{"zones/work.xml": workZone})
			b.opt = b.Daemon.opt
			b.on(k, &k.fakeKernel)
			b.write(t, map[string]string{"direct.xml": "<direct>" + c.first + "</direct>"})
			b.again(t)
			b.write(t, map[string]string{"direct.xml": "<direct>" + c.then + "</direct>"})
			b.kernel.refuse = errors.New("no memory")
			if err := b.ResetToDefaults(t.Context()); err == nil || !b.there("direct.xml") || !b.there("zones/work.xml") {
				t.Errorf("a kernel that takes nothing: the error is %v", err)
			}
			b.kernel.refuse = nil
			if err := b.ResetToDefaults(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.expect(t, Running, "", []string{"22"}, []string{"8080"})
			if b.there("zones/work.xml") || b.there("direct.xml") != c.stays || b.there("direct.xml.old") == c.stays {
				t.Errorf("direct.xml is there: %v, want %v", b.there("direct.xml"), c.stays)
			}
			if strings.Contains(k.direct(), "--dport 25 ") != c.stays {
				t.Errorf("the direct rules are\n%s", k.direct())
			}
			if got := len(b.Snapshot().Permanent.Direct.Rules) > 0; got != c.stays {
				t.Errorf("the permanent configuration has direct rules: %v, want %v", got, c.stays)
			}
		})
	}
}

// there tells whether a file is in the folder.
func (b *bed) there(name string) bool {
	_, err := os.Stat(filepath.Join(b.dir, name))
	return err == nil
}

// keptOut is a kernel that can, or cannot, keep new connections out.
type keptOut struct {
	*fakeKernel
	cannot error
	asked  []bool // with panic mode or without
}

func (k *keptOut) KeepOut(_ context.Context, panicked bool) error {
	k.asked = append(k.asked, panicked)
	return k.cannot
}

func (k *keptOut) KeepOutAlone(ctx context.Context, panicked bool) error {
	return k.KeepOut(ctx, panicked)
}

// While the first rules cannot be put into the kernel, the state and the log say whether new connections are kept out, and that changes when
// it does. Each try asks for it again, with panic mode if that is on. A running firewall, of which a change fails, is not asked.
func TestSaysWhetherNewConnectionsAreKeptOut(t *testing.T) {
	b := start(t, map[string]string{"zones/work.xml": workZone})
	b.opt = b.Daemon.opt
	k := &keptOut{fakeKernel: b.kernel, cannot: errors.New("no memory for a table")}
	b.on(k, b.kernel)
	k.refuse = kernel.ErrBusy
	b.again(t)
	b.expect(t, Failed, notKeptOut, nil, nil)
	if log := b.log.String(); strings.Contains(log, "nothing new is let in") || !strings.Contains(log, k.cannot.Error()) {
		t.Errorf("the log says\n%s", log)
	}
	try := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.attend()
	}
	for _, cannot := range []error{k.cannot, nil, k.cannot, nil} {
		k.cannot = cannot
		try()
		want, not := notInKernel, notKeptOut
		if cannot != nil {
			want, not = not, want
		}
		if said := strings.Join(b.Snapshot().Failures, "\n"); !strings.Contains(said, want) || strings.Contains(said, not) {
			t.Errorf("new connections are kept out: %v; the state says\n%s", cannot == nil, said)
		}
	}
	k.refuse = nil
	try()
	b.expect(t, Running, "", []string{"8080"}, nil)
	asked := len(k.asked)
	k.refuse = errors.New("no")
	if err := b.ChangeRuntime(t.Context(), Change{Edit: zones.Add(zones.Runtime, public, port("1", "tcp"))}); err == nil {
		t.Error("the change is made")
	}
	if len(k.asked) != asked || slices.Contains(k.asked, true) {
		t.Errorf("the kernel is asked to keep out what is new: %v", k.asked)
	}
	k.refuse = nil
	if err := b.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	k.refuse = kernel.ErrBusy
	b.opt.Dropping = func() (bool, error) { return true, nil }
	b.again(t)
	if k.asked = k.asked[asked:]; !slices.Contains(k.asked, true) || slices.Contains(k.asked, false) {
		t.Errorf("in panic mode the kernel is asked to keep out everything: %v", k.asked)
	}
}

// sentinel is a kernel whose guard stands or not.
type sentinel struct {
	keptOut
	stands bool
}

func (k *sentinel) Guarded() bool { return k.stands }

// While the guard keeps new connections out, the state says so, whatever it is: not where it has said so already, nor in panic mode, in which
// nothing passes anyway.
func TestSaysThatTheGuardStands(t *testing.T) {
	b := start(t, nil)
	b.opt = b.Daemon.opt
	k := &sentinel{keptOut: keptOut{fakeKernel: b.kernel}}
	b.on(k, b.kernel)
	b.again(t)
	expect := func(when string, want ...string) {
		t.Helper()
		if got := b.Snapshot().Notices(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	expect("at first")
	k.stands = true
	expect("the guard stands", guardStands)
	if s := b.Snapshot(); s.State != Running || s.Failures != nil {
		t.Errorf("the state is %s: %q", s.State, s.Failures)
	}
	k.refuse = errors.New("no memory")
	b.foreign(k, flushed)
	expect("rules that cannot be put back", guardStands)
	b.expect(t, Failed, notPutBack, nil, nil)
	k.refuse = nil
	if err := b.SetPanic(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	expect("panic mode")
	if err := b.SetPanic(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	k.stands = false
	expect("at last")
	k.refuse, k.stands = kernel.ErrBusy, true
	b.again(t)
	b.expect(t, Failed, notInKernel, nil, nil)
	expect("a start that waits for the kernel")
}
