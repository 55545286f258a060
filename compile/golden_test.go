package compile_test

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"richwall/compile"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/lab"
	"richwall/zones"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

const (
	casesDir   = "../testdata/compile"
	goldensDir = "../golden/compile"
	howTo      = "to accept what is printed now: make golden"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

// TestGolden compiles each configuration of testdata/compile and compares what is printed with the files of its name in
// golden/compile. A case is an archive of the files of a configuration folder. It starts with a sentence about it, and
// goes on with any of these lines:
//
//	show whole               shows all that there is, instead of what a configuration with nothing in its zones and
//	                         policies, and the default settings, would not have
//	show chains REGEXP       shows all of some chains
//	backend nftables         the other back end does not have it, and is not tried
//	not loaded: PROGRAM: …   the program need not be able to load it, and why
func TestGolden(t *testing.T) {
	printed := map[string]map[string]string{} // by case and suffix; nil for a case that was not run
	for _, path := range casePaths(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		printed[name] = nil
		t.Run(name, func(t *testing.T) {
			c := readCase(t, path)
			printed[name] = c.compileAndPrint(t)
			for suffix, text := range printed[name] {
				compareGolden(t, filepath.Join(goldensDir, name+"."+suffix), text)
			}
			c.load(t)
		})
	}
	goldens, err := filepath.Glob(filepath.Join(goldensDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range goldens {
		name, suffix, _ := strings.Cut(filepath.Base(golden), ".")
		texts, known := printed[name]
		if _, expected := texts[suffix]; expected || known && texts == nil {
			continue
		}
		if !*update {
			t.Errorf("nothing prints %s; %s", golden, howTo)
		} else if err := os.Remove(golden); err != nil {
			t.Error(err)
		}
	}
}

func casePaths(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(casesDir, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in %s: %v", casesDir, err)
	}
	return paths
}

// testCase is a configuration, its rulesets, and what is seen of them.
type testCase struct {
	dir       string // where its files are
	backends  []ir.Backend
	whole     bool
	chains    *regexp.Regexp // nil for none
	notLoaded []string       // programs
	config    *zones.Config
	rulesets  map[ir.Backend]*ir.Ruleset
}

var directive = regexp.MustCompile(`^(show whole|show chains|backend|not loaded:)\s*([^\s:]*)`)

// readCase reads a case and loads its configuration.
func readCase(t *testing.T, path string) *testCase {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCase{dir: t.TempDir(), backends: []ir.Backend{ir.NFTables, ir.IPTables}, rulesets: map[ir.Backend]*ir.Ruleset{}}
	sentence, rest, _ := strings.Cut(string(archive.Comment), "\n")
	if !strings.HasSuffix(sentence, ".") {
		t.Errorf("the case does not start with a sentence: %q", sentence)
	}
	for line := range strings.Lines(rest) {
		switch m := directive.FindStringSubmatch(line); {
		case m == nil:
			t.Errorf("the case says %q, which is not known", line)
		case m[1] == "show whole":
			c.whole = true
		case m[1] == "show chains":
			c.chains = regexp.MustCompile("^(?:" + m[2] + ")$")
		case m[1] == "backend":
			c.backends = []ir.Backend{ir.Backend(m[2])}
		default:
			c.notLoaded = append(c.notLoaded, m[2])
		}
	}
	files, err := txtar.FS(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(c.dir, files); err != nil {
		t.Fatal(err)
	}
	c.config = loadConfig(t, c.dir)
	return c
}

func loadConfig(t *testing.T, dir string) *zones.Config {
	t.Helper()
	config, problems := zones.Load(zones.Dirs{System: dir})
	if config == nil {
		t.Fatalf("the configuration is refused:\n%v", problems)
	}
	return config
}

// outputs are the golden files by their suffix, and what loads them, in the order that is done in.
var outputs = []struct {
	suffix  string
	backend ir.Backend
	loader  []string
	print   func(w io.Writer, rs *ir.Ruleset, addition bool) error
}{
	{"nft", ir.NFTables, []string{"nft", "-c", "-f", "-"}, func(w io.Writer, rs *ir.Ruleset, addition bool) error {
		_, err := nft.Write(w, rs, nft.Options{Addition: addition})
		return err
	}},
	{"ipset", ir.IPTables, []string{"ipset", "restore"}, func(w io.Writer, rs *ir.Ruleset, _ bool) error {
		return iptables.WriteSets(w, rs)
	}},
	{"iptables", ir.IPTables, []string{"iptables-restore"}, func(w io.Writer, rs *ir.Ruleset, addition bool) error {
		return iptables.Write(w, rs, ir.V4, iptables.Options{Addition: addition})
	}},
	{"ip6tables", ir.IPTables, []string{"ip6tables-restore"}, func(w io.Writer, rs *ir.Ruleset, addition bool) error {
		return iptables.Write(w, rs, ir.V6, iptables.Options{Addition: addition})
	}},
	{"ir", ir.NFTables, nil, func(w io.Writer, rs *ir.Ruleset, _ bool) error { return rs.Dump(w) }},
}

// compileAndPrint compiles the case and returns its golden files by their suffix. Those that would be empty are left out.
func (c *testCase) compileAndPrint(t *testing.T) map[string]string {
	t.Helper()
	printed := map[string]string{}
	for _, backend := range c.backends {
		whole, err := compile.Compile(c.config, backend)
		if err != nil {
			printed[string(backend)+".error"] = c.withoutDir(err.Error() + "\n")
			continue
		}
		c.rulesets[backend] = whole
		shown := whole.Only(c.shown(t, whole))
		for _, o := range outputs {
			if o.backend != backend {
				continue
			}
			var b strings.Builder
			if err := o.print(&b, shown, !c.whole); err != nil {
				t.Errorf("cannot print it as %s: %v", o.suffix, err)
			}
			if b.Len() > 0 {
				printed[o.suffix] = c.withoutDir(b.String())
			}
		}
	}
	return printed
}

// withoutDir is a text in which the case's files are named as in the case.
func (c *testCase) withoutDir(text string) string {
	return strings.ReplaceAll(text, c.dir+string(filepath.Separator), "")
}

// shown says which rules of a ruleset are printed; it is nil for all of them.
func (c *testCase) shown(t *testing.T, whole *ir.Ruleset) func(*ir.Rule) bool {
	t.Helper()
	if c.whole {
		return nil
	}
	known := map[string]bool{}
	if c.chains == nil {
		plain, err := compile.Compile(emptied(c.config), whole.Backend)
		if err != nil {
			t.Fatalf("cannot compile the configuration without its content: %v", err)
		}
		eachRule(plain, func(key string, _ *ir.Chain, _ *ir.Rule) { known[key] = true })
	}
	show := map[*ir.Rule]bool{}
	eachRule(whole, func(key string, chain *ir.Chain, r *ir.Rule) {
		show[r] = !known[key] && (c.chains == nil || c.chains.MatchString(chain.Name))
	})
	return func(r *ir.Rule) bool { return show[r] }
}

// eachRule calls f for each rule with a text that equal rules of the same chain have in common.
func eachRule(rs *ir.Ruleset, f func(key string, chain *ir.Chain, r *ir.Rule)) {
	for _, chain := range rs.Chains {
		for _, r := range chain.Rules {
			f(chain.Table+" "+chain.Name+" "+r.String(), chain, r)
		}
	}
}

// emptied is a configuration with the default settings, in which the administrator's zones and policies are bound as they
// were, and do nothing.
func emptied(config *zones.Config) *zones.Config {
	conf := zones.DefaultConf()
	conf.DefaultZone = config.Conf.DefaultZone
	config = config.WithConf(conf)
	for _, old := range config.Zones {
		if old.Origin.Path == "" {
			continue // shipped
		}
		zone := *old
		zone.Content, zone.Target = zones.Content{}, zones.TargetDefault
		zone.ICMPBlockInversion, zone.Forward = false, false
		config = config.WithZone(&zone)
	}
	for _, old := range config.Policies {
		if old.Origin.Path == "" {
			continue
		}
		policy := *old
		policy.Content, policy.Target = zones.Content{}, zones.TargetContinue
		config = config.WithPolicy(&policy)
	}
	return config
}

// load lets the programs that the rulesets are for load the whole of them, in a namespace.
func (c *testCase) load(t *testing.T) {
	t.Helper()
	if missing := lab.Missing("nft", "ipset", "iptables-restore", "ip6tables-restore"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	namespace, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	for _, o := range outputs {
		rs := c.rulesets[o.backend]
		if rs == nil || o.loader == nil || slices.Contains(c.notLoaded, o.loader[0]) {
			continue
		}
		var b strings.Builder
		if err := o.print(&b, rs, false); err != nil {
			t.Fatal(err)
		}
		if _, err := namespace.Run(t.Context(), b.String(), o.loader[0], o.loader[1:]...); err != nil {
			t.Errorf("the ruleset is not accepted: %v", err)
		}
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	want, err := os.ReadFile(path)
	switch {
	case err == nil && string(want) == got:
	case *update:
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Error(err)
		}
	case err != nil:
		t.Errorf("%v; %s", err, howTo)
	default:
		t.Errorf("%s differs; %s\n%s", path, howTo, diff(path, got))
	}
}

// diff is how a text differs from a file.
func diff(path, text string) string {
	cmd := exec.Command("diff", "-u", "--label", path, "--label", "printed now", path, "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if len(out) == 0 && err != nil {
		return err.Error()
	}
	return string(out)
}

// Compiling the same files again gives the same text, whatever order Go's maps have, and every rule says what it is from.
func TestCompilingIsDeterministicAndEveryRuleHasAnOrigin(t *testing.T) {
	for _, path := range casePaths(t) {
		first, second := readCase(t, path), readCase(t, path)
		first.whole, second.whole = true, true
		if !maps.Equal(first.compileAndPrint(t), second.compileAndPrint(t)) {
			t.Errorf("%s: compiled twice, it is not the same", path)
		}
		for _, rs := range first.rulesets {
			eachRule(rs, func(key string, _ *ir.Chain, r *ir.Rule) {
				if r.Origin == nil || r.Origin.Object == "" {
					t.Errorf("%s: a rule has no origin: %s", path, key)
				}
			})
		}
	}
}

// The cases have each kind of match and action on both back ends, but for those that one of them does without.
func TestCasesHaveEveryMatchAndAction(t *testing.T) {
	only := map[string]ir.Backend{
		"ir.NFProto": ir.NFTables, "ir.ICMPTypes": ir.NFTables, "ir.CTStatus": ir.NFTables, "ir.AddrList": ir.NFTables, "ir.Offload": ir.NFTables,
		"ir.Decide": ir.NFTables,
	}
	seen := map[string]bool{}
	for _, path := range casePaths(t) {
		c := readCase(t, path)
		c.compileAndPrint(t)
		for backend, rs := range c.rulesets {
			eachRule(rs, func(_ string, _ *ir.Chain, r *ir.Rule) {
				for _, m := range r.Matches {
					seen[fmt.Sprintf("%s %T", backend, m)] = true
				}
				for _, a := range r.Actions {
					seen[fmt.Sprintf("%s %T", backend, a)] = true
				}
			})
		}
	}
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, kind := range []any{
			ir.NFProto{}, ir.Iface{}, ir.Addr{}, ir.EtherAddr{}, ir.Lookup{}, ir.L4Proto{}, ir.Port{}, ir.ICMP{}, ir.ICMPTypes{}, ir.SYN{}, ir.ACK{},
			ir.CTState{}, ir.CTStatus{}, ir.CTOrigPort{}, ir.Fib{}, ir.PktType{}, ir.AddrList{}, ir.Limit{},
			ir.Accept, ir.Jump{}, ir.Decide{}, ir.Reject{}, ir.Log{}, ir.NFLog{}, ir.Audit{}, ir.SetMark{}, ir.ClampMSS{}, ir.Masquerade{}, ir.DNAT{},
			ir.SetHelper{}, ir.Offload{},
		} {
			name := fmt.Sprintf("%T", kind)
			if b := only[name]; (b == "" || b == backend) && !seen[string(backend)+" "+name] {
				t.Errorf("no case has a rule with %s for %s", name, backend)
			}
		}
	}
}
