package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// figures are what was measured of a program, by name. A figure that a program does not have is missing.
type figures map[string]float64

// Names of figures; the unit is at their ends.
const (
	figureStart  = "start_s"
	figureReload = "reload_s"
	figurePort   = "port_s"
	figureRule   = "rule_s"
	figureState  = "state_s"
	figureMemory = "memory_bytes"
	figureGap    = "gap_s"
	figureIdle   = "idle_gap_s"
	figurePacket = "packet_ns"
)

// rows are the lines of the table, in order.
var rows = []struct {
	figure, title string
	ratio         bool // of another program's figure to richwall's
	show          func(float64) string
}{
	{figureStart, "start until the bus answers", true, showSeconds},
	{figureReload, "reload", true, showSeconds},
	{figurePort, "one port more", true, showSeconds},
	{figureRule, "one rich rule more", true, showSeconds},
	{figureState, "`firewall-cmd --state`", true, showSeconds},
	{figureMemory, "memory", true, showBytes},
	{figureGap, "longest time without a new connection, during a reload", true, showSeconds},
	{figureIdle, "… and in the same time without a reload", false, showSeconds},
	{figurePacket, "a packet that no rule matches", true, showNanoseconds},
}

// compared are the programs that richwall is compared with in a column of ratios.
var compared = []string{nameNft, nameTheirs}

// report is all that was measured.
type report struct {
	Machine  string   `json:"machine"`  // what it was measured on
	Programs []string `json:"programs"` // names, in the order of the columns
	Results  []result `json:"results"`  // by number of rules
	Notes    []string `json:"notes"`    // what is missing, and why: sentences without a full stop
}

// result is what was measured of a program with a number of rich rules.
type result struct {
	Rules   int     `json:"rules"`
	Program string  `json:"program"`
	Figures figures `json:"figures"`
}

// sizes are the numbers of rules in the report, in order.
func (r *report) sizes() []int {
	var list []int
	for _, result := range r.Results {
		list = append(list, result.Rules)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// figure is a figure of a program, if it has it.
func (r *report) figure(rules int, program, name string) (float64, bool) {
	for _, result := range r.Results {
		if result.Rules == rules && result.Program == program {
			v, ok := result.Figures[name]
			return v, ok
		}
	}
	return 0, false
}

// medians are the medians of what was measured several times, figure by figure.
func medians(rounds []figures) figures {
	all := map[string][]float64{}
	for _, round := range rounds {
		for name, v := range round {
			all[name] = append(all[name], v)
		}
	}
	f := figures{}
	for name := range maps.Keys(all) {
		f[name] = median(all[name])
	}
	return f
}

// median is the middle one of at least one value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// writeTables writes the report in Markdown: a table for each number of rules.
func (r *report) writeTables(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s.\n", r.Machine)
	for _, n := range r.sizes() {
		fmt.Fprintf(&text, "\n### %s rich rules\n\n", showCount(float64(n)))
		writeTable(&text, r.table(n))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&text, "\n%s.\n", note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// table is the cells of the table for a number of rules, the heading first.
func (r *report) table(rules int) [][]string {
	programs := slices.DeleteFunc(slices.Clone(r.Programs), func(p string) bool { return !r.has(rules, p) })
	others := slices.DeleteFunc(slices.Clone(compared), func(p string) bool { return !slices.Contains(programs, p) })
	heading := append([]string{""}, programs...)
	for _, other := range others {
		heading = append(heading, other+" ÷ "+nameOurs)
	}
	table := [][]string{heading}
	for _, row := range rows {
		line := []string{row.title}
		for _, p := range programs {
			cell := ""
			if v, ok := r.figure(rules, p, row.figure); ok {
				cell = row.show(v)
			}
			line = append(line, cell)
		}
		for _, other := range others {
			cell := ""
			ours, ok := r.figure(rules, nameOurs, row.figure)
			theirs, both := r.figure(rules, other, row.figure)
			if ok && both && row.ratio && ours > 0 {
				cell = showRatio(theirs / ours)
			}
			line = append(line, cell)
		}
		if strings.Join(line[1:], "") != "" {
			table = append(table, line)
		}
	}
	return table
}

// has tells whether a program was measured with so many rules.
func (r *report) has(rules int, program string) bool {
	return slices.ContainsFunc(r.Results, func(x result) bool { return x.Rules == rules && x.Program == program })
}

// writeTable writes cells as a Markdown table that also reads well as it is: figures to the right.
func writeTable(text *strings.Builder, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), len("-:"))
		}
	}
	for n, line := range table {
		for i, cell := range line {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(text, "| %s%s |", cell, space)
			} else {
				fmt.Fprintf(text, " %s%s |", space, cell)
			}
		}
		text.WriteByte('\n')
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				fmt.Fprintf(text, "|%s|", strings.Repeat("-", width+2))
			} else {
				fmt.Fprintf(text, "%s:|", strings.Repeat("-", width+1))
			}
		}
		text.WriteByte('\n')
	}
}

// showSeconds shows a time of at least a microsecond with the digits that can be believed.
func showSeconds(s float64) string {
	switch {
	case s >= 9.95:
		return showCount(s) + " s"
	case s >= 0.9995:
		return fmt.Sprintf("%.1f s", s)
	case s >= 0.00995:
		return fmt.Sprintf("%.0f ms", s*1e3)
	}
	return fmt.Sprintf("%.1f ms", s*1e3)
}

func showBytes(b float64) string { return showCount(b/1e6) + " MB" }

// showNanoseconds shows three digits of a time.
func showNanoseconds(ns float64) string {
	unit := math.Pow(10, max(0, math.Floor(math.Log10(max(1, ns)))-2))
	return showCount(math.Round(ns/unit)*unit) + " ns"
}

func showRatio(r float64) string {
	switch {
	case r >= 9.95:
		return showCount(r) + "×"
	case r >= 0.95:
		return fmt.Sprintf("%.1f×", r)
	}
	return fmt.Sprintf("%.2f×", r)
}

// showCount shows a whole number with commas between thousands.
func showCount(f float64) string {
	digits := strconv.FormatFloat(math.Round(f), 'f', 0, 64)
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	return strings.Join(groups, ",")
}

// sortResults puts results into the order of the table.
func (r *report) sortResults() {
	slices.SortStableFunc(r.Results, func(a, b result) int {
		return cmp.Or(cmp.Compare(a.Rules, b.Rules), cmp.Compare(slices.Index(r.Programs, a.Program), slices.Index(r.Programs, b.Program)))
	})
}
