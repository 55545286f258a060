// Package bench measures how long the program takes, and the programs that load what it makes.
package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/grammar"
	"richwall/internal/lab"
	"richwall/zones"
)

// richRules is how many rules the zone of the larger benchmarks has.
const richRules = 10_000

// TestMain runs the benchmarks in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

// BenchmarkParse reads rich rules of different kinds; rules/s is what counts.
func BenchmarkParse(b *testing.B) {
	rules := []string{
		`rule family="ipv4" source address="192.0.2.0/24" port port="8080" protocol="tcp" accept`,
		`rule priority="-5" service name="ssh" log prefix="ssh " level="info" limit value="3/m" accept`,
		`rule family="ipv6" source ipset="blocked" invert="true" audit port port="5000-5010" protocol="udp" reject type="icmp6-adm-prohibited"`,
		`rule family="ipv4" destination address="198.51.100.0/24" masquerade`,
		`rule tcp-mss-clamp value="1360"`,
	}
	n := 0
	for b.Loop() {
		if _, err := grammar.Parse(rules[n%len(rules)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rules/s")
}

// folder makes a configuration folder with one zone of many rich rules.
func folder(b *testing.B) string { return folderOf(b, richRules) }

func folderOf(b *testing.B, rules int) string {
	b.Helper()
	var zone bytes.Buffer
	zone.WriteString("<zone>\n  <service name=\"ssh\"/>\n")
	for i := range rules {
		fmt.Fprintf(&zone, `  <rule family="ipv4"><source address="10.%d.%d.%d"/><port port="%d" protocol="tcp"/><accept/></rule>`+"\n",
			i>>16&255, i>>8&255, i&255, 1024+i%60000)
	}
	zone.WriteString("</zone>\n")
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "zones"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "zones", "public.xml"), zone.Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	return dir
}

func load(b *testing.B, dir string) *zones.Config {
	b.Helper()
	config, problems := zones.Load(zones.Dirs{System: dir})
	if config == nil {
		b.Fatal(problems)
	}
	return config
}

func compiled(b *testing.B, config *zones.Config, backend ir.Backend) *ir.Ruleset {
	b.Helper()
	rs, err := compile.Compile(config, backend)
	if err != nil {
		b.Fatal(err)
	}
	return rs
}

// BenchmarkLoad reads and checks the files of 10,000 rich rules.
func BenchmarkLoad(b *testing.B) {
	dir := folder(b)
	for b.Loop() {
		load(b, dir)
	}
}

// BenchmarkCompile compiles 10,000 rich rules that have been read.
func BenchmarkCompile(b *testing.B) {
	config := load(b, folder(b))
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		b.Run(string(backend), func(b *testing.B) {
			for b.Loop() {
				compiled(b, config, backend)
			}
		})
	}
}

// BenchmarkPrint prints 10,000 compiled rich rules.
func BenchmarkPrint(b *testing.B) {
	config := load(b, folder(b))
	b.Run("nft", func(b *testing.B) {
		rs := compiled(b, config, ir.NFTables)
		for b.Loop() {
			printNFT(b, rs)
		}
	})
	b.Run("iptables", func(b *testing.B) {
		rs := compiled(b, config, ir.IPTables)
		for b.Loop() {
			printIPTables(b, rs)
		}
	})
}

func printNFT(b *testing.B, rs *ir.Ruleset) string {
	b.Helper()
	var text strings.Builder
	if _, err := nft.Write(&text, rs, nft.Options{}); err != nil {
		b.Fatal(err)
	}
	return text.String()
}

func printIPTables(b *testing.B, rs *ir.Ruleset) string {
	b.Helper()
	var text strings.Builder
	if err := iptables.Write(&text, rs, ir.V4, iptables.Options{}); err != nil {
		b.Fatal(err)
	}
	return text.String()
}

// BenchmarkFilesToText is all of that: from the files of 10,000 rich rules to the text that nft loads.
func BenchmarkFilesToText(b *testing.B) {
	dir := folder(b)
	for b.Loop() {
		printNFT(b, compiled(b, load(b, dir), ir.NFTables))
	}
}

// BenchmarkKernel is what the programs that load the text need for it, to compare with. Each time over what is there.
func BenchmarkKernel(b *testing.B) {
	config := load(b, folder(b))
	for _, tool := range []struct {
		program string
		args    []string
		text    string
	}{
		{"nft", []string{"-f", "-"}, printNFT(b, compiled(b, config, ir.NFTables))},
		{"iptables-restore", nil, printIPTables(b, compiled(b, config, ir.IPTables))},
	} {
		b.Run(tool.program, func(b *testing.B) {
			if missing := lab.Missing(tool.program); missing != nil {
				b.Skip(strings.Join(missing, "; "))
			}
			namespace, err := lab.NewNamespace()
			if err != nil {
				b.Fatal(err)
			}
			defer namespace.Close()
			for b.Loop() {
				if _, err := namespace.Run(b.Context(), tool.text, tool.program, tool.args...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
