package richwall

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/internal/lab"
)

// labJSON is what a back end did, as it is printed in JSON.
type labJSON struct {
	Backend   ir.Backend        `json:"backend"`
	Refused   string            `json:"refused,omitempty"` // why the back end cannot have the rules; then there is no more
	Bound     string            `json:"bound"`
	Rules     []string          `json:"rules"`
	Added     string            `json:"added,omitempty"` // what the rules mean, as nft or iptables-save print it
	Notes     []string          `json:"notes,omitempty"`
	Packets   []lab.Row         `json:"packets,omitempty"`
	Captures  []captureJSON     `json:"captures,omitempty"`  // with --capture
	Transfers []lab.TransferRow `json:"transfers,omitempty"` // with --path-mtu

	pathMTU int
	size    size
}

// captureJSON is the packets of a handshake, as they passed the firewall's interfaces.
type captureJSON struct {
	Probe  int         `json:"probe"` // the same number as in the rows of its packets
	Before []lab.Frame `json:"before"`
	After  []lab.Frame `json:"after"`

	title string
}

func captures(probes []lab.Probe, before, after []lab.Result) []captureJSON {
	var list []captureJSON
	for i, p := range probes {
		title := fmt.Sprintf("%s, %s → %s, %s", p.Family, p.From, p.To, strings.ToUpper(string(cmp.Or(p.Protocol, lab.TCP))))
		if p.Port != 0 {
			title += fmt.Sprintf(" port %d", p.Port)
		}
		if p.MSS != 0 {
			title += fmt.Sprintf(", MSS %d offered", p.MSS)
		}
		list = append(list, captureJSON{Probe: i, Before: before[i].Trace, After: after[i].Trace, title: title})
	}
	return list
}

// printLab prints the tables of all back ends.
func printLab(w io.Writer, list []labJSON) error {
	p := newPainter(w)
	for i, l := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s\n", p.paint(bold, string(l.Backend)), l.Bound)
		if l.Refused != "" {
			fmt.Fprintln(w, l.Refused)
			continue
		}
		fmt.Fprintln(w)
		if err := printTable(w, p, lab.Report{Rows: l.Packets}.Text); err != nil {
			return err
		}
		for _, c := range l.Captures {
			printCapture(w, c)
		}
		if l.Transfers != nil {
			fmt.Fprintf(w, "\n%s to carry over a path that takes packets of at most %d bytes and has no ICMP:\n\n", l.size, l.pathMTU)
			if err := printTable(w, p, lab.TransferReport{Rows: l.Transfers}.Text); err != nil {
				return err
			}
		}
		fmt.Fprintf(w, "\n%s\n\n%s", changes(l.Packets), l.Added)
		for _, n := range l.Notes {
			fmt.Fprintf(w, "warning: %s\n", n)
		}
	}
	return nil
}

// printTable prints a table with the lines painted that a star marks.
func printTable(w io.Writer, p painter, text func(io.Writer) error) error {
	var table strings.Builder
	if err := text(&table); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if strings.HasPrefix(line, "*") {
			line = p.paint(yellow, strings.TrimSuffix(line, "\n")) + "\n"
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}

func printCapture(w io.Writer, c captureJSON) {
	fmt.Fprintf(w, "\n%s\n", c.title)
	for _, part := range []struct {
		when   string
		frames []lab.Frame
	}{{"before", c.Before}, {"after", c.After}} {
		fmt.Fprintf(w, "  %s\n", part.when)
		for _, f := range part.frames {
			fmt.Fprintf(w, "    %s\n", f)
		}
	}
}

// changes says how many packets the rules changed, or let pass or not.
func changes(rows []lab.Row) string {
	n := 0
	for _, r := range rows {
		if r.Changed {
			n++
		}
	}
	if n == 0 {
		return fmt.Sprintf("None of %d packets changed. The rules are:", len(rows))
	}
	return fmt.Sprintf("%d of %d packets changed, by these rules:", n, len(rows))
}

// size is a flag's number of bytes, 1 to 1G.
type size int

var sizeUnits = []struct {
	name  string
	bytes int
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

const maxSize = 1 << 30

// String is the size with the largest unit that leaves no fraction.
func (s size) String() string {
	for _, u := range sizeUnits {
		if int(s) >= u.bytes && int(s)%u.bytes == 0 {
			return strconv.Itoa(int(s)/u.bytes) + u.name
		}
	}
	return strconv.Itoa(int(s))
}

// Type is what the help calls it.
func (s size) Type() string { return "bytes" }

// Set reads a number with or without a unit.
func (s *size) Set(text string) error {
	digits, unit := text, 1
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(strings.ToUpper(text), u.name); ok {
			digits, unit = number, u.bytes
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxSize/unit {
		return errors.New("it is a number of bytes such as 500K, from 1 to 1G")
	}
	*s = size(n * unit)
	return nil
}
