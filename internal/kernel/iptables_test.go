package kernel_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// restoreText loads a ruleset as "compile --to" prints it.
func restoreText(t *testing.T, ns *lab.Namespace, rs *ir.Ruleset) error {
	t.Helper()
	var sets, v4, v6 bytes.Buffer
	for _, err := range []error{
		iptables.WriteSets(&sets, rs),
		iptables.Write(&v4, rs, ir.V4, iptables.Options{}),
		iptables.Write(&v6, rs, ir.V6, iptables.Options{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, load := range []struct{ text, program, arg string }{
		{sets.String(), "ipset", "restore"}, {v4.String(), "iptables-restore", "-w"}, {v6.String(), "ip6tables-restore", "-w"},
	} {
		if _, err := ns.Run(t.Context(), load.text, load.program, load.arg); err != nil {
			return err
		}
	}
	return nil
}

var (
	saveNoise = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]| initval \S+`)
	emptyOnes = regexp.MustCompile(`(?m)^\*\w+\n(:\w+ ACCEPT \n)*COMMIT\n`)
)

// saved is everything that the tools of iptables list.
func saved(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	text := run(t, ns, "", "iptables-save") + run(t, ns, "", "ip6tables-save") + run(t, ns, "", "ipset", "-sorted", "save")
	return emptyOnes.ReplaceAllString(saveNoise.ReplaceAllString(text, ""), "")
}

// What "compile --to iptables, ip6tables and ipset" prints and what is committed are the same rules.
func TestRestoredIsTheText(t *testing.T) {
	for _, c := range some(configurations(t)) {
		rs := c.compiled(t, ir.IPTables)
		if rs == nil || strings.HasPrefix(c.name, "ipset-rare-types") { // the kernel need not have them
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			byText, byCommit := namespace(t), namespace(t)
			k := open(t, byCommit, ir.IPTables)
			if refused := restoreText(t, byText, rs); refused != nil {
				if err := k.Commit(t.Context(), &kernel.Desired{Rules: rs}); err == nil {
					t.Fatalf("Commit took what the tools refuse as text: %v", refused)
				}
				if left := saved(t, byCommit); left != "" {
					t.Errorf("a commit that failed left\n%s", left)
				}
				t.Skipf("the tools refuse the text: %v", refused)
			}
			commit(t, k, &kernel.Desired{Rules: rs})
			sameLines(t, saved(t, byText), saved(t, byCommit))
		})
	}
}

// variants calls a test for each variant of iptables that the machine has.
func variants(t *testing.T, test func(t *testing.T)) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			useVariant(t, variant)
			test(t)
		})
	}
}

// useVariant makes the programs of a variant those that a test runs.
func useVariant(t *testing.T, variant string) {
	t.Helper()
	useVariants(t, variant, variant)
}

// useVariants is that for each family by itself. It returns the folder of the programs, which is the first of PATH.
func useVariants(t *testing.T, v4, v6 string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for tool, variant := range map[string]string{"iptables": v4, "ip6tables": v6} {
		for _, program := range []string{"", "-save", "-restore"} {
			path, err := findVariant(tool + "-" + variant + program)
			if err != nil {
				t.Skip(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, tool+program)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(dir, "lock")) // the machine's is no concern of a namespace
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func findVariant(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// Whatever was there before, a commit ends in what it would from nothing.
func TestIPTablesFromAnyToAny(t *testing.T) { variants(t, testFromAnyToAny) }

func testFromAnyToAny(t *testing.T) {
	var all []configuration
	for _, c := range configurations(t) {
		if strings.HasPrefix(c.name, "static-") && !strings.Contains(c.name, "rich-addresses") && c.compiled(t, ir.IPTables) != nil {
			all = append(all, c)
		}
	}
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	for _, c := range some(all) {
		rs := c.compiled(t, ir.IPTables)
		commit(t, k, &kernel.Desired{Rules: rs})
		fresh := namespace(t)
		commit(t, open(t, fresh, ir.IPTables), &kernel.Desired{Rules: rs})
		t.Log(c.name)
		sameLines(t, sortedLines(saved(t, fresh)), sortedLines(saved(t, ns)))
	}
	commit(t, k, &kernel.Desired{})
	if left := saved(t, ns); left != "" {
		t.Errorf("after a commit of nothing there is still\n%s", left)
	}
}

// sortedLines puts the lines that declare chains and sets in order; they stand in the order they were made.
func sortedLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	begin := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "*") || l == "" {
			slices.SortStableFunc(lines[begin:i], byChain)
			begin = i + 1
		}
	}
	return strings.Join(lines, "")
}

// byChain orders declarations, then rules by chain, then what ends a table.
func byChain(a, b string) int { return strings.Compare(chainField(a), chainField(b)) }

func chainField(line string) string {
	fields := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, ":"):
		return " " + fields[0]
	case strings.HasPrefix(line, "-A"):
		return "-A " + fields[1]
	}
	return "~"
}

const foreign = `*filter
:THEIRS - [0:0]
-A INPUT -s 192.0.2.1/32 -j DROP
-A INPUT -j THEIRS
-A FORWARD -j THEIRS
-A THEIRS -p tcp -m tcp --dport 5 -j ACCEPT
COMMIT
`

// Rules, chains and sets of others stay as they are, where they are.
func TestIPTablesLeavesOthersAlone(t *testing.T) { variants(t, testLeavesOthersAlone) }

func testLeavesOthersAlone(t *testing.T) {
	rs := scenario(t, "static-log-denied.txt", ir.IPTables)
	other := scenario(t, "static-direct-iptables.txt", ir.IPTables)
	ns := namespace(t)
	run(t, ns, foreign, "iptables-restore")
	run(t, ns, "create theirs hash:ip\nadd theirs 192.0.2.7\n", "ipset", "restore")
	before := saved(t, ns)
	k := open(t, ns, ir.IPTables)
	commit(t, k, &kernel.Desired{Rules: rs})
	run(t, ns, "", "iptables", "-A", "INPUT", "-s", "192.0.2.9", "-j", "DROP")
	commit(t, k, &kernel.Desired{Rules: other})

	var input []string
	for line := range strings.Lines(run(t, ns, "", "iptables", "-S", "INPUT")) {
		input = append(input, strings.TrimSpace(line))
	}
	if len(input) < 5 || input[1] != "-A INPUT -s 192.0.2.1/32 -j DROP" || input[2] != "-A INPUT -j THEIRS" || input[len(input)-1] != "-A INPUT -s 192.0.2.9/32 -j DROP" {
		t.Errorf("our rules are not between those that were there before and those that came later:\n%s", strings.Join(input, "\n"))
	}
	commit(t, k, &kernel.Desired{})
	run(t, ns, "", "iptables", "-D", "INPUT", "-s", "192.0.2.9", "-j", "DROP")
	sameLines(t, before, saved(t, ns))
}

// A process that begins finds what an earlier one left, and replaces it.
func TestIPTablesFindsRemains(t *testing.T) { variants(t, testFindsRemains) }

func testFindsRemains(t *testing.T) {
	ns := namespace(t)
	run(t, ns, foreign, "iptables-restore")
	before := saved(t, ns)
	commit(t, open(t, ns, ir.IPTables), &kernel.Desired{Rules: scenario(t, "static-log-denied.txt", ir.IPTables)})
	rs := scenario(t, "static-services.txt", ir.IPTables)
	commit(t, open(t, ns, ir.IPTables), &kernel.Desired{Rules: rs})

	fresh := namespace(t)
	run(t, fresh, foreign, "iptables-restore")
	commit(t, open(t, fresh, ir.IPTables), &kernel.Desired{Rules: rs})
	sameLines(t, sortedLines(saved(t, fresh)), sortedLines(saved(t, ns)))

	if err := kernel.Remove(t.Context(), kernel.Options{Backend: ir.IPTables, Enter: ns.Do}); err != nil {
		t.Fatal(err)
	}
	sameLines(t, before, saved(t, ns))
}

// When the last table is refused, those before it are put back, and the sets.
func TestIPTablesPutsBack(t *testing.T) { variants(t, testPutsBack) }

func testPutsBack(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	commit(t, k, &kernel.Desired{Rules: scenario(t, "static-services.txt", ir.IPTables)})
	before := saved(t, ns)
	bad := *scenario(t, "static-ipset-kinds-iptables.txt", ir.IPTables)
	origin := &ir.Origin{Object: "direct", Text: "a rule that the tool reads and the kernel refuses"}
	for i, c := range bad.Chains {
		if c.Table == "nat" && c.Name == "POSTROUTING_direct" {
			worse := *c
			worse.Rules = append(worse.Rules, &ir.Rule{Families: ir.V4, Origin: origin,
				Actions: []ir.Action{ir.Raw{Args: strings.Fields("-j REDIRECT --to-ports 80")}}})
			bad.Chains = slices.Clone(bad.Chains)
			bad.Chains[i] = &worse
		}
	}
	err := k.Commit(t.Context(), &kernel.Desired{Rules: &bad})
	if err == nil {
		t.Fatal("the kernel took a redirection in POSTROUTING")
	}
	var rule *kernel.RuleError
	if !errors.As(err, &rule) || rule.Origin != origin {
		t.Errorf("the error does not name the rule: %v", err)
	}
	sameLines(t, before, saved(t, ns))
}

// While another program holds the lock of iptables-legacy, a commit does not wait for ever: it says who holds it, changes
// nothing, and is not mistaken for rules that cannot be used. After that all is as ever.
func TestLockedTables(t *testing.T) {
	defer kernel.SetLockWait(1)()
	t.Run("legacy", func(t *testing.T) {
		useVariant(t, "legacy")
		ns := namespace(t)
		k := open(t, ns, ir.IPTables)
		commit(t, k, &kernel.Desired{Rules: scenario(t, "static-services.txt", ir.IPTables)})
		before := saved(t, ns)
		other := scenario(t, "static-mixed.txt", ir.IPTables)
		lock, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		err = k.Commit(t.Context(), &kernel.Desired{Rules: other})
		if !errors.Is(err, kernel.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", os.Getpid())) {
			t.Errorf("got %v", err)
		}
		if _, err := kernel.Passthrough(t.Context(), kernel.Options{Enter: ns.Do}, "ipv4", []string{"-N", "theirs"}, func(int) {}); !errors.Is(err, kernel.ErrBusy) {
			t.Errorf("a passthrough gives %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		sameLines(t, before, saved(t, ns))
		commit(t, k, &kernel.Desired{Rules: other})
		fresh := namespace(t)
		commit(t, open(t, fresh, ir.IPTables), &kernel.Desired{Rules: other})
		sameLines(t, sortedLines(saved(t, fresh)), sortedLines(saved(t, ns)))
	})
}

// Panic mode drops by the policies of the kernel's chains.
func TestIPTablesPanic(t *testing.T) { variants(t, testPanic) }

func testPanic(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	rs := scenario(t, "static-services.txt", ir.IPTables)
	commit(t, k, &kernel.Desired{Rules: rs})
	before := saved(t, ns)
	commit(t, k, &kernel.Desired{Rules: rs, Panic: true})
	if raw := run(t, ns, "", "iptables", "-t", "raw", "-S", "PREROUTING"); !strings.Contains(raw, "-P PREROUTING DROP") {
		t.Errorf("packets still come in:\n%s", raw)
	}
	commit(t, k, &kernel.Desired{Rules: rs})
	sameLines(t, before, saved(t, ns))
}

// A set whose type changes is made anew, with the rules that look it up out of the way for a moment.
func TestSetOfAnotherType(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	commit(t, k, &kernel.Desired{Rules: looksUp("hash:ip")})
	commit(t, k, &kernel.Desired{Rules: looksUp("hash:net")})
	if got := run(t, ns, "", "ipset", "list", "-terse"); !strings.Contains(got, "Type: hash:net") {
		t.Errorf("the set is still of the other type:\n%s", got)
	}
	before := saved(t, ns)
	bad := looksUp("hash:mac")
	bad.Sets[0].Elements = []ir.Element{ir.NewElement("no MAC address")}
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: bad}); err == nil || !strings.Contains(err.Error(), "ipset shelf") {
		t.Errorf("the error does not name the set: %v", err)
	}
	sameLines(t, before, saved(t, ns))
	commit(t, k, &kernel.Desired{})
	if left := saved(t, ns); left != "" {
		t.Errorf("after a commit of nothing there is still\n%s", left)
	}
}

// Elements come and go one by one; where one that goes covers another that stays, the set is made anew.
func TestSetElements(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.IPTables)
	for _, elements := range []string{"10.0.0.0/24 192.0.2.1", "10.0.0.5 192.0.2.1 192.0.2.2", "192.0.2.2"} {
		rs := looksUp("hash:net")
		for _, text := range strings.Fields(elements) {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				prefix = netip.PrefixFrom(netip.MustParseAddr(text), 32)
			}
			part := ir.Part{Low: prefix.Addr(), High: prefix.Addr()}
			if !prefix.IsSingleIP() {
				part.High = netip.MustParseAddr("10.0.0.255")
			}
			rs.Sets[0].Elements = append(rs.Sets[0].Elements, ir.NewElement(text, part))
		}
		commit(t, k, &kernel.Desired{Rules: rs})
		var got []string
		for line := range strings.Lines(run(t, ns, "", "ipset", "-sorted", "save", "shelf")) {
			if element, ok := strings.CutPrefix(line, "add shelf "); ok {
				got = append(got, strings.TrimSpace(element))
			}
		}
		if strings.Join(got, " ") != elements {
			t.Errorf("the set has %v, want %s", got, elements)
		}
	}
}

// looksUp is a ruleset that drops what comes from a set without elements.
func looksUp(setType string) *ir.Ruleset {
	s := &ir.Set{Name: "shelf", Type: setType, Family: ir.V4, Origin: &ir.Origin{Object: "ipset shelf"}}
	if setType == "hash:mac" {
		s.Family = ir.Both
	}
	return &ir.Ruleset{Backend: ir.IPTables, Sets: []*ir.Set{s}, Chains: []*ir.Chain{
		{Table: "filter", Name: "INPUT", Builtin: true, Families: ir.V4, Rules: []*ir.Rule{{Families: ir.V4, Actions: []ir.Action{ir.Jump{Chain: "INPUT_direct"}}}}},
		{Table: "filter", Name: "INPUT_direct", Families: ir.V4, Rules: []*ir.Rule{{Families: ir.V4,
			Matches: []ir.Match{ir.Lookup{Set: s}}, Actions: []ir.Action{ir.Drop}}}},
	}}
}

// A command line of the direct interface is run as it is, and what the program says is returned.
func TestPassthrough(t *testing.T) {
	ns := namespace(t)
	o := kernel.Options{Enter: ns.Do}
	if _, err := kernel.Passthrough(t.Context(), o, "ipv4", []string{"-A", "INPUT", "-m", "comment", "--comment", "two words; $HOME", "-j", "DROP"}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	out, err := kernel.Passthrough(t.Context(), o, "ipv4", []string{"-S", "INPUT"}, func(int) {})
	if err != nil || !strings.Contains(out, `"two words; $HOME"`) {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := kernel.Passthrough(t.Context(), o, "ipv6", []string{"-A", "nowhere", "-j", "DROP"}, func(int) {}); err == nil || !strings.Contains(err.Error(), "ip6tables") {
		t.Errorf("got %v, want what ip6tables says", err)
	}
	if _, err := kernel.Passthrough(t.Context(), o, "ipx", nil, func(int) {}); err == nil {
		t.Error("there is a program for ipx")
	}
}
