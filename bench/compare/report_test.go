package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "accept what comes out now as what should")

// fixed is the report that the files in testdata show: two numbers of rules, of which firewalld was measured with one.
func fixed() *report {
	r := &report{
		Machine:  "4 processors, Linux 6.1.0, nft 1.0.6, Go 1.26, firewalld 2.0.0",
		Programs: []string{nameOurs, nameUnfolded, nameNft, nameTheirs},
		Notes:    []string{"firewalld is not measured with more than 1,000 rules"},
		Results: []result{
			{100_000, nameUnfolded, figures{figureStart: 2.25, figurePacket: 1_234_567}},
			{100_000, nameOurs, figures{figureStart: 0.9996, figureReload: 0.0999, figureMemory: 190e6, figureGap: 0.0061, figurePacket: 1482}},
			{100_000, nameNft, figures{figureStart: 12.3, figureReload: 1234.5}},
			{1000, nameOurs, figures{
				figureStart: 0.1, figureReload: 0.010, figurePort: 0.00149, figureRule: 0.002, figureState: 0.005,
				figureMemory: 14e6, figureGap: 0.004, figureIdle: 0.0033, figurePacket: 1449,
			}},
			{1000, nameUnfolded, figures{figureStart: 0.2, figurePacket: 20_449}},
			{1000, nameNft, figures{figureStart: 0.01, figureReload: 0.03}},
			{1000, nameTheirs, figures{
				figureStart: 1.25, figureReload: 0.99, figurePort: 0.15, figureRule: 0.16, figureState: 0.24,
				figureMemory: 88.4e6, figureGap: 1.352, figureIdle: 0.0031, figurePacket: 21_551,
			}},
		},
	}
	r.sortResults()
	return r
}

// Figures stand beside each other, a table for each number of rules, with ratios for those that both programs have.
func TestTables(t *testing.T) { golden(t, "tables.md", fixed().writeTables) }

// The plot has a line for each program with the cost of a packet, labelled where it ends, as far as it was measured.
func TestPlot(t *testing.T) { golden(t, "plot.svg", fixed().writePlot) }

// golden fails unless what is written equals a file of testdata.
func golden(t *testing.T, name string, write func(io.Writer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("%s is not what comes out; if this is as it should be: go test ./bench/compare -update\n%s", path, got.String())
	}
}

// Labels of lines that end close to each other stand below each other.
func TestLabelsKeepApart(t *testing.T) {
	r := &report{Results: []result{
		{10, nameOurs, figures{figurePacket: 1500}},
		{10, nameUnfolded, figures{figurePacket: 1510}},
		{10, nameTheirs, figures{figurePacket: 1520}},
	}}
	var labels strings.Builder
	curves := r.curves()
	writeLabels(&labels, curves, axisOver([]float64{10}, plotLeft, plotRight), axisOver([]float64{1500, 1520}, plotBottom, plotTop))
	want := `  <text class="label theirs" x="108.0" y="343.1">firewalld</text>
  <text class="label plain" x="108.0" y="361.1">richwall, RuleFolding=no</text>
  <text class="label ours" x="108.0" y="379.1">richwall</text>
`
	if labels.String() != want {
		t.Errorf("the labels are\n%swant\n%s", labels.String(), want)
	}
}

// A report that nothing measured packets for has no plot.
func TestNothingToPlot(t *testing.T) {
	if err := (&report{}).writePlot(io.Discard); err == nil {
		t.Error("a plot without figures was written")
	}
}

// The middle of several measurements counts, so that one that something else disturbed does not.
func TestMedians(t *testing.T) {
	got := medians([]figures{{figureStart: 1, figureReload: 4}, {figureStart: 90, figureReload: 2}, {figureStart: 2}})
	if len(got) != 2 || got[figureStart] != 2 || got[figureReload] != 3 {
		t.Errorf("the medians are %v", got)
	}
}

// Only what stands between the markers is replaced, and a document without them is refused.
func TestWithTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "document.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("above\n" + firstMarker + "old\n" + lastMarker + "below\n")
	want := "above\n" + firstMarker + "\nnew\n\n" + lastMarker + "below\n"
	if got, err := withTables(path, "new\n"); err != nil || got != want {
		t.Errorf("the document is %q, %v, want %q", got, err, want)
	}
	for _, text := range []string{"", firstMarker, lastMarker + firstMarker} {
		write(text)
		if _, err := withTables(path, "new\n"); err == nil {
			t.Errorf("a document %q is written into", text)
		}
	}
	if _, err := withTables(path+".none", ""); err == nil {
		t.Error("a document that is not there is written into")
	}
}

// Numbers of rules are put in order; what is no number is refused before anything is measured.
func TestOptions(t *testing.T) {
	o, err := parse([]string{"--sizes", "1000,10,1000", "--all"}, io.Discard)
	if err != nil || len(o.sizes) != 2 || o.sizes[0] != 10 || o.sizes[1] != 1000 || !o.all {
		t.Errorf("the options are %+v, %v", o, err)
	}
	for _, args := range [][]string{{"--sizes", "many"}, {"--sizes", "0"}, {"--sizes", "99999999"}, {"--sizes", ""}, {"--nosuch"}, {"word"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("compare %s is accepted", strings.Join(args, " "))
		}
	}
}

// A program of another make under firewalld's name is not measured as firewalld.
func TestTheirProgram(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("usr/sbin/firewalld", "#! /usr/bin/python3\n")
	for _, text := range []string{"\x7fELF", "", "#!\n", "#!/bin/sh\n"} {
		write("usr/bin/firewall-cmd", text)
		if _, err := theirProgram(t.Context(), root, t.TempDir(), 0); err == nil {
			t.Errorf("a firewall-cmd that begins with %q is taken for firewalld's", text)
		}
	}
	if python, err := interpreter(filepath.Join(root, "usr/sbin/firewalld")); err != nil || python != "/usr/bin/python3" {
		t.Errorf("firewalld's interpreter is %q, %v", python, err)
	}
}
