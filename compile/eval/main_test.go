package eval_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/lab"
	"richwall/zones"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

var backends = []ir.Backend{ir.NFTables, ir.IPTables}

// configuration is one of the project's test inputs.
type configuration struct {
	name string
	*zones.Config
}

// configurations are those of testdata/compile, testdata/clamp and testdata/scenarios, bound to the lab's interfaces.
func configurations(t *testing.T) []configuration {
	t.Helper()
	var all []configuration
	for _, pattern := range []string{"compile/*.txtar", "clamp/*.txtar", "scenarios/static-*.txt"} {
		paths, err := filepath.Glob("../../testdata/" + pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no configurations in %s: %v", pattern, err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			archive := txtar.Parse(content)
			if strings.HasSuffix(path, ".txt") {
				archive = scenario(string(content))
			}
			all = append(all, configuration{strings.TrimPrefix(path, "../../testdata/"), onLabLinks(load(t, archive))})
		}
	}
	return all
}

// scenario is the files of a scenario: "file PATH" with the content in lines behind "| ", and "conf KEY=VALUE".
func scenario(content string) *txtar.Archive {
	files := map[string]string{}
	path := ""
	for line := range strings.Lines(content) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "file":
			path = rest
			files[path] = ""
		case "conf":
			files["firewalld.conf"] += rest + "\n"
		case "|":
			files[path] += rest + "\n"
		}
	}
	archive := &txtar.Archive{}
	for name, text := range files {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text)})
	}
	return archive
}

// load is the configuration whose files an archive has.
func load(t *testing.T, archive *txtar.Archive) *zones.Config {
	t.Helper()
	files, err := txtar.FS(archive)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	config, problems := zones.Load(zones.Dirs{System: dir})
	if config == nil {
		t.Fatalf("the configuration is refused:\n%v", problems)
	}
	return config
}

// parse is a configuration as an archive.
func parse(t *testing.T, files string) *zones.Config {
	t.Helper()
	return load(t, txtar.Parse([]byte(files)))
}

// onLabLinks is a configuration with the lab's links in place of the first interfaces that its zones have.
func onLabLinks(config *zones.Config) *zones.Config {
	links := []string{lab.ClientLink, lab.ServerLink, lab.DMZLink}
	for _, name := range zones.Names(config.Zones) {
		for _, own := range config.Zones[name].Interfaces {
			links = slices.DeleteFunc(links, func(link string) bool { return link == own })
		}
	}
	for _, name := range zones.Names(config.Zones) {
		zone := *config.Zones[name]
		zone.Interfaces = slices.Clone(zone.Interfaces)
		for i, own := range zone.Interfaces {
			if taken := slices.Contains([]string{lab.ClientLink, lab.ServerLink, lab.DMZLink}, own); !taken && len(links) > 0 {
				zone.Interfaces[i], links = links[0], links[1:]
			}
		}
		config = config.WithZone(&zone)
	}
	return config
}

// compiled is the ruleset of a configuration.
func compiled(t *testing.T, config *zones.Config, backend ir.Backend) *ir.Ruleset {
	t.Helper()
	rs, err := compile.Compile(config, backend)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// tryCompile is the ruleset of a configuration; ok is false where the back end refuses it.
func tryCompile(config *zones.Config, backend ir.Backend) (rs *ir.Ruleset, ok bool) {
	rs, err := compile.Compile(config, backend)
	return rs, err == nil
}
