package firewallcmd

import (
	"fmt"
	"strconv"
	"strings"

	"richwall/zones"
)

// directRow is a chain, a rule or a passthrough of the direct interface; fields that it does not have are empty.
type directRow struct {
	IPV      string   `json:"ipv"`
	Table    string   `json:"table,omitempty"`
	Chain    string   `json:"chain,omitempty"`
	Priority int32    `json:"priority,omitempty"`
	Args     []string `json:"args,omitempty"`
}

// directStore is where direct chains, rules and passthroughs are changed. what is "chains", "rules" or "passthroughs".
type directStore interface {
	list(what string) ([]directRow, error)
	// some are those of a table (chains), a chain (rules) or an IP version (passthroughs).
	some(what string, where directRow) ([]directRow, error)
	add(what string, row directRow) error
	remove(what string, row directRow) error
	query(what string, row directRow) (bool, error)
	// clear removes all rules of a chain.
	clear(where directRow) error
}

// directPlace is the one that the command line is about.
func (s *session) directPlace() (directStore, error) {
	if s.permanent {
		return s.store.direct()
	}
	return &busDirect{s.daemon, mainPath, "direct"}, nil
}

// directUsage is that the values of a direct option are not those that it takes.
func (s *session) directUsage(why string) error {
	values := map[string]string{"IPV": "{ ipv4 | ipv6 | eb }", "TABLE": "<table>", "CHAIN": "<chain>", "PRIORITY": "<priority>", "ARGS…": "<args>"}
	var said []string
	for _, value := range strings.Fields(s.option.arg) {
		said = append(said, values[value])
	}
	how := "--direct"
	if s.permanent && s.program == online {
		how = "--permanent --direct"
	}
	return usageError{
		said:  fmt.Sprintf("usage: %s %s %s", how, s.option.flag(), strings.Join(said, " ")),
		alone: true,
		hint:  fmt.Sprintf("%s: say %s %s", why, how, s.option.usage()),
	}
}

// directRow reads the values of a direct option: IPV TABLE CHAIN [PRIORITY ARGS…], or IPV ARGS….
func (s *session) directRow() (directRow, error) {
	words := s.values
	wrong := s.directUsage("there are too few or too many values")
	switch {
	case s.option.takes == rest && len(words) != len(strings.Fields(s.option.arg)):
		wanted := len(strings.Fields(s.option.arg))
		return directRow{}, misuse(fmt.Sprintf("%s: error: argument %s: expected %d arguments", s.program, s.option.flag(), wanted), "say --direct %s", s.option.usage())
	case s.option.takes == argument && len(words) < len(strings.Fields(s.option.arg)):
		return directRow{}, wrong
	}
	row := directRow{IPV: words[0]}
	if row.IPV != "ipv4" && row.IPV != "ipv6" && row.IPV != "eb" {
		return row, fail("INVALID_IPV", "invalid argument: %s (choose from 'ipv4', 'ipv6', 'eb')", row.IPV)
	}
	if s.option.item == "passthroughs" || s.option.do == doPassthrough {
		row.Args = words[1:]
		return row, nil
	}
	row.Table = words[1]
	if len(words) > 2 {
		row.Chain = words[2]
	}
	if len(words) > 3 {
		n, err := strconv.ParseInt(words[3], 10, 32)
		if err != nil {
			return row, s.directUsage(fmt.Sprintf("priority %q is no whole number", words[3]))
		}
		row.Priority, row.Args = int32(n), words[4:]
	}
	return row, nil
}

// withDirect runs what a direct option does.
func (s *session) withDirect(do func(place directStore, row directRow) error) error {
	var row directRow
	if s.option.takes != nothing {
		var err error
		if row, err = s.directRow(); err != nil {
			return err
		}
	}
	place, err := s.directPlace()
	if err != nil {
		return err
	}
	return do(place, row)
}

func (s *session) directAdd() error {
	return s.withDirect(func(place directStore, row directRow) error {
		return s.once(func() error { return place.add(s.option.item, row) })
	})
}

func (s *session) directRemove() error {
	return s.withDirect(func(place directStore, row directRow) error {
		return s.once(func() error { return place.remove(s.option.item, row) })
	})
}

func (s *session) directClear() error {
	return s.withDirect(func(place directStore, row directRow) error {
		return s.once(func() error { return place.clear(row) })
	})
}

func (s *session) directQuery() error {
	return s.withDirect(func(place directStore, row directRow) error {
		yes, err := place.query(s.option.item, row)
		if err != nil {
			return err
		}
		return s.answer(yes)
	})
}

// directList lists everything, with where it is; or what is in one place, without.
func (s *session) directList() error {
	return s.withDirect(func(place directStore, where directRow) error {
		what := s.option.item
		rows, err := place.list(what)
		if s.option.takes != nothing {
			rows, err = place.some(what, where)
		}
		if err != nil {
			return err
		}
		lines := make([]string, len(rows))
		for i, row := range rows {
			lines[i] = row.line(what, s.option.takes == nothing)
		}
		separator := "\n"
		if what == "chains" && s.option.takes != nothing {
			separator = " "
		}
		return s.show(append([]directRow{}, rows...), joined(lines, separator))
	})
}

// line is a row as a line of a listing.
func (r directRow) line(what string, everything bool) string {
	var parts []string
	switch what {
	case "passthroughs":
		parts = []string{r.IPV, zones.JoinArgs(r.Args)}
	case "chains":
		parts = []string{r.IPV, r.Table, r.Chain}
	default:
		parts = []string{r.IPV, r.Table, r.Chain, strconv.Itoa(int(r.Priority)), zones.JoinArgs(r.Args)}
	}
	if !everything {
		parts = parts[map[string]int{"passthroughs": 1, "chains": 2, "rules": 3}[what]:]
	}
	return strings.Join(parts, " ")
}

// passthrough runs a command; permanently, it is one to be run at each start.
func (s *session) passthrough() error {
	return s.withDirect(func(place directStore, row directRow) error {
		if s.permanent {
			return s.once(func() error { return place.add("passthroughs", row) })
		}
		var text string
		if err := s.daemon.main("direct", "passthrough", []any{row.IPV, row.Args}, &text); err != nil {
			return err
		}
		s.out.print(text)
		s.out.print("success")
		return nil
	})
}
