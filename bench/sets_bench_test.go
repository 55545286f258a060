package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// setEntries is how many entries the sets of these benchmarks have.
const setEntries = 100_000

// setKinds are types of sets, each with its n-th entry. One entry in a hundred covers some of those behind it.
var setKinds = []struct {
	typ   string
	entry func(n int) string
}{
	{"hash:ip", func(n int) string { return address(n) }},
	{"hash:net", func(n int) string {
		if n%100 == 0 {
			return address(n&^7) + "/29"
		}
		return address(n)
	}},
	{"hash:ip,port", func(n int) string { return fmt.Sprintf("%s,tcp:%d", address(n), 1+n%60000) }},
	{"hash:net,port", func(n int) string {
		if n%100 == 0 {
			return fmt.Sprintf("%s/29,udp:1000-1003", address(n&^7))
		}
		return fmt.Sprintf("%s,udp:%d", address(n), 1+n%60000)
	}},
}

// address is the n-th of 10.0.0.0/8, in an order that is not sorted.
func address(n int) string {
	n = n * 7919 % (1 << 24)
	return fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255)
}

// setFolder makes a configuration with one set, that the default zone refers to.
func setFolder(b *testing.B, typ string, entry func(int) string, backend ir.Backend) string {
	b.Helper()
	var set bytes.Buffer
	fmt.Fprintf(&set, "<ipset type=%q>\n  <option name=\"maxelem\" value=\"200000\"/>\n", typ)
	for n := range setEntries {
		fmt.Fprintf(&set, "  <entry>%s</entry>\n", entry(n))
	}
	set.WriteString("</ipset>\n")
	dir := b.TempDir()
	for name, text := range map[string]string{
		"ipsets/blocked.xml": set.String(),
		"zones/public.xml":   `<zone><rule><source ipset="blocked"/><drop/></rule></zone>` + "\n",
		"firewalld.conf":     "FirewallBackend=" + string(backend) + "\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// BenchmarkSetLoad reads the file of a set of 100,000 entries.
func BenchmarkSetLoad(b *testing.B) {
	for _, kind := range setKinds {
		dir := setFolder(b, kind.typ, kind.entry, ir.NFTables)
		b.Run(kind.typ, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				load(b, dir)
			}
		})
	}
}

// BenchmarkSetCompile compiles a set of 100,000 entries that has been read.
func BenchmarkSetCompile(b *testing.B) {
	for _, kind := range setKinds {
		config := load(b, setFolder(b, kind.typ, kind.entry, ir.NFTables))
		b.Run(kind.typ, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				compiled(b, config, ir.NFTables)
			}
		})
	}
}

// BenchmarkSetCommit commits a set of 100,000 entries to a kernel that has nothing, and then one entry more.
func BenchmarkSetCommit(b *testing.B) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, kind := range setKinds {
			config := load(b, setFolder(b, kind.typ, kind.entry, backend))
			rules := compiled(b, config, backend)
			b.Run(string(backend)+"/"+kind.typ, func(b *testing.B) { commitAll(b, rules) })
			b.Run(string(backend)+"/"+kind.typ+"/one", func(b *testing.B) { commitOne(b, config, backend) })
		}
	}
}

// bed is a kernel in a namespace of its own.
func bed(b *testing.B, backend ir.Backend) kernel.Kernel {
	b.Helper()
	namespace, err := lab.NewNamespace()
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { namespace.Close() })
	k, err := kernel.New(kernel.Options{Backend: backend, Enter: namespace.Do})
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { k.Close() })
	return k
}

func commitAll(b *testing.B, rules *ir.Ruleset) {
	k := bed(b, rules.Backend)
	b.ReportAllocs()
	for b.Loop() {
		commit(b, k, rules)
		b.StopTimer()
		if err := k.Commit(context.Background(), &kernel.Desired{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func commit(b *testing.B, k kernel.Kernel, rules *ir.Ruleset) {
	b.Helper()
	if err := k.Commit(context.Background(), &kernel.Desired{Rules: rules}); err != nil {
		b.Fatal(err)
	}
}

// commitOne adds one entry to a set: edit, check, compile and commit.
func commitOne(b *testing.B, config *zones.Config, backend ir.Backend) {
	k := bed(b, backend)
	rules, history, err := compile.History{}.Compile(config, backend)
	if err != nil {
		b.Fatal(err)
	}
	commit(b, k, rules)
	object := zones.Object{Kind: zones.KindIPSet, Name: "blocked"}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		entry := fmt.Sprintf("192.168.%d.%d", n>>8&255, n&255)
		if t := config.IPSets["blocked"].Type; len(t) > len("hash:net") {
			entry += ",tcp:80"
		}
		next, err := zones.Apply(config, zones.Add(zones.Runtime, object, zones.Item{Key: zones.KeyEntry, Args: []string{entry}}))
		if err != nil {
			b.Fatal(err)
		}
		config = next
		if rules, history, err = history.Compile(config, backend); err != nil {
			b.Fatal(err)
		}
		commit(b, k, rules)
		n++
	}
}

// BenchmarkSetBulk puts 100,000 entries into an empty set of a running firewall: edit, check, compile and commit.
func BenchmarkSetBulk(b *testing.B) {
	for name, options := range map[string]map[string]string{"lasting": {}, "timed": {"timeout": "3600"}} {
		b.Run(name, func(b *testing.B) {
			k := bed(b, ir.NFTables)
			config := load(b, b.TempDir()).WithIPSet(&zones.IPSet{Meta: zones.Meta{Name: "s"}, Type: "hash:ip", Options: options})
			var entries [][]string
			for n := range setEntries {
				entries = append(entries, []string{address(n)})
			}
			edit := zones.Update(zones.Runtime, zones.Object{Kind: zones.KindIPSet, Name: "s"}, zones.Settings{zones.KeyEntry: entries})
			before, history, err := compile.History{}.Compile(config, ir.NFTables)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.StopTimer()
				commit(b, k, before)
				b.StartTimer()
				next, err := zones.Apply(config, edit)
				if err != nil {
					b.Fatal(err)
				}
				rules, _, err := history.Compile(next, ir.NFTables)
				if err != nil {
					b.Fatal(err)
				}
				commit(b, k, rules)
			}
		})
	}
}
