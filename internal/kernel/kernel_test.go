package kernel_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// TestMain runs each test in a process of its own, as many change PATH; and in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.MainApart(m, "TestContention", "TestContentionOfIPTables") }

// tableTools are the programs that most tests run.
var tableTools = []string{"nft", "iptables", "ip6tables", "ipset"}

// namespace is an empty network namespace.
func namespace(t *testing.T) *lab.Namespace {
	t.Helper()
	return kernel.Space(t, tableTools...)
}

func run(t *testing.T, ns *lab.Namespace, stdin, name string, args ...string) string {
	t.Helper()
	out, err := ns.Run(context.Background(), stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, ns *lab.Namespace, backend ir.Backend) kernel.Kernel {
	t.Helper()
	return start(t, kernel.Options{Backend: backend, Enter: ns.Do})
}

// start opens a Kernel, which is closed with the test unless that has closed it.
func start(t *testing.T, o kernel.Options) kernel.Kernel {
	t.Helper()
	k, err := kernel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// base is the guard of a start.
func base(t *testing.T, o kernel.Options, panicked bool) *kernel.Guard {
	t.Helper()
	guard, err := kernel.Base(t.Context(), o, panicked)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// bothBackends calls a test for each back end.
func bothBackends(t *testing.T, test func(t *testing.T, backend ir.Backend)) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		t.Run(string(backend), func(t *testing.T) { test(t, backend) })
	}
}

// eachWay calls a test for each back end with each variant of iptables that the machine has.
func eachWay(t *testing.T, test func(t *testing.T, backend ir.Backend)) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		variants(t, func(t *testing.T) { test(t, backend) })
	})
}

// otherThan is the other back end.
func otherThan(backend ir.Backend) ir.Backend {
	if backend == ir.IPTables {
		return ir.NFTables
	}
	return ir.IPTables
}

func commit(t *testing.T, k kernel.Kernel, next *kernel.Desired) {
	t.Helper()
	if err := k.Commit(context.Background(), next); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// configuration is a folder of files to compile.
type configuration struct {
	name string
	*zones.Config
	backends []ir.Backend
}

// some is every tenth of a list under the race detector, for tests that mostly run other programs; else all of it.
func some[T any](list []T) []T {
	var kept []T
	for i := 0; i < len(list); i += kernel.RaceFactor {
		kept = append(kept, list[i])
	}
	return kept
}

// configurations are those of testdata/scenarios and testdata/compile that are not refused.
func configurations(t *testing.T) []configuration {
	t.Helper()
	var all []configuration
	for _, pattern := range []string{"scenarios/static-*.txt", "compile/*.txtar"} {
		paths, err := filepath.Glob("../../testdata/" + pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no configurations in %s: %v", pattern, err)
		}
		for _, path := range paths {
			all = append(all, configurationOf(t, path))
		}
	}
	return all
}

// configurationOf is that of a file.
func configurationOf(t *testing.T, path string) configuration {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := configuration{name: filepath.Base(path), backends: []ir.Backend{ir.NFTables, ir.IPTables}}
	dir := t.TempDir()
	if strings.HasSuffix(path, ".txtar") {
		c.readArchive(t, dir, content)
	} else {
		c.readScenario(t, dir, string(content))
	}
	var problems zones.Problems
	if c.Config, problems = zones.Load(zones.Dirs{System: dir}); c.Config == nil {
		t.Fatalf("%s is refused:\n%v", path, problems)
	}
	return c
}

var backendLine = regexp.MustCompile(`(?m)^backend (\S+)$`)

func (c *configuration) readBackend(text string) {
	if m := backendLine.FindStringSubmatch(text); m != nil && m[1] != "both" {
		c.backends = []ir.Backend{ir.Backend(m[1])}
	}
}

func (c *configuration) readArchive(t *testing.T, dir string, content []byte) {
	t.Helper()
	archive := txtar.Parse(content)
	c.readBackend(string(archive.Comment))
	for _, f := range archive.Files {
		write(t, filepath.Join(dir, f.Name), string(f.Data))
	}
}

// readScenario reads "file PATH" with the content in lines behind "| ", and "conf KEY=VALUE" for firewalld.conf.
func (c *configuration) readScenario(t *testing.T, dir, content string) {
	t.Helper()
	c.readBackend(content)
	files := map[string]*strings.Builder{"richwall.conf": {}}
	path := ""
	for line := range strings.Lines(content) {
		word, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		switch word {
		case "file":
			path = rest
			files[path] = &strings.Builder{}
		case "conf":
			path = "firewalld.conf"
			if files[path] == nil {
				files[path] = &strings.Builder{}
			}
			files[path].WriteString(rest + "\n")
		case "|":
			files[path].WriteString(rest + "\n")
		}
	}
	for name, b := range files {
		write(t, filepath.Join(dir, name), b.String())
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compiled is the ruleset of a configuration; nil if it is not for the back end.
func (c *configuration) compiled(t *testing.T, backend ir.Backend) *ir.Ruleset {
	t.Helper()
	if !slices.Contains(c.backends, backend) {
		return nil
	}
	rs, err := compile.Compile(c.Config, backend)
	if err != nil {
		return nil // a case of a configuration that one back end refuses
	}
	return compile.WithLinks(rs, someLinks)
}

// scenario is the ruleset of one of testdata/scenarios.
func scenario(t *testing.T, name string, backend ir.Backend) *ir.Ruleset {
	t.Helper()
	c := configurationOf(t, "../../testdata/scenarios/"+name)
	c.backends = []ir.Backend{backend}
	rs := c.compiled(t, backend)
	if rs == nil {
		t.Fatalf("no ruleset of %s for %s", name, backend)
	}
	return rs
}

// nftText is a ruleset as text; ok is false if text cannot say all of it, or this machine's kernel cannot hold it.
func nftText(t *testing.T, rs *ir.Ruleset) (text string, ok bool) {
	t.Helper()
	var b bytes.Buffer
	notes, err := nft.Write(&b, rs, nft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), notes == nil && rs.Flowtable == nil
}

func listTable(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	listing := run(t, ns, "", "nft", "-n", "list", "table", "inet", "firewalld")
	listing = regexp.MustCompile(` # progname .*`).ReplaceAllString(listing, "")
	return regexp.MustCompile(`(?m)^\tflags.*\n\n?`).ReplaceAllString(listing, "")
}

// sameLines compares two texts, and prints the first lines that differ.
func sameLines(t *testing.T, want, got string) {
	t.Helper()
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	differences := 0
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			t.Errorf("line %d: want %q\n got %q", i+1, x, y)
			if differences++; differences == 5 {
				return
			}
		}
	}
}

// someLinks are links for clamps that follow them.
var someLinks = []compile.Link{
	{Name: "eth0", MTU: map[ir.Families]int{ir.V4: 1500, ir.V6: 1500}}, {Name: "ppp0", MTU: map[ir.Families]int{ir.V4: 1492, ir.V6: 1280}},
}
